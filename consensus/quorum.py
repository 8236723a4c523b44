"""Replica sets and the arithmetic of quorums.

With n replicas, f = ⌊(n−1)/3⌋ may lie. Any two quorums of q = ⌈(n+f+1)/2⌉ share an honest
replica; the common shorthand 2f+1 does not guarantee that (n = 5, say).
"""

from dataclasses import dataclass
from functools import cached_property

from consensus.primitives.errors import ConfigError
from consensus.proofs import MEMBERS_MAX, Epoch, Member

REPLICAS_MAX = MEMBERS_MAX
EPOCH_SHIFT = 32
_ROUND_MASK = (1 << EPOCH_SHIFT) - 1


def first_view(epoch: int) -> int:
    """The view in which an epoch starts: views grow across epochs, and each names its own."""
    return epoch << EPOCH_SHIFT


def epoch_of(view: int) -> int:
    """The epoch a view belongs to."""
    return view >> EPOCH_SHIFT


def round_of(view: int) -> int:
    """Which of its epoch's views it is; what people are shown."""
    return view & _ROUND_MASK


@dataclass(frozen=True)
class ReplicaSet:
    """The validators of one epoch, and how many of them make a quorum."""

    chain_id: bytes
    record: Epoch

    @classmethod
    def genesis(cls, chain_id: bytes, keys: tuple[bytes, ...]) -> "ReplicaSet":
        """Epoch 0: validators 0..n−1. Raises `ConfigError` where that cannot be."""
        members = tuple(Member(replica, key) for replica, key in enumerate(keys))
        try:
            return cls(chain_id, Epoch(0, 1, members))
        except ValueError as error:
            raise ConfigError(str(error)) from error

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return self.record.number

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The validators' ids, ascending; not always 0..n−1."""
        return tuple(member.id for member in self.record.members)

    @cached_property
    def keys(self) -> dict[int, bytes]:
        """Public keys by id."""
        return {member.id: member.key for member in self.record.members}

    def __contains__(self, replica: int) -> bool:
        return replica in self.keys

    @cached_property
    def n(self) -> int:
        """Number of replicas."""
        return len(self.record.members)

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
        return self.ids[(view & _ROUND_MASK) % self.n]
