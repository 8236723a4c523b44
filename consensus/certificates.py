"""Who signed what: checks of every signed message and certificate.

Everything raises `Refused` or `SignatureError`; nothing returns a bool that a caller could forget.
Bounds come before signatures, so that a malformed message costs its receiver next to nothing.
Votes inside a certificate stand in ascending order of replica: one spelling, no signer twice.
"""

from bisect import bisect_right
from collections.abc import Sequence
from copy import copy
from itertools import pairwise

from consensus import proofs
from consensus.messages import (
    BATCHES_PER_BLOCK_MAX,
    Ack,
    Attest,
    Block,
    Commit,
    CommitCert,
    Complain,
    Epochs,
    Message,
    NewView,
    Prepare,
    PreparedCert,
    PrePrepare,
    ViewChange,
)
from consensus.primitives.crypto import DIGEST_SIZE, Verifier
from consensus.primitives.errors import ProtocolError, SignatureError, ensure
from consensus.proofs import PARTS_MAX, CheckpointCert, EpochProof, Vote, signing_digest
from consensus.quorum import ReplicaSet, epoch_of, round_of

REMEMBERED_DIGESTS_MAX = 1024

PRE_PREPARE = "pre-prepare"
PREPARE = "prepare"
COMMIT = proofs.COMMIT
ATTEST = proofs.ATTEST
CHECKPOINT = proofs.CHECKPOINT
COMPLAIN = "complain"
VIEW_CHANGE = "view-change"
NEW_VIEW = "new-view"
ACK = "ack"

UNKNOWN_EPOCH = "unknown-epoch"
_RESULTS = frozenset((ATTEST, CHECKPOINT))


class Refused(ProtocolError):
    """A message breaks a rule; `code` is stable and names it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def refuse_unless(condition: bool, code: str, message: str) -> None:
    """Raise `Refused` unless `condition` holds."""
    if not condition:
        raise Refused(code, message)


def attest_kind(state: object) -> str:
    """An attestation with a state summary is PBFT's checkpoint, and signs another kind."""
    return CHECKPOINT if state else ATTEST


