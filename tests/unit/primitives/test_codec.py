"""One value, one spelling: what the codec accepts, it would have written itself."""

from contextlib import suppress
from dataclasses import dataclass

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.messages import CODEC, BatchPayload, Block, Commit, FetchBlocks, PrePrepare, Status
from consensus.primitives.codec import INT_MAX, Codec
from consensus.primitives.errors import ProtocolError

digests = st.binary(min_size=32, max_size=32)
counts = st.integers(0, INT_MAX)
blocks = st.builds(Block, counts, counts, st.lists(digests, max_size=5, unique=True).map(tuple))
messages = st.one_of(
    st.builds(PrePrepare, counts, blocks, st.binary(max_size=64)),
    st.builds(Commit, counts, counts, digests, counts, st.binary(max_size=64)),
    st.builds(BatchPayload, st.binary(max_size=200)),
    st.builds(Status, counts, st.booleans(), counts, st.none()),
)


@given(messages)
def test_every_message_survives_a_round_trip(message):
    assert CODEC.decode(CODEC.encode(message)) == message


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_was_canonical(data):
    try:
        message = CODEC.decode(data)
    except ProtocolError:
        return
    assert CODEC.encode(message) == data


@given(messages, st.data())
def test_a_changed_byte_never_decodes_to_the_same_message(message, data):
    encoded = bytearray(CODEC.encode(message))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    with suppress(ProtocolError):
        assert CODEC.decode(bytes(encoded)) != message


def _spell(tag: int, *values: object) -> bytes:
    return msgpack.packb([tag, *values], use_bin_type=True)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (_spell(99), "no known tag"),
        (_spell(True), "no known tag"),
        (_spell(2, 0, 0, b"d" * 32, 0), "array of 5 fields"),
        (_spell(2, 0, 0, b"d" * 32, 0, "text"), "bytes expected"),
        (_spell(2, -1, 0, b"d" * 32, 0, b""), "integer"),
        (_spell(2, 2**63, 0, b"d" * 32, 0, b""), "integer"),
        (_spell(2, True, 0, b"d" * 32, 0, b""), "integer"),
        (_spell(2, 0.0, 0, b"d" * 32, 0, b""), "integer"),
        (_spell(11, b"payload") + b"\x00", "not msgpack"),
        # 0 spelled as a two-byte integer
        (_spell(2, 0, 0, b"d" * 32, 0, b"").replace(b"\x02\x00\x00", b"\x02\xcc\x00\x00"), "canonical"),
    ],
)
def test_a_second_spelling_or_a_wrong_type_is_refused(data, why):
    with pytest.raises(ProtocolError, match=why):
        CODEC.decode(data)


def test_a_message_above_the_size_limit_is_refused_before_it_is_parsed():
    with pytest.raises(ProtocolError, match="at most 10 are allowed"):
        CODEC.decode(b"\xc1" * 11, size_max=10)


def test_deep_nesting_is_refused():
    with pytest.raises(ProtocolError):
        CODEC.decode(b"\x91" * 100_000)


def test_limits_stated_in_the_messages_hold_when_decoding():
    with pytest.raises(ProtocolError, match="listed twice"):
        CODEC.decode(_spell(0, 0, [1, 1, [b"d" * 32, b"d" * 32]], b""))
    with pytest.raises(ProtocolError, match="blocks can be fetched"):
        CODEC.decode(_spell(12, 5, 4))
    assert FetchBlocks(1, 1024)


def test_a_field_the_codec_cannot_carry_is_refused_when_it_is_built():
    @dataclass(frozen=True)
    class Odd:
        value: float

    with pytest.raises(TypeError, match="float"):
        Codec(Odd)


def test_plain_fields_make_an_equal_message_and_wrong_ones_are_refused():
    """`to_fields` and `from_fields` serve formats that say elsewhere which type they carry."""
    message = FetchBlocks(3, 7)
    assert CODEC.to_fields(message) == [3, 7]
    assert CODEC.from_fields(FetchBlocks, [3, 7]) == message
    with pytest.raises(ProtocolError, match="array of 2 fields"):
        CODEC.from_fields(FetchBlocks, [3])
