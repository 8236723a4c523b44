"""Carries faults out on real processes, and keeps the conditions that they make."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import trio

from consensus.primitives.errors import ensure
from node.faults import NO_FAULTS, VARIABLE, Faults, write_faults
from testnet.chaos.faults import (
    CURRENT,
    LAST,
    ROLES,
    Clock,
    Cut,
    Deafen,
    Fault,
    FillDisk,
    FreeDisk,
    Heal,
    Kill,
    KillAll,
    Mute,
    Pause,
    Reset,
    Resume,
    Slow,
    SlowDisk,
    Start,
    StartAll,
)
from testnet.chaos.wires import Conditions, Timeline, Wires
from testnet.launcher import Launcher
from testnet.run import find_primary

POLL_SECONDS = 0.05


class Disk(Protocol):
    """How a node's disk is filled and freed."""

    def fill(self, node: int, launcher: Launcher) -> None:
        """Leave room for little more."""
        ...

    def free(self, node: int, launcher: Launcher) -> None:
        """Give room again."""
        ...


@dataclass
class Stage:
    """One network, its wires, and what is broken at the moment. Nodes that start are watched in `nursery`
    until they are ready."""

    launcher: Launcher
    wires: Wires
    disk: Disk
    nursery: trio.Nursery
    roles: dict[str, int] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)
    _injected: dict[int, Faults] = field(default_factory=dict)
    _last: int = 0

    def __post_init__(self) -> None:
        replicas = self.launcher.network.replicas
        self._nodes = range(self.launcher.count)
        self._pairs = [(a, b) for a in self._nodes for b in self._nodes if a != b]
        self._conditions = Conditions(replicas.quorum, set(self._nodes))

    async def begin(self) -> None:
        """Everything runs: give the roles."""
        primary, count = await find_primary(self.launcher), len(self._nodes)
        self.roles = {role: (primary + step) % count for step, role in enumerate(ROLES[:count])}
        self._note()

    async def carry_out(self, fault: Fault) -> None:
        """Make `fault` happen."""
        match fault:
            case Cut(group):
                members = {self.roles[role] for role in group}
                self._hold((a, b) for a, b in self._pairs if (a in members) != (b in members))
            case Mute(who):
                self._hold((a, b) for a, b in self._pairs if a == self.roles[who])
            case Deafen(who):
                self._hold((a, b) for a, b in self._pairs if b == self.roles[who])
            case Slow(delay_ms, jitter_ms, kib_per_second):
                self._shape(delay_ms, jitter_ms, kib_per_second)
            case Reset(who):
                for other in self._nodes:
                    if other != self.roles[who]:
                        self.wires.reset(self.roles[who], other)
            case Heal():
                self._heal()
            case Kill(who):
                await self._kill(await self._find(who))
            case Start(who):
                await self._start(await self._find(who))
            case KillAll():
                async with trio.open_nursery() as nursery:
                    for node in self.launcher.living():
                        nursery.start_soon(self._kill, node)
            case StartAll():
                for node in self._nodes:
                    await self._start(node)
            case Pause(who):
                self.launcher.pause(self.roles[who])
                self._conditions.running.discard(self.roles[who])
                self._note()
            case Resume(who):
                self._conditions.running.add(self.roles[who])
                self._note()
                self.launcher.resume(self.roles[who])
            case SlowDisk(who, fsync_ms):
                self._inject(await self._find(who), fsync_ms=fsync_ms)
            case Clock(who, offset_ms):
                self._inject(await self._find(who), clock_ms=offset_ms)
            case FillDisk(who):
                self._doubt(self.roles[who])
                self.disk.fill(self.roles[who], self.launcher)
            case FreeDisk(who):
                self.disk.free(self.roles[who], self.launcher)
                await self._kill(self.roles[who])
                await self._start(self.roles[who])

    async def _find(self, who: str) -> int:
        if who == CURRENT:
            self._last = await find_primary(self.launcher)
        elif who != LAST:
            self._last = self.roles[who]
        return self._last

    def _note(self) -> None:
        self.timeline.note(time.monotonic(), self._conditions)

    def _hold(self, pairs: Iterable[tuple[int, int]]) -> None:
        for source, target in pairs:
            self.wires.hold(source, target)
            self._conditions.held.add((source, target))
        self._note()

    def _heal(self) -> None:
        held, self._conditions.held = self._conditions.held, set()
        self._note()
        for source, target in sorted(held):
            self.wires.release(source, target)
        self._shape(0, 0, 0)

    def _shape(self, delay_ms: int, jitter_ms: int, kib_per_second: int) -> None:
        for source, target in self._pairs:
            self.wires.shape(source, target, delay_ms, jitter_ms, kib_per_second)

    async def _kill(self, node: int) -> None:
        await self.launcher.kill(node)
        self._conditions.running.discard(node)
        self._conditions.perhaps.discard(node)
        self._note()

    async def _start(self, node: int) -> None:
        self._doubt(node)
        await self.launcher.start(node)
        self.nursery.start_soon(self._trust, node, self.launcher.pid(node))

    def _doubt(self, node: int) -> None:
        """From now on it may take part, or not."""
        self._conditions.running.discard(node)
        self._conditions.perhaps.add(node)
        self._note()

    async def _trust(self, node: int, pid: int) -> None:
        """Once it sees a quorum, it surely takes part, unless it was killed again meanwhile."""
        while node in self.launcher.living() and self.launcher.pid(node) == pid:
            status = (await self.launcher.statuses([node]))[node]
            if status is not None and status.peers_connected >= self._conditions.quorum - 1:
                self._conditions.perhaps.discard(node)
                self._conditions.running.add(node)
                self._note()
                return
            await trio.sleep(POLL_SECONDS)

    def _inject(self, node: int, **values: int) -> None:
        self._injected[node] = replace(self._injected.get(node, NO_FAULTS), **values)
        write_faults(fault_file(self.launcher.homes.nodes[node].root), self._injected[node])


def fault_file(home: Path) -> Path:
    """Where a node of a scenario looks for injected faults."""
    return home / "faults.json"


def environment(home: Path) -> dict[str, str]:
    """What tells a node to look there."""
    ensure(home.is_absolute(), f"{home} is to be found from any working directory")
    return {VARIABLE: str(fault_file(home))}
