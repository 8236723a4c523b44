"""Draws faults while the fault phase lasts: crashes, pauses, clogs and partitions of every shape."""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Protocol

from consensus.simulator.network import Network
from consensus.simulator.options import FaultOptions
from consensus.simulator.scheduler import Scheduler


class Victim(Protocol):
    """Anything with an identity that can be stopped and started."""

    id: int

    @property
    def up(self) -> bool: ...

    def crash(self) -> None: ...

    def doom(self, kill: Callable[[], None]) -> None: ...

    def pause(self, duration_us: int) -> None: ...


class Nemesis:
    """Schedules faults of each kind at exponential gaps until `stop` is called."""

    def __init__(
        self,
        scheduler: Scheduler,
        rng: Random,
        options: FaultOptions,
        network: Network,
        victims: Sequence[Victim],
        get_primary: Callable[[], int],
        restart: Callable[[int], None],
        say: Callable[[str], None],
    ) -> None:
        self.counters: dict[str, int] = {}
        self._scheduler = scheduler
        self._rng = rng
        self._options = options
        self._network = network
        self._victims = victims
        self._get_primary = get_primary
        self._restart_node = restart
        self._say = say
        self._active = True
        self._plan(options.crash_gap_us, self._crash)
        self._plan(options.partition_gap_us, self._partition)
        self._plan(options.clog_gap_us, self._clog)
        self._plan(options.pause_gap_us, self._pause)

    def stop(self) -> None:
        """Cause no more faults; what is down or cut stays so."""
        self._active = False

    def _plan(self, gap_us: int, fault: Callable[[], None]) -> None:
        if gap_us:
            self._scheduler.after(int(self._rng.expovariate(1 / gap_us)) + 1, self._strike, gap_us, fault)

    def _strike(self, gap_us: int, fault: Callable[[], None]) -> None:
        if self._active:
            name = f"fault.{fault.__name__.strip('_')}"
            self.counters[name] = self.counters.get(name, 0) + 1
            fault()
            self._plan(gap_us, fault)

    def _victim(self) -> Victim:
        """Anybody, but the primary more often: most of the protocol's trouble starts there."""
        if self._rng.random() < 0.3:
            return self._victims[self._get_primary()]
        return self._rng.choice(self._victims)

    def _duration(self, mean_us: int) -> int:
        return int(mean_us * 2 * self._rng.random()) + 1

    def _crash(self) -> None:
        victims = list(self._victims) if self._rng.random() < 0.1 else [self._victim()]
        for victim in victims:
            if self._rng.random() < 0.5:
                victim.doom(partial(self._kill, victim))
            else:
                self._kill(victim)

    def _kill(self, victim: Victim) -> None:
        if self._active:
            self._say(f"crash {victim.id}")
            victim.crash()
            self._scheduler.after(self._duration(self._options.down_us), self._restart, victim)

    def _restart(self, victim: Victim) -> None:
        if self._active:
            self._restart_node(victim.id)

    def _pause(self) -> None:
        self._victim().pause(self._duration(self._options.pause_us))

    def _clog(self) -> None:
        count = len(self._victims)
        for _ in range(self._rng.randint(1, count)):
            link = (self._rng.randrange(count), self._rng.randrange(count))
            self._network.clog(link, self._duration(self._options.clog_us))

    def _partition(self) -> None:
        everyone = [victim.id for victim in self._victims]
        if len(everyone) < 2:
            return
        shape = self._rng.randrange(3)
        if shape == 0:
            inside = [self._victim().id]
        elif shape == 1:
            inside = [one for one in everyone if self._rng.random() < 0.5]
        else:
            inside = self._rng.sample(everyone, self._rng.randint(1, len(everyone) - 1))
        outside = [one for one in everyone if one not in inside]
        symmetric = self._rng.random() < 0.6
        self._say(f"partition {inside} {'|' if symmetric else '→'} {outside}")
        self._network.cut(inside, outside, symmetric)
        self._scheduler.after(self._duration(self._options.partition_us), self._network.heal_cuts)
