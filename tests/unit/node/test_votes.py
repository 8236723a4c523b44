"""Remembered signatures, and proofs from f+1 equal attestations."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from consensus.certificates import Authority
from consensus.messages import Attest, Block
from consensus.primitives.crypto import Ed25519Verifier
from consensus.primitives.errors import SignatureError
from consensus.proofs import CheckpointCert, Vote
from consensus.quorum import ReplicaSet
from engine.journal import BlockResult, Counts
from engine.records import JOURNAL
from node.services import ProvenBlock
from node.votes import (
    AHEAD_MAX,
    UNPROVEN_BYTES_MAX,
    UNPROVEN_MAX,
    ProofCollector,
    RememberingVerifier,
    check_ahead,
)
from tests.helpers.venue import signer
from tests.helpers.votes import attestation_message, summarise

SIGNERS = [signer(f"replica {index}") for index in range(4)]
REPLICAS = ReplicaSet.genesis(bytes(32), tuple(item.public_key for item in SIGNERS))
AUTHORITY = Authority(REPLICAS, Ed25519Verifier(), window=128, checkpoint_interval=32)
BLOCK = Block(1, 5, ())


class _CountingVerifier:
    def __init__(self) -> None:
        self.calls = 0

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        self.calls += 1
        Ed25519Verifier().verify(public_key, message, signature)


def _result(root: bytes = b"j" * 32) -> BlockResult:
    counts = Counts(0, 0, 0, 0, 0, 0)
    return BlockResult(1, 5, BLOCK.digest, bytes(32), np.zeros(0, JOURNAL), [], root, [], counts)


def _long_result(height: int) -> BlockResult:
    counts, lines = Counts(0, 0, 0, 0, 0, 0), UNPROVEN_BYTES_MAX // 2 // JOURNAL.itemsize
    journal = np.broadcast_to(np.zeros(1, JOURNAL), lines)
    return BlockResult(height, 5, BLOCK.digest, bytes(32), journal, [], b"j" * 32, [], counts)


def _attest(replica: int, root: bytes = b"j" * 32, state: bytes = b"", seq: int = 1) -> Attest:
    attest = Attest(seq, BLOCK.digest, root, summarise(state) if state else None, replica, b"")
    signature = SIGNERS[replica].sign(attestation_message(REPLICAS, attest))
    return Attest(seq, BLOCK.digest, root, summarise(state) if state else None, replica, signature)


@pytest.fixture
def proven() -> list[ProvenBlock]:
    return []


@pytest.fixture
def collector(proven: list[ProvenBlock]) -> ProofCollector:
    return ProofCollector(AUTHORITY, proven.append)


def test_a_valid_signature_is_computed_once_and_a_bad_one_every_time() -> None:
    inner = _CountingVerifier()
    verifier = RememberingVerifier(inner)
    good = SIGNERS[0].sign(b"text")
    for _ in range(3):
        verifier.verify(SIGNERS[0].public_key, b"text", good)
    assert inner.calls == 1
    for message, signature in ((b"other", good), (b"text", bytes(64)), (b"text", good[:-1])):
        for _ in range(2):
            with pytest.raises(SignatureError):
                verifier.verify(SIGNERS[0].public_key, message, signature)
    assert inner.calls == 7


def test_signatures_checked_ahead_need_no_second_computation() -> None:
    inner = _CountingVerifier()
    verifier = RememberingVerifier(inner)
    attests = [_attest(replica, state=b"s" * 32, seq=32) for replica in range(3)]
    votes = tuple(Vote(item.replica, item.signature) for item in attests)
    bad = (*votes[:2], Vote(2, bytes(64)))
    certs = [CheckpointCert(32, BLOCK.digest, b"j" * 32, summarise(b"s" * 32), item) for item in (votes, bad)]
    check_ahead(AUTHORITY, verifier, certs)
    computed = inner.calls
    for attest in attests:
        verifier.verify(
            REPLICAS.keys[attest.replica], attestation_message(REPLICAS, attest), attest.signature
        )
    assert inner.calls == computed


Order = Callable[[ProofCollector], None]


def _ours_first(collector: ProofCollector) -> None:
    collector.on_executed(BLOCK, _result(), b"")
    collector.on_attest(0, _attest(0))
    collector.on_attest(2, _attest(2))


def _ours_last(collector: ProofCollector) -> None:
    collector.on_attest(2, _attest(2))
    collector.on_attest(0, _attest(0))
    collector.on_executed(BLOCK, _result(), b"")


@pytest.mark.parametrize("order", [_ours_first, _ours_last])
def test_a_block_is_proven_once_by_f_plus_1_equal_attestations(
    collector: ProofCollector, proven: list[ProvenBlock], order: Order
) -> None:
    order(collector)
    collector.on_attest(1, _attest(1))
    assert [block.height for block in proven] == [1]
    assert [attest.replica for attest in proven[0].attestations] == [0, 2]
    assert collector.proven == 1


def test_one_replica_counts_once_and_other_results_do_not_count(
    collector: ProofCollector, proven: list[ProvenBlock]
) -> None:
    collector.on_executed(BLOCK, _result(), b"")
    collector.on_attest(0, _attest(0))
    collector.on_attest(0, _attest(0))
    collector.on_attest(1, _attest(1, root=b"x" * 32))
    collector.on_attest(2, _attest(2, state=b"s" * 32))
    assert proven == []


def test_a_forged_attestation_neither_counts_nor_blocks_the_true_one(
    collector: ProofCollector, proven: list[ProvenBlock]
) -> None:
    collector.on_executed(BLOCK, _result(), b"")
    collector.on_attest(0, _attest(0))
    forged = Attest(1, BLOCK.digest, b"j" * 32, None, 1, bytes(64))
    collector.on_attest(forged.replica, forged)
    assert proven == []
    collector.on_attest(1, _attest(1))
    assert len(proven) == 1


def test_attestations_for_the_far_future_are_not_kept(
    collector: ProofCollector, proven: list[ProvenBlock]
) -> None:
    for replica in range(4):
        collector.on_attest(replica, _attest(replica, seq=1_000_000))
    assert collector._waiting == {}


def test_a_peer_cannot_take_the_place_of_anothers_attestation(
    collector: ProofCollector, proven: list[ProvenBlock]
) -> None:
    for replica in (0, 1, 2):
        collector.on_attest(3, Attest(1, BLOCK.digest, b"j" * 32, None, replica, bytes(64)))
    collector.on_attest(0, _attest(0))
    collector.on_attest(1, _attest(1))
    collector.on_executed(BLOCK, _result(), b"")
    assert [attest.replica for attest in proven[0].attestations] == [0, 1]


def test_a_flood_of_unsigned_attestations_evicts_no_block_that_waits_for_its_proof(
    collector: ProofCollector, proven: list[ProvenBlock]
) -> None:
    collector.on_executed(BLOCK, _result(), b"")
    for seq in range(2, 2 + 4097):
        collector.on_attest(3, Attest(seq, BLOCK.digest, b"j" * 32, None, 3, bytes(64)))
    assert len(collector._waiting) <= 1 + AHEAD_MAX
    collector.on_attest(0, _attest(0))
    collector.on_attest(1, _attest(1))
    assert [block.height for block in proven] == [1]


def test_an_attestation_of_another_result_is_not_kept_once_ours_is_known(
    collector: ProofCollector, proven: list[ProvenBlock]
) -> None:
    collector.on_attest(2, _attest(2, root=b"x" * 32))
    collector.on_executed(BLOCK, _result(), b"")
    collector.on_attest(3, _attest(3, root=b"x" * 32))
    assert collector._waiting[1].votes == {}


def test_a_block_that_stays_unproven_is_let_go_with_age() -> None:
    collector = ProofCollector(AUTHORITY, lambda block: None)
    for seq in range(1, UNPROVEN_MAX + 3):
        collector.on_executed(Block(seq, 5, ()), _result(), b"")
    assert len(collector._waiting) == UNPROVEN_MAX


def test_long_results_without_proof_make_way_by_their_bytes(
    collector: ProofCollector, proven: list[ProvenBlock]
) -> None:
    blocks = [Block(seq, 5, ()) for seq in range(1, 5)]
    for block in blocks[:2]:
        collector.on_executed(block, replace(_long_result(block.seq), block_digest=block.digest), None)
    collector.on_attest(0, replace(_attest(0), seq=2))  # forged: it proves nothing, and frees nothing
    for block in blocks[2:]:
        collector.on_executed(block, replace(_long_result(block.seq), block_digest=block.digest), None)
    for block in blocks:
        for replica in (0, 1):
            attest = Attest(block.seq, block.digest, b"j" * 32, None, replica, b"")
            signature = SIGNERS[replica].sign(attestation_message(REPLICAS, attest))
            collector.on_attest(replica, replace(attest, signature=signature))
    assert [block.height for block in proven] == [3, 4]