class Authority:
    """The validators of every epoch up to the newest known one, and the means to check their signatures.

    Whatever names a view is signed by that view's epoch, results by the epoch of their block.
    Worker threads read it while the replica moves it on: epochs are only ever added, as a whole.
    """

    def __init__(
        self, replicas: ReplicaSet, verifier: Verifier, window: int, checkpoint_interval: int
    ) -> None:
        self.window = window
        self.checkpoint_interval = checkpoint_interval
        self._epochs: tuple[ReplicaSet, ...] = (replicas,)
        self._last_seq = 0
        self._verifier = verifier
        self._places: dict[tuple[str, int, int, bytes], tuple[ReplicaSet, bytes]] = {}

    @property
    def replicas(self) -> ReplicaSet:
        """The newest epoch."""
        return self._epochs[-1]

    def using(self, verifier: Verifier) -> "Authority":
        """The same epochs as they are now, with another verifier."""
        other = copy(self)
        other._verifier, other._places = verifier, {}
        return other

    def advance(self, replicas: ReplicaSet) -> None:
        """The next epoch is known."""
        ensure(replicas.epoch == self.replicas.epoch + 1, f"epoch {replicas.epoch} is not the next one")
        self._epochs, self._last_seq, self._places = (*self._epochs, replicas), 0, {}

    def end_at(self, last_seq: int) -> None:
        """Blocks above `last_seq` belong to an epoch after the newest one known; 0: no end is known."""
        if last_seq != self._last_seq:
            self._last_seq, self._places = last_seq, {}

    def of_view(self, view: int) -> ReplicaSet:
        """The validators of the epoch of `view`."""
        epochs = self._epochs
        index = epoch_of(view) - epochs[0].epoch
        if not 0 <= index < len(epochs):
            raise Refused(UNKNOWN_EPOCH, f"view {view} is of epoch {epoch_of(view)}; {_range_of(epochs)}")
        return epochs[index]

    def of_seq(self, seq: int) -> ReplicaSet:
        """The validators who vote on block `seq`, as far as is known."""
        epochs = self._epochs
        index = bisect_right(epochs, seq, key=lambda replicas: replicas.record.first_seq) - 1
        is_beyond = index == len(epochs) - 1 and 0 < self._last_seq < seq
        if index < 0 or is_beyond:
            raise Refused(UNKNOWN_EPOCH, f"block {seq} is of another epoch; {_range_of(epochs)}")
        return epochs[index]

    def has_known(self, replica: int) -> bool:
        """Whether `replica` is or was a validator."""
        return any(replica in replicas for replicas in self._epochs)

    def _voters(self, kind: str, view: int, seq: int) -> ReplicaSet:
        if kind == ACK:
            return self.replicas
        if kind in _RESULTS:
            return self.of_seq(seq)
        replicas = self.of_view(view)
        # Whoever voted in an epoch long gone may have sold its key since: it decides nothing later.
        if seq and self.of_seq(seq) is not replicas:
            raise Refused("wrong-epoch", f"block {seq} is not epoch {replicas.epoch}'s to decide")
        return replicas

    def _place(self, kind: str, view: int, seq: int, body: bytes) -> tuple[ReplicaSet, bytes]:
        """Who signs this, and what. Remembered for a while: all votes of one phase sign the same."""
        place = (kind, view, seq, body)
        known = self._places.get(place)
        if known is None:
            if len(self._places) >= REMEMBERED_DIGESTS_MAX:
                self._places.clear()
            voters = self._voters(kind, view, seq)
            message = signing_digest(voters.chain_id, voters.epoch, kind, view, seq, body)
            known = self._places[place] = (voters, message)
        return known

    def message(self, kind: str, view: int, seq: int, body: bytes) -> bytes:
        """The digest to sign."""
        return self._place(kind, view, seq, body)[1]

    def check(self, replica: int, kind: str, view: int, seq: int, body: bytes, signature: bytes) -> None:
        """Raise unless `replica` signed (kind, view, seq, body)."""
        voters, message = self._place(kind, view, seq, body)
        key = voters.keys.get(replica)
        if key is None:
            raise Refused("unknown-replica", f"{replica} is no validator of epoch {voters.epoch}")
        self._verifier.verify(key, message, signature)

    def check_votes(
        self, votes: Sequence[Vote], needed: int, kind: str, view: int, seq: int, body: bytes
    ) -> None:
        """Raise unless `votes` are exactly `needed` valid ones in ascending order of replica."""
        refuse_unless(
            len(votes) == needed, "vote-count", f"{len(votes)} {kind} votes; {needed} make a certificate"
        )
        check_ascending([vote.replica for vote in votes], "vote-order")
        for vote in votes:
            self.check(vote.replica, kind, view, seq, body, vote.signature)


def _range_of(epochs: Sequence[ReplicaSet]) -> str:
    return f"epochs {epochs[0].epoch} to {epochs[-1].epoch} are known"


def check_ascending(values: Sequence[int], code: str) -> None:
    """Raise unless every value is above the one before it."""
    ascending = all(first < second for first, second in pairwise(values))
    refuse_unless(ascending, code, f"{list(values)} is not strictly ascending")


# Single messages


def check_pre_prepare(authority: Authority, m: PrePrepare) -> None:
    """Raise unless the primary of its view signed the proposal."""
    primary = authority.of_view(m.view).primary(m.view)
    authority.check(primary, PRE_PREPARE, m.view, m.block.seq, m.block.digest, m.signature)


def check_ack(authority: Authority, m: Ack) -> None:
    """Raise unless the acknowledgement is signed."""
    authority.check(m.replica, ACK, 0, 0, m.items_digest, m.signature)


def check_order(authority: Authority, m: PrePrepare) -> None:
    """Raise unless the acks of a fresh proposal prove the order of its batches.

    Every ack is of use, every batch has receive times of n−f replicas, and the batches ascend by
    (median, digest). A single batch needs no proof, and carries none.
    """
    batches, needed = m.block.batches, authority.replicas.collect
    refuse_unless(
        bool(m.acks) == (len(batches) > 1), "acks", f"{len(m.acks)} acks for {len(batches)} batches"
    )
    if not m.acks:
        return
    times = compute_times(batches, m.acks)
    for ack in m.acks:
        useful = any(item.batch in times for item in ack.items)
        refuse_unless(useful, "useless-ack", f"an ack of {ack.replica} is about other batches")
    for name in batches:
        told = len(times[name])
        refuse_unless(told >= needed, "few-acks", f"{told} receive times for a batch; {needed} are needed")
    refuse_unless(
        batches == compute_order(batches, m.acks), "batch-order", f"block {m.block.seq} lists out of order"
    )
    for ack in m.acks:
        check_ack(authority, ack)


