"""Watches every honest node and raises `SafetyViolation` the moment a rule is broken.

It trusts nothing a replica says of itself: it recounts quorums, checks signatures and remembers
every vote across crashes. What the rules are and where they come from stands with each method.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from consensus.durable import (
    ACCEPTED,
    CHECKPOINT,
    EPOCH,
    NEW_VIEW,
    PREPARED,
    STABLE,
    VIEW,
    VIEW_CHANGE,
    seq_key,
)
from consensus.effects import Blame, Broadcast, Effect, Executed, Send, StoreBlock, SwapState
from consensus.messages import (
    CODEC,
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
    Status,
    ViewChange,
)
from consensus.primitives.crypto import Verifier
from consensus.primitives.errors import InvariantViolation, SignatureError
from consensus.proofs import CheckpointCert, Vote, signing_digest
from consensus.quorum import ReplicaSet, epoch_of
from consensus.simulator.node import SimNode
from consensus.simulator.queues import Bounds

QUEUES_EVERY = 200  # turns between two looks at all queues of a replica


class SafetyViolation(InvariantViolation):
    """A replica broke a rule that no fault within the model excuses."""


class LivenessViolation(InvariantViolation):
    """A healed cluster did not finish its work in time."""


@dataclass(frozen=True)
class Committed:
    """What is agreed at one seq, and the lowest view in which a certificate was seen."""

    view: int
    digest: bytes


@dataclass
class Promise:
    """What a replica said to others, and must therefore still know after a crash."""

    view: int = 0
    attested: int = 0
    stable: int = 0


class Checker:
    """Safety rules over all honest nodes of one run."""

    def __init__(self, replicas: ReplicaSet, verifier: Verifier, window: int, bounds: Bounds) -> None:
        self._window = window
        self.committed: dict[int, Committed] = {}
        self.counters: dict[str, int] = {}
        self._epochs = [replicas]  # as honest nodes' executions say
        self._boundaries: dict[int, int] = {}  # last block of an epoch, by its number
        self._verifier = verifier
        self._decoded: dict[bytes, object] = {}
        self._votes: dict[tuple[int, str, int, int], bytes] = {}
        self._accepted: dict[int, dict[tuple[int, bytes], int]] = {}
        self._prepared: dict[tuple[int, int], bytes] = {}
        self._commits: dict[int, dict[int, int]] = {}
        self._left: dict[int, int] = {}
        self._roots: dict[int, bytes] = {}
        self._marks: dict[int, tuple[int, ...]] = {}
        self._entered: dict[int, int] = {}
        self._resumed: set[int] = set()  # heights of wedges that the chain was led beyond
        self._genuine: dict[int, object] = {}
        self._times: dict[bytes, tuple[int, int]] = {}  # earliest and latest that honest replicas signed
        self._bounds = bounds
        self._ingesting: dict[int, int] = {}
        self._turns = 0
        self._ran: dict[bytes, int] = {}
        self._promised: dict[int, Promise] = {}
        self._attesters: dict[int, set[int]] = {}
        self.suspects: set[int] = set()  # who may contradict itself
        self.acknowledged = 0  # highest block that a client holds f+1 honest attestations of

    # What a node does

    def on_restart(self, node: SimNode) -> None:
        """It is where it said it was, and what it replayed has the roots of before.

        A forgotten vote shows when it votes again.
        """
        self._note("restarts")
        self._marks[node.id] = ()
        replica, promised = node.replica, self._promised.setdefault(node.id, Promise())
        if replica.view < promised.view:
            self._fail(node, f"came back in view {replica.view}, but voted in {promised.view}")
        if node.disk.committed < promised.attested:
            self._fail(node, f"came back at block {node.disk.committed}, but attested {promised.attested}")
        if replica.stable_seq < promised.stable:
            self._fail(node, f"came back with checkpoint {replica.stable_seq}, after {promised.stable}")
        for result in node.replayed:
            self._check_root(node, result.seq, result.journal_root)
            self._learn_epoch(node, result)

    def on_wipe(self, node: SimNode) -> None:
        """Its disk is empty now: it is one of the f who may contradict what they said."""
        self._note("wipes")
        self.suspects.add(node.id)
        tables = (self._votes, self._commits, self._left, self._marks, self._promised, self._entered)
        for table in tables:
            _forget(table, node.id)

    def on_turn(self, node: SimNode, effects: Sequence[Effect]) -> None:
        """View, commit and execution marks only ever grow while a replica is up; queues keep their bounds."""
        replica = node.replica
        marks = (replica.view, replica.committed, replica.executed, replica.stable_seq)
        before = self._marks[node.id]
        if marks != before:
            if before and any(now < then for now, then in zip(marks, before, strict=True)):
                self._fail(node, f"(view, committed, executed, stable) went from {before} to {marks}")
            self._marks[node.id] = marks
        self._check_ingesting(node, effects)
        self._check_accused(node, effects)
        self._turns += 1
        if self._turns % QUEUES_EVERY == 0:
            self.check_queues(node)

    def _check_ingesting(self, node: SimNode, effects: Sequence[Effect]) -> None:
        """Who has no state of its own says nothing new about order, results or views."""
        replica, was = node.replica, self._ingesting.get(node.id)
        is_ingesting = replica.transfer is not None
        self._ingesting[node.id] = node.incarnation if is_ingesting else 0
        if not is_ingesting or was != node.incarnation:
            return
        self._note("turns_ingesting")
        if not replica.active:
            self._note("ingesting_amid_view_change")
        for effect in effects:
            place = _place_of(node.id, effect.message) if isinstance(effect, Send | Broadcast) else None
            if isinstance(effect, Send | Broadcast) and place and place not in self._votes:
                self._fail(node, f"signs a {type(effect.message).__name__} while it fetches a state")

    def _check_accused(self, node: SimNode, effects: Sequence[Effect]) -> None:
        """Nobody holds proof against a replica that never forgot what it signed."""
        for effect in effects:
            if isinstance(effect, Blame) and effect.evidence:
                kind = type(effect.evidence[0]).__name__
                self._note(f"proofs.{kind}")
                if effect.replica not in self.suspects:
                    self._fail(node, f"holds two contradicting {kind}s of honest replica {effect.replica}")

    def check_queues(self, node: SimNode) -> None:
        """Nothing a replica keeps grows beyond its bound."""
        excesses = self._bounds.list_excesses(node.replica)
        if excesses:
            self._fail(node, f"keeps too much: {'; '.join(excesses)}")

    def on_durable(self, node: SimNode, effects: Sequence[Effect]) -> None:
        """What is stored is committed; checked here, since a crash may still undo what a turn asked for.

        A vote log stays small: four entries a place of the window, and a few of their own. Who catches
        up by certificates may run ahead of the stable checkpoint that it knows.
        """
        self._note("commits_to_disk")
        for effect in effects:
            if isinstance(effect, StoreBlock):
                self._check_stored(node, effect.cert)
            elif isinstance(effect, SwapState) and node.disk.snapshot:
                self._check_root(node, effect.seq, node.disk.snapshot[1].journal_root)
                self._note("states_swapped")
        self._check_epoch_entries(node)
        low = self._durable_low(node)
        promised = self._promised.setdefault(node.id, Promise())
        promised.stable = max(promised.stable, low)
        ahead = max(0, node.disk.committed - low - self._window)
        most = 4 * self._window + 8 + 2 * ahead + len(self._epochs)
        if len(node.disk.votes) > most:
            self._fail(node, f"has {len(node.disk.votes)} entries in its vote log; at most {most} are due")

    def on_execute(self, node: SimNode, block: Block, result: Executed) -> None:
        """Only what is committed and durable runs, each batch once, and equal heights have equal roots."""
        stored = node.disk.blocks.get(block.seq)
        if stored is None or stored.block.digest != block.digest:
            self._fail(node, f"executed block {block.seq}, which it did not store as committed")
        for name in node.app.ran:
            if self._ran.setdefault(name, block.seq) != block.seq:
                self._fail(node, f"ran batch {name.hex()[:8]} in blocks {self._ran[name]} and {block.seq}")
        self._check_root(node, block.seq, result.journal_root)
        self._learn_epoch(node, result)

    # Epochs: what the state says counts, whatever a replica makes of it

    def _learn_epoch(self, node: SimNode, result: Executed) -> None:
        """All honest states tell of the same boundaries and the same validators after them."""
        if result.state is None or result.epoch is None:
            return
        epoch, latest = result.epoch, self._epochs[-1]
        if epoch.number == latest.epoch + 1:
            self._note("epochs")
            self._epochs.append(ReplicaSet(latest.chain_id, epoch))
            boundary = self._boundaries.setdefault(latest.epoch, result.seq)
            if boundary != result.seq:
                self._fail(node, f"starts epoch {epoch.number} after {result.seq}, not {boundary}")
        elif epoch.number > latest.epoch or self._epochs[epoch.number].record != epoch:
            self._fail(node, f"has other validators in epoch {epoch.number} than others")
        if result.state.boundary > result.seq and result.state.boundary not in self._resumed:
            known = self._boundaries.setdefault(epoch.number, result.state.boundary)
            if known != result.state.boundary:
                self._fail(node, f"ends epoch {epoch.number} at {result.state.boundary}, others at {known}")

    def _check_epoch_entries(self, node: SimNode) -> None:
        """Whoever is in an epoch holds the proof of each change up to it, by the quorum before it."""
        number = epoch_of(int.from_bytes(node.disk.votes.get(VIEW, b"")[:8], "big"))
        if number > self._entered.get(node.id, 0):
            for later in range(1, number + 1):
                self._check_epoch_entry(node, later)
            self._entered[node.id] = number

    def _check_epoch_entry(self, node: SimNode, number: int) -> None:
        entry = self._entry(node, seq_key(EPOCH, number))
        if not isinstance(entry, Epochs):
            self._fail(node, f"entered epoch {number} without a durable proof of it")
        elif number >= len(self._epochs) or entry.proofs[0].epoch != self._epochs[number].record:
            self._fail(node, f"entered an epoch {number} that no state tells of")
        else:
            self._check_checkpoint(node, entry.proofs[0].cert)

    @property
    def newest(self) -> ReplicaSet:
        """The validators of the newest epoch that an honest state tells of."""
        return self._epochs[-1]

    def _of_view(self, view: int) -> ReplicaSet | None:
        number = epoch_of(view)
        return self._epochs[number] if number < len(self._epochs) else None

    def _of_seq(self, seq: int) -> ReplicaSet:
        return next(replicas for replicas in reversed(self._epochs) if replicas.record.first_seq <= seq)

    def _voters(self, node: SimNode, kind: str, view: int, seq: int) -> ReplicaSet:
        """Who may vote there: blocks up to a boundary are the old validators' to decide, those above it
        the new ones'."""
        if kind in ("attest", "checkpoint"):
            return self._of_seq(seq)
        replicas = self._of_view(view)
        if replicas is None:
            self._fail(node, f"has a {kind} of view {view}, whose epoch no state tells of")
        last = self._boundaries.get(replicas.epoch, seq)
        if seq and not replicas.record.first_seq <= seq <= last:
            self._fail(node, f"has a {kind} at (view {view}, seq {seq}); that epoch ends at {last}")
        return replicas

    def resume_after(self, height: int) -> None:
        """Operators lead the chain beyond this wedge."""
        self._resumed.add(height)
        self._boundaries = {epoch: last for epoch, last in self._boundaries.items() if last != height}

    def _check_root(self, node: SimNode, seq: int, root: bytes) -> None:
        known = self._roots.setdefault(seq, root)
        if known != root:
            self._fail(
                node, f"comes to another root at height {seq}: {root.hex()[:8]}, others {known.hex()[:8]}"
            )

    def on_send(self, node: SimNode, message: Message) -> None:
        """Check what leaves an honest node. Messages of others that it passes on are not its votes."""
        match message:
            case PrePrepare(block=block):
                self._on_preprepare(node, message)
                self._check_accepted(node, message.view, block.seq, block.digest)
            case Prepare(replica=replica) if replica == node.id:
                self._on_prepare(node, message)
            case Commit(replica=replica) if replica == node.id:
                self._on_commit(node, message)
            case CommitCert():
                self._check_commit_cert(node, message)
            case Attest(replica=replica) if replica == node.id:
                self._on_attest(node, message)
            case CheckpointCert():
                self._check_checkpoint(node, message)
            case Complain(replica=replica) if replica == node.id:
                self._note("complaints")
                self._check_not_left(node, message.view)
            case ViewChange(replica=replica) if replica == node.id:
                self._on_view_change(node, message)
            case NewView(replica=replica) if replica == node.id:
                self._on_new_view(node, message)
            case Status(stable=stable):
                self._check_checkpoint(node, stable)
            case Ack():
                self._on_ack(message)
            case _:
                pass

    # Votes

    def _on_preprepare(self, node: SimNode, message: PrePrepare) -> None:
        block = message.block
        replicas = self._of_view(message.view)
        if replicas is None or replicas.primary(message.view) != node.id:
            return
        self._vote(node, "pre-prepare", message.view, block.seq, block.digest)
        self._verify(node, node.id, message.signature, "pre-prepare", message.view, block.seq, block.digest)
        self._accept(node, message.view, block.seq, block.digest)
        for ack in message.acks:
            if ack.replica == node.id:
                self._on_ack(ack)

    def _on_ack(self, message: Ack) -> None:
        """Remember when honest replicas say that a batch came to them."""
        for item in message.items:
            first, last = self._times.get(item.batch, (item.time_us, item.time_us))
            self._times[item.batch] = min(first, item.time_us), max(last, item.time_us)

    def _check_order(self, node: SimNode, block: Block) -> None:
        """What every honest replica received later is never listed first."""
        latest = 0
        for name in block.batches:
            first, last = self._times.get(name, (0, 0))
            if 0 < last < latest:
                self._fail(node, f"block {block.seq} lists a batch before one that came earlier to everybody")
            latest = max(latest, first)

    def _on_prepare(self, node: SimNode, message: Prepare) -> None:
        self._vote(node, "prepare", message.view, message.seq, message.digest)
        self._verify(node, node.id, message.signature, "prepare", message.view, message.seq, message.digest)
        self._accept(node, message.view, message.seq, message.digest)
        self._check_accepted(node, message.view, message.seq, message.digest)

    def _on_commit(self, node: SimNode, message: Commit) -> None:
        """A commit says "prepared": no second digest may be prepared at the same place."""
        view, seq = message.view, message.seq
        self._vote(node, "commit", view, seq, message.digest)
        self._verify(node, node.id, message.signature, "commit", view, seq, message.digest)
        self._accept(node, view, seq, message.digest)
        self._check_prepared_entry(node, view, seq, message.digest)
        self._check_prepared(node, view, seq, message.digest)
        sent = self._commits.setdefault(node.id, {})
        sent[seq] = max(view, sent.get(seq, 0))

    def _on_attest(self, node: SimNode, message: Attest) -> None:
        """An attestation is replayable: block, certificate and payloads are durable by then."""
        kind = "checkpoint" if message.state else "attest"
        self._vote(node, "attest", 0, message.seq, message.result_digest)
        self._verify(node, node.id, message.signature, kind, 0, message.seq, message.result_digest)
        block = node.disk.blocks.get(message.seq)
        if block is None and message.seq >= node.disk.oldest:
            self._fail(node, f"attested block {message.seq} before it was durable")
        if self._roots.get(message.seq) != message.journal_root:
            self._fail(node, f"attested block {message.seq} with a root that nobody computed")
        if block is not None:
            self._check_payloads(node, block.block)
        promised = self._promised.setdefault(node.id, Promise())
        promised.attested = max(promised.attested, message.seq)
        attesters = self._attesters.setdefault(message.seq, set())
        attesters.add(node.id)
        if len(attesters) >= self._of_seq(message.seq).weak_quorum:
            self.acknowledged = max(self.acknowledged, message.seq)
        if message.state and message.seq > self._durable_low(node):
            entry = self._entry(node, seq_key(CHECKPOINT, message.seq))
            if not isinstance(entry, Attest) or entry.result_digest != message.result_digest:
                self._fail(node, f"sends a checkpoint at {message.seq} that is not in its vote log")

    def _on_view_change(self, node: SimNode, message: ViewChange) -> None:
        """It carries every lock this replica ever took above its proven low mark."""
        self._note("view_changes_sent")
        self._vote(node, "view-change", message.view, 0, message.body_digest)
        self._verify(node, node.id, message.signature, "view-change", message.view, 0, message.body_digest)
        self._check_view_entry(node, VIEW_CHANGE, message.view, message.body_digest)
        self._check_not_left(node, message.view)
        self._left[node.id] = message.view
        self._check_checkpoint(node, message.stable)
        held = {}
        for cert in message.prepared:
            held[cert.proposal.block.seq] = cert.proposal.view
            self._check_prepared_cert(node, cert)
        for seq, view in self._commits.get(node.id, {}).items():
            if seq > message.low and held.get(seq, -1) < view:
                self._fail(node, f"view change to {message.view} hides what it prepared at ({view}, {seq})")

    def _on_new_view(self, node: SimNode, message: NewView) -> None:
        """A new view keeps every committed block above its base at its place."""
        self._note("new_views_sent")
        self._vote(node, "new-view", message.view, 0, message.body_digest)
        self._check_view_entry(node, NEW_VIEW, message.view, message.body_digest)
        replicas = self._voters(node, "new-view", message.view, 0)
        if len({change.replica for change in message.view_changes}) < replicas.n - replicas.f:
            self._fail(node, f"new view {message.view} stands on too few view changes")
        base = max(change.low for change in message.view_changes)
        proposed = {}
        for proposal in message.proposals:
            self._on_preprepare(node, proposal)
            proposed[proposal.block.seq] = proposal.block
            if not proposal.block.batches:
                self._note("nulls_proposed")
        self._check_choice(node, message, base, proposed)
        for seq, committed in self.committed.items():
            if seq <= base or seq < replicas.record.first_seq or committed.view >= message.view:
                continue
            if seq not in proposed or proposed[seq].digest != committed.digest:
                self._fail(
                    node, f"new view {message.view} loses block {seq} committed in view {committed.view}"
                )

    def _check_choice(self, node: SimNode, message: NewView, base: int, proposed: dict[int, Block]) -> None:
        """At each place it takes the block prepared in the highest view, counted here once more."""
        best: dict[int, PrePrepare] = {}
        for change in message.view_changes:
            for cert in change.prepared:
                seq, held = cert.proposal.block.seq, best.get(cert.proposal.block.seq)
                if held is not None and held.block.digest != cert.proposal.block.digest:
                    self._note("rival_certificates")
                if seq > base and (held is None or held.view < cert.proposal.view):
                    best[seq] = cert.proposal
        for seq, proposal in best.items():
            if seq not in proposed or proposed[seq].digest != proposal.block.digest:
                self._fail(
                    node, f"new view {message.view} does not take block {seq} as prepared in {proposal.view}"
                )

    def _vote(self, node: SimNode, kind: str, view: int, seq: int, value: bytes) -> None:
        """One replica signs one value for one place, ever, whatever crashed in between."""
        promised = self._promised.setdefault(node.id, Promise())
        promised.view = max(promised.view, view)
        before = self._votes.setdefault((node.id, kind, view, seq), value)
        if before != value:
            self._fail(node, f"two {kind} votes at (view {view}, seq {seq})")

    def _accept(self, node: SimNode, view: int, seq: int, name: bytes) -> None:
        """Whoever votes is still in that view and respects what earlier views committed."""
        self._check_not_left(node, view)
        self._accepted.setdefault(seq, {}).setdefault((view, name), node.id)
        committed = self.committed.get(seq)
        if committed and view > committed.view and name != committed.digest:
            self._fail(
                node, f"votes in view {view} for another block {seq} than committed in {committed.view}"
            )

    def _check_not_left(self, node: SimNode, view: int) -> None:
        if view < self._left.get(node.id, 0):
            self._fail(node, f"acts in view {view} though it left for {self._left[node.id]}")

    # What must be durable before a vote leaves. An entry may be gone for a reason that protects as
    # well: a stable checkpoint above it, or a later view, became durable in the same turn.

    def _check_accepted(self, node: SimNode, view: int, seq: int, name: bytes) -> None:
        """Before a pre-prepare or prepare: the proposal and its payloads."""
        if seq <= self._durable_low(node):
            return
        entry = self._entry(node, seq_key(ACCEPTED, seq))
        if not isinstance(entry, PrePrepare) or entry.view < view:
            self._fail(node, f"sends a vote at (view {view}, seq {seq}) that is not in its vote log")
        elif entry.view == view:
            if entry.block.digest != name:
                self._fail(node, f"sends a vote at (view {view}, seq {seq}), another one is in its vote log")
            self._check_payloads(node, entry.block)

    def _check_prepared_entry(self, node: SimNode, view: int, seq: int, name: bytes) -> None:
        """Before a commit: the prepared certificate."""
        if seq <= self._durable_low(node):
            return
        entry = self._entry(node, seq_key(PREPARED, seq))
        if not isinstance(entry, PreparedCert) or entry.proposal.view < view:
            self._fail(node, f"sends a commit at (view {view}, seq {seq}) without a durable certificate")
        elif entry.proposal.view == view and entry.proposal.block.digest != name:
            self._fail(
                node, f"sends a commit at (view {view}, seq {seq}), its certificate is for another block"
            )

    def _check_view_entry(self, node: SimNode, key: bytes, view: int, body_digest: bytes) -> None:
        """Before a view change or new view: that very message, and the view."""
        durable_view = int.from_bytes(node.disk.votes.get(VIEW, b"")[:8], "big")
        if durable_view > view:
            return
        entry = self._entry(node, key)
        if (
            durable_view < view
            or not isinstance(entry, ViewChange | NewView)
            or entry.view != view
            or entry.body_digest != body_digest
        ):
            self._fail(node, f"sends a {key.decode()} for view {view} that is not in its vote log")

    def _check_payloads(self, node: SimNode, block: Block) -> None:
        if any(batch not in node.disk.batches for batch in block.batches):
            self._fail(node, f"votes for block {block.seq} whose payloads it does not hold durably")

    def _durable_low(self, node: SimNode) -> int:
        entry = self._entry(node, STABLE)
        return entry.seq if isinstance(entry, CheckpointCert) else 0

    def _entry(self, node: SimNode, key: bytes) -> object:
        """The decoded entry of a vote log; equal bytes are decoded once."""
        value = node.disk.votes.get(key)
        if value is None:
            return None
        entry = self._decoded.get(value)
        if entry is None:
            entry = self._decoded[value] = CODEC.decode(value)
        return entry

    # Certificates, counted independently

    def _check_stored(self, node: SimNode, cert: CommitCert) -> None:
        """One digest is committed at each seq, and nobody votes for another from then on."""
        self._check_commit_cert(node, cert)
        seq, view, name = cert.block.seq, cert.view, cert.block.digest
        known = self.committed.get(seq)
        if known is None:
            self._note("committed")
            self._check_order(node, cert.block)
            if not cert.block.batches:
                self._note("nulls_committed")
        elif known.digest != name:
            self._fail(node, f"committed another block {seq} than others")
        lowest = min(view, known.view) if known else view
        self.committed[seq] = Committed(lowest, name)
        if known is None or lowest < known.view:
            for (voted_view, voted), voter in self._accepted.get(seq, {}).items():
                if voted_view > lowest and voted != name:
                    self._fail(
                        node,
                        f"block {seq} committed in view {lowest}, but {voter} voted against in {voted_view}",
                    )

    def _check_commit_cert(self, node: SimNode, cert: CommitCert) -> None:
        if self._is_known(cert):
            return
        block = cert.block
        self._check_votes(node, cert.commits, 0, "commit", cert.view, block.seq, block.digest)

    def _check_checkpoint(self, node: SimNode, cert: CheckpointCert | None) -> None:
        if cert is None or self._is_known(cert):
            return
        self._check_votes(node, cert.votes, 0, "checkpoint", 0, cert.seq, cert.result_digest)

    def _check_prepared_cert(self, node: SimNode, cert: PreparedCert) -> None:
        if self._is_known(cert):
            return
        view, block = cert.proposal.view, cert.proposal.block
        primary = self._voters(node, "prepare", view, block.seq).primary(view)
        self._verify(node, primary, cert.proposal.signature, "pre-prepare", view, block.seq, block.digest)
        backups = tuple(vote for vote in cert.prepares if vote.replica != primary)
        self._check_votes(node, backups, 1, "prepare", view, block.seq, block.digest)
        self._check_prepared(node, view, block.seq, block.digest)

    def _check_prepared(self, node: SimNode, view: int, seq: int, name: bytes) -> None:
        if self._prepared.setdefault((view, seq), name) != name:
            self._fail(node, f"two blocks are prepared at (view {view}, seq {seq})")

    def _check_votes(
        self, node: SimNode, votes: Sequence[Vote], fewer: int, kind: str, view: int, seq: int, body: bytes
    ) -> None:
        """A quorum's votes, or `fewer` of them."""
        n = self._voters(node, kind, view, seq).n
        quorum = -(-(n + (n - 1) // 3 + 1) // 2)  # ⌈(n+f+1)/2⌉, counted on its own
        if len({vote.replica for vote in votes}) < quorum - fewer:
            self._fail(node, f"{kind} certificate at (view {view}, seq {seq}) has too few votes")
        for vote in votes:
            self._verify(node, vote.replica, vote.signature, kind, view, seq, body)

    def _verify(
        self, node: SimNode, signer: int, signature: bytes, kind: str, view: int, seq: int, body: bytes
    ) -> None:
        voters = self._voters(node, kind, view, seq)
        message = signing_digest(voters.chain_id, voters.epoch, kind, view, seq, body)
        if signer not in voters:
            self._fail(node, f"has a {kind} at (view {view}, seq {seq}) by {signer}, no validator there")
        try:
            self._verifier.verify(voters.keys[signer], message, signature)
        except SignatureError:
            self._fail(
                node, f"sends a {kind} of {signer} at (view {view}, seq {seq}) that {signer} never signed"
            )

    def _is_known(self, cert: object) -> bool:
        """Whether this very object passed before; keeps it alive, so that its identity stays its own."""
        if self._genuine.get(id(cert)) is cert:
            return True
        self._genuine[id(cert)] = cert
        return False

    def _note(self, what: str) -> None:
        name = f"checker.{what}"
        self.counters[name] = self.counters.get(name, 0) + 1

    def _fail(self, node: SimNode, what: str) -> NoReturn:
        raise SafetyViolation(f"replica {node.id} {what}")


def _place_of(node_id: int, message: Message) -> tuple[int, str, int, int] | None:
    """Where a vote of that replica's own counts; None for anything else."""
    match message:
        case Prepare(view, seq, _, replica) if replica == node_id:
            return node_id, "prepare", view, seq
        case Commit(view, seq, _, replica) if replica == node_id:
            return node_id, "commit", view, seq
        case Attest(seq=seq, replica=replica) if replica == node_id:
            return node_id, "attest", 0, seq
        case ViewChange(view=view, replica=replica) if replica == node_id:
            return node_id, "view-change", view, 0
        case NewView(view=view, replica=replica) if replica == node_id:
            return node_id, "new-view", view, 0
        case _:
            return None


def _forget(table: dict[Any, Any], node_id: int) -> None:
    """Remove what `table` knows of a replica, whether it stands first in its keys or is one."""
    for key in [key for key in table if key == node_id or (isinstance(key, tuple) and key[0] == node_id)]:
        del table[key]
