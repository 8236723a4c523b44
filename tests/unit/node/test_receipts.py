"""Receipts: a true one verifies without any node, and every bent one is refused."""

from dataclasses import fields, replace

import pytest

from consensus.light import LightClient
from consensus.messages import Attest
from consensus.primitives import merkle
from consensus.primitives.crypto import Ed25519Verifier, digest
from consensus.primitives.errors import ProtocolError
from consensus.primitives.trees import CHUNK_RECORDS
from consensus.proofs import StateSummary, Vote
from consensus.quorum import ReplicaSet
from engine.commands import Deposit
from engine.envelope import decode
from engine.records import JOURNAL, Code, Kind, Side
from node.receipts import (
    RECEIPTS,
    Receipt,
    ReceiptVerifier,
    build_receipt,
    digest_words,
)
from node.services import ProvenBlock
from node.wire import Detail
from tests.helpers.venue import CHAIN_ID, Venue, new, signer
from tests.helpers.votes import attestation_message, summarise

SIGNERS = [signer(f"validator {index}") for index in range(4)]
REPLICAS = ReplicaSet.genesis(CHAIN_ID, tuple(item.public_key for item in SIGNERS))


def _attest(block: ProvenBlock, *signers: int, state: StateSummary | None = None) -> ProvenBlock:
    bare = Attest(block.height, block.block_digest, block.result.journal_root, state, 0, b"")
    message = attestation_message(REPLICAS, bare)
    votes = (replace(bare, replica=i, signature=SIGNERS[i].sign(message)) for i in signers)
    return replace(block, attestations=tuple(votes))


@pytest.fixture(scope="module")
def traded() -> tuple[ProvenBlock, list[bytes]]:
    """A block of three envelopes: 200 orders, one order, and a copy of the first; their names."""
    venue = Venue()
    (one, two) = venue.open_market()
    orders = [new(0, 1, number, Side.SELL, 100 + number % 7, 2) for number in range(1, 201)]
    first = venue.orders(one, 1, orders)
    second = venue.orders(two, 2, [new(0, 2, 1, Side.BUY, 103, 5)])
    result = venue.block(first, second, first)
    block = ProvenBlock(result.height, result.block_digest, result.previous_root, result, ())
    return _attest(block, 0, 2), [decode(first).digest, decode(second).digest]


def _receipt(traded: tuple[ProvenBlock, list[bytes]], index: int, detail: Detail) -> Receipt:
    return build_receipt(traded[0], index, detail)


def _verifier() -> ReceiptVerifier:
    return ReceiptVerifier(LightClient(CHAIN_ID, REPLICAS.record))


def test_a_summary_proves_the_envelope_and_nothing_more(traded):
    outcome = _verifier().verify(_receipt(traded, 0, Detail.SUMMARY), traded[1][0])
    assert (outcome.code, outcome.operations, outcome.accepted) == (Code.OK, 200, 200)
    assert (outcome.account, outcome.nonce, outcome.height) == (1, 1, traded[0].height)
    assert outcome.results is None and not outcome.is_refused_copy


def test_results_prove_every_operation_across_chunks(traded):
    receipt = _receipt(traded, 0, Detail.RESULTS)
    assert len(receipt.chunks) == 4
    outcome = _verifier().verify(receipt, traded[1][0], Detail.RESULTS)
    assert outcome.results is not None
    assert outcome.results["client_order_id"].tolist() == list(range(1, 201))
    other = _verifier().verify(_receipt(traded, 1, Detail.RESULTS), traded[1][1], Detail.RESULTS)
    assert other.results is not None
    assert (int(other.results[0]["qty"]), int(other.results[0]["detail"])) == (5, 0)


def test_a_second_copy_is_proven_refused(traded):
    outcome = _verifier().verify(_receipt(traded, 2, Detail.RESULTS), traded[1][0], Detail.RESULTS)
    assert outcome.code is Code.NONCE_USED and outcome.is_refused_copy and outcome.results is None


def test_a_receipt_survives_the_wire(traded):
    receipt = _receipt(traded, 0, Detail.RESULTS)
    assert RECEIPTS.from_fields(Receipt, RECEIPTS.to_fields(receipt)) == receipt


def test_commands_have_results_too():
    venue = Venue()
    venue.open_market()
    data = venue.commands(Deposit(1, 0, 5), Deposit(1, 9, 5))
    result = venue.block()
    block = _attest(ProvenBlock(result.height, result.block_digest, result.previous_root, result, ()), 1, 3)
    receipt = build_receipt(block, 0, Detail.RESULTS)
    outcome = _verifier().verify(receipt, decode(data).digest, Detail.RESULTS)
    assert outcome.results is not None
    assert outcome.results["code"].tolist() == [Code.OK, Code.UNKNOWN_ASSET]
    assert (outcome.operations, outcome.accepted) == (2, 1)


def test_a_checkpoint_attestation_counts_as_well(traded):
    block = _attest(traded[0], 1, 3, state=summarise(digest("root")))
    assert _verifier().verify(build_receipt(block, 0, Detail.SUMMARY), traded[1][0]).accepted == 200