def compute_times(batches: Sequence[bytes], acks: Sequence[Ack]) -> dict[bytes, dict[int, int]]:
    """The receive times of each batch by replica; where a replica states several, the first counts."""
    times: dict[bytes, dict[int, int]] = {name: {} for name in batches}
    for ack in acks:
        for item in ack.items:
            told = times.get(item.batch)
            if told is not None:
                told.setdefault(ack.replica, item.time_us)
    return times


def compute_order(batches: Sequence[bytes], acks: Sequence[Ack]) -> tuple[bytes, ...]:
    """The batches by (median receive time, digest); of an even number of times, the lower middle one.

    Of m ≥ n−f times at most f lie; the median has f below or at it and f above, so it lies within what
    honest replicas saw. Every batch needs at least one time.
    """
    medians = {
        name: sorted(told.values())[(len(told) - 1) // 2]
        for name, told in compute_times(batches, acks).items()
    }
    return tuple(sorted(batches, key=lambda name: (medians[name], name)))


def check_attest(authority: Authority, m: Attest) -> None:
    """Raise unless it is signed, and carries a state root exactly at checkpoints."""
    is_checkpoint = m.seq > 0 and m.seq % authority.checkpoint_interval == 0
    refuse_unless(
        (m.state is not None) == is_checkpoint,
        "state-summary",
        f"attestation of block {m.seq} {'lacks' if is_checkpoint else 'has'} a state summary",
    )
    authority.check(m.replica, attest_kind(m.state), 0, m.seq, m.result_digest, m.signature)


def check_complain(authority: Authority, m: Complain) -> None:
    """Raise unless the complaint is signed."""
    authority.check(m.replica, COMPLAIN, m.view, 0, b"", m.signature)


# Certificates


def check_prepared(authority: Authority, cert: PreparedCert) -> None:
    """Raise unless the primary proposed and q−1 other replicas prepared the block."""
    proposal = cert.proposal
    view, block = proposal.view, proposal.block
    replicas = authority.of_view(view)
    primary = replicas.primary(view)
    # The primary's proposal is its vote: a prepare of its own would count it twice.
    refuse_unless(
        all(vote.replica != primary for vote in cert.prepares),
        "primary-prepare",
        f"primary {primary} prepared",
    )
    refuse_unless(not proposal.acks, "acks-kept", "a certificate keeps no acknowledgements")
    authority.check_votes(cert.prepares, replicas.quorum - 1, PREPARE, view, block.seq, block.digest)
    check_pre_prepare(authority, proposal)


def check_commit_cert(authority: Authority, cert: CommitCert) -> None:
    """Raise unless q replicas committed the block in one view."""
    block = cert.block
    refuse_unless(block.seq > 0, "seq", "blocks are numbered from 1")
    needed = authority.of_view(cert.view).quorum
    authority.check_votes(cert.commits, needed, COMMIT, cert.view, block.seq, block.digest)


def check_checkpoint(authority: Authority, cert: CheckpointCert) -> None:
    """Raise unless q replicas attest one state root at a checkpoint."""
    refuse_unless(
        cert.seq > 0 and cert.seq % authority.checkpoint_interval == 0,
        "checkpoint-place",
        f"block {cert.seq} is no checkpoint",
    )
    needed = authority.of_seq(cert.seq).quorum
    authority.check_votes(cert.votes, needed, CHECKPOINT, 0, cert.seq, cert.result_digest)


def check_epoch_proof(authority: Authority, proof: EpochProof) -> None:
    """Raise unless the newest known epoch ended at the proof's checkpoint and named the next one."""
    epoch, cert, last = proof.epoch, proof.cert, authority.replicas
    refuse_unless(
        epoch.number == last.epoch + 1, "epoch-order", f"epoch {epoch.number} does not follow {last.epoch}"
    )
    refuse_unless(
        last.record.first_seq <= cert.seq == epoch.first_seq - 1,
        "epoch-place",
        f"epoch {epoch.number} starts at {epoch.first_seq}, its proof is of block {cert.seq}",
    )
    refuse_unless(
        cert.state.epoch == epoch.digest, "epoch-digest", f"the proof names another epoch {epoch.number}"
    )
    check_checkpoint(authority, cert)


def check_epochs(authority: Authority, proofs: Sequence[EpochProof]) -> None:
    """Raise unless the proofs, besides those of epochs already known, follow each other."""
    ahead = copy(authority)
    for proof in proofs:
        if proof.epoch.number > ahead.replicas.epoch:
            check_epoch_proof(ahead, proof)
            ahead.advance(ReplicaSet(ahead.replicas.chain_id, proof.epoch))


def check_complaints(authority: Authority, complaints: Sequence[Complain], view: int) -> None:
    """Raise unless n−f replicas complained about `view`."""
    needed = authority.of_view(view).collect
    refuse_unless(
        len(complaints) == needed, "complaint-count", f"{len(complaints)} complaints; need {needed}"
    )
    check_ascending([m.replica for m in complaints], "complaint-order")
    for m in complaints:
        refuse_unless(m.view == view, "complaint-view", f"complaint about view {m.view}; need {view}")
        check_complain(authority, m)


def check_view_change(authority: Authority, m: ViewChange) -> None:
    """Raise unless the view change is signed and every certificate in it is valid and in its place."""
    first_seq = authority.of_view(m.view).record.first_seq
    refuse_unless(round_of(m.view) > 0, "view", f"view {m.view} starts its epoch: it needs no view change")
    refuse_unless(
        m.low >= first_seq - 1, "epoch-low", f"low mark {m.low} lies before the epoch, at {first_seq}"
    )
    refuse_unless(
        len(m.prepared) <= authority.window,
        "oversized",
        f"{len(m.prepared)} prepared certificates; the window has {authority.window} places",
    )
    authority.check(m.replica, VIEW_CHANGE, m.view, 0, m.body_digest, m.signature)
    check_ascending([cert.proposal.block.seq for cert in m.prepared], "prepared-order")
    for cert in m.prepared:
        seq, view = cert.proposal.block.seq, cert.proposal.view
        is_earlier = view < m.view and epoch_of(view) == epoch_of(m.view)
        refuse_unless(is_earlier, "prepared-view", f"prepared in view {view}, not below {m.view}")
        in_window = m.low < seq <= m.low + authority.window
        refuse_unless(in_window, "prepared-seq", f"prepared block {seq} is outside the window above {m.low}")
    if m.complaints:
        check_complaints(authority, m.complaints, m.view - 1)
    if m.stable is not None:
        check_checkpoint(authority, m.stable)
    for cert in m.prepared:
        check_prepared(authority, cert)


def check_new_view(authority: Authority, m: NewView, known: Sequence[ViewChange] = ()) -> None:
    """Raise unless O follows from n−f valid view changes by distinct replicas, all for this view.

    View changes that equal one in `known` were checked before and are not checked again.
    """
    replicas = authority.of_view(m.view)
    refuse_unless(round_of(m.view) > 0, "view", f"view {m.view} starts its epoch: it has no new-view message")
    refuse_unless(
        m.replica == replicas.primary(m.view),
        "not-primary",
        f"{m.replica} is not the primary of view {m.view}",
    )
    refuse_unless(
        len(m.view_changes) == replicas.collect,
        "view-change-count",
        f"{len(m.view_changes)} view changes; {replicas.collect} make a new view",
    )
    check_ascending([change.replica for change in m.view_changes], "view-change-order")
    authority.check(m.replica, NEW_VIEW, m.view, 0, m.body_digest, m.signature)
    for change in m.view_changes:
        refuse_unless(change.view == m.view, "view-change-view", f"a view change is for view {change.view}")
        if not any(same_view_change(change, other) for other in known):
            check_view_change(authority, change)
    _, blocks = compute_proposals(m.view_changes)
    proposed = [(proposal.view, proposal.block.digest, proposal.acks) for proposal in m.proposals]
    refuse_unless(
        proposed == [(m.view, block.digest, ()) for block in blocks],
        "wrong-proposals",
        f"the proposals of view {m.view} do not follow from its view changes",
    )
    for proposal in m.proposals:
        check_pre_prepare(authority, proposal)


def new_view_bytes_max(replicas: ReplicaSet, window: int) -> int:
    """The longest new view: every view change holds a full block for every place of the window."""
    vote, number, digest = 2 + 66, 9, 2 + DIGEST_SIZE
    proposal = 1 + number + (1 + 2 * number + 3 + BATCHES_PER_BLOCK_MAX * digest) + 66 + 1
    prepared = 1 + proposal + 3 + (replicas.quorum - 1) * vote
    state = 1 + 2 * digest + 3 + PARTS_MAX * digest + number
    stable = 1 + number + 2 * digest + state + 3 + replicas.quorum * vote
    complaints = replicas.collect * (1 + number + 1 + 66)
    change = 1 + number + stable + 3 + window * prepared + 3 + complaints + 1 + 66
    return 2 + number + 3 + replicas.collect * change + 3 + window * proposal + 1 + 66


def same_view_change(first: ViewChange, second: ViewChange) -> bool:
    """Whether both are one signed message."""
    return (
        first.replica == second.replica
        and first.signature == second.signature
        and first.body_digest == second.body_digest
    )


def compute_base(view_changes: Sequence[ViewChange]) -> CheckpointCert | None:
    """The highest stable checkpoint among them; None stands for genesis."""
    return max((m.stable for m in view_changes if m.stable), key=lambda cert: cert.seq, default=None)


def compute_proposals(view_changes: Sequence[ViewChange]) -> tuple[int, list[Block]]:
    """Return the base seq and the blocks a new view starts with (the set O of the paper).

    For each seq above the base up to the highest prepared one: the block prepared in the highest
    view, or a null block where nobody prepared one.
    """
    base = max((m.low for m in view_changes), default=0)
    best: dict[int, PrePrepare] = {}
    for change in view_changes:
        for cert in change.prepared:
            seq = cert.proposal.block.seq
            if seq > base and (seq not in best or cert.proposal.view > best[seq].view):
                best[seq] = cert.proposal
    last = max(best, default=base)
    blocks = [best[seq].block if seq in best else Block.null(seq) for seq in range(base + 1, last + 1)]
    return base, blocks


# What a node can check ahead


def check_message(authority: Authority, m: Message) -> None:
    """Check every signature of `m`; messages that prove themselves otherwise pass."""
    match m:
        case PrePrepare():
            check_pre_prepare(authority, m)
            check_order(authority, m)
        case Ack():
            check_ack(authority, m)
        case Prepare(view, seq, digest, replica, signature):
            authority.check(replica, PREPARE, view, seq, digest, signature)
        case Commit(view, seq, digest, replica, signature):
            authority.check(replica, COMMIT, view, seq, digest, signature)
        case CommitCert():
            check_commit_cert(authority, m)
        case Attest():
            check_attest(authority, m)
        case CheckpointCert():
            check_checkpoint(authority, m)
        case Complain():
            check_complain(authority, m)
        case ViewChange():
            check_view_change(authority, m)
        case NewView():
            check_new_view(authority, m)
        case Epochs(proofs):
            check_epochs(authority, proofs)
        case _:
            pass


class _Recorder:
    """A verifier that believes everything and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, bytes]] = []

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        self.asked.append((public_key, message, signature))


def list_signatures(authority: Authority, m: Message) -> list[tuple[bytes, bytes, bytes]]:
    """Every (public key, signed digest, signature) that a replica will check in `m`.

    A node checks them on worker threads before the replica sees the message. A malformed message
    may give fewer: the replica refuses it anyway.
    """
    recorder = _Recorder()
    try:
        check_message(authority.using(recorder), m)
    except ProtocolError:
        return recorder.asked
    return recorder.asked


def refusal_code(error: ProtocolError) -> str:
    """The stable short code of a refusal, as `Blame.reason` carries it."""
    if isinstance(error, Refused):
        return error.code
    return "bad-signature" if isinstance(error, SignatureError) else "malformed"
