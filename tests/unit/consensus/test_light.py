"""What a light client believes, and what it must not."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.light import PAST, REACH, BlockSummary, LightClient, Unproven
from consensus.primitives.crypto import digest
from consensus.primitives.merkle import Tree, hash_leaf
from consensus.primitives.trees import CHUNK_SIZE, RECORD_SIZE
from consensus.proofs import (
    ATTEST,
    CHECKPOINT,
    COMMIT,
    CheckpointCert,
    Epoch,
    EpochProof,
    Member,
    StateSummary,
    Vote,
    compute_result_digest,
    signing_digest,
)
from consensus.quorum import ReplicaSet, first_view
from consensus.simulator.crypto import SimKeyring

ROOT = Path(__file__).resolve().parents[3]
CHAIN = digest("test.chain")
KEYS = SimKeyring(3, 12)
BLOCK, JOURNAL, STATE = digest("block"), digest("journal"), digest("state")


def epoch_of_keys(number: int, first_seq: int, indexes: Sequence[int]) -> Epoch:
    """An epoch whose validators have the keyring's keys; ids are the keys' places."""
    return Epoch(number, first_seq, tuple(Member(index, KEYS.public_keys[index]) for index in indexes))


GENESIS = epoch_of_keys(0, 1, (0, 1, 2, 3))
FIRST = epoch_of_keys(1, 41, (1, 2, 3, 4))
SECOND = epoch_of_keys(2, 81, (2, 3, 4, 5, 6, 7, 8))


def sign(epoch: int, kind: str, view: int, seq: int, body: bytes, signers: Sequence[int]) -> tuple[Vote, ...]:
    message = signing_digest(CHAIN, epoch, kind, view, seq, body)
    return tuple(Vote(index, KEYS.signers[index].sign(message)) for index in signers)


def certify(
    epoch: Epoch, seq: int, next_epoch: Epoch, signers: Sequence[int] | None = None
) -> CheckpointCert:
    """A checkpoint by a quorum of `epoch`, or by `signers`, which names `next_epoch`."""
    quorum = ReplicaSet(CHAIN, epoch).quorum
    signers = [member.id for member in epoch.members][:quorum] if signers is None else signers
    bare = CheckpointCert(seq, BLOCK, JOURNAL, StateSummary(STATE, (STATE,), next_epoch.digest, 0), ())
    return replace(bare, votes=sign(epoch.number, CHECKPOINT, 0, seq, bare.result_digest, signers))


TO_FIRST = EpochProof(FIRST, certify(GENESIS, 40, FIRST))
TO_SECOND = EpochProof(SECOND, certify(FIRST, 80, SECOND))


def client(*proofs: EpochProof) -> LightClient:
    light = LightClient(CHAIN, GENESIS, KEYS)
    for proof in proofs:
        light.advance(proof)
    return light


def test_it_follows_every_change_of_validators() -> None:
    light = client(TO_FIRST, TO_SECOND)
    assert light.epoch == SECOND
    light.advance(TO_FIRST)
    assert [light.replicas_at(height).epoch for height in (1, 40, 41, 80, 81, 900)] == [0, 0, 1, 1, 2, 2]


FORGED = {
    "no epoch before it": (EpochProof(SECOND, certify(FIRST, 80, SECOND)), "epoch-order"),
    "too few votes": (EpochProof(FIRST, certify(GENESIS, 40, FIRST, (0, 1))), "vote-count"),
    "too many votes": (EpochProof(FIRST, certify(GENESIS, 40, FIRST, (0, 1, 2, 3))), "vote-count"),
    "one voter twice": (EpochProof(FIRST, certify(GENESIS, 40, FIRST, (0, 1, 1))), "vote-order"),
    "votes by those to come": (EpochProof(FIRST, certify(GENESIS, 40, FIRST, (1, 2, 4))), "unknown-replica"),
    "votes of another epoch": (
        EpochProof(FIRST, certify(replace(GENESIS, number=1), 40, FIRST, (0, 1, 2))),
        "bad-signature",
    ),
    "another epoch named": (EpochProof(FIRST, certify(GENESIS, 40, SECOND)), "epoch-digest"),
    "another place": (EpochProof(FIRST, certify(GENESIS, 36, FIRST)), "epoch-place"),
    "a number skipped": (
        EpochProof(replace(FIRST, number=2), certify(GENESIS, 40, replace(FIRST, number=2))),
        "epoch-order",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_epoch_is_refused(name: str) -> None:
    proof, code = FORGED[name]
    light = client()
    with pytest.raises(Unproven) as refused:
        light.advance(proof)
    assert refused.value.code == code
    assert light.epoch == GENESIS


def test_old_validators_decide_nothing_in_a_new_epoch() -> None:
    """All of them together, with keys that were good until block 40."""
    light = client(TO_FIRST)
    everybody = (0, 1, 2, 3)
    fake = epoch_of_keys(2, 81, everybody)
    with pytest.raises(Unproven, match=r"unknown-replica|bad-signature"):
        light.advance(EpochProof(fake, certify(GENESIS, 80, fake)))
    with pytest.raises(Unproven, match="epoch-digest"):
        light.advance(EpochProof(epoch_of_keys(1, 41, everybody), TO_FIRST.cert))
    with pytest.raises(Unproven, match="wrong-epoch"):
        light.verify_block(0, 50, BLOCK, sign(0, COMMIT, 0, 50, BLOCK, (1, 2, 3)))
    result = compute_result_digest(BLOCK, JOURNAL, b"")
    with pytest.raises(Unproven, match="too-few-votes"):
        light.verify_result(50, BLOCK, JOURNAL, b"", sign(0, ATTEST, 0, 50, result, everybody))


def test_f_plus_one_votes_count_near_a_known_checkpoint_only() -> None:
    """Far above it another epoch may have begun, and these keys be retired and stolen."""
    light = client(TO_FIRST)
    result = compute_result_digest(BLOCK, JOURNAL, b"")
    far = 80 + REACH
    few, enough = (sign(1, ATTEST, 0, far, result, signers) for signers in ((1, 2), (1, 2, 3)))
    with pytest.raises(Unproven, match="stale"):
        light.verify_result(far, BLOCK, JOURNAL, b"", few)
    light.verify_result(far, BLOCK, JOURNAL, b"", enough)
    light.verify_checkpoint(certify(FIRST, 80, FIRST))
    assert light.reach == far
    light.verify_result(far, BLOCK, JOURNAL, b"", few)


def test_a_checkpoint_that_names_another_epoch_ends_what_f_plus_one_may_say() -> None:
    light = client(TO_FIRST)
    light.verify_checkpoint(TO_SECOND.cert)
    result = compute_result_digest(BLOCK, JOURNAL, b"")
    light.verify_result(80, BLOCK, JOURNAL, b"", sign(1, ATTEST, 0, 80, result, (1, 2)))
    with pytest.raises(Unproven, match="stale"):
        light.verify_result(81, BLOCK, JOURNAL, b"", sign(1, ATTEST, 0, 81, result, (1, 2)))
    light.advance(TO_SECOND)
    assert light.reach == 80 + REACH


def test_results_and_blocks_are_checked_by_the_validators_of_their_height() -> None:
    light = client(TO_FIRST, TO_SECOND)
    result = compute_result_digest(BLOCK, JOURNAL, b"")
    for epoch, height in ((GENESIS, 40), (FIRST, 41), (FIRST, 79), (SECOND, 81)):
        replicas = ReplicaSet(CHAIN, epoch)
        votes = sign(epoch.number, ATTEST, 0, height, result, replicas.ids[-replicas.weak_quorum :])
        light.verify_result(height, BLOCK, JOURNAL, b"", votes, is_confirmed=True)
        for too_few in (votes[1:], (votes[0],) * len(votes), ()):
            with pytest.raises(Unproven, match="too-few-votes"):
                light.verify_result(height, BLOCK, JOURNAL, b"", too_few)
        view = first_view(epoch.number) + 5
        commits = sign(epoch.number, COMMIT, view, height, BLOCK, replicas.ids[: replicas.quorum])
        light.verify_block(view, height, BLOCK, commits)
        with pytest.raises(Unproven):
            light.verify_block(view, height, JOURNAL, commits)


def test_of_an_epoch_that_is_over_f_plus_one_votes_prove_nothing_by_themselves() -> None:
    light = client(TO_FIRST)
    result = compute_result_digest(BLOCK, JOURNAL, b"")
    few, enough = (sign(1, ATTEST, 0, 79, result, signers) for signers in ((1, 2), (1, 2, 3)))
    light.verify_result(79, BLOCK, JOURNAL, b"", few)
    light.advance(TO_SECOND)
    with pytest.raises(Unproven, match="stale"):
        light.verify_result(79, BLOCK, JOURNAL, b"", few)
    light.verify_result(79, BLOCK, JOURNAL, b"", few, is_confirmed=True)
    light.verify_result(79, BLOCK, JOURNAL, b"", enough)


def test_what_holds_now_is_not_for_former_validators_to_say() -> None:
    """Not even if all their keys were stolen, and not at the very block that ended their epoch."""
    light = client(TO_FIRST, TO_SECOND)
    light.verify_present(certify(SECOND, 120, SECOND))
    light.verify_present(TO_SECOND.cert)
    other = StateSummary(digest("another state"), (STATE,), SECOND.digest, 0)
    bare = replace(TO_SECOND.cert, state=other, votes=())
    forged = replace(bare, votes=sign(1, CHECKPOINT, 0, 80, bare.result_digest, (1, 2, 3)))
    light.verify_checkpoint(forged)
    for cert in (forged, certify(FIRST, 79, FIRST), TO_FIRST.cert):
        with pytest.raises(Unproven) as refused:
            light.verify_present(cert)
        assert refused.value.code == PAST


def test_from_a_trusted_epoch_it_knows_nothing_of_earlier_ones() -> None:
    light = LightClient(CHAIN, FIRST, KEYS)
    light.advance(TO_SECOND)
    with pytest.raises(Unproven) as refused:
        light.verify_checkpoint(TO_FIRST.cert)
    assert refused.value.code == "unknown-epoch"


def test_a_line_is_proved_by_its_chunk() -> None:
    chunks = [bytes([number]) * CHUNK_SIZE for number in range(4)] + [b"last" * (RECORD_SIZE // 4) * 3]
    tree = Tree([hash_leaf(chunk) for chunk in chunks])
    block = BlockSummary(50, BLOCK, digest("before"), 1_000, 4 * 64 + 3, tree.root)
    light = client(TO_FIRST)
    result = compute_result_digest(BLOCK, block.journal_root, b"")
    votes = sign(1, ATTEST, 0, 50, result, (2, 4))
    for index, chunk in enumerate(chunks):
        light.verify_lines(block, b"", votes, index, chunk, tree.path(index))
        for wrong in (chunk[:-1] + b"x", chunk[RECORD_SIZE:], b""):
            with pytest.raises(Unproven, match="chunk"):
                light.verify_lines(block, b"", votes, index, wrong, tree.path(index))
        with pytest.raises(Unproven):
            light.verify_lines(block, b"", votes, index + 1, chunk, tree.path(index))
    with pytest.raises(Unproven):
        light.verify_lines(replace(block, height=51), b"", votes, 0, chunks[0], tree.path(0))


def test_it_stands_on_signatures_and_digests_alone() -> None:
    """Neither a codec nor an engine is needed where a proof is checked."""
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"msgpack", "numpy", "numba", "lmdb", "trio", "engine", "node"}:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from consensus.light import LightClient
from consensus.proofs import Epoch, Member
print(LightClient(bytes(32), Epoch(0, 1, (Member(0, bytes(32)),))).epoch.number)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr
