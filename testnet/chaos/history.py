"""Whether what clients saw can have happened one operation after the other, in the order they were told.

Checking linearizability is hard in general because the order must be found. Here every proven answer names
its place in the one order (height, line), so the order is checked, not searched for:

- no two operations have one place;
- real time is respected: what was answered before another was asked for stands before it, and so does
  whatever a reading had already shown;
- a sequential model, run in that order, gives the recorded answers, and the recorded readings at the
  heights they claim.

An operation whose outcome its client never learnt took effect once, anywhere after it was asked for, or
never. Only for these is there a search (after Wing & Gong 1993, with Lowe's memory of visited states,
2017), and it stops with an error when it is too long. No maintained checker exists as a Python wheel;
porcupine and knossos need Go and Clojure, and neither makes use of a known order.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

STEPS_MAX = 500_000  # of the search
Place = tuple[int, int]  # height, line of its block's journal


@dataclass(frozen=True)
class Operation:
    """A request and its proven answer. Times are seconds of one monotonic clock."""

    client: str
    request: Any
    invoked_s: float
    returned_s: float = math.inf  # infinity: no answer yet
    place: Place | None = None  # None: nobody knows whether it took effect
    answer: Any = None


@dataclass(frozen=True)
class Reading:
    """What a node showed of the state right after block `height`."""

    client: str
    height: int
    returned_s: float
    answer: Any


class Model(Protocol):
    """What is true of the system if operations come one after the other. States are not modified."""

    def start(self) -> Hashable:
        """The state before the first operation."""
        ...

    def apply(self, state: Any, request: Any) -> tuple[Hashable, Any]:
        """The state after `request`, and its answer."""
        ...

    def read(self, state: Any) -> Any:
        """What a reading shows."""
        ...


def check_history(
    operations: Sequence[Operation], readings: Sequence[Reading], model: Model, steps_max: int = STEPS_MAX
) -> list[str]:
    """Every way in which the history cannot have happened, in words; empty if it can."""
    known = [_Event.of_operation(item, item.place) for item in operations if item.place is not None]
    events = sorted([*known, *map(_Event.of_reading, readings)], key=lambda event: event.order)
    faults = _check_places(events) + _check_real_time(events)
    if faults:
        return faults
    unknown = [item for item in operations if item.place is None]
    return _Search(events, unknown, model, steps_max).run()


@dataclass(frozen=True)
class _Event:
    """An operation with a known place, or a reading, which comes after all lines of its block."""

    order: tuple[float, float]
    client: str
    invoked_s: float  # minus infinity for a reading: old states may be shown at any time
    returned_s: float
    request: Any
    answer: Any
    is_reading: bool

    @classmethod
    def of_operation(cls, item: Operation, place: Place) -> "_Event":
        order = (float(place[0]), float(place[1]))
        return cls(order, item.client, item.invoked_s, item.returned_s, item.request, item.answer, False)

    @classmethod
    def of_reading(cls, item: Reading) -> "_Event":
        order = (float(item.height), math.inf)
        return cls(order, item.client, -math.inf, item.returned_s, None, item.answer, True)

    def __str__(self) -> str:
        height, line = self.order
        if self.is_reading:
            return f"{self.client}'s reading at height {height:.0f}"
        return f"{self.client}'s {self.request} at height {height:.0f}, line {line:.0f}"


def _check_places(events: Sequence[_Event]) -> list[str]:
    operations = [event for event in events if not event.is_reading]
    return [
        f"{one} and {other} have one place" for one, other in pairwise(operations) if one.order == other.order
    ]


def _check_real_time(events: Sequence[_Event]) -> list[str]:
    """Walk the order and keep whoever was asked for last: nobody later may have been answered before."""
    faults: list[str] = []
    newest: _Event | None = None
    for event in events:
        if newest is not None and event.returned_s < newest.invoked_s:
            faults.append(f"{event} was answered before {newest} was asked for, but stands after it")
        if newest is None or event.invoked_s > newest.invoked_s:
            newest = event
    return faults


@dataclass
class _Search:
    """Run the model along the order, and try the unknown operations where they may have been."""

    events: Sequence[_Event]
    unknown: Sequence[Operation]
    model: Model
    steps_max: int
    furthest: int = -1
    mismatch: str = ""
    _earliest: list[int] = field(default_factory=list)

    def run(self) -> list[str]:
        self._earliest = [self._earliest_index(item) for item in self.unknown]
        # Newest first: an unknown operation is tried close to the answer that needs it.
        stack: list[tuple[int, frozenset[int], Any]] = [(0, frozenset(), self.model.start())]
        visited: set[tuple[int, frozenset[int], Any]] = set()
        steps = 0
        while stack:
            node = stack.pop()
            if node in visited:
                continue
            visited.add(node)
            index, applied, state = node
            if index == len(self.events):
                return []
            steps += 1
            if steps > self.steps_max:
                return [f"undecided after {steps - 1} steps with {len(self.unknown)} unknown outcomes"]
            stack += [
                (index, applied | {number}, self.model.apply(state, item.request)[0])
                for number, item in enumerate(self.unknown)
                if number not in applied and self._earliest[number] <= index
            ]
            after = self._advance(index, state)
            if after is not None:
                stack.append((index + 1, applied, after))
        return [self.mismatch]

    def _earliest_index(self, item: Operation) -> int:
        """How many events were over before this was asked for, the last of them included."""
        over = [index for index, event in enumerate(self.events) if event.returned_s < item.invoked_s]
        return over[-1] + 1 if over else 0

    def _advance(self, index: int, state: Any) -> Any:
        """The state after one event, or None if the model gives another answer."""
        event = self.events[index]
        if event.is_reading:
            after, answer = state, self.model.read(state)
        else:
            after, answer = self.model.apply(state, event.request)
        if answer == event.answer:
            return after
        if index > self.furthest:
            self.furthest = index
            self.mismatch = f"{event} gave {event.answer}; by all before it, it should be {answer}"
        return None
