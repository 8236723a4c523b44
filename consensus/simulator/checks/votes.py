"""What leaves honest nodes, and what is agreed: one vote a place, and nothing that contradicts a commit."""

from dataclasses import dataclass

from consensus.durable import NEW_VIEW, VIEW_CHANGE
from consensus.messages import (
    Ack,
    Attest,
    Block,
    Commit,
    CommitCert,
    Complain,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
)
from consensus.proofs import CheckpointCert
from consensus.simulator.checks.certificates import Certificates
from consensus.simulator.checks.durable import Durable
from consensus.simulator.checks.order import Order
from consensus.simulator.checks.states import States
from consensus.simulator.checks.violations import Notes, fail
from consensus.simulator.node import SimNode

Place = tuple[int, str, int, int]  # replica, kind, view, seq


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


class Votes:
    """Every vote of every honest replica, remembered across crashes."""

    def __init__(self, states: States, certificates: Certificates, durable: Durable, notes: Notes) -> None:
        self._states = states
        self._certificates = certificates
        self._durable = durable
        self._notes = notes
        self._order = Order()
        self.committed: dict[int, Committed] = {}
        self.acknowledged = 0  # highest block that a client holds f+1 honest attestations of
        self._votes: dict[Place, bytes] = {}
        self._accepted: dict[int, dict[tuple[int, bytes], int]] = {}
        self._commits: dict[int, dict[int, int]] = {}
        self._left: dict[int, int] = {}
        self._promised: dict[int, Promise] = {}
        self._attesters: dict[int, set[int]] = {}

    def promise(self, node_id: int) -> Promise:
        """What this replica must not forget."""
        return self._promised.setdefault(node_id, Promise())

    def forget(self, node_id: int) -> None:
        """Its disk is empty: it is not held to what it said before."""
        for place in [place for place in self._votes if place[0] == node_id]:
            del self._votes[place]
        self._commits.pop(node_id, None)
        self._left.pop(node_id, None)
        self._promised.pop(node_id, None)

    def is_new(self, node_id: int, message: Message) -> bool:
        """Whether this is a vote of that replica's own, and its first at that place."""
        place = _place_of(node_id, message)
        return place is not None and place not in self._votes

    def on_send(self, node: SimNode, message: Message) -> None:
        """Check what leaves an honest node. Messages of others that it passes on are not its votes."""
        match message:
            case PrePrepare(block=block):
                self._on_preprepare(node, message)
                self._durable.check_accepted(node, message.view, block.seq, block.digest)
            case Prepare(replica=replica) if replica == node.id:
                self._on_prepare(node, message)
            case Commit(replica=replica) if replica == node.id:
                self._on_commit(node, message)
            case CommitCert():
                self._certificates.check_commit(node, message)
            case Attest(replica=replica) if replica == node.id:
                self._on_attest(node, message)
            case CheckpointCert():
                self._certificates.check_checkpoint(node, message)
            case Complain(replica=replica) if replica == node.id:
                self._notes.add("complaints")
                self._check_not_left(node, message.view)
            case ViewChange(replica=replica) if replica == node.id:
                self._on_view_change(node, message)
            case NewView(replica=replica) if replica == node.id:
                self._on_new_view(node, message)
            case Status(stable=stable):
                self._certificates.check_checkpoint(node, stable)
            case Ack():
                self._order.on_ack(message)
            case _:
                pass

    # Ordering

    def _on_preprepare(self, node: SimNode, message: PrePrepare) -> None:
        block = message.block
        replicas = self._states.of_view(message.view)
        if replicas is None or replicas.primary(message.view) != node.id:
            return
        self._vote(node, "pre-prepare", message.view, block.seq, block.digest)
        self._certificates.verify(
            node, node.id, message.signature, "pre-prepare", message.view, block.seq, block.digest
        )
        self._accept(node, message.view, block.seq, block.digest)
        for ack in message.acks:
            if ack.replica == node.id:
                self._order.on_ack(ack)

    def _on_prepare(self, node: SimNode, message: Prepare) -> None:
        self._vote(node, "prepare", message.view, message.seq, message.digest)
        self._certificates.verify(
            node, node.id, message.signature, "prepare", message.view, message.seq, message.digest
        )
        self._accept(node, message.view, message.seq, message.digest)
        self._durable.check_accepted(node, message.view, message.seq, message.digest)

    def _on_commit(self, node: SimNode, message: Commit) -> None:
        """A commit says "prepared": no second digest may be prepared at the same place."""
        view, seq = message.view, message.seq
        self._vote(node, "commit", view, seq, message.digest)
        self._certificates.verify(node, node.id, message.signature, "commit", view, seq, message.digest)
        self._accept(node, view, seq, message.digest)
        self._durable.check_prepared(node, view, seq, message.digest)
        self._certificates.check_rivals(node, view, seq, message.digest)
        sent = self._commits.setdefault(node.id, {})
        sent[seq] = max(view, sent.get(seq, 0))

    def _on_attest(self, node: SimNode, message: Attest) -> None:
        kind = "checkpoint" if message.state else "attest"
        self._vote(node, "attest", 0, message.seq, message.result_digest)
        self._certificates.verify(
            node, node.id, message.signature, kind, 0, message.seq, message.result_digest
        )
        self._durable.check_attested(node, message)
        if self._states.root(message.seq) != message.journal_root:
            fail(node, f"attested block {message.seq} with a root that nobody computed")
        promised = self.promise(node.id)
        promised.attested = max(promised.attested, message.seq)
        attesters = self._attesters.setdefault(message.seq, set())
        attesters.add(node.id)
        if len(attesters) >= self._states.of_seq(message.seq).weak_quorum:
            self.acknowledged = max(self.acknowledged, message.seq)

    # Views

    def _on_view_change(self, node: SimNode, message: ViewChange) -> None:
        """It carries every lock this replica ever took above its proven low mark."""
        self._notes.add("view_changes_sent")
        self._vote(node, "view-change", message.view, 0, message.body_digest)
        self._certificates.verify(
            node, node.id, message.signature, "view-change", message.view, 0, message.body_digest
        )
        self._durable.check_view(node, VIEW_CHANGE, message.view, message.body_digest)
        self._check_not_left(node, message.view)
        self._left[node.id] = message.view
        self._certificates.check_checkpoint(node, message.stable)
        held = {}
        for cert in message.prepared:
            held[cert.proposal.block.seq] = cert.proposal.view
            self._certificates.check_prepared(node, cert)
        for seq, view in self._commits.get(node.id, {}).items():
            if seq > message.low and held.get(seq, -1) < view:
                fail(node, f"view change to {message.view} hides what it prepared at ({view}, {seq})")

    def _on_new_view(self, node: SimNode, message: NewView) -> None:
        """A new view keeps every committed block above its base at its place."""
        self._notes.add("new_views_sent")
        self._vote(node, "new-view", message.view, 0, message.body_digest)
        self._durable.check_view(node, NEW_VIEW, message.view, message.body_digest)
        replicas = self._states.voters(node, "new-view", message.view, 0)
        if len({change.replica for change in message.view_changes}) < replicas.n - replicas.f:
            fail(node, f"new view {message.view} stands on too few view changes")
        base = max(change.low for change in message.view_changes)
        proposed = {}
        for proposal in message.proposals:
            self._on_preprepare(node, proposal)
            proposed[proposal.block.seq] = proposal.block
            if not proposal.block.batches:
                self._notes.add("nulls_proposed")
        self._check_choice(node, message, base, proposed)
        for seq, committed in self.committed.items():
            if seq <= base or seq < replicas.record.first_seq or committed.view >= message.view:
                continue
            if seq not in proposed or proposed[seq].digest != committed.digest:
                fail(node, f"new view {message.view} loses block {seq} committed in view {committed.view}")

    def _check_choice(self, node: SimNode, message: NewView, base: int, proposed: dict[int, Block]) -> None:
        """At each place it takes the block prepared in the highest view, counted here once more."""
        best: dict[int, PrePrepare] = {}
        for change in message.view_changes:
            for cert in change.prepared:
                seq, held = cert.proposal.block.seq, best.get(cert.proposal.block.seq)
                if held is not None and held.block.digest != cert.proposal.block.digest:
                    self._notes.add("rival_certificates")
                if seq > base and (held is None or held.view < cert.proposal.view):
                    best[seq] = cert.proposal
        for seq, proposal in best.items():
            if seq not in proposed or proposed[seq].digest != proposal.block.digest:
                fail(
                    node, f"new view {message.view} does not take block {seq} as prepared in {proposal.view}"
                )

    # What holds for all

    def _vote(self, node: SimNode, kind: str, view: int, seq: int, value: bytes) -> None:
        """One replica signs one value for one place, ever, whatever crashed in between."""
        promised = self.promise(node.id)
        promised.view = max(promised.view, view)
        before = self._votes.setdefault((node.id, kind, view, seq), value)
        if before != value:
            fail(node, f"two {kind} votes at (view {view}, seq {seq})")

    def _accept(self, node: SimNode, view: int, seq: int, name: bytes) -> None:
        """Whoever votes is still in that view and respects what earlier views committed."""
        self._check_not_left(node, view)
        self._accepted.setdefault(seq, {}).setdefault((view, name), node.id)
        committed = self.committed.get(seq)
        if committed and view > committed.view and name != committed.digest:
            fail(node, f"votes in view {view} for another block {seq} than committed in {committed.view}")

    def _check_not_left(self, node: SimNode, view: int) -> None:
        if view < self._left.get(node.id, 0):
            fail(node, f"acts in view {view} though it left for {self._left[node.id]}")

    def check_stored(self, node: SimNode, cert: CommitCert) -> None:
        """One digest is committed at each seq, and nobody votes for another from then on."""
        self._certificates.check_commit(node, cert)
        seq, view, name = cert.block.seq, cert.view, cert.block.digest
        known = self.committed.get(seq)
        if known is None:
            self._notes.add("committed")
            self._order.check(node, cert.block)
            if not cert.block.batches:
                self._notes.add("nulls_committed")
        elif known.digest != name:
            fail(node, f"committed another block {seq} than others")
        lowest = min(view, known.view) if known else view
        self.committed[seq] = Committed(lowest, name)
        if known is None or lowest < known.view:
            for (voted_view, voted), voter in self._accepted.get(seq, {}).items():
                if voted_view > lowest and voted != name:
                    fail(
                        node,
                        f"block {seq} committed in view {lowest}, but {voter} voted against in {voted_view}",
                    )


def _place_of(node_id: int, message: Message) -> Place | None:
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
