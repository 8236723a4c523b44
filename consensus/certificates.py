"""Who signed what: checks of every signed message and certificate.

Everything raises `Refused` or `SignatureError`; nothing returns a bool that a caller could forget.
Bounds come before signatures, so that a malformed message costs its receiver next to nothing.
Votes inside a certificate stand in ascending order of replica: one spelling, no signer twice.
"""

from collections.abc import Sequence
from itertools import pairwise

from consensus.messages import (
    BATCHES_PER_BLOCK_MAX,
    Ack,
    Attest,
    Block,
    Commit,
    CommitCert,
    Complain,
    Message,
    NewView,
    Prepare,
    PreparedCert,
    PrePrepare,
    ViewChange,
)
from consensus.primitives.crypto import DIGEST_SIZE, Verifier
from consensus.primitives.errors import ProtocolError, SignatureError
from consensus.proofs import PARTS_MAX, CheckpointCert, Vote, signing_digest
from consensus.quorum import ReplicaSet

REMEMBERED_DIGESTS_MAX = 1024

PRE_PREPARE = "pre-prepare"
PREPARE = "prepare"
COMMIT = "commit"
ATTEST = "attest"
CHECKPOINT = "checkpoint"
COMPLAIN = "complain"
VIEW_CHANGE = "view-change"
NEW_VIEW = "new-view"
ACK = "ack"


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
    """The validators of one epoch and the means to check their signatures."""

    def __init__(
        self, replicas: ReplicaSet, verifier: Verifier, window: int, checkpoint_interval: int
    ) -> None:
        self.replicas = replicas
        self.window = window
        self.checkpoint_interval = checkpoint_interval
        self._verifier = verifier
        self._digests: dict[tuple[str, int, int, bytes], bytes] = {}

    def message(self, kind: str, view: int, seq: int, body: bytes) -> bytes:
        """The digest to sign. Remembered for a while: all votes of one phase sign the same one."""
        place = (kind, view, seq, body)
        known = self._digests.get(place)
        if known is None:
            if len(self._digests) >= REMEMBERED_DIGESTS_MAX:
                self._digests.clear()
            known = signing_digest(self.replicas.chain_id, self.replicas.epoch, kind, view, seq, body)
            self._digests[place] = known
        return known

    def check(self, replica: int, kind: str, view: int, seq: int, body: bytes, signature: bytes) -> None:
        """Raise unless `replica` signed (kind, view, seq, body)."""
        keys = self.replicas.keys
        if replica not in keys:
            raise Refused("unknown-replica", f"{replica} is not one of {len(keys)} validators")
        self._verifier.verify(keys[replica], self.message(kind, view, seq, body), signature)

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


def check_ascending(values: Sequence[int], code: str) -> None:
    """Raise unless every value is above the one before it."""
    ascending = all(first < second for first, second in pairwise(values))
    refuse_unless(ascending, code, f"{list(values)} is not strictly ascending")


# Single messages


def check_pre_prepare(authority: Authority, m: PrePrepare) -> None:
    """Raise unless the primary of its view signed the proposal."""
    primary = authority.replicas.primary(m.view)
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
    primary = authority.replicas.primary(view)
    # The primary's proposal is its vote: a prepare of its own would count it twice.
    refuse_unless(
        all(vote.replica != primary for vote in cert.prepares),
        "primary-prepare",
        f"primary {primary} prepared",
    )
    needed = authority.replicas.quorum - 1
    refuse_unless(not proposal.acks, "acks-kept", "a certificate keeps no acknowledgements")
    authority.check_votes(cert.prepares, needed, PREPARE, view, block.seq, block.digest)
    check_pre_prepare(authority, proposal)


def check_commit_cert(authority: Authority, cert: CommitCert) -> None:
    """Raise unless q replicas committed the block in one view."""
    block = cert.block
    refuse_unless(block.seq > 0, "seq", "blocks are numbered from 1")
    authority.check_votes(cert.commits, authority.replicas.quorum, COMMIT, cert.view, block.seq, block.digest)


def check_checkpoint(authority: Authority, cert: CheckpointCert) -> None:
    """Raise unless q replicas attest one state root at a checkpoint."""
    refuse_unless(
        cert.seq > 0 and cert.seq % authority.checkpoint_interval == 0,
        "checkpoint-place",
        f"block {cert.seq} is no checkpoint",
    )
    authority.check_votes(cert.votes, authority.replicas.quorum, CHECKPOINT, 0, cert.seq, cert.result_digest)


def check_complaints(authority: Authority, complaints: Sequence[Complain], view: int) -> None:
    """Raise unless n−f replicas complained about `view`."""
    needed = authority.replicas.collect
    refuse_unless(
        len(complaints) == needed, "complaint-count", f"{len(complaints)} complaints; need {needed}"
    )
    check_ascending([m.replica for m in complaints], "complaint-order")
    for m in complaints:
        refuse_unless(m.view == view, "complaint-view", f"complaint about view {m.view}; need {view}")
        check_complain(authority, m)


def check_view_change(authority: Authority, m: ViewChange) -> None:
    """Raise unless the view change is signed and every certificate in it is valid and in its place."""
    refuse_unless(m.view > 0, "view", "view 0 needs no view change")
    refuse_unless(
        len(m.prepared) <= authority.window,
        "oversized",
        f"{len(m.prepared)} prepared certificates; the window has {authority.window} places",
    )
    authority.check(m.replica, VIEW_CHANGE, m.view, 0, m.body_digest, m.signature)
    check_ascending([cert.proposal.block.seq for cert in m.prepared], "prepared-order")
    for cert in m.prepared:
        seq, view = cert.proposal.block.seq, cert.proposal.view
        refuse_unless(view < m.view, "prepared-view", f"prepared in view {view}, not below {m.view}")
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
    replicas = authority.replicas
    refuse_unless(m.view > 0, "view", "view 0 needs no new-view message")
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
        case _:
            pass


class _Recorder:
    """A verifier that believes everything and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, bytes]] = []

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        self.asked.append((public_key, message, signature))


def list_signatures(
    replicas: ReplicaSet, window: int, checkpoint_interval: int, m: Message
) -> list[tuple[bytes, bytes, bytes]]:
    """Every (public key, signed digest, signature) that a replica will check in `m`.

    A node checks them on worker threads before the replica sees the message. A malformed message
    may give fewer: the replica refuses it anyway.
    """
    recorder = _Recorder()
    try:
        check_message(Authority(replicas, recorder, window, checkpoint_interval), m)
    except ProtocolError:
        return recorder.asked
    return recorder.asked


def refusal_code(error: ProtocolError) -> str:
    """The stable short code of a refusal, as `Blame.reason` carries it."""
    if isinstance(error, Refused):
        return error.code
    return "bad-signature" if isinstance(error, SignatureError) else "malformed"
