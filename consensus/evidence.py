"""Evidence: two signatures of one replica that no honest replica gives both. Anybody can check it.

A replica signs one thing for each place (epoch, kind, view, seq). What convicts is not the messages, of
which a new view may have megabytes, but what their signatures cover: place and digest. So a proof
is a few hundred bytes whatever it is about, and says nothing that would have to be kept secret.

Complaints and acknowledgements are no votes: the first say the same whenever they are sent, the second
may be corrected.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from consensus.certificates import (
    ATTEST,
    CHECKPOINT,
    COMMIT,
    NEW_VIEW,
    PRE_PREPARE,
    PREPARE,
    VIEW_CHANGE,
    Refused,
    attest_kind,
    refuse_unless,
)
from consensus.messages import Attest, Commit, Message, NewView, Prepare, PrePrepare, ViewChange
from consensus.primitives.codec import Codec
from consensus.primitives.crypto import DIGEST_SIZE, SIGNATURE_SIZE, Verifier
from consensus.primitives.errors import ProtocolError
from consensus.proofs import signing_digest
from consensus.quorum import epoch_of

EVIDENCE_BYTES_MAX = 320

# Their order numbers them on ledgers: append only.
KINDS = (PRE_PREPARE, PREPARE, COMMIT, ATTEST, CHECKPOINT, VIEW_CHANGE, NEW_VIEW)
_WITHOUT_VIEW = (ATTEST, CHECKPOINT)
_WITHOUT_SEQ = (VIEW_CHANGE, NEW_VIEW)

# The Ed25519 key of (replica, epoch), or None where it is not a validator of that epoch.
KeyOf = Callable[[int, int], bytes | None]


@dataclass(frozen=True)
class Signed:
    """What one signature covers beside its place: the digest of a block, a result or a message."""

    digest: bytes
    signature: bytes


@dataclass(frozen=True)
class Evidence:
    """`replica` signed both `first` and `second` as its one word for a place. First is the lower digest."""

    replica: int
    epoch: int
    kind: str
    view: int
    seq: int
    first: Signed
    second: Signed


_CODEC = Codec(Evidence, sizes={Evidence: EVIDENCE_BYTES_MAX})


class _Statement(NamedTuple):
    kind: str
    view: int
    seq: int
    signed: Signed


def make_evidence(replica: int, epoch: int, first: Message, second: Message) -> Evidence:
    """What two messages of a replica prove. Raises `Refused` where they do not contradict each other."""
    one, other = _read(first), _read(second)
    place = one[:3]
    refuse_unless(place == other[:3], "evidence-place", f"{place} and {other[:3]} are different places")
    low, high = sorted((one.signed, other.signed), key=lambda item: item.digest)
    evidence = Evidence(replica, epoch, *place, low, high)
    check_form(evidence)
    return evidence


def encode_evidence(evidence: Evidence) -> bytes:
    """The portable form."""
    return _CODEC.encode(evidence)


def decode_evidence(data: bytes) -> Evidence:
    """The inverse; raises `ProtocolError` unless `data` is the one spelling of a contradiction. Checks no
    signature."""
    evidence: Evidence = _CODEC.decode(data, EVIDENCE_BYTES_MAX)
    check_form(evidence)
    return evidence


def check_form(evidence: Evidence) -> None:
    """Raise `Refused` unless both halves name one possible place and differ in digest."""
    kind, view, seq = evidence.kind, evidence.view, evidence.seq
    refuse_unless(kind in KINDS, "evidence-kind", f"{kind!r} is no vote")
    for item in (evidence.first, evidence.second):
        is_whole = len(item.digest) == DIGEST_SIZE and len(item.signature) == SIGNATURE_SIZE
        refuse_unless(is_whole, "evidence-size", "a digest has 32 bytes, a signature 64")
    ordered = evidence.first.digest < evidence.second.digest
    refuse_unless(ordered, "no-contradiction", "the two digests must differ, the lower one first")
    is_place = (
        view == 0 if kind in _WITHOUT_VIEW else min(view, seq) >= 0 and epoch_of(view) == evidence.epoch
    )
    is_place = is_place and (seq == 0 if kind in _WITHOUT_SEQ else seq > 0)
    refuse_unless(
        is_place, "evidence-place", f"no {kind} is at view {view}, block {seq} of epoch {evidence.epoch}"
    )


def check_evidence(chain_id: bytes, key_of: KeyOf, verifier: Verifier, evidence: Evidence) -> int:
    """The replica that `evidence` convicts. Raises `Refused` or `SignatureError`."""
    check_form(evidence)
    replica, epoch = evidence.replica, evidence.epoch
    key = key_of(replica, epoch)
    if key is None:
        raise Refused("unknown-replica", f"{replica} was no validator of epoch {epoch}")
    for item in (evidence.first, evidence.second):
        message = signing_digest(chain_id, epoch, evidence.kind, evidence.view, evidence.seq, item.digest)
        verifier.verify(key, message, item.signature)
    return replica


def _read(message: Message) -> _Statement:
    """Kind, place and content of what a message signs."""
    match message:
        case PrePrepare(view, block, signature):
            return _Statement(PRE_PREPARE, view, block.seq, Signed(block.digest, signature))
        case Prepare(view, seq, digest, _, signature):
            return _Statement(PREPARE, view, seq, Signed(digest, signature))
        case Commit(view, seq, digest, _, signature):
            return _Statement(COMMIT, view, seq, Signed(digest, signature))
        case Attest():
            kind, signed = attest_kind(message.state), Signed(message.result_digest, message.signature)
            return _Statement(kind, 0, message.seq, signed)
        case ViewChange():
            return _Statement(VIEW_CHANGE, message.view, 0, Signed(message.body_digest, message.signature))
        case NewView():
            return _Statement(NEW_VIEW, message.view, 0, Signed(message.body_digest, message.signature))
    raise ProtocolError(f"a {type(message).__name__} is no vote")
