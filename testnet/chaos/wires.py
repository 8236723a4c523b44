"""What every kind of wires between validators can do, and who reaches whom, when."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Protocol

Span = tuple[float, float]  # from, to; seconds of one monotonic clock


class Wires(Protocol):
    """The network between validators, under control. Directed: `source` sends, `target` receives."""

    def hold(self, source: int, target: int) -> None:
        """Nothing that `source` sends reaches `target`."""
        ...

    def release(self, source: int, target: int) -> None:
        """Undo `hold`."""
        ...

    def shape(self, source: int, target: int, delay_ms: int, jitter_ms: int, kib_per_second: int) -> None:
        """Delay and limit what `source` sends to `target`; zeros undo it. Raises `ConfigError` if these
        wires cannot."""
        ...

    def reset(self, one: int, other: int) -> None:
        """End the connections of a pair; what was under way on them is lost."""
        ...


@dataclass
class Conditions:
    """What works at the moment: which nodes run, and who reaches whom."""

    quorum: int
    running: set[int] = field(default_factory=set)  # surely
    perhaps: set[int] = field(default_factory=set)  # starting, or about to halt: may take part
    held: set[tuple[int, int]] = field(default_factory=set)  # (source, target)

    def connected(self, with_perhaps: bool = False) -> frozenset[int]:
        """The nodes that belong to some quorum whose members all run and reach each other."""
        found: set[int] = set()
        members = self.running | self.perhaps if with_perhaps else self.running
        for group in combinations(sorted(members), self.quorum):
            if not any((a, b) in self.held or (b, a) in self.held for a, b in combinations(group, 2)):
                found.update(group)
        return frozenset(found)


class Timeline:
    """Which nodes belonged to a connected quorum, surely and perhaps, when."""

    def __init__(self) -> None:
        self._changes: list[tuple[float, frozenset[int], frozenset[int]]] = []

    def note(self, now_s: float, conditions: Conditions) -> None:
        """From `now_s` on, these. Call it after what breaks something, and before what mends something:
        then a stranded node surely is."""
        found = (conditions.connected(), conditions.connected(with_perhaps=True))
        if not self._changes or self._changes[-1][1:] != found:
            self._changes.append((now_s, *found))

    def with_quorum(self, end_s: float) -> list[Span]:
        """The spans up to `end_s` in which a quorum was surely connected."""
        return self._spans(end_s, lambda surely, perhaps: bool(surely))

    def stranded(self, node: int, end_s: float) -> list[Span]:
        """The spans up to `end_s` in which `node` surely belonged to no connected quorum."""
        return self._spans(end_s, lambda surely, perhaps: node not in perhaps)

    def _spans(self, end_s: float, matches: Callable[[frozenset[int], frozenset[int]], bool]) -> list[Span]:
        spans: list[Span] = []
        ends = [*(at for at, *_ in self._changes[1:]), end_s]
        for (start, surely, perhaps), next_s in zip(self._changes, ends, strict=True):
            if not matches(surely, perhaps) or start >= end_s:
                continue
            end = min(next_s, end_s)
            if spans and spans[-1][1] == start:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return spans


def longest_wait_s(spans: Iterable[Span], moments: Iterable[float]) -> float:
    """The longest time inside one of `spans` without any of `moments`, counted from the span's beginning
    and to its end."""
    times = sorted(moments)
    longest = 0.0
    for start, end in spans:
        inside = [start, *(at for at in times if start <= at <= end), end]
        longest = max(longest, *(after - before for before, after in pairwise(inside)))
    return longest
