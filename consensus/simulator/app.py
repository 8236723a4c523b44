"""The smallest deterministic state machine: a hash chain over every micro-batch it has not seen yet.

It stands for the engine. Its journal root covers its predecessor; a batch that appears a second
time changes nothing, as an envelope's nonce sees to in the engine.
"""

from collections.abc import Sequence

from consensus.effects import Executed
from consensus.messages import Block
from consensus.primitives.crypto import ZERO_DIGEST, digest
from consensus.primitives.errors import ensure
from consensus.proofs import StateSummary


class ChainApp:
    """State: height, block time, the chain's head, and the digests executed so far, in order.

    `owner` is the node it runs on; no result may depend on it.
    """

    def __init__(self, checkpoint_interval: int, owner: int = 0) -> None:
        self.owner = owner
        self.height = 0
        self.time_ms = 0
        self.journal_root = ZERO_DIGEST
        self.executed: dict[bytes, int] = {}
        self.repeats = 0
        self._interval = checkpoint_interval
        self._state = ZERO_DIGEST

    def apply(self, block: Block, payloads: Sequence[bytes]) -> Executed:
        """Run the next block; return what the replica is told."""
        ensure(block.seq == self.height + 1, f"block {block.seq} executed at height {self.height}")
        for name, payload in zip(block.batches, payloads, strict=True):
            if name in self.executed:
                self.repeats += 1
                continue
            self.executed[name] = block.seq
            self._state = digest("kontor.sim-state", self._state, payload)
        self.height = block.seq
        self.time_ms = max(self.time_ms, block.time_ms)
        self.journal_root = digest(
            "kontor.sim-journal",
            self.journal_root,
            block.digest,
            self.time_ms.to_bytes(8, "little"),
            self._state,
        )
        return Executed(block.seq, block.digest, self.journal_root, self._summary())

    def _summary(self) -> StateSummary | None:
        is_checkpoint = self.height % self._interval == 0
        return StateSummary(self._state, (self._state,), ZERO_DIGEST, 0) if is_checkpoint else None
