"""The vote log: everything a replica must still know after a crash, mirrored in memory.

Every change emits its `Persist` or `Erase`, so what is in a `VoteLog` is what will be on disk before
this turn's messages leave. Signers ask it first: a vote is signed only for what stands in the log,
and the log takes one digest per (view, seq). That is why a restarted replica can sign nothing new.

    key                  value
    view                 view (8 bytes), then 1 if active, 0 if left and not yet entered
    view-change          own ViewChange for the current view, until the next one; unsigned for a turn
    new-view-draft       own NewView for the view being entered, unsigned, until it is entered
    new-view             the NewView of the current view
    stable               the highest known CheckpointCert
    accepted/SEQ         the PrePrepare this replica proposed or prepared last
    prepared/SEQ         the PreparedCert of the highest view, kept though later views skip it
    delivered/SEQ        digest of the block handed to execution
    checkpoint/SEQ       own attestation of a checkpoint
    diverged             what this replica came to where f+1 others came to something else: it signs nothing
    heal                 its state is to be fetched from others before it takes part
    attested             it attests results above this seq only: others were attested before it was healed
    epoch/NUMBER         proof of each change of validators since genesis

SEQ and NUMBER are 8 bytes, big-endian; entries of a seq at or below the stable checkpoint are erased,
so at most four times the window remain. Proofs of epochs stay: they lead anybody from genesis to here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from consensus.effects import Effect, Erase, Persist
from consensus.messages import CODEC, Attest, Epochs, NewView, PreparedCert, PrePrepare, ViewChange
from consensus.primitives.crypto import DIGEST_SIZE
from consensus.primitives.errors import ProtocolError, StorageError, ensure
from consensus.proofs import CheckpointCert, EpochProof
from consensus.quorum import epoch_of, first_view, round_of

VIEW = b"view"
VIEW_CHANGE = b"view-change"
NEW_VIEW = b"new-view"
DRAFT = b"new-view-draft"
STABLE = b"stable"
ACCEPTED = b"accepted/"
PREPARED = b"prepared/"
DELIVERED = b"delivered/"
CHECKPOINT = b"checkpoint/"
DIVERGED = b"diverged"
HEAL = b"heal"
ATTESTED = b"attested"
EPOCH = b"epoch/"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Divergence:
    """Where the state went wrong: the digests of both results, and up to where this replica attested."""

    seq: int
    ours: bytes
    theirs: bytes
    attested: int

    def encode(self) -> bytes:
        """As it stands in the log."""
        return self.seq.to_bytes(8, "big") + self.attested.to_bytes(8, "big") + self.ours + self.theirs

    @classmethod
    def decode(cls, value: bytes) -> "Divergence":
        """The inverse of `encode`."""
        seq, attested = int.from_bytes(value[:8], "big"), int.from_bytes(value[8:16], "big")
        return cls(seq, value[16 : 16 + DIGEST_SIZE], value[16 + DIGEST_SIZE :], attested)


DIVERGENCE_SIZE = 16 + 2 * DIGEST_SIZE


def plan_heal(durable: Mapping[bytes, bytes], committed: int) -> dict[bytes, bytes | None]:
    """What to change in a stopped replica's vote log (None: erase) so that it fetches its state anew.

    Every promise about order stays. Results are attested above `committed` only, the highest block the
    replica can have executed: below, it may have attested others.
    """
    log = VoteLog(lambda effect: None, durable)
    attested = max(log.diverged.attested if log.diverged else 0, log.attested, committed)
    changes: dict[bytes, bytes | None] = {seq_key(CHECKPOINT, seq): None for seq in log.checkpoints}
    return {**changes, DIVERGED: None, HEAL: b"", ATTESTED: attested.to_bytes(8, "big")}


def seq_key(prefix: bytes, seq: int) -> bytes:
    """Key of the entry `prefix` at `seq`."""
    return prefix + seq.to_bytes(8, "big")


class VoteLog:
    """What this replica promised. Writers emit; readers use the fields, which nobody else writes."""

    def __init__(self, emit: Callable[[Effect], None], durable: Mapping[bytes, bytes]) -> None:
        self._emit = emit
        self.view = 0
        self.active = True
        self.view_change: ViewChange | None = None
        self.new_view: NewView | None = None
        self.draft: NewView | None = None
        self.stable: CheckpointCert | None = None
        self.low = 0  # low water mark: the seq of `stable`
        self.accepted: dict[int, PrePrepare] = {}
        self.prepared: dict[int, PreparedCert] = {}
        self.delivered: dict[int, bytes] = {}
        self.checkpoints: dict[int, Attest] = {}
        self.diverged: Divergence | None = None
        self.heals = False
        self.attested = 0
        self.epochs: dict[int, EpochProof] = {}  # by number, from 1 on, ascending
        for key, value in durable.items():
            self._restore(key, value)
        self._check_restored()

    # Views

    def leave(self, view_change: ViewChange) -> None:
        """From now on this replica is in `view_change.view`, inactive. The message is not signed yet."""
        ensure(view_change.view > self.view, f"view {self.view} cannot be left for {view_change.view}")
        self.view, self.active = view_change.view, False
        self.view_change, self.new_view = view_change, None
        self._persist_view()
        self._emit(Persist(VIEW_CHANGE, CODEC.encode(view_change)))
        self._emit(Erase(NEW_VIEW))
        self._drop_draft()

    def sign_view_change(self, signed: ViewChange) -> None:
        """The very message this view was entered by, signed now that it is durable."""
        before = self.view_change
        ensure(
            before is not None and before.body_digest == signed.body_digest,
            f"view change to {signed.view} is not the one in the log",
        )
        if before != signed:
            self.view_change = signed
            self._emit(Persist(VIEW_CHANGE, CODEC.encode(signed)))

    def keep_draft(self, draft: NewView) -> None:
        """What this replica, as primary, will announce: one for a view, so that no crash leads to two."""
        ensure(not self.active and draft.view == self.view, f"view {draft.view} is not being entered")
        ensure(self.draft is None, f"a second new-view message for view {draft.view}")
        self.draft = draft
        self._emit(Persist(DRAFT, CODEC.encode(draft)))

    def _drop_draft(self) -> None:
        if self.draft is not None:
            self.draft = None
            self._emit(Erase(DRAFT))

    def enter(self, new_view: NewView) -> None:
        """From now on this replica is active in `new_view.view`."""
        is_later = new_view.view > self.view or (new_view.view == self.view and not self.active)
        ensure(is_later, f"view {new_view.view} cannot be entered from {self.view}")
        self.view, self.active = new_view.view, True
        self.new_view = new_view
        self._persist_view()
        self._emit(Persist(NEW_VIEW, CODEC.encode(new_view)))
        self._drop_draft()

    def start_epoch(self, proof: EpochProof) -> None:
        """From now on this replica is in the first view of the next epoch; its checkpoint is the proof."""
        number = proof.epoch.number
        ensure(number == len(self.epochs) + 1, f"epoch {number} does not follow {len(self.epochs)}")
        ensure(proof.cert.seq == self.low, f"epoch {number} starts above {proof.cert.seq}, not {self.low}")
        ensure(not self.accepted and not self.prepared, f"votes above the boundary at {self.low}")
        self.epochs[number] = proof
        self.view, self.active = first_view(number), True
        self.view_change = self.new_view = None
        self._emit(Persist(seq_key(EPOCH, number), CODEC.encode(Epochs((proof,)))))
        self._persist_view()
        self._emit(Erase(VIEW_CHANGE))
        self._emit(Erase(NEW_VIEW))
        self._drop_draft()

    def _persist_view(self) -> None:
        self._emit(Persist(VIEW, self.view.to_bytes(8, "big") + bytes([self.active])))

    # Votes

    def accept(self, proposal: PrePrepare) -> None:
        """This replica is about to vote for `proposal`: refuse a second digest at its place."""
        seq, digest = proposal.block.seq, proposal.block.digest
        ensure(
            self.active and proposal.view == self.view,
            f"no vote in view {proposal.view}: left or not entered",
        )
        ensure(seq > self.low, f"no vote at {seq}: the checkpoint at {self.low} is stable")
        before = self.accepted.get(seq)
        if before is not None and before.view == proposal.view:
            ensure(before.block.digest == digest, f"a second vote at (view {proposal.view}, seq {seq})")
            return
        self.accepted[seq] = proposal
        self._emit(Persist(seq_key(ACCEPTED, seq), CODEC.encode(proposal)))

    def prepare(self, cert: PreparedCert) -> None:
        """This replica holds a prepared certificate and is about to commit."""
        proposal = cert.proposal
        seq = proposal.block.seq
        accepted = self.accepted.get(seq)
        ensure(
            accepted is not None
            and accepted.view == proposal.view
            and accepted.block.digest == proposal.block.digest,
            f"block {seq} is prepared in view {proposal.view} but was not accepted",
        )
        self.prepared[seq] = cert
        self._emit(Persist(seq_key(PREPARED, seq), CODEC.encode(cert)))

    # Results

    def deliver(self, seq: int, digest: bytes) -> None:
        """The block at `seq` goes to execution."""
        if seq > self.low:
            self.delivered[seq] = digest
            self._emit(Persist(seq_key(DELIVERED, seq), digest))

    def attest(self, own: Attest) -> None:
        """Keep own attestation of a checkpoint; never sign another one."""
        before = self.checkpoints.get(own.seq)
        if before is not None:
            ensure(
                before.result_digest == own.result_digest,
                f"checkpoint {own.seq} came out different from what was attested before the restart: "
                "the state on this machine is damaged; restore it from a peer",
            )
            return
        self.checkpoints[own.seq] = own
        self._emit(Persist(seq_key(CHECKPOINT, own.seq), CODEC.encode(own)))

    def diverge(self, divergence: "Divergence") -> None:
        """This replica's state is wrong: sign nothing more, not even after a restart."""
        self.diverged = divergence
        self._emit(Persist(DIVERGED, divergence.encode()))

    def finish_heal(self) -> None:
        """The state was fetched from others."""
        if self.heals:
            self.heals = False
            self._emit(Erase(HEAL))

    def stabilise(self, cert: CheckpointCert) -> None:
        """Raise the low water mark and erase what it settles."""
        ensure(cert.seq > self.low, f"checkpoint {cert.seq} is not above {self.low}")
        self.stable, self.low = cert, cert.seq
        self._emit(Persist(STABLE, CODEC.encode(cert)))
        self._trim(ACCEPTED, self.accepted)
        self._trim(PREPARED, self.prepared)
        self._trim(DELIVERED, self.delivered)
        self._trim(CHECKPOINT, self.checkpoints)

    def _trim(self, prefix: bytes, entries: dict[int, Any]) -> None:
        for seq in [seq for seq in entries if seq <= self.low]:
            del entries[seq]
            self._emit(Erase(seq_key(prefix, seq)))

    # Restart

    def _restore(self, key: bytes, value: bytes) -> None:
        prefix, slash, place = key.partition(b"/")
        if slash and len(place) != 8:
            raise StorageError(f"vote log has a key {key!r} that this version does not write")
        seq = int.from_bytes(place, "big")
        match prefix + slash:
            case b"view" if len(value) == 9 and value[8] in (0, 1):
                self.view, self.active = int.from_bytes(value[:8], "big"), value[8] == 1
            case b"view-change":
                self.view_change = _decode(ViewChange, key, value)
            case b"new-view-draft":
                self.draft = _decode(NewView, key, value)
            case b"new-view":
                self.new_view = _decode(NewView, key, value)
            case b"stable":
                self.stable = _decode(CheckpointCert, key, value)
                self.low = self.stable.seq
            case b"accepted/":
                self.accepted[seq] = _decode(PrePrepare, key, value)
            case b"prepared/":
                self.prepared[seq] = _decode(PreparedCert, key, value)
            case b"delivered/" if len(value) == DIGEST_SIZE:
                self.delivered[seq] = value
            case b"checkpoint/":
                self.checkpoints[seq] = _decode(Attest, key, value)
            case b"diverged" if len(value) == DIVERGENCE_SIZE:
                self.diverged = Divergence.decode(value)
            case b"heal" if not value:
                self.heals = True
            case b"attested" if len(value) == 8:
                self.attested = int.from_bytes(value, "big")
            case b"epoch/":
                self.epochs[seq] = _decode(Epochs, key, value).proofs[0]
            case _:
                raise StorageError(f"vote log has an entry {key!r} that this version does not write")

    def _check_restored(self) -> None:
        self.epochs = dict(sorted(self.epochs.items()))
        numbers = [proof.epoch.number for proof in self.epochs.values()]
        wanted = list(range(1, epoch_of(self.view) + 1))
        if not list(self.epochs) == numbers == wanted:
            raise StorageError(f"vote log is in epoch {epoch_of(self.view)} but holds proofs of {numbers}")
        if numbers and self.epochs[numbers[-1]].cert.seq > self.low:
            raise StorageError(f"vote log is in epoch {numbers[-1]}, which starts above {self.low}")
        if (
            round_of(self.view) > 0
            and self.active
            and (self.new_view is None or self.new_view.view != self.view)
        ):
            raise StorageError(f"vote log is active in view {self.view} but lacks its new-view message")
        if not self.active and (self.view_change is None or self.view_change.view != self.view):
            raise StorageError(f"vote log left for view {self.view} but lacks its view change")
        if self.draft is not None and (self.active or self.draft.view != self.view):
            raise StorageError(f"vote log has a draft for view {self.draft.view}, but is in view {self.view}")
        places = [*self.accepted, *self.prepared, *self.delivered, *self.checkpoints]
        if any(seq <= self.low for seq in places):
            raise StorageError(f"vote log has entries at or below its stable checkpoint {self.low}")


def _decode(cls: type[_T], key: bytes, value: bytes) -> _T:
    try:
        message = CODEC.decode(value)
    except ProtocolError as error:
        raise StorageError(
            f"vote log entry {key!r} is damaged ({error}): restore it, do not delete it"
        ) from error
    if not isinstance(message, cls):
        raise StorageError(f"vote log entry {key!r} holds a {type(message).__name__}, not a {cls.__name__}")
    return message
