"""Faults on stand-ins for wires and processes: who is meant by a role, what is done, what is then known."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from node.faults import FaultFile, Faults
from node.setup import network_homes
from testnet.chaos.faults import (
    CURRENT,
    LAST,
    Clock,
    Cut,
    Deafen,
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
from testnet.chaos.scenarios import SCENARIOS
from testnet.chaos.stage import Stage, environment, fault_file

pytestmark = pytest.mark.trio
NODES = 4


@dataclass
class Processes:
    """A launcher whose nodes are ready as soon as they start."""

    root: Path
    view: int = 1
    log: list[tuple[str, int]] = field(default_factory=list)
    alive: set[int] = field(default_factory=lambda: set(range(NODES)))
    count: int = NODES
    ready: bool = True

    def __post_init__(self) -> None:
        replicas = SimpleNamespace(quorum=3, primary=lambda view: view % NODES)
        self.network = SimpleNamespace(replicas=replicas)
        self.homes = network_homes(self.root, NODES)

    def living(self) -> list[int]:
        return sorted(self.alive)

    def pid(self, node: int) -> int:
        return node

    async def statuses(self, nodes: list[int] | None = None) -> dict[int, SimpleNamespace | None]:
        await trio.lowlevel.checkpoint()
        told = SimpleNamespace(view=self.view, peers_connected=NODES - 1)
        return {
            node: told if self.ready else None for node in self.living() if nodes is None or node in nodes
        }

    async def kill(self, node: int) -> None:
        self.log.append(("kill", node))
        self.alive.discard(node)

    async def start(self, node: int) -> None:
        self.log.append(("start", node))
        self.alive.add(node)

    def pause(self, node: int) -> None:
        self.log.append(("pause", node))

    def resume(self, node: int) -> None:
        self.log.append(("resume", node))


class Net:
    """Wires and disks that remember what was asked of them."""

    def __init__(self) -> None:
        self.held: set[tuple[int, int]] = set()
        self.shaped: set[tuple[int, int, int]] = set()
        self.resets: list[tuple[int, int]] = []
        self.disks: list[tuple[str, int]] = []

    def hold(self, source: int, target: int) -> None:
        self.held.add((source, target))

    def release(self, source: int, target: int) -> None:
        self.held.remove((source, target))

    def shape(self, source: int, target: int, *shape: int) -> None:
        self.shaped.add(shape)

    def reset(self, one: int, other: int) -> None:
        self.resets.append((one, other))

    def fill(self, node: int, launcher: Processes) -> None:
        self.disks.append(("fill", node))

    def free(self, node: int, launcher: Processes) -> None:
        self.disks.append(("free", node))


@pytest.fixture
async def stage(tmp_path, nursery):
    net, processes = Net(), Processes(tmp_path)
    for home in processes.homes.nodes:
        home.root.mkdir()
    made = Stage(processes, net, net, nursery)  # type: ignore[arg-type]
    await made.begin()
    return made


def connected(stage: Stage) -> frozenset[int]:
    return stage._conditions.connected()


async def test_roles_follow_the_primary_of_the_beginning(stage):
    assert stage.roles == {"primary": 1, "second": 2, "third": 3, "fourth": 0}
    stage.launcher.view = 7
    await stage.carry_out(Kill(CURRENT))
    await stage.carry_out(Start(LAST))
    await stage.carry_out(Kill("primary"))
    assert stage.launcher.log == [("kill", 3), ("start", 3), ("kill", 1)]


async def test_a_cut_holds_both_directions_between_the_group_and_the_rest(stage):
    await stage.carry_out(Cut(("primary", "second")))
    assert stage.wires.held == {(a, b) for a in range(4) for b in range(4) if (a in (1, 2)) != (b in (1, 2))}
    assert connected(stage) == frozenset()
    await stage.carry_out(Heal())
    assert stage.wires.held == set() and connected(stage) == {0, 1, 2, 3}


async def test_one_way_loss_holds_one_direction(stage):
    await stage.carry_out(Mute("primary"))
    assert stage.wires.held == {(1, 0), (1, 2), (1, 3)} and connected(stage) == {0, 2, 3}
    await stage.carry_out(Heal())
    await stage.carry_out(Deafen("primary"))
    assert stage.wires.held == {(0, 1), (2, 1), (3, 1)} and connected(stage) == {0, 2, 3}


async def test_slow_wires_and_resets_leave_everybody_connected(stage):
    await stage.carry_out(Slow(200, 50, 64))
    await stage.carry_out(Reset("primary"))
    assert stage.wires.shaped == {(200, 50, 64)} and stage.wires.resets == [(1, 0), (1, 2), (1, 3)]
    assert connected(stage) == {0, 1, 2, 3}


async def test_a_killed_node_counts_again_once_it_sees_a_quorum(stage):
    stage.launcher.ready = False
    await stage.carry_out(Kill("third"))
    await stage.carry_out(Start("third"))
    await trio.testing.wait_all_tasks_blocked()
    assert connected(stage) == {0, 1, 2} and stage._conditions.connected(with_perhaps=True) == {0, 1, 2, 3}
    stage.launcher.ready = True
    while 3 not in connected(stage):
        await trio.sleep(0.001)


async def test_a_node_killed_again_before_it_was_ready_is_not_counted(stage):
    stage.launcher.ready = False
    await stage.carry_out(Start("third"))
    await stage.carry_out(Kill("third"))
    stage.launcher.ready = True
    await trio.sleep(0.1)
    assert connected(stage) == {0, 1, 2} == stage._conditions.connected(with_perhaps=True)


async def test_all_die_and_all_start(stage):
    await stage.carry_out(KillAll())
    assert connected(stage) == frozenset()
    await stage.carry_out(StartAll())
    assert sorted(stage.launcher.log) == sorted((what, n) for what in ("kill", "start") for n in range(4))


async def test_a_paused_node_is_outside_until_it_goes_on(stage):
    await stage.carry_out(Pause("third"))
    assert connected(stage) == {0, 1, 2}
    await stage.carry_out(Resume("third"))
    assert connected(stage) == {0, 1, 2, 3}
    assert stage.launcher.log == [("pause", 3), ("resume", 3)]


async def test_injected_faults_of_a_node_add_up(stage):
    await stage.carry_out(SlowDisk("third", 100))
    await stage.carry_out(Clock("third", -5))
    home = stage.launcher.homes.nodes[3].root
    assert FaultFile(fault_file(home)).read() == Faults(100, -5)
    await stage.carry_out(SlowDisk("third", 0))
    assert FaultFile(fault_file(home)).read() == Faults(0, -5)
    assert environment(home) == {"KONTOR_FAULTS": str(fault_file(home))}


async def test_a_full_disk_is_freed_before_the_node_starts_again(stage):
    await stage.carry_out(FillDisk("third"))
    assert connected(stage) == {0, 1, 2} and stage.disk.disks == [("fill", 3)]
    await stage.carry_out(FreeDisk("third"))
    assert stage.disk.disks == [("fill", 3), ("free", 3)]
    assert stage.launcher.log == [("kill", 3), ("start", 3)]


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_scenario_leaves_nothing_broken(stage, name):
    """Steps are in order of time, inside the run, and at the end all wires, nodes and disks are well."""
    scenario = SCENARIOS[name]
    times = [step.at for step in scenario.steps]
    assert times == sorted(times) and times[0] > 0 and times[-1] < 1
    for step in scenario.steps:
        await stage.carry_out(step.fault)
    await trio.testing.wait_all_tasks_blocked()
    while connected(stage) != {0, 1, 2, 3}:
        await trio.sleep(0.001)
    assert stage.wires.held == set() and all(
        not any(faults.__dict__.values()) for faults in stage._injected.values()
    )
    assert [what for what, _ in stage.disk.disks] in ([], ["fill", "free"])
    assert (scenario.halts != "") == bool(stage.disk.disks)
