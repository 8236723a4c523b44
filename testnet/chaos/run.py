"""One scenario, from an empty directory to a verdict.

wires and homes ─▶ nodes ready ─▶ probes, order load, observer ─▶ faults over time ─▶ all healed
    ─▶ every node at the head ─▶ load ends, unknown outcomes settled ─▶ nodes level and stopped
    ─▶ ledgers audited, history checked

"""

import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import trio

from consensus.primitives.errors import LedgerError
from consensus.quorum import round_of
from node.client import open_client
from node.config import Config
from node.setup import NetworkHomes, create_network
from testnet.audit import Audit
from testnet.chaos.disks import FileSizeLimit
from testnet.chaos.faults import FreeDisk, Heal
from testnet.chaos.observer import Observer
from testnet.chaos.probes import Record, open_probes, settle
from testnet.chaos.proxy import ProxyWires, open_proxies
from testnet.chaos.scenarios import Scenario
from testnet.chaos.stage import Disk, Stage, environment
from testnet.chaos.verdict import Evidence, Finding, judge
from testnet.chaos.wires import Wires
from testnet.launcher import Surroundings, pick_ports
from testnet.load import Pace, Tally
from testnet.run import audit_all, wait_level
from testnet.session import Session, for_load, run_session
from testnet.sources import SyntheticSource

Report = Callable[[str], None]
DESKS = 2
PACE = Pace(orders_per_envelope=50, envelopes_per_second=10.0)
LEVEL_SECONDS = 90.0  # after the last step
HALT_SECONDS = 60.0  # for a node whose disk fills up


class Ground(Protocol):
    """Where a scenario takes place: its wires, disks, and what the nodes run in."""

    mode: str
    wires: Wires
    disk: Disk

    def create(self, root: Path) -> NetworkHomes:
        """Write a new network that is reached over these wires."""
        ...

    def command(self, node: int) -> tuple[str, ...]:
        """What stands in front of a node's own command."""
        ...


class ProxyGround:
    """This machine as it is; validators reach each other through proxies."""

    mode = "user"

    def __init__(self, nodes: int, proxies: ProxyWires) -> None:
        self._nodes = nodes
        self._proxies = proxies
        self.wires: Wires = proxies
        self.disk: Disk = FileSizeLimit()

    def create(self, root: Path) -> NetworkHomes:
        """Every node dials the proxies; network.toml has the true addresses."""
        base = pick_ports(self._nodes)
        homes = create_network(
            root,
            self._nodes,
            peer_port=base,
            client_port=base + 100,
            metrics_port=None,
            adjust=self._adjust,
        )
        self._proxies.lead_to([item.peer_address for item in homes.network.validators])
        return homes

    def command(self, node: int) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def _adjust(self, config: Config) -> Config:
        routes = self._proxies.routes(config.node.id)
        return for_load(replace(config, peers=replace(config.peers, routes=routes)))


@asynccontextmanager
async def open_user_ground(scenario: Scenario) -> AsyncIterator[Ground]:
    """Needs no privileges."""
    async with open_proxies(scenario.nodes) as proxies:
        yield ProxyGround(scenario.nodes, proxies)


@dataclass
class _Play:
    """What happens while a scenario is played."""

    stage: Stage
    observer: Observer
    record: Record
    faults_s: list[float] = field(default_factory=list)
    level_s: float | None = None
    ended_s: float = 0.0
    trouble: list[str] = field(default_factory=list)


async def run_scenario(
    scenario: Scenario,
    open_ground: Callable[[Scenario], AbstractAsyncContextManager[Ground]],
    seconds: float | None,
    root: Path | None,
    report: Report,
) -> Finding:
    """Play `scenario` and judge it. `root` is a new directory to keep; None: a temporary one."""
    async with AsyncExitStack() as stack:
        if root is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kontor-chaos-")))
        ground = await stack.enter_async_context(open_ground(scenario))
        homes = ground.create(root.absolute())
        surroundings = Surroundings(ground.command, lambda node: environment(homes.nodes[node].root))
        tally = Tally()
        async with run_session(homes, SyntheticSource(DESKS), report, surroundings) as session:
            play, exits = await _play(scenario, session, ground, tally, seconds or scenario.seconds, report)
        report("auditing the ledgers")
        audits = await _audit(homes, play)
        return judge(_evidence(scenario, ground, play, tally, exits, audits))


async def _play(
    scenario: Scenario, session: Session, ground: Ground, tally: Tally, seconds: float, report: Report
) -> tuple[_Play, dict[int, int]]:
    launcher = session.launcher
    async with AsyncExitStack() as stack:
        venue = await stack.enter_async_context(open_client(launcher.network, launcher.homes.admin_seed))
        record, probes = await stack.enter_async_context(open_probes(launcher.network, venue))
        nursery = await stack.enter_async_context(trio.open_nursery())
        play = _Play(Stage(launcher, ground.wires, ground.disk, nursery), Observer(launcher), record)
        await play.stage.begin()
        nursery.start_soon(play.observer.run)
        nursery.start_soon(session.load, PACE, tally)
        for probe in probes:
            nursery.start_soon(probe.run)
        try:
            await _carry_out(scenario, play, seconds, report)
        except LedgerError as error:
            play.trouble.append(str(error))
            await play.stage.carry_out(Heal())
        play.ended_s = time.monotonic()
        nursery.cancel_scope.cancel()
    report("settling unknown outcomes")
    await settle(launcher.network, play.record)
    try:
        await wait_level(launcher)
    except LedgerError as error:
        play.trouble.append(str(error))
    return play, await launcher.stop()


async def _carry_out(scenario: Scenario, play: _Play, seconds: float, report: Report) -> None:
    """The steps in time, then until all nodes are at the head, and the load to its planned end."""
    began = trio.current_time()
    for step in scenario.steps:
        await trio.sleep_until(began + step.at * seconds)
        if isinstance(step.fault, FreeDisk):  # how soon a disk is full depends on the machine
            with trio.move_on_after(HALT_SECONDS):
                await play.observer.wait_halted([play.stage.roles[step.fault.who]])
        report(f"  {trio.current_time() - began:5.1f} s  {step.fault}")
        await play.stage.carry_out(step.fault)
        play.faults_s.append(time.monotonic())
    await play.observer.wait_level(LEVEL_SECONDS)
    play.level_s = time.monotonic()
    report(f"  {trio.current_time() - began:5.1f} s  all nodes are at the head")
    await trio.sleep_until(began + seconds)


async def _audit(homes: NetworkHomes, play: _Play) -> list[Audit]:
    try:
        return await audit_all(homes, range(len(homes.nodes)))
    except LedgerError as error:
        play.trouble.append(f"a ledger cannot be audited: {error}")
        return []


def _evidence(
    scenario: Scenario,
    ground: Ground,
    play: _Play,
    tally: Tally,
    exits: dict[int, int],
    audits: list[Audit],
) -> Evidence:
    return Evidence(
        scenario=scenario,
        mode=ground.mode,
        record=play.record,
        tally=tally,
        timeline=play.stage.timeline,
        roles=play.stage.roles,
        faults_s=play.faults_s,
        ended_s=play.ended_s,
        level_s=play.level_s,
        views=max((round_of(status.view) for status in play.observer.latest.values()), default=0),
        halted=play.observer.halted,
        exits=exits,
        audits=audits,
        trouble=play.trouble,
    )
