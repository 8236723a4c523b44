"""The state of `ChainApp` as one checkpoint left it, in chunks that others can fetch and check.

What binds the chunks to the certificate's state root is a table of all states that honest nodes came
to, the `Library`: it plays the part of the hash tree, as the keyring plays that of signatures.
"""

from dataclasses import dataclass
from functools import cached_property

from consensus.effects import Executed
from consensus.primitives.crypto import digest
from consensus.proofs import CheckpointCert, Epoch, Member

BATCHES_PER_CHUNK = 8


@dataclass(frozen=True)
class Snapshot:
    """Everything that a state machine at `height` needs to go on."""

    height: int
    time_ms: int
    journal_root: bytes
    state: bytes
    executed: tuple[tuple[bytes, int], ...]
    epoch: Epoch
    boundary: int
    members: tuple[Member, ...]
    used: frozenset[int]  # looked up, never iterated
    result: Executed

    @cached_property
    def chunks(self) -> tuple[bytes, ...]:
        """A head, and the executed batches, some a chunk: full ones are equal in every later state."""
        head = digest("kontor.sim-head", self.height.to_bytes(8, "little"), self.journal_root, self.state)
        groups = [
            self.executed[at : at + BATCHES_PER_CHUNK]
            for at in range(0, len(self.executed), BATCHES_PER_CHUNK)
        ]
        return (head, *[b"".join(name for name, _ in group) for group in groups])

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """Names of the chunks."""
        return tuple(digest("kontor.sim-chunk", chunk) for chunk in self.chunks)

    @cached_property
    def manifest(self) -> bytes:
        """What lists them."""
        return b"".join(self.digests)


class Library:
    """Every state that some honest node came to at a snapshot's height, by (height, root)."""

    def __init__(self) -> None:
        self._states: dict[tuple[int, bytes], Snapshot] = {}

    def keep(self, snapshot: Snapshot) -> Snapshot:
        """The one copy of this state."""
        return self._states.setdefault((snapshot.height, snapshot.state), snapshot)

    def find(self, cert: CheckpointCert) -> Snapshot | None:
        """The state that a certificate attests."""
        return self._states.get((cert.seq, cert.state.root))
