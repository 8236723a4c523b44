"""A PBFT replica: one dispatch over its parts. Start reading here.

state.py         configuration, shared marks, signing
durable.py       the vote log: what must survive a crash, and the guard over what may be signed
batches.py       micro-batches held, pending, wanted
ordering.py      the normal case: pre-prepare, prepare, commit, deliver
receive_times.py signed receive times, and the order of a block's batches
checkpoints.py   attestations, stable checkpoints, divergence
pace.py          what a primary owes while work waits
pacemaker.py     deadlines and complaints
view_change.py   leaving a view, starting the next
membership.py    the change from one epoch's validators to the next
catch_up.py      status, retransmission, fetching
state_transfer.py   fetching a whole state (transfer_target.py) where blocks will not do, serving one
certificates.py  checks of everything signed
log.py           slots, tallies, the stash
"""

from collections.abc import Mapping, Sequence
from operator import ge

from consensus.batches import Batches
from consensus.catch_up import FETCH, STATUS, CatchUp
from consensus.certificates import UNKNOWN_EPOCH, Authority, compute_proposals, refusal_code
from consensus.checkpoints import Checkpoints
from consensus.effects import (
    BatchReady,
    ChunkRefused,
    ChunkStaged,
    Connected,
    Effect,
    Event,
    Executed,
    ManifestChecked,
    ManifestRefused,
    Received,
    SnapshotTaken,
    StateInstalled,
    TimerFired,
)
from consensus.membership import Membership
from consensus.messages import (
    Ack,
    Attest,
    Chunk,
    Commit,
    CommitCert,
    Complain,
    Epochs,
    FetchBatches,
    FetchBlocks,
    FetchChunks,
    FetchEpochs,
    FetchManifest,
    Manifest,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
)
from consensus.ordering import Ordering
from consensus.pacemaker import NEW_VIEW, REQUEST, Pacemaker
from consensus.primitives.crypto import Verifier
from consensus.primitives.errors import ConfigError, InvariantViolation, ProtocolError, StorageError
from consensus.proofs import CheckpointCert, EpochProof
from consensus.quorum import ReplicaSet, epoch_of, round_of
from consensus.receive_times import TELL
from consensus.signing import VoteSigner
from consensus.state import ReplicaConfig, ReplicaState
from consensus.state_transfer import TRANSFER, Progress, StateTransfer
from consensus.view_change import ViewChanges

__all__ = ["Replica", "ReplicaConfig"]


