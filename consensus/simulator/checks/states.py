"""What honest nodes' states say: a root at each height, the validators of each epoch, where one ends.

This counts, whatever a replica makes of it.
"""

from consensus.effects import Executed
from consensus.quorum import ReplicaSet, epoch_of
from consensus.simulator.checks.violations import Notes, fail
from consensus.simulator.node import SimNode


class States:
    """All honest states agree."""

    def __init__(self, replicas: ReplicaSet, notes: Notes) -> None:
        self._notes = notes
        self.epochs = [replicas]
        self._boundaries: dict[int, int] = {}  # last block of an epoch, by its number
        self._resumed: set[int] = set()  # heights of wedges that the chain was led beyond
        self._roots: dict[int, bytes] = {}
        self._ran: dict[bytes, int] = {}

    # Results

    def check_ran(self, node: SimNode, seq: int) -> None:
        """Each batch runs once."""
        for name in node.app.ran:
            if self._ran.setdefault(name, seq) != seq:
                fail(node, f"ran batch {name.hex()[:8]} in blocks {self._ran[name]} and {seq}")

    def check_root(self, node: SimNode, seq: int, root: bytes) -> None:
        """Equal heights have equal roots."""
        known = self._roots.setdefault(seq, root)
        if known != root:
            fail(node, f"comes to another root at height {seq}: {root.hex()[:8]}, others {known.hex()[:8]}")

    def root(self, seq: int) -> bytes | None:
        """The root that honest states have at this height, if one came to it."""
        return self._roots.get(seq)

    # Epochs

    def learn(self, node: SimNode, result: Executed) -> None:
        """All honest states tell of the same boundaries and the same validators after them."""
        if result.state is None or result.epoch is None:
            return
        epoch, latest = result.epoch, self.epochs[-1]
        if epoch.number == latest.epoch + 1:
            self._notes.add("epochs")
            self.epochs.append(ReplicaSet(latest.chain_id, epoch))
            boundary = self._boundaries.setdefault(latest.epoch, result.seq)
            if boundary != result.seq:
                fail(node, f"starts epoch {epoch.number} after {result.seq}, not {boundary}")
        elif epoch.number > latest.epoch or self.epochs[epoch.number].record != epoch:
            fail(node, f"has other validators in epoch {epoch.number} than others")
        if result.state.boundary > result.seq and result.state.boundary not in self._resumed:
            known = self._boundaries.setdefault(epoch.number, result.state.boundary)
            if known != result.state.boundary:
                fail(node, f"ends epoch {epoch.number} at {result.state.boundary}, others at {known}")

    @property
    def newest(self) -> ReplicaSet:
        """The validators of the newest epoch that an honest state tells of."""
        return self.epochs[-1]

    def of_view(self, view: int) -> ReplicaSet | None:
        """The validators of a view's epoch; None if no state tells of it."""
        number = epoch_of(view)
        return self.epochs[number] if number < len(self.epochs) else None

    def of_seq(self, seq: int) -> ReplicaSet:
        """The validators of a block's epoch."""
        return next(replicas for replicas in reversed(self.epochs) if replicas.record.first_seq <= seq)

    def voters(self, node: SimNode, kind: str, view: int, seq: int) -> ReplicaSet:
        """Who may vote there: blocks up to a boundary are the old validators' to decide, those above it
        the new ones'."""
        if kind in ("attest", "checkpoint"):
            return self.of_seq(seq)
        replicas = self.of_view(view)
        if replicas is None:
            fail(node, f"has a {kind} of view {view}, whose epoch no state tells of")
        last = self._boundaries.get(replicas.epoch, seq)
        if seq and not replicas.record.first_seq <= seq <= last:
            fail(node, f"has a {kind} at (view {view}, seq {seq}); that epoch ends at {last}")
        return replicas

    def resume_after(self, height: int) -> None:
        """Operators lead the chain beyond this wedge."""
        self._resumed.add(height)
        self._boundaries = {epoch: last for epoch, last in self._boundaries.items() if last != height}
