"""What must be on a node's disk before a vote leaves it.

An entry may be gone for a reason that protects as well: a stable checkpoint above it, or a later
view, became durable in the same turn.
"""

from consensus.durable import ACCEPTED, CHECKPOINT, EPOCH, PREPARED, STABLE, VIEW, seq_key
from consensus.messages import CODEC, Attest, Block, Epochs, NewView, PreparedCert, PrePrepare, ViewChange
from consensus.proofs import CheckpointCert
from consensus.quorum import epoch_of
from consensus.simulator.checks.certificates import Certificates
from consensus.simulator.checks.states import States
from consensus.simulator.checks.violations import fail
from consensus.simulator.node import SimNode


class Durable:
    """Reads vote logs as they would be read after a crash."""

    def __init__(self, states: States, certificates: Certificates, window: int) -> None:
        self._states = states
        self._certificates = certificates
        self._window = window
        self._decoded: dict[bytes, object] = {}
        self._entered: dict[int, int] = {}

    def forget(self, node_id: int) -> None:
        """Its disk is empty."""
        self._entered.pop(node_id, None)

    def check_accepted(self, node: SimNode, view: int, seq: int, name: bytes) -> None:
        """Before a pre-prepare or prepare: the proposal and its payloads."""
        if seq <= self.low(node):
            return
        entry = self._entry(node, seq_key(ACCEPTED, seq))
        if not isinstance(entry, PrePrepare) or entry.view < view:
            fail(node, f"sends a vote at (view {view}, seq {seq}) that is not in its vote log")
        elif entry.view == view:
            if entry.block.digest != name:
                fail(node, f"sends a vote at (view {view}, seq {seq}), another one is in its vote log")
            self.check_payloads(node, entry.block)

    def check_prepared(self, node: SimNode, view: int, seq: int, name: bytes) -> None:
        """Before a commit: the prepared certificate."""
        if seq <= self.low(node):
            return
        entry = self._entry(node, seq_key(PREPARED, seq))
        if not isinstance(entry, PreparedCert) or entry.proposal.view < view:
            fail(node, f"sends a commit at (view {view}, seq {seq}) without a durable certificate")
        elif entry.proposal.view == view and entry.proposal.block.digest != name:
            fail(node, f"sends a commit at (view {view}, seq {seq}), its certificate is for another block")

    def check_view(self, node: SimNode, key: bytes, view: int, body_digest: bytes) -> None:
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
            fail(node, f"sends a {key.decode()} for view {view} that is not in its vote log")

    def check_attested(self, node: SimNode, message: Attest) -> None:
        """An attestation is replayable: block, certificate and payloads are durable by then."""
        block = node.disk.blocks.get(message.seq)
        if block is None and message.seq >= node.disk.oldest:
            fail(node, f"attested block {message.seq} before it was durable")
        if block is not None:
            self.check_payloads(node, block.block)
        if message.state and message.seq > self.low(node):
            entry = self._entry(node, seq_key(CHECKPOINT, message.seq))
            if not isinstance(entry, Attest) or entry.result_digest != message.result_digest:
                fail(node, f"sends a checkpoint at {message.seq} that is not in its vote log")

    def check_epochs(self, node: SimNode) -> None:
        """Whoever is in an epoch holds the proof of each change up to it, by the quorum before it."""
        number = epoch_of(int.from_bytes(node.disk.votes.get(VIEW, b"")[:8], "big"))
        if number > self._entered.get(node.id, 0):
            for later in range(1, number + 1):
                self._check_epoch_entry(node, later)
            self._entered[node.id] = number

    def _check_epoch_entry(self, node: SimNode, number: int) -> None:
        entry = self._entry(node, seq_key(EPOCH, number))
        if not isinstance(entry, Epochs):
            fail(node, f"entered epoch {number} without a durable proof of it")
        elif (
            number >= len(self._states.epochs) or entry.proofs[0].epoch != self._states.epochs[number].record
        ):
            fail(node, f"entered an epoch {number} that no state tells of")
        else:
            self._certificates.check_checkpoint(node, entry.proofs[0].cert)

    def check_size(self, node: SimNode) -> None:
        """A vote log stays small: four entries a place of the window, and a few of their own.

        Who catches up by certificates may run ahead of the stable checkpoint that it knows.
        """
        ahead = max(0, node.disk.committed - self.low(node) - self._window)
        most = 4 * self._window + 8 + 2 * ahead + len(self._states.epochs)
        if len(node.disk.votes) > most:
            fail(node, f"has {len(node.disk.votes)} entries in its vote log; at most {most} are due")

    def check_payloads(self, node: SimNode, block: Block) -> None:
        """Before any vote for a block: its payloads."""
        if any(batch not in node.disk.batches for batch in block.batches):
            fail(node, f"votes for block {block.seq} whose payloads it does not hold durably")

    def low(self, node: SimNode) -> int:
        """The stable checkpoint that its vote log holds."""
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
