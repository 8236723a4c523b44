"""`kill -9` of a real node's process while it puts a fetched state in place: it ends with it, and votes."""

import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from consensus.primitives.errors import LedgerError
from engine.commands import RegisterAsset
from node.client import Client, open_client
from node.config import Config
from node.network import Rules
from node.setup import NetworkHomes, create_network
from node.state_sync import swap
from ops.debug import heal_home
from testnet.launcher import Launcher, Surroundings, launch, pick_ports
from testnet.run import agree, audit_all
from tests.helpers.dying_node import CRASHES

pytestmark = pytest.mark.trio
SECONDS_MAX = 240
OFTEN = Rules(window=16, checkpoint_interval=4, snapshot_seconds=0)
VICTIM = 3
# The others need a state that lies there already: tests of nodes in one process go through all of them.
POINTS = (
    "when the state is whole",
    "after the deciding transaction",
    "after the directories are swapped",
    "before the swap is noted as done",
)


async def test_a_node_killed_at_any_step_of_an_installation_ends_with_the_state_and_votes(tmp_path) -> None:
    base = pick_ports(4)
    homes = create_network(
        tmp_path / "net", 4, peer_port=base, client_port=base + 100, rules=OFTEN, adjust=_without_metrics
    )
    point: list[str] = []  # where the victim's next process dies

    def command(node: int) -> list[str]:
        dies = node == VICTIM and point
        return [sys.executable, "-P", "-m", "tests.helpers.dying_node", point[0]] if dies else []

    with trio.fail_after(SECONDS_MAX):
        async with (
            launch(homes, Surroundings(command)) as launcher,
            open_client(homes.network, homes.admin_seed) as venue,
        ):
            await launcher.start()
            await launcher.wait_ready()
            for number, name in enumerate(POINTS):
                await _order(venue, 8 * number, 8)
                await launcher.stop(VICTIM)
                heal_home(homes.nodes[VICTIM])  # it has to fetch its state
                point[:] = [name]
                await launcher.start(VICTIM)
                await _wait_killed(launcher)
                point.clear()
                await launcher.start(VICTIM)
                await _wait_votes(launcher, venue)
            # Without it there is no quorum.
            await launcher.kill(0)
            await _order(venue, 100, 6)
            await launcher.start(0)
            await _wait_level(launcher)
            exits = await launcher.stop()
        assert set(exits.values()) == {0}
        await _check_disks(homes)


def _without_metrics(config: Config) -> Config:
    """Reconnect at once; a state is fetched as soon as a few blocks are missing."""
    return replace(
        config,
        peers=replace(config.peers, reconnect_ms_min=5, reconnect_ms_max=100),
        consensus=replace(config.consensus, transfer_gap=8, transfer_timeout_ms=1000),
        telemetry=replace(config.telemetry, metrics_listen=""),
    )


async def _order(venue: Client, first: int, count: int) -> None:
    """A block for each of `count` commands."""
    for number in range(first, first + count):
        await venue.command(RegisterAsset(f"A{number}", 0, 0))


async def _wait_killed(launcher: Launcher) -> None:
    """The process has ended, and by the signal: an error of its own would show another status."""
    process = launcher._processes[VICTIM]
    assert await process.wait() == -signal.SIGKILL, launcher.console(VICTIM).read_text("utf-8")


async def _wait_votes(launcher: Launcher, venue: Client) -> None:
    """Wait until the victim votes on what is ordered now."""
    number = 1000 * launcher.pid(VICTIM)
    while True:
        launcher.check_alive([VICTIM])
        number += 1
        await _order(venue, number, 1)
        try:
            status = await venue.status(VICTIM)
        except LedgerError:
            continue
        if status.votes and status.transfer is None and status.proven > 0:
            return


async def _wait_level(launcher: Launcher) -> None:
    """Wait until all have executed the same height."""
    while True:
        found = [item.executed if item else 0 for item in (await launcher.statuses()).values()]
        if len(found) == 4 and len(set(found)) == 1 and found[0]:
            return


async def _check_disks(homes: NetworkHomes) -> None:
    audits = await audit_all(homes, range(4))
    assert agree(audits) and all(audit.conserved for audit in audits)
    assert audits[VICTIM].base > 0, "it came back by its state, not by blocks"
    data: Path = homes.nodes[VICTIM].data
    assert not (data / swap.OLD).exists() and not (data / swap.STAGING).exists()
    assert set(POINTS) <= set(CRASHES)
