"""Watches every honest node and raises `SafetyViolation` the moment a rule is broken.

It trusts nothing a replica says of itself: it recounts quorums, checks signatures and remembers
every vote across crashes. What the rules are and where they come from stands with each method, here
and in `checks`.
"""

from collections.abc import Sequence

from consensus.effects import Blame, Broadcast, Effect, Executed, Send, StoreBlock, SwapState
from consensus.messages import Block, Message
from consensus.primitives.crypto import Verifier
from consensus.quorum import ReplicaSet
from consensus.simulator.checks.certificates import Certificates
from consensus.simulator.checks.durable import Durable
from consensus.simulator.checks.states import States
from consensus.simulator.checks.violations import Notes, fail
from consensus.simulator.checks.votes import Committed, Votes
from consensus.simulator.node import SimNode
from consensus.simulator.queues import Bounds

QUEUES_EVERY = 200  # turns between two looks at all queues of a replica


class Checker:
    """Safety rules over all honest nodes of one run."""

    def __init__(self, replicas: ReplicaSet, verifier: Verifier, window: int, bounds: Bounds) -> None:
        self._notes = Notes()
        self._states = States(replicas, self._notes)
        certificates = Certificates(self._states, verifier)
        self._durable = Durable(self._states, certificates, window)
        self._votes = Votes(self._states, certificates, self._durable, self._notes)
        self._bounds = bounds
        self._marks: dict[int, tuple[int, ...]] = {}
        self._ingesting: dict[int, int] = {}
        self._turns = 0
        self.suspects: set[int] = set()  # who may contradict itself

    @property
    def counters(self) -> dict[str, int]:
        """How often what happened."""
        return self._notes.counters

    @property
    def committed(self) -> dict[int, Committed]:
        """What is agreed, by seq."""
        return self._votes.committed

    @property
    def acknowledged(self) -> int:
        """Highest block that a client holds f+1 honest attestations of."""
        return self._votes.acknowledged

    @property
    def newest(self) -> ReplicaSet:
        """The validators of the newest epoch that an honest state tells of."""
        return self._states.newest

    def resume_after(self, height: int) -> None:
        """Operators lead the chain beyond this wedge."""
        self._states.resume_after(height)

    def on_send(self, node: SimNode, message: Message) -> None:
        """Check what leaves an honest node."""
        self._votes.on_send(node, message)

    def on_restart(self, node: SimNode) -> None:
        """It is where it said it was, and what it replayed has the roots of before.

        A forgotten vote shows when it votes again.
        """
        self._notes.add("restarts")
        self._marks[node.id] = ()
        replica, promised = node.replica, self._votes.promise(node.id)
        if replica.view < promised.view:
            fail(node, f"came back in view {replica.view}, but voted in {promised.view}")
        if node.disk.committed < promised.attested:
            fail(node, f"came back at block {node.disk.committed}, but attested {promised.attested}")
        if replica.stable_seq < promised.stable:
            fail(node, f"came back with checkpoint {replica.stable_seq}, after {promised.stable}")
        for result in node.replayed:
            self._states.check_root(node, result.seq, result.journal_root)
            self._states.learn(node, result)

    def on_wipe(self, node: SimNode) -> None:
        """Its disk is empty now: it is one of the f who may contradict what they said."""
        self._notes.add("wipes")
        self.suspects.add(node.id)
        self._votes.forget(node.id)
        self._durable.forget(node.id)
        self._marks.pop(node.id, None)

    def on_turn(self, node: SimNode, effects: Sequence[Effect]) -> None:
        """View, commit and execution marks only ever grow while a replica is up; queues keep their bounds."""
        replica = node.replica
        marks = (replica.view, replica.committed, replica.executed, replica.stable_seq)
        before = self._marks[node.id]
        if marks != before:
            if before and any(now < then for now, then in zip(marks, before, strict=True)):
                fail(node, f"(view, committed, executed, stable) went from {before} to {marks}")
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
        self._notes.add("turns_ingesting")
        if not replica.active:
            self._notes.add("ingesting_amid_view_change")
        for effect in effects:
            if isinstance(effect, Send | Broadcast) and self._votes.is_new(node.id, effect.message):
                fail(node, f"signs a {type(effect.message).__name__} while it fetches a state")

    def _check_accused(self, node: SimNode, effects: Sequence[Effect]) -> None:
        """Nobody holds proof against a replica that never forgot what it signed."""
        for effect in effects:
            if isinstance(effect, Blame) and effect.evidence:
                kind = type(effect.evidence[0]).__name__
                self._notes.add(f"proofs.{kind}")
                if effect.replica not in self.suspects:
                    fail(node, f"holds two contradicting {kind}s of honest replica {effect.replica}")

    def check_queues(self, node: SimNode) -> None:
        """Nothing a replica keeps grows beyond its bound."""
        excesses = self._bounds.list_excesses(node.replica)
        if excesses:
            fail(node, f"keeps too much: {'; '.join(excesses)}")

    def on_durable(self, node: SimNode, effects: Sequence[Effect]) -> None:
        """What is stored is committed; checked here, since a crash may still undo what a turn asked for."""
        self._notes.add("commits_to_disk")
        for effect in effects:
            if isinstance(effect, StoreBlock):
                self._votes.check_stored(node, effect.cert)
            elif isinstance(effect, SwapState) and node.disk.snapshot:
                self._states.check_root(node, effect.seq, node.disk.snapshot[1].journal_root)
                self._notes.add("states_swapped")
        self._durable.check_epochs(node)
        promised = self._votes.promise(node.id)
        promised.stable = max(promised.stable, self._durable.low(node))
        self._durable.check_size(node)

    def on_execute(self, node: SimNode, block: Block, result: Executed) -> None:
        """Only what is committed and durable runs, each batch once, and equal heights have equal roots."""
        stored = node.disk.blocks.get(block.seq)
        if stored is None or stored.block.digest != block.digest:
            fail(node, f"executed block {block.seq}, which it did not store as committed")
        self._states.check_ran(node, block.seq)
        self._states.check_root(node, block.seq, result.journal_root)
        self._states.learn(node, result)
