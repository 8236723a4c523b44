"""The smallest deterministic state machine: a hash chain over every micro-batch it has not seen yet.

It stands for the engine. Its journal root covers its predecessor; a batch that appears a second
time changes nothing, as an envelope's nonce sees to in the engine.
"""

from collections.abc import Sequence

from consensus.messages import Block
from consensus.primitives.crypto import ZERO_DIGEST, digest
from consensus.primitives.errors import ensure


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

    def apply(self, block: Block, payloads: Sequence[bytes]) -> tuple[bytes, bytes]:
        """Run the next block; return its journal root and, at a checkpoint, the state root (else empty)."""
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
        return self.journal_root, self._state if block.seq % self._interval == 0 else b""
