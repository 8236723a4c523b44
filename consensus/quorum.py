"""Replica sets and the arithmetic of quorums.

With n replicas, f = ⌊(n−1)/3⌋ may lie. Any two quorums of q = ⌈(n+f+1)/2⌉ share an honest
replica; the common shorthand 2f+1 does not guarantee that (n = 5, say).
"""

from dataclasses import dataclass
from functools import cached_property

from consensus.primitives.crypto import PUBLIC_KEY_SIZE
from consensus.primitives.errors import ConfigError

REPLICAS_MAX = 64


@dataclass(frozen=True)
class ReplicaSet:
    """The validators of one epoch: public keys, indexed by replica id 0..n−1."""

    chain_id: bytes
    epoch: int
    keys: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.keys) <= REPLICAS_MAX:
            raise ConfigError(f"{len(self.keys)} validators; between 1 and {REPLICAS_MAX} are supported")
        if len(set(self.keys)) != len(self.keys) or any(len(key) != PUBLIC_KEY_SIZE for key in self.keys):
            raise ConfigError("validator keys must be distinct and 32 bytes each")

    @cached_property
    def n(self) -> int:
        """Number of replicas."""
        return len(self.keys)

    @cached_property
    def f(self) -> int:
        """How many may be faulty."""
        return (self.n - 1) // 3

    @cached_property
    def quorum(self) -> int:
        """Votes that certify: any two such sets share an honest replica."""
        return (self.n + self.f) // 2 + 1

    @cached_property
    def weak_quorum(self) -> int:
        """Votes of which one at least is honest."""
        return self.f + 1

    @cached_property
    def collect(self) -> int:
        """How many answers to wait for when f may stay silent: n − f."""
        return self.n - self.f

    def primary(self, view: int) -> int:
        """Replica that proposes in `view`."""
        return view % self.n
