"""Draws faults while the fault phase lasts: crashes, pauses, clogs, partitions of every shape."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from consensus.simulator.network import Network
from consensus.simulator.node import SimNode
from consensus.simulator.options import FaultOptions
from consensus.simulator.scheduler import Scheduler


@dataclass(frozen=True)
class Ward:
    """Whom faults strike, and what of it is the cluster's to do.

    `may_wipe` says whether one more replica may lose its memory: f of them may do anything.
    """

    nodes: Sequence[SimNode]
    network: Network
    get_primary: Callable[[], int]
    restart: Callable[[int], None]
    may_wipe: Callable[[int], bool]
    wipe: Callable[[int], None]
    heal: Callable[[int], None]
    say: Callable[[str], None]


class Nemesis:
    """Schedules faults of each kind at exponential gaps until `stop` is called."""

    def __init__(self, scheduler: Scheduler, rng: Random, options: FaultOptions, ward: Ward) -> None:
        self.counters: dict[str, int] = {}
        self._scheduler = scheduler
        self._rng = rng
        self._options = options
        self._ward = ward
        self._network = ward.network
        self._nodes = ward.nodes
        self._active = True
        self._plan(options.crash_gap_us, self._crash)
        self._plan(options.partition_gap_us, self._partition)
        self._plan(options.clog_gap_us, self._clog)
        self._plan(options.swizzle_gap_us, self._swizzle)
        self._plan(options.pause_gap_us, self._pause)
        self._plan(options.clock_jump_gap_us, self._clock_jump)
        self._plan(options.slow_gap_us, self._slow)
        self._plan(options.wipe_gap_us, self._wipe)
        self._plan(options.heal_gap_us, self._heal)

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

    def _victim(self) -> SimNode:
        """Anybody, but the primary more often: most of the protocol's trouble starts there."""
        if self._rng.random() < 0.3:
            return self._nodes[self._ward.get_primary()]
        return self._rng.choice(self._nodes)

    def _duration(self, mean_us: int) -> int:
        return int(mean_us * 2 * self._rng.random()) + 1

    # Nodes

    def _crash(self) -> None:
        victims = list(self._nodes) if self._rng.random() < 0.1 else [self._victim()]
        for victim in victims:
            if self._rng.random() < 0.5:
                victim.doom(partial(self._kill, victim))
            else:
                self._kill(victim)

    def _kill(self, victim: SimNode) -> None:
        if self._active:
            self._ward.say(f"crash {victim.address}")
            victim.crash()
            self._scheduler.after(self._duration(self._options.down_us), self._restart, victim)

    def _restart(self, victim: SimNode) -> None:
        if self._active:
            self._ward.restart(victim.address)

    def _pause(self) -> None:
        self._victim().pause(self._duration(self._options.pause_us))

    def _slow(self) -> None:
        self._victim().slow(self._duration(self._options.slow_us))

    def _clock_jump(self) -> None:
        most = self._options.clock_jump_us
        self._victim().jump_clock(self._rng.randint(-most, most))

    def _wipe(self) -> None:
        victim = self._victim()
        if self._ward.may_wipe(victim.address):
            self._ward.wipe(victim.address)
            self._scheduler.after(self._duration(self._options.down_us), self._restart, victim)

    def _heal(self) -> None:
        self._ward.heal(self._victim().address)

    # Links

    def _clog(self) -> None:
        count = len(self._nodes)
        for _ in range(self._rng.randint(1, count)):
            link = (self._rng.randrange(count), self._rng.randrange(count))
            self._network.clog(link, self._duration(self._options.clog_us))

    def _swizzle(self) -> None:
        """Clog a random group one by one, then unclog it in another order (FoundationDB)."""
        group = self._rng.sample(range(len(self._nodes)), self._rng.randint(1, len(self._nodes)))
        starts = sorted(self._duration(self._options.swizzle_us) for _ in group)
        ends = sorted(starts[-1] + self._duration(self._options.swizzle_us) for _ in group)
        self._rng.shuffle(ends)
        for address, start, end in zip(group, starts, ends, strict=True):
            self._scheduler.after(start, self._clog_one, address, end - start)

    def _clog_one(self, address: int, duration_us: int) -> None:
        if self._active:
            self._network.clog_address(address, duration_us)

    def _partition(self) -> None:
        everyone = list(range(len(self._nodes)))
        if len(everyone) < 2:
            return
        shape = self._rng.randrange(3)
        if shape == 0:
            inside = [self._victim().address]
        elif shape == 1:
            inside = [one for one in everyone if self._rng.random() < 0.5]
        else:
            inside = self._rng.sample(everyone, self._rng.randint(1, len(everyone) - 1))
        if any(node.up and node.replica.boundary for node in self._nodes):
            name = "fault.partition_amid_change"
            self.counters[name] = self.counters.get(name, 0) + 1
        outside = [one for one in everyone if one not in inside]
        symmetric = self._rng.random() < 0.6
        self._ward.say(f"partition {inside} {'|' if symmetric else '→'} {outside}")
        self._network.cut(inside, outside, symmetric)
        self._scheduler.after(self._duration(self._options.partition_us), self._network.heal_cuts)
