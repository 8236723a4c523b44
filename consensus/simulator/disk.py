"""One replica's durable state, and what a crash leaves of a commit under way.

A commit is atomic, as LMDB's is: after a crash all of it is there or none. What was not committed
(pool, timers, inbox, memory of the replica) is gone.
"""

from collections.abc import Sequence

from consensus.effects import Effect, Erase, Persist, StoreBatches, StoreBlock
from consensus.messages import CommitCert
from consensus.primitives.errors import ensure

VOTE_LOG_MAX = 4096  # keys; a replica that never erases runs into it


class Disk:
    """The vote log `votes`, committed `blocks` by seq, and micro-batch `batches` by digest."""

    def __init__(self) -> None:
        self.votes: dict[bytes, bytes] = {}
        self.blocks: dict[int, CommitCert] = {}
        self.listed: set[bytes] = set()  # batches that stand in a stored block; looked up, never iterated
        self.batches: dict[bytes, bytes] = {}
        self.commits = 0

    @property
    def committed(self) -> int:
        """Highest seq up to which every block is stored."""
        seq = self._committed
        while seq + 1 in self.blocks:
            seq += 1
        self._committed = seq
        return seq

    _committed = 0

    def apply(self, effects: Sequence[Effect], pool: dict[bytes, bytes]) -> None:
        """Carry out one turn's durable effects; payloads to store are taken from `pool`."""
        self.commits += 1
        for effect in effects:
            match effect:
                case Persist(key, value):
                    self.votes[key] = value
                case Erase(key):
                    self.votes.pop(key, None)
                case StoreBatches(digests):
                    for name in digests:
                        if name not in self.batches:
                            ensure(name in pool, f"batch {name.hex()[:8]} is to be stored but not held")
                            self.batches[name] = pool[name]
                case StoreBlock(cert):
                    self.blocks[cert.block.seq] = cert
                    self.listed.update(cert.block.batches)
        ensure(
            len(self.votes) <= VOTE_LOG_MAX, f"{len(self.votes)} keys in the vote log; at most {VOTE_LOG_MAX}"
        )