class Replica:
    """PBFT replica (Castro & Liskov, OSDI '99). Owns protocol state; performs no I/O.

    `genesis` are the validators of epoch 0; those of now follow from the vote log. Who is none of them
    follows, executes and signs nothing. `signers` hold all keys of this replica, of which an epoch names
    one: a key that is to be rotated stands beside the one that replaces it.
    `durable` is the vote log as `Persist` and `Erase` left it. `committed` is the highest seq up to
    which every block is stored; `executed` the highest whose result is known, and `replayed` the results
    of blocks that the node ran again at start, in order: those above the last stable checkpoint, the
    checkpoint it restored from included. Blocks in (executed, committed] are the node's to run; it
    answers `Executed` for them as for any other. A replica that is to be healed starts with
    `executed` 0, and the node runs nothing before a state is installed. `oldest` is the first block of
    those up to `committed` that is stored without a gap, `snapshot` the checkpoint whose state the
    node can serve.
    """

    def __init__(
        self,
        replica_id: int,
        genesis: ReplicaSet,
        signers: Sequence[VoteSigner],
        verifier: Verifier,
        config: ReplicaConfig,
        durable: Mapping[bytes, bytes] | None = None,
        committed: int = 0,
        executed: int = 0,
        replayed: Sequence[Executed] = (),
        oldest: int = 1,
        snapshot: CheckpointCert | None = None,
    ) -> None:
        state = ReplicaState(replica_id, genesis, signers, verifier, config, durable or {})
        delivered = max(state.votes.delivered, default=0)
        if delivered > committed:
            raise StorageError(
                f"the vote log knows committed block {delivered}, the ledger ends at {committed}: "
                "they belong together, and neither may come from a backup; run `kontor recover`"
            )
        if state.is_wedged and max(committed, *state.votes.accepted, state.low) > state.low:
            raise ConfigError(
                f"the chain was wedged at block {state.low} and went on, but resume_after is"
                f" {config.resume_after}: put back {state.low}, or a later wedge"
            )
        state.committed, state.executed = committed, executed
        state.oldest, state.snapshot = oldest, snapshot
        self._state = state
        self._replayed = replayed
        self._batches = Batches(config.batches_max)
        self._ordering = Ordering(state, self._batches)
        self._checkpoints = Checkpoints(state)
        self._pacemaker = Pacemaker(state, self._batches, self._ordering)
        self._view_changes = ViewChanges(state, self._ordering, self._checkpoints, self._pacemaker)
        self._membership = Membership(
            state, self._ordering, self._checkpoints, self._pacemaker, self._view_changes
        )
        self._catch_up = CatchUp(
            state,
            self._batches,
            self._ordering,
            self._checkpoints,
            self._pacemaker,
            self._view_changes,
            self._membership,
        )
        self._transfer = StateTransfer(
            state, self._batches, self._ordering, self._checkpoints, self._catch_up.peers
        )
        self._could_vote = state.may_vote
        self._marks = (0, 0, 0, 0, True)

    # What a node may look at

    @property
    def view(self) -> int:
        """Current view, or the one being changed to."""
        return self._state.votes.view

    @property
    def active(self) -> bool:
        """Whether the view has started here."""
        return self._state.votes.active

    @property
    def primary(self) -> int:
        """Who proposes in this view."""
        return self._state.primary

    @property
    def committed(self) -> int:
        """Highest block handed to execution."""
        return self._state.committed

    @property
    def executed(self) -> int:
        """Highest block whose result is known."""
        return self._state.executed

    @property
    def stable_seq(self) -> int:
        """Highest checkpoint proven stable; 0 is genesis."""
        return self._state.votes.low

    @property
    def authority(self) -> Authority:
        """Who votes on what, in every epoch so far; worker threads may read it."""
        return self._state.authority

    @property
    def replicas(self) -> ReplicaSet:
        """The validators of the current epoch."""
        return self._state.replicas

    @property
    def epoch_proofs(self) -> Sequence[EpochProof]:
        """Every change of validators since genesis, ascending."""
        return tuple(self._state.votes.epochs.values())

    @property
    def retired(self) -> bool:
        """Whether this replica was a validator and is none now: it follows and signs nothing."""
        state = self._state
        return not state.is_member and state.authority.has_known(state.id)

    @property
    def may_vote(self) -> bool:
        """Whether this replica is a validator now, holds the key the epoch names, and trusts its state."""
        return self._state.may_vote

    def foresee(self, result: Executed) -> None:
        """A delivered block ran, and `result` will follow as an event once the block is durable: have what
        will be attested noted by the signer now. Changes nothing else, and nothing is sent."""
        if result.seq > self._state.installed:
            self._checkpoints.foresee(result)

    def add_signer(self, signer: VoteSigner) -> None:
        """One more key of this replica. It signs in the epochs that name it."""
        self._state.add_signer(signer)

    @property
    def boundary(self) -> int:
        """The last block of this epoch, or the block at which the chain stops; 0: none is in sight."""
        return self._state.boundary

    @property
    def wedged(self) -> bool:
        """Whether the chain stands at a block that only an operator's `resume_after` leads beyond."""
        return self._state.is_wedged

    @property
    def diverged(self) -> bool:
        """Whether this replica stopped voting because its state is wrong."""
        return self._state.diverged

    @property
    def transfer(self) -> Progress | None:
        """How far the fetching of a state is; None if none is being fetched."""
        return self._transfer.progress

    def certificate(self, seq: int) -> CheckpointCert | None:
        """The certificate of a checkpoint that became stable lately."""
        return self._checkpoints.certificates.get(seq)

    def expects(self, sender: int, message: Manifest | Chunk) -> bool:
        """Whether that part of a state was asked of `sender`: others need not be passed on."""
        return self._transfer.expects(sender, message)

    @property
    def pending(self) -> int:
        """Micro-batches held and not yet handed to execution."""
        return len(self._batches.held)

    @property
    def counters(self) -> dict[str, int]:
        """How often each interesting path was taken.

        Ordering: proposals, delivered, null_blocks, stashed, clock_waits, order_waits. Views: complaints,
        complaint_echoes, reminders, view_changes (left), view_joins, new_views (entered), new_views_led,
        reproposals, null_fills, contradicted_proposals. Repair: status_asks, views_forwarded,
        blocks_forwarded, block_fetches, batch_fetches, catch_up_blocks, commit_certs_too_far, unserved.
        State transfer: transfers, transfer_targets, transfer_targets_lost, transfer_silences,
        transfer_bans, chunk_fetches, chunks_kept, chunks_staged, states_installed.
        Epochs: epochs (started), epochs_learnt, epochs_shown, epoch_asks, unknown_epochs, empty_waits.
        Others: checkpoints, refused, equivocations, diverged, refused_signatures (by our own signer).
        """
        return self._state.counters

    # Events

    def start(self, now_us: int) -> list[Effect]:
        """Take up where the vote log left off: repeat what was said, and ask how the others stand."""
        state = self._state
        state.now_us = now_us
        new_view = state.votes.new_view
        base = state.replicas.record.first_seq - 1
        if new_view is not None:
            base, _ = compute_proposals(new_view.view_changes)
        for result in self._replayed:
            self._membership.on_executed(result)
        self._checkpoints.restore(self._replayed)  # first: a state that came out wrong must not vote
        self._ordering.restore(base, new_view.proposals if new_view else ())
        self._view_changes.restore()
        self._transfer.start()
        state.broadcast(self._catch_up.status(asks=True))
        self._settle()
        self.check_invariants()
        return state.take_effects()

    def step(self, event: Event, now_us: int) -> list[Effect]:
        """Consume one event at time `now_us` (µs since 1970); return what the node must do."""
        state = self._state
        state.now_us = now_us
        match event:
            case Received(sender, message):
                self._receive(sender, message)
            case BatchReady():
                self._ordering.on_batch_ready(event)
            case Executed() if 0 < event.seq <= state.installed:
                pass  # it was under way when the state was fetched
            case Executed():
                self._ordering.check_executed(event.seq, event.block_digest)
                self._membership.on_executed(event)
                self._checkpoints.on_executed(event)
            case TimerFired(name):
                self._on_timer(name)
            case Connected(replica):
                self._catch_up.on_connected(replica)
                if replica == state.primary:
                    self._ordering.times.tell_again()
            case SnapshotTaken():
                self._transfer.on_snapshot_taken(event)
            case ManifestChecked():
                self._transfer.on_manifest_checked(event)
            case ManifestRefused():
                self._transfer.on_manifest_refused(event)
            case ChunkStaged():
                self._transfer.on_chunk_staged(event)
            case ChunkRefused():
                self._transfer.on_chunk_refused(event)
            case StateInstalled():
                self._transfer.on_installed(event)
        self._settle()
        self.check_invariants()
        return state.take_effects()

    def _receive(self, sender: int, message: Message) -> None:
        if sender == self._state.id:
            return
        self._catch_up.meet(sender)
        try:
            self._on_message(sender, message)
        except ProtocolError as error:
            self._refuse(sender, message, error)

    def _refuse(self, sender: int, m: Message, error: ProtocolError) -> None:
        """Blame the sender, unless it may only live in an epoch that we have yet to hear of.

        Up to the end of the window we know whose results count; of a result above it, we do not.
        """
        state = self._state
        is_far = isinstance(m, Attest | CheckpointCert) and m.seq > state.low + state.config.window
        if is_far or refusal_code(error) == UNKNOWN_EPOCH:
            state.count("unknown_epochs")
            self._membership.ask(sender)
        else:
            state.blame(sender, error)

    def _on_message(self, sender: int, m: Message) -> None:
        match m:
            case Prepare():
                self._ordering.on_prepare(sender, m)
            case Commit():
                self._ordering.on_commit(sender, m)
            case Attest():
                self._checkpoints.on_attest(m)
            case PrePrepare():
                self._ordering.on_pre_prepare(sender, m)
                self._ordering.times.hear_primary(sender, m.view)
            case Ack():
                self._ordering.times.on_ack(sender, m)
            case CommitCert():
                self._ordering.on_commit_cert(m)
            case CheckpointCert():
                self._checkpoints.on_checkpoint_cert(m)
                self._transfer.note(m)
                self._transfer.consider()
            case Complain():
                if not self._pacemaker.on_complain(sender, m):
                    self._catch_up.help_complainer(m.replica, m.view)
            case ViewChange():
                if not self._view_changes.on_view_change(m):
                    self._catch_up.help_complainer(m.replica, m.view)
            case NewView():
                self._view_changes.on_new_view(m)
            case Status():
                self._on_status(sender, m)
            case FetchBatches():
                self._catch_up.on_fetch_batches(sender, m)
            case FetchBlocks():
                self._catch_up.on_fetch_blocks(sender, m)
            case FetchManifest():
                self._transfer.on_fetch_manifest(sender, m)
            case FetchChunks():
                self._transfer.on_fetch_chunks(sender, m)
            case Manifest():
                self._transfer.on_manifest(sender, m)
            case Chunk():
                self._transfer.on_chunk(sender, m)
            case Epochs():
                self._membership.on_epochs(m)
            case FetchEpochs():
                self._catch_up.on_fetch_epochs(sender, m)
            case _:
                pass  # payloads are the node's

    def _on_status(self, sender: int, m: Status) -> None:
        self._ordering.times.hear_primary(sender, m.view)
        if self._catch_up.on_status(sender, m):
            self._transfer.offer(sender, m.committed)
        if m.stable is not None and epoch_of(m.view) <= self._state.replicas.epoch:
            self._transfer.note(m.stable)
        self._transfer.consider()

    def _on_timer(self, name: str) -> None:
        if name == REQUEST:
            self._pacemaker.on_request_timer(self._catch_up.is_behind())
        elif name == NEW_VIEW:
            self._pacemaker.on_new_view_timer()
        elif name == STATUS:
            self._catch_up.on_status_timer()
        elif name == FETCH:
            self._catch_up.on_fetch_timer()
        elif name == TRANSFER:
            self._transfer.on_timer()
        elif name == TELL:
            self._ordering.times.on_timer()
        else:
            self._view_changes.on_sign_timer(name)

    def _settle(self) -> None:
        """Draw the conclusions of one event; each part returns at once if it has none to draw."""
        state = self._state
        self._membership.settle()
        self._ordering.deliver()
        self._view_changes.settle()
        while state.window_moved:
            state.window_moved = False
            self._membership.settle()
            self._ordering.drop_settled()
            if state.boundary:
                self._ordering.look_again()
            for sender, message in self._ordering.stash.take():
                self._receive(sender, message)
            self._ordering.deliver()
            self._view_changes.settle()
            self._could_vote = self._could_vote and state.may_vote  # validators may have changed
        if not self._could_vote and state.may_vote:
            self._take_up()
        self._ordering.propose()
        self._pacemaker.watch()
        self._catch_up.settle()
        if state.ingesting:
            self._could_vote = False
            self._transfer.settle()

    def _take_up(self) -> None:
        """This replica may vote again, as its state is here or its key is: say what was kept back."""
        self._could_vote = True
        self._view_changes.resume()
        self._ordering.look_again()

    # Invariants

    def check_invariants(self) -> None:
        """Raise if this replica's own state is wrong; a few comparisons, run after every event.

        View, low water mark, committed and executed only grow; nothing runs that is not committed; an
        active view above 0 has its new-view message, an inactive one our view change and no slots;
        locks stand inside the window; queues keep their bounds; a primary stays inside the window.
        """
        state, ordering, config = self._state, self._ordering, self._state.config
        votes = state.votes
        marks = (votes.view, votes.low, state.committed, state.executed, votes.active)
        if marks != self._marks:
            wrong = self._find_wrong(marks)
            if wrong:
                raise InvariantViolation(wrong)
            self._marks = marks
        slots, certified = len(ordering.slots), len(ordering.certified)
        if slots > config.window or certified > config.window + 2 * config.catch_up_blocks:
            raise InvariantViolation(f"{slots} slots and {certified} certificates; window {config.window}")
        if ordering.next_seq > votes.low + config.window + 1 and state.is_primary:
            raise InvariantViolation(f"next proposal {ordering.next_seq} is beyond the window at {votes.low}")

    def _find_wrong(self, marks: tuple[int, int, int, int, bool]) -> str:
        """Which invariant the marks break, now that they are no more what they were; empty if none."""
        votes, before = self._state.votes, self._marks[:4]
        view, low, committed, executed, active = marks
        if not all(map(ge, marks[:4], before)):
            return f"(view, low, committed, executed) went from {before} to {marks[:4]}"
        if executed > committed:
            return f"executed {executed} > committed {committed}"
        if active and round_of(view) and (votes.new_view is None or votes.new_view.view != view):
            return f"active in view {view} without its new-view message"
        if not active and (votes.view_change is None or votes.view_change.view != view):
            return f"view {view} is inactive without a view change of ours"
        if not active and self._ordering.slots:
            return f"slots are open in the inactive view {view}"
        if any(not low < seq <= low + self._state.config.window for seq in votes.prepared):
            return f"prepared certificates outside the window above {low}: {sorted(votes.prepared)}"
        return ""
