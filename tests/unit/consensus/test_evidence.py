"""What convicts a replica, and what must not."""

from dataclasses import replace

import pytest

from consensus.evidence import (
    EVIDENCE_BYTES_MAX,
    KINDS,
    Evidence,
    Signed,
    check_evidence,
    decode_evidence,
    encode_evidence,
    make_evidence,
)
from consensus.messages import Message
from consensus.primitives.crypto import digest
from consensus.primitives.errors import ProtocolError, SignatureError
from consensus.quorum import first_view
from tests.helpers.votes import Voters, make_block

VOTERS = Voters(4)
ONE, OTHER = make_block(3, 1), make_block(3, 2)
ROOT, OTHER_ROOT = digest("test.root"), digest("test.other-root")


def key_of(replica: int, epoch: int) -> bytes | None:
    return VOTERS.replicas.keys.get(replica) if epoch == 0 else None


def convict(evidence: Evidence) -> int:
    return check_evidence(VOTERS.replicas.chain_id, key_of, VOTERS.keyring, evidence)


CONTRADICTIONS: dict[str, tuple[Message, Message]] = {
    "pre-prepare": (VOTERS.pre_prepare(0, ONE), VOTERS.pre_prepare(0, OTHER)),
    "prepare": (VOTERS.prepare(2, 1, ONE), VOTERS.prepare(2, 1, OTHER)),
    "commit": (VOTERS.commit(2, 1, ONE), VOTERS.commit(2, 1, OTHER)),
    "attest": (VOTERS.attest(2, ONE, ROOT), VOTERS.attest(2, ONE, OTHER_ROOT)),
    "checkpoint": (
        VOTERS.attest(2, make_block(4), ROOT, ROOT),
        VOTERS.attest(2, make_block(4), ROOT, OTHER_ROOT),
    ),
    "view-change": (
        VOTERS.view_change(2, 2),
        VOTERS.view_change(2, 2, [VOTERS.prepared(0, ONE)]),
    ),
    "new-view": (
        VOTERS.new_view(2, [VOTERS.view_change(i, 2) for i in (0, 1, 2)]),
        VOTERS.new_view(2, [VOTERS.view_change(i, 2) for i in (1, 2, 3)]),
    ),
}


def test_every_kind_of_vote_is_tried() -> None:
    assert set(CONTRADICTIONS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_two_votes_for_one_place_convict_their_signer_in_either_order(kind: str) -> None:
    first, second = CONTRADICTIONS[kind]
    signer = 0 if kind == "pre-prepare" else 2
    evidence = make_evidence(signer, 0, first, second)
    assert (evidence.kind, convict(evidence)) == (kind, signer)
    assert make_evidence(signer, 0, second, first) == evidence
    data = encode_evidence(evidence)
    assert len(data) <= EVIDENCE_BYTES_MAX and decode_evidence(data) == evidence


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_else_can_be_convicted_with_it(kind: str) -> None:
    signer = 0 if kind == "pre-prepare" else 2
    evidence = make_evidence(signer, 0, *CONTRADICTIONS[kind])
    with pytest.raises(SignatureError):
        convict(replace(evidence, replica=3))
    with pytest.raises(ProtocolError, match="unknown-replica"):
        convict(replace(evidence, replica=4))


@pytest.mark.parametrize(
    "first, second, code",
    [
        (VOTERS.prepare(2, 0, ONE), VOTERS.prepare(2, 0, ONE), "no-contradiction"),
        (VOTERS.prepare(2, 0, ONE), VOTERS.prepare(2, 1, OTHER), "evidence-place"),
        (VOTERS.prepare(2, 0, ONE), VOTERS.prepare(2, 0, make_block(4, 2)), "evidence-place"),
        (VOTERS.prepare(2, 0, ONE), VOTERS.commit(2, 0, OTHER), "evidence-place"),
        (VOTERS.pre_prepare(0, ONE), VOTERS.pre_prepare(1, ONE), "evidence-place"),
        (
            VOTERS.attest(2, make_block(4), ROOT),
            VOTERS.attest(2, make_block(4), ROOT, ROOT),
            "evidence-place",
        ),
        (VOTERS.complain(2, 0), VOTERS.complain(2, 0), "no vote"),
    ],
    ids=[
        "twice the same",
        "two views",
        "two blocks",
        "two kinds",
        "a re-proposal",
        "no checkpoint",
        "complaints",
    ],
)
def test_what_an_honest_replica_may_sign_is_no_evidence(first: Message, second: Message, code: str) -> None:
    with pytest.raises(ProtocolError, match=code):
        make_evidence(2, 0, first, second)


def test_a_forged_half_convicts_nobody() -> None:
    evidence = make_evidence(2, 0, *CONTRADICTIONS["prepare"])
    for name in ("first", "second"):
        half: Signed = getattr(evidence, name)
        forged = replace(half, signature=bytes(64))
        with pytest.raises(SignatureError):
            convict(replace(evidence, **{name: forged}))
    with pytest.raises(SignatureError):
        convict(replace(evidence, seq=evidence.seq + 1))


def test_evidence_has_one_spelling_and_one_epoch() -> None:
    evidence = make_evidence(2, 0, *CONTRADICTIONS["prepare"])
    for wrong in (
        replace(evidence, first=evidence.second, second=evidence.first),
        replace(evidence, view=first_view(1)),  # a view of another epoch than the evidence names
        replace(evidence, kind="complain"),
        replace(evidence, seq=0),
        replace(evidence, first=Signed(b"", evidence.first.signature)),
        replace(evidence, first=Signed(evidence.first.digest, b"")),
        replace(make_evidence(2, 0, *CONTRADICTIONS["attest"]), view=1),
        replace(make_evidence(2, 0, *CONTRADICTIONS["view-change"]), seq=1),
    ):
        with pytest.raises(ProtocolError):
            decode_evidence(encode_evidence(wrong))
        with pytest.raises(ProtocolError):
            convict(wrong)
    with pytest.raises(ProtocolError):
        decode_evidence(encode_evidence(evidence) + b"\0")
