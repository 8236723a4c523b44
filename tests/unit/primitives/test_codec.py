"""One value, one spelling: what the codec accepts, it would have written itself."""

import dataclasses
import tracemalloc
from contextlib import suppress
from dataclasses import dataclass, replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.messages import (
    ACK_ITEMS_MAX,
    ACKS_MAX,
    BATCHES_PER_BLOCK_MAX,
    CHUNK_BYTES_MAX,
    CHUNKS_FETCH_MAX,
    CODEC,
    EPOCHS_FETCH_MAX,
    FETCH_MAX,
    MANIFEST_BYTES_MAX,
    Ack,
    Arrival,
    Attest,
    BatchPayload,
    Block,
    Chunk,
    Commit,
    CommitCert,
    Complain,
    Epochs,
    FetchBatches,
    FetchBlocks,
    FetchChunks,
    Manifest,
    NewView,
    PreparedCert,
    PrePrepare,
    Status,
    ViewChange,
)
from consensus.primitives.codec import INT_MAX, SMALL_BYTES, Codec
from consensus.primitives.errors import ProtocolError
from consensus.proofs import PARTS_MAX, CheckpointCert, Epoch, EpochProof, Member, StateSummary, Vote
from consensus.quorum import REPLICAS_MAX

SUMMARY = StateSummary(b"d" * 32, (b"d" * 32,), b"d" * 32, 0)
WIDE = StateSummary(bytes(32), (bytes(32),) * PARTS_MAX, bytes(32), 1 << 62)
STABLE = CheckpointCert(32, b"d" * 32, b"d" * 32, SUMMARY, (Vote(1, b"s" * 64),) * 3)

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
        (b"", "no known tag"),
        (b"\xc1", "no known tag"),
        (_spell(99), "no known tag"),
        (_spell(True), "no known tag"),
        (_spell(2, 0, 0, b"d" * 32, 0), "array of 5 fields"),
        (_spell(2, 0, 0, b"d" * 32, 0, "text"), "bytes expected"),
        (_spell(2, -1, 0, b"d" * 32, 0, b""), "integer"),
        (_spell(2, 2**63, 0, b"d" * 32, 0, b""), "integer"),
        (_spell(2, True, 0, b"d" * 32, 0, b""), "integer"),
        (_spell(2, 0.0, 0, b"d" * 32, 0, b""), "integer"),
        (_spell(11, b"payload") + b"\x00", "not msgpack"),
        (_spell(11, bytes(5000)) + b"\x00", "behind the message"),
        (_spell(11, bytes(5000))[:-1], "not msgpack"),
        (_spell(11, [bytes(5000)]), "not msgpack"),
        (_spell(0, 0, [1, 1, bytes(5000)], b"", []), "not msgpack"),
        (_spell(0, 0, [1, 1, [[b"d" * 32]] * 200], b"", []), "not msgpack"),
        (_spell(0, 0, [1, [b"d" * 32] * 200], b"", []), "array of 3 fields"),
        (_spell(0, -1, [1, 1, [b"%032d" % number for number in range(200)]], b"", []), "integer"),
        (_spell(7, 1, None, [], [], 0, bytes(5000), 0), "array of 6 fields"),
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
        CODEC.decode(_spell(0, 0, [1, 1, [b"d" * 32, b"d" * 32]], b"", []))
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


def _certificate(number: int) -> PreparedCert:
    block = Block(number, 5, tuple(bytes([number, item]) * 16 for item in range(100)))
    return PreparedCert(PrePrepare(1, block, b"s" * 64), (Vote(1, b"s" * 64), Vote(2, b"s" * 64)))


@pytest.mark.parametrize("stable", [None, STABLE])
def test_a_long_message_survives_a_round_trip(stable: CheckpointCert | None) -> None:
    complaints = (Complain(1, 1, b"s" * 64),)
    change = ViewChange(2, stable, tuple(map(_certificate, range(9))), complaints, 1, b"s" * 64)
    message = NewView(2, (change,) * 3, tuple(item.proposal for item in change.prepared), 0, b"s" * 64)
    for long in (change, message, BatchPayload(bytes(1 << 20))):
        data = CODEC.encode(long)
        assert len(data) > SMALL_BYTES
        assert CODEC.decode(data) == long
        for cut in (1, 1000, len(data) // 2, len(data) - 1):
            with pytest.raises(ProtocolError):
                CODEC.decode(data[:cut])


@pytest.mark.parametrize("tag", range(15))
@pytest.mark.parametrize("item", [b"\x90", b"\x91\x90", b"\xc4\x00", b"\x92\x00\xc4\x00"])
@pytest.mark.parametrize("before", [b"", b"\x01", b"\x01\xc0"])
def test_what_is_no_message_costs_no_more_than_its_bytes(tag: int, item: bytes, before: bytes) -> None:
    """Unpacked before it is looked at, each list of one byte would take sixty and more."""
    size = 1 << 20
    body = before + b"\xdd" + (size // len(item)).to_bytes(4, "big") + item * (size // len(item))
    fields = len(dataclasses.fields(CODEC._types[tag])) if tag < len(CODEC._types) else 1
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            CODEC.decode(bytes([0x91 + fields, tag]) + body)
        assert tracemalloc.get_traced_memory()[1] < 4 * size
    finally:
        tracemalloc.stop()


def test_a_message_longer_than_any_of_its_type_is_refused_unread() -> None:
    vote = CODEC.encode(Commit(1, 1, bytes(32), 0, bytes(2000)))
    with pytest.raises(ProtocolError, match=r"Commit of .* bytes; at most 512 are allowed"):
        CODEC.decode(vote)


def test_the_longest_message_of_each_type_is_allowed() -> None:
    far, root, signature = 1 << 62, bytes(32), bytes(64)
    votes = tuple(Vote(replica, signature) for replica in range(REPLICAS_MAX))
    names = tuple(number.to_bytes(32, "big") for number in range(FETCH_MAX))
    block = Block(far, far, names[:BATCHES_PER_BLOCK_MAX])
    proposal = PrePrepare(far, block, signature)
    stable = CheckpointCert(far, root, root, WIDE, votes)
    ack = Ack(tuple(Arrival(name, far) for name in names[:ACK_ITEMS_MAX]), 63, signature)
    members = tuple(Member(far + index, bytes([index]) * 32) for index in range(REPLICAS_MAX))
    epoch = Epoch(far, far, members)
    for message in (
        proposal,
        Commit(far, far, root, 63, signature),
        CommitCert(far, block, votes),
        Attest(far, root, root, WIDE, 63, signature),
        stable,
        Status(far, True, far, stable, True),
        FetchBatches(names),
        BatchPayload(bytes(1 << 20)),
        PreparedCert(proposal, votes),
        replace(proposal, acks=(ack,) * (ACKS_MAX // 8)),
        ack,
        Epochs((EpochProof(epoch, stable),) * EPOCHS_FETCH_MAX),
        FetchChunks(far, (far,) * CHUNKS_FETCH_MAX),
        Manifest(far, bytes(MANIFEST_BYTES_MAX)),
        Chunk(far, far, bytes(CHUNK_BYTES_MAX)),
    ):
        assert CODEC.decode(CODEC.encode(message)) == message
