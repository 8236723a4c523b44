"""Twins: one identity, two correct cores (Bano et al., OPODIS 2021).

Two cores under one key, each in its own part of the cluster, produce most known attacks without
anybody having to think of them: equivocation, amnesia, votes in two views. Two ways to part them:

`Schedule` is the paper's: for each of the first views a leader, and for each of its phases a partition of
all cores, drawn without reducing by symmetry, since histories differ between cores that look
alike. `Funnel` is one that such draws hardly ever come upon: in each view a single core gets to prepare, and
mostly is not heard by the next primary, so that several blocks are prepared at one place.

`Sides` redraws who hears which twin now and then, amid all the other faults.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from consensus.messages import Commit, Complain, Message, NewView, Prepare, PrePrepare, ViewChange
from consensus.quorum import ReplicaSet, round_of
from consensus.simulator.scheduler import SECOND_US, Scheduler

PHASES: dict[type, int] = {PrePrepare: 0, Prepare: 1, Commit: 2, Complain: 3, ViewChange: 4, NewView: 5}
REPAIR = 6  # whatever else is said, in the latest view that anybody spoke of


class Parting(Protocol):
    """Decides which core hears what; addresses name cores."""

    def allows(self, source: int, target: int, message: Message) -> bool: ...


@dataclass(frozen=True)
class ScheduledReplicas(ReplicaSet):
    """A replica set whose first views have the primaries of a schedule."""

    leaders: tuple[int, ...] = ()

    def primary(self, view: int) -> int:
        return self.leaders[view] if view < len(self.leaders) else super().primary(view)


class Schedule:
    """Partitions of the first `views` views of each epoch, phase by phase; every later view is whole."""

    def __init__(self, rng: Random, addresses: int, views: int) -> None:
        self._rng = rng
        self._addresses = addresses
        self._views = views
        self._latest = 0
        self._parts: dict[tuple[int, int], Sequence[int]] = {}
        self.repairs = rng.random() < 0.5  # whether repair crosses partitions
        self.whole = False

    @staticmethod
    def draw_leaders(rng: Random, n: int, twins: Sequence[int], views: int) -> tuple[int, ...]:
        """Leaders of the first views; a twin more often than others, as two leaders are what hurts."""
        return tuple(
            rng.choice(twins) if twins and rng.random() < 0.5 else rng.randrange(n) for _ in range(views)
        )

    def allows(self, source: int, target: int, message: Message) -> bool:
        """Whether both stand in one part in this message's view and phase."""
        if self.whole:
            return True
        if isinstance(message, PrePrepare | Prepare | Commit | Complain | ViewChange | NewView):
            phase, view = PHASES[type(message)], message.view
            self._latest = max(self._latest, view)
        elif self.repairs:
            return True
        else:
            phase, view = REPAIR, self._latest
        if round_of(view) >= self._views:
            return True
        parts = self._parts.get((view, phase))
        if parts is None:
            count = self._rng.randint(1, 3)
            parts = [self._rng.randrange(count) for _ in range(self._addresses)]
            self._parts[view, phase] = parts
        return parts[source] == parts[target]


class Funnel(Schedule):
    """In each of the first views of an epoch, prepares reach one core, and its view change is mostly lost."""

    def __init__(self, rng: Random, addresses: int, views: int) -> None:
        super().__init__(rng, addresses, views)
        self._hubs: dict[int, int] = {}
        self._unheard: dict[int, bool] = {}

    def allows(self, source: int, target: int, message: Message) -> bool:
        """Whether it is no prepare to anybody else, and no view change that is to be lost."""
        if self.whole:
            return True
        match message:
            case Prepare(view=view) if round_of(view) < self._views:
                return target == self._hub(view)
            case ViewChange(view=view) if round_of(view) < self._views and source == self._hub(view - 1):
                if view not in self._unheard:
                    self._unheard[view] = self._rng.random() < 0.6
                return not self._unheard[view]
            case _:
                return True

    def _hub(self, view: int) -> int:
        if view not in self._hubs:
            self._hubs[view] = self._rng.randrange(self._addresses)
        return self._hubs[view]


class Sides:
    """Every other replica hears one of two twins, and only that one hears it; redrawn now and then."""

    def __init__(self, rng: Random, scheduler: Scheduler, pairs: dict[int, int], addresses: int) -> None:
        self._rng = rng
        self._scheduler = scheduler
        self._pairs = pairs  # address of the first twin → of the second
        self._addresses = addresses
        self._silent: set[tuple[int, int]] = set()
        self._redraw()

    def allows(self, source: int, target: int, message: Message) -> bool:
        """Whether these two hear each other at the moment."""
        return (source, target) not in self._silent

    def _redraw(self) -> None:
        self._silent.clear()
        for pair in sorted(self._pairs.items()):
            for other in range(self._addresses):
                unheard = pair[self._rng.randrange(2)]
                self._silent.update(((unheard, other), (other, unheard)))
        self._scheduler.after(int(SECOND_US * (0.5 + self._rng.random())), self._redraw)