def _flip(data: bytes, at: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _bend(receipt: Receipt, name: str) -> Receipt:
    value = getattr(receipt, name)
    if isinstance(value, int):
        return replace(receipt, **{name: value + 1})
    if isinstance(value, bytes):
        return replace(receipt, **{name: _flip(value) if value else digest("other")})
    return replace(receipt, **{name: value[1:]})


@pytest.mark.parametrize("name", [item.name for item in fields(Receipt)])
def test_a_receipt_with_any_field_bent_is_refused(traded, name):
    with pytest.raises(ProtocolError):
        _verifier().verify(_bend(_receipt(traded, 0, Detail.RESULTS), name), traded[1][0], Detail.RESULTS)


@pytest.mark.parametrize("at", [0, 1, 8, 24, 40, 63, 64 * 60])
def test_a_bent_journal_line_is_refused(traded, at):
    receipt = _receipt(traded, 0, Detail.SUMMARY)
    chunk = replace(receipt.chunks[0], data=_flip(receipt.chunks[0].data, at))
    with pytest.raises(ProtocolError, match="is not of the journal"):
        _verifier().verify(replace(receipt, chunks=(chunk,)), traded[1][0])


def test_a_bent_path_or_a_chunk_in_another_place_is_refused(traded):
    receipt = _receipt(traded, 0, Detail.RESULTS)
    chunk = receipt.chunks[1]
    bent = replace(chunk, path=(_flip(chunk.path[0]), *chunk.path[1:]))
    moved = replace(chunk, index=2)
    beyond = replace(chunk, index=1000)
    for other in (bent, moved, beyond, replace(chunk, path=()), replace(chunk, data=b"")):
        with pytest.raises(ProtocolError):
            chunks = (receipt.chunks[0], other, *receipt.chunks[2:])
            _verifier().verify(replace(receipt, chunks=chunks), traded[1][0], Detail.RESULTS)


def test_a_receipt_of_another_envelope_is_refused(traded):
    with pytest.raises(ProtocolError, match="another envelope"):
        _verifier().verify(_receipt(traded, 1, Detail.SUMMARY), traded[1][0])


def test_a_line_that_is_no_envelope_line_is_refused(traded):
    receipt = replace(_receipt(traded, 0, Detail.SUMMARY), envelope_index=CHUNK_RECORDS - 1)
    with pytest.raises(ProtocolError, match="not what the receipt says"):
        _verifier().verify(receipt, traded[1][0])


def test_a_summary_cannot_pass_for_results(traded):
    with pytest.raises(ProtocolError, match="does not prove journal records"):
        _verifier().verify(_receipt(traded, 0, Detail.SUMMARY), traded[1][0], Detail.RESULTS)


def test_one_attestation_is_not_enough_and_a_signer_counts_once(traded):
    for signers in ((0,), (0, 0), (0, 0, 0, 0)):
        receipt = build_receipt(_attest(traded[0], *signers), 0, Detail.SUMMARY)
        with pytest.raises(ProtocolError, match="only 1 validators"):
            _verifier().verify(receipt, traded[1][0])


def test_a_signature_under_another_name_or_by_nobody_does_not_count(traded):
    receipt = _receipt(traded, 0, Detail.SUMMARY)
    first, second = receipt.attestations
    for bent in (
        Vote(1, second.signature),
        Vote(99, second.signature),
        Vote(2, _flip(second.signature)),
        Vote(2, b""),
    ):
        with pytest.raises(ProtocolError, match="only 1 validators"):
            _verifier().verify(replace(receipt, attestations=(first, bent)), traded[1][0])


def test_a_bad_signature_beside_enough_good_ones_does_no_harm(traded):
    receipt = _receipt(traded, 0, Detail.SUMMARY)
    bent = Vote(1, _flip(receipt.attestations[0].signature))
    more = replace(receipt, attestations=(bent, *receipt.attestations))
    assert _verifier().verify(more, traded[1][0]).accepted == 200


def test_attestations_of_another_chain_do_not_count(traded):
    other = digest("another chain")
    with pytest.raises(ProtocolError, match="only 0 validators"):
        ReceiptVerifier(LightClient(other, REPLICAS.record)).verify(
            _receipt(traded, 0, Detail.SUMMARY), traded[1][0]
        )


def test_a_result_is_checked_once_but_a_bent_one_after_it_is_still_refused(traded):
    counting = _Counting()
    verifier = ReceiptVerifier(LightClient(CHAIN_ID, REPLICAS.record, counting))
    receipt = _receipt(traded, 0, Detail.SUMMARY)
    verifier.verify(receipt, traded[1][0])
    verifier.verify(_receipt(traded, 1, Detail.SUMMARY), traded[1][1])
    assert counting.calls == 2
    with pytest.raises(ProtocolError):
        verifier.verify(replace(receipt, time_ms=receipt.time_ms + 1), traded[1][0])


def test_a_forged_journal_under_its_own_root_is_refused(traded):
    """A liar can build a whole consistent block; it lacks the signatures."""
    block = traded[0]
    journal = block.result.journal.copy()
    journal[0]["fee"] = 1
    chunks = [
        merkle.hash_leaf(journal[at : at + CHUNK_RECORDS].tobytes())
        for at in range(0, len(journal), CHUNK_RECORDS)
    ]
    forged = replace(block, result=replace(block.result, journal=journal, chunk_roots=chunks))
    with pytest.raises(ProtocolError, match="only 0 validators"):
        _verifier().verify(build_receipt(forged, 0, Detail.SUMMARY), traded[1][0])


def test_the_envelope_line_holds_the_words_of_the_digest(traded):
    block, names = traded
    line = block.result.journal[1]
    assert line["kind"] == Kind.ENVELOPE and line.dtype == JOURNAL
    assert digest_words(names[1]) == (int(line["counter_order_id"]), int(line["price"]))


class _Counting(Ed25519Verifier):
    calls = 0

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        self.calls += 1
        super().verify(public_key, message, signature)
