"""The command codec: one spelling, bounds, names."""

import msgpack
import pytest

from consensus.primitives.errors import ProtocolError
from engine import commands
from engine.commands import (
    AddValidator,
    Deposit,
    GrantKey,
    ListMarket,
    RegisterAsset,
    SetMarketStatus,
    kind_of,
)
from engine.records import AMOUNT_MAX


def test_commands_come_back_as_names_and_arguments():
    payload = commands.encode([Deposit(1, 2, 3), SetMarketStatus(0, 1)])
    assert commands.decode(payload) == [["deposit", 1, 2, 3], ["set_market_status", 0, 1]]


def test_class_names_are_wire_names():
    assert kind_of(ListMarket).name == "list_market"
    assert kind_of(ListMarket).number == commands.CommandNumber.LIST_MARKET


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgpack.packb({}),
        msgpack.packb([]),
        msgpack.packb(5),
        msgpack.packb([[]]),
        msgpack.packb([["deposit", 1], 5]),
        msgpack.packb([[5, 1]]),
        msgpack.packb([["deposit", {1: 2}]]),
        msgpack.packb([["deposit", msgpack.ExtType(1, b"x")]]),
        b"\x91\x92\xa1a\xcc\x01",
        msgpack.packb([["deposit", 1]]) + b"\x00",
        msgpack.packb([["x"]] * (commands.COMMANDS_MAX + 1)),
        b"\x91" * 2000,
        b"\x91\x91\xa2\xff\xff",
    ],
    ids=[
        "empty",
        "not msgpack",
        "a map",
        "no commands",
        "a number",
        "a command without a name",
        "a command that is no array",
        "a name that is no string",
        "a map inside",
        "an extension inside",
        "a longer spelling of a number",
        "bytes behind",
        "too many",
        "deeper than anything",
        "a name that is not UTF-8",
    ],
)
def test_malformed_payloads_are_refused(payload):
    with pytest.raises(ProtocolError):
        commands.decode(payload)


@pytest.mark.parametrize("depth", [1, 10, 500, 600, 5000])
@pytest.mark.parametrize("start", [b"\x91", b"\x91\x92\xa7deposit"], ids=["no name", "an argument"])
def test_arrays_inside_a_command_are_malformed_however_deep(start, depth):
    """Builds of msgpack differ in how deep they read, between 500 and 1,024 levels: replicas must not."""
    with pytest.raises(ProtocolError, match=r"^a command has an array inside$"):
        commands.decode(start + b"\x91" * depth + b"\x91\x01")


@pytest.mark.parametrize("limit", [RecursionError, msgpack.StackError])
def test_a_msgpack_that_reads_less_deep_gives_the_same_verdict(limit, monkeypatch):
    def unpackb(*_args, **_kwargs):
        raise limit

    monkeypatch.setattr(msgpack, "unpackb", unpackb)
    with pytest.raises(ProtocolError, match=r"^a command has an array inside$"):
        commands.decode(b"\x91\x92\xa7deposit" + b"\x91" * 600 + b"\x01")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (Deposit, [1, 2]),
        (Deposit, [1, 2, 3, 4]),
        (Deposit, [1, 2, 0]),
        (Deposit, [1, 2, AMOUNT_MAX + 1]),
        (Deposit, [-1, 2, 3]),
        (Deposit, [True, 2, 3]),
        (Deposit, [1, 2, 3.0]),
        (Deposit, ["1", 2, 3]),
        (Deposit, [None, 2, 3]),
        (RegisterAsset, ["btc", 8, 0]),
        (RegisterAsset, ["", 8, 0]),
        (RegisterAsset, ["A" * 17, 8, 0]),
        (RegisterAsset, ["BTC\n", 8, 0]),
        (RegisterAsset, [b"BTC", 8, 0]),
        (RegisterAsset, ["BTC", 19, 0]),
        (GrantKey, [1, b"k" * 31, 1, 1]),
        (GrantKey, [1, "k" * 32, 1, 1]),
        (GrantKey, [1, b"k" * 32, 32, 1]),
        (GrantKey, [1, b"k" * 32, 0, 1]),
        (SetMarketStatus, [0, 7]),
    ],
)
def test_arguments_out_of_bounds_are_not_read(command, arguments):
    assert kind_of(command).read(["name", *arguments]) is None


def test_arguments_within_bounds_are_read():
    assert kind_of(Deposit).read(["deposit", 2**31 - 1, 65535, AMOUNT_MAX]) == Deposit(
        2**31 - 1, 65535, AMOUNT_MAX
    )
    assert kind_of(RegisterAsset).read(["register_asset", "BTC/USD.P-1_", 0, 0]) is not None


def test_payloads_beyond_their_limits_are_not_made():
    with pytest.raises(ValueError, match="commands"):
        commands.encode([])


@pytest.mark.parametrize(
    "arguments",
    [
        [b"k" * 32, b"", "a:1", "a:2"],
        [b"k" * 32, b"c" * 1537, "a:1", "a:2"],
        [b"k" * 31, b"c", "a:1", "a:2"],
        [b"k" * 32, b"c", "", "a:2"],
        [b"k" * 32, b"c", "a:1", "a" * 193],
        [b"k" * 32, b"c", "a 1", "a:2"],
        [b"k" * 32, b"c", "a:1\n", "a:2"],
        [b"k" * 32, b"c", "ä:1", "a:2"],
        [b"k" * 32, "c", "a:1", "a:2"],
        [b"k" * 32, b"c", "a:1"],
    ],
)
def test_a_validator_with_parts_out_of_bounds_cannot_be_read(arguments):
    read = kind_of(AddValidator).read
    assert read(["add_validator", b"k" * 32, b"c" * 1536, "a:1", "a" * 192]) is not None
    assert read(["add_validator", *arguments]) is None
