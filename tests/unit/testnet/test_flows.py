"""The flow file: what is written is read back; whatever is damaged is refused in words."""

from dataclasses import replace

import numpy as np
import pytest

from consensus.primitives.errors import ConfigError, InputError
from engine.records import ORDER_OP
from testnet.flows import MAGIC, Flow, FlowAsset, FlowMarket, read_flow, segments, write_flow


def make_flow(n: int = 10, fences: tuple[int, ...] = (3, 7)) -> Flow:
    ops = np.zeros(n, ORDER_OP)
    ops["client_order_id"] = np.arange(n)
    return Flow(
        name="small",
        source="a test",
        assets=(FlowAsset("BTC", 8), FlowAsset("USD", 2)),
        markets=(FlowMarket("BTC-USD", 0, 1, 1, 1, 1000, 1000),),
        ops=ops,
        fences=np.array(fences, np.int64),
        funding=np.array([[5, 0], [0, 7]], np.int64),
        fills_expected=2,
    )


def test_a_flow_is_read_back_as_it_was_written(tmp_path):
    flow = make_flow()
    write_flow(tmp_path / "a.flow", flow)
    back = read_flow(tmp_path / "a.flow")
    assert (back.ops == flow.ops).all() and (back.fences == flow.fences).all()
    assert (back.funding == flow.funding).all()
    assert (back.name, back.source, back.assets, back.markets) == (
        flow.name,
        flow.source,
        flow.assets,
        flow.markets,
    )
    assert back.fills_expected == 2 and back.accounts == 2


def test_a_flow_for_a_folder_that_is_not_there_names_the_folder(tmp_path):
    path = tmp_path / "nope" / "a.flow"
    with pytest.raises(ConfigError) as refusal:
        write_flow(path, make_flow())
    assert str(refusal.value) == f"{path} cannot be written: there is no folder {path.parent}"


def test_segments_end_at_fences_and_at_the_limit():
    assert list(segments(make_flow())) == [(0, 3), (3, 7), (7, 10)]
    assert list(segments(make_flow(), limit=7)) == [(0, 3), (3, 7)]
    assert list(segments(make_flow(), limit=5)) == [(0, 3), (3, 5)]
    assert list(segments(make_flow(), limit=0)) == []


@pytest.mark.parametrize("cut", [0, 4, 11, 40, 300, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path, cut):
    path = tmp_path / "a.flow"
    write_flow(path, make_flow())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a\.flow.*make it again"):
        read_flow(path)


def test_every_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "a.flow"
    write_flow(path, make_flow())
    data = path.read_bytes()
    text = data.index(b'"name"'), data.index(b'"source"')  # words that nothing depends on
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 0x55
        path.write_bytes(bytes(damaged))
        try:
            read_flow(path)
        except InputError as error:
            assert error.code == "BAD_FLOW"
        else:
            assert any(start < position for start in text)


def test_a_header_that_announces_less_than_there_is_is_refused(tmp_path):
    path = tmp_path / "a.flow"
    write_flow(path, make_flow())
    path.write_bytes(path.read_bytes().replace(b'"ops": 10', b'"ops": 9 '))
    with pytest.raises(InputError):
        read_flow(path)


def test_a_missing_file_and_a_foreign_file_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_flow(tmp_path / "absent.flow")
    (tmp_path / "other").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="not a Kontor flow"):
        read_flow(tmp_path / "other")
    assert len(MAGIC) == 8


@pytest.mark.parametrize("fences", [(0,), (7, 3), (3, 3), (10,), (-1,)])
def test_fences_out_of_order_or_range_are_refused(fences):
    with pytest.raises(InputError, match="fences"):
        make_flow(fences=fences)


def test_an_operation_without_an_account_is_refused():
    ops = make_flow().ops.copy()
    ops["account"][4] = 2
    with pytest.raises(InputError, match="account"):
        replace(make_flow(), ops=ops)


def test_funding_beyond_what_a_ledger_holds_is_refused():
    with pytest.raises(InputError, match="funding of BTC"):
        replace(make_flow(), funding=np.array([[2**61, 0], [2**61, 7]], np.int64))
