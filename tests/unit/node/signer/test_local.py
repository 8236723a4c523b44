"""The signer inside the node: it computes what it signs, and says when that is durable."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.certificates import ATTEST, COMMIT, COMPLAIN, PREPARE
from consensus.primitives.crypto import Ed25519Signer, Ed25519Verifier, digest
from consensus.primitives.errors import StorageError
from consensus.proofs import signing_digest
from consensus.signing import Floor, Place, SignatureRefused
from node.signer.local import LocalSigner
from node.signer.record import SigningRecord
from tests.helpers.voting_ledger import VotingLedger

KEY = Ed25519Signer(bytes(32))
CHAIN, A, B = digest("test.chain"), digest("test.a"), digest("test.b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    SigningRecord.create(tmp_path / "record", KEY.public_key, CHAIN).close()
    return tmp_path / "record"


@pytest.fixture
def record(path: Path) -> Iterator[SigningRecord]:
    record = SigningRecord.open(path)
    yield record
    record.close()


@pytest.fixture
def signer(record: SigningRecord) -> Iterator[LocalSigner]:
    signer = LocalSigner(KEY, CHAIN, record)
    signer.bind(VotingLedger())
    yield signer
    signer.close()


def vote(signer: LocalSigner, kind: str, seq: int, body: bytes, view: int = 0) -> bytes:
    return signer.sign_vote(kind, 0, view, seq, body, signing_digest(CHAIN, 0, kind, view, seq, body))


def test_a_vote_is_signed_and_durable_once_the_write_ended(signer: LocalSigner, path: Path) -> None:
    signature = vote(signer, PREPARE, 1, A)
    Ed25519Verifier().verify(KEY.public_key, signing_digest(CHAIN, 0, PREPARE, 0, 1, A), signature)
    assert signer.is_urgent
    assert not signer.is_settled
    signer.begin()
    signer.finish()
    assert signer.is_settled
    again = SigningRecord.open(path)
    assert again.votes.places == {Place(PREPARE, 0, 1): signing_digest(CHAIN, 0, PREPARE, 0, 1, A)}
    again.close()


def test_results_are_not_urgent_and_complaints_are_nothing(signer: LocalSigner) -> None:
    vote(signer, COMPLAIN, 0, b"")
    assert signer.is_settled
    vote(signer, ATTEST, 1, A)
    assert not signer.is_urgent
    assert not signer.is_settled


def test_a_second_body_is_refused_before_anything_is_durable(signer: LocalSigner) -> None:
    refused: list[str] = []
    signer.on_refused = lambda error: refused.append(error.code)
    vote(signer, PREPARE, 1, A)
    assert vote(signer, PREPARE, 1, A)
    with pytest.raises(SignatureRefused, match="contradiction"):
        vote(signer, PREPARE, 1, B)
    assert refused == ["contradiction"]


def test_a_message_of_another_chain_is_not_signed(signer: LocalSigner) -> None:
    with pytest.raises(StorageError, match="another chain"):
        signer.sign_vote(PREPARE, 0, 0, 1, A, signing_digest(B, 0, PREPARE, 0, 1, A))


@pytest.mark.parametrize(("epoch", "view", "seq"), [(-1, 0, 1), (0, -1, 1), (0, 0, 1 << 64), (1 << 63, 0, 1)])
def test_numbers_out_of_range_are_refused(signer: LocalSigner, epoch: int, view: int, seq: int) -> None:
    with pytest.raises(SignatureRefused, match="malformed"):
        signer.sign_vote(PREPARE, epoch, view, seq, A, A)


def test_a_floor_becomes_durable_with_the_next_votes(signer: LocalSigner, path: Path) -> None:
    vote(signer, PREPARE, 1, A)
    signer.begin()
    signer.finish()
    signer.raise_floor(0, 4)
    with pytest.raises(SignatureRefused, match="below-floor"):
        vote(signer, COMMIT, 4, A)
    vote(signer, COMMIT, 5, A)
    signer.begin()
    signer.finish()
    again = SigningRecord.open(path)
    assert again.votes.floor == Floor(0, 4)
    assert list(again.votes.places) == [Place(COMMIT, 0, 5)]
    again.close()


def test_the_loop_goes_on_while_the_record_is_written(
    signer: LocalSigner, record: SigningRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More is signed meanwhile, and settled only when all of it is written."""
    may_write, append = threading.Event(), record.append

    def wait_and_append(*args: object) -> None:
        may_write.wait(10)
        append(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(record, "append", wait_and_append)
    vote(signer, ATTEST, 1, A)
    signer.begin()
    vote(signer, ATTEST, 2, A)
    signer.begin()
    assert not signer.is_settled
    may_write.set()
    signer.finish()
    assert signer.is_settled
    assert len(record.votes.places) == 2


def test_a_record_that_cannot_be_written_is_never_settled(
    signer: LocalSigner, record: SigningRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "append", _fail)
    vote(signer, PREPARE, 1, A)
    signer.begin()
    with pytest.raises(StorageError, match="the disk is full"):
        signer.finish()
    assert not signer.is_settled


def _fail(*args: object) -> None:
    raise StorageError("the disk is full")
