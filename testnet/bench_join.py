"""Measures how long a node without a state takes to join a network by state transfer, and a node to restart.

The network starts from a prepared state: accounts and open orders made by the real machine in this
process, then given to every node with a certificate (see `testnet.prepared`). Under a light load one
node is killed, loses its state (`kontor heal`: only its votes and blocks stay, or its key would be dead),
and starts; the clock runs from the start of its process until it stands at the others' height. Then it
is killed again, keeps its disk, and starts once more. All nodes and the load share this machine: say what
else ran when you quote a figure.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trio

from consensus.primitives.errors import ConfigError, LedgerError
from node.config import Home
from node.setup import NetworkHomes
from ops.debug import heal_home
from testnet.load import Pace, Tally
from testnet.prepared import Prepared, prepare
from testnet.run import wait_level
from testnet.session import Session, open_network, run_session
from testnet.sources import SyntheticSource

JOINER = 3
LIMIT_SECONDS = 600.0
POLL_SECONDS = 0.05
CLOSE_BLOCKS = 8  # "at the others' height" while they go on
ORDERS_PER_ENVELOPE = 50


@dataclass(frozen=True)
class Join:
    """What came of it. Seconds are from the start of the process, except `transfer_s`."""

    height: int
    accounts: int
    orders: int
    state_mb: float  # pages of the state
    chunks: int
    received_mb: float
    transfer_s: float  # from the first manifest until the state is read back and compared
    join_s: float
    restart_s: float
    prepare_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kontor bench join`."""
    parser.add_argument("--accounts", type=int, default=1_000_000, metavar="N", help="(1000000)")
    parser.add_argument("--orders", type=int, default=1_000_000, metavar="N", help="open orders (1000000)")
    parser.add_argument("--rate", type=float, default=20.0, metavar="R", help="envelopes a second (20)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_command(args: argparse.Namespace) -> int:
    """Measure and print."""
    from testnet.cli import run_until_signal

    if args.accounts < 1 or args.orders < 0 or args.rate <= 0:
        raise ConfigError("--accounts and --rate are above 0, --orders is not below")
    found: list[Join] = []

    async def main() -> None:
        found.append(await measure(args.accounts, args.orders, args.rate))

    run_until_signal(main)
    if not found:
        return 130
    result = summarise(found[0])
    print(json.dumps(result) if args.json else _to_text(result))
    return 0


def summarise(join: Join) -> dict[str, Any]:
    """Plain values, with where they were measured."""
    return {
        **{
            name: round(value, 2) if isinstance(value, float) else value
            for name, value in asdict(join).items()
        },
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


async def measure(accounts: int, orders: int, rate: float) -> Join:
    """One prepared network; one node loses its state, then only its process."""
    with tempfile.TemporaryDirectory(prefix="kontor-bench-") as directory:
        homes = open_network(Path(directory), 4)
        _say(f"preparing {accounts:,} accounts and {orders:,} orders")
        prepared = await trio.to_thread.run_sync(prepare, homes, accounts, orders)
        _say(f"height {prepared.height}, {prepared.pages:,} pages, {prepared.build_s:.1f} s")
        async with (
            run_session(homes, SyntheticSource(1), _say) as session,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(session.load, Pace(ORDERS_PER_ENVELOPE, envelopes_per_second=rate), Tally())
            await trio.sleep(2.0)
            join_s = await _restart(session, lambda: heal_home(homes.nodes[JOINER]))
            _say(f"joined in {join_s:.2f} s")
            events = read_events(homes.nodes[JOINER])
            restart_s = await _restart(session, lambda: None)
            _say(f"restarted in {restart_s:.2f} s")
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_level(session.launcher)
        return _describe(homes, prepared, events, join_s, restart_s)


async def _restart(session: Session, between: Callable[[], object]) -> float:
    """Kill a node, do something, and start it; return seconds until it is at the others' height."""
    launcher = session.launcher
    await launcher.kill(JOINER)
    between()
    started = time.monotonic()
    await launcher.start(JOINER)
    with trio.move_on_after(LIMIT_SECONDS):
        while True:
            await trio.sleep(POLL_SECONDS)
            launcher.check_alive([JOINER])
            statuses = await launcher.statuses([0, JOINER])
            one, own = statuses[0], statuses[JOINER]
            if one and own and own.transfer is None and own.proven + CLOSE_BLOCKS >= one.proven:
                return time.monotonic() - started
    raise LedgerError(f"node {JOINER} was not level after {LIMIT_SECONDS:.0f} s: look at its node.log")


def read_events(home: Home) -> dict[str, dict[str, Any]]:
    """The last line of each kind in a node's log."""
    lines = [json.loads(line) for line in home.log.read_text("utf-8").splitlines()]
    return {str(line["event"]): line for line in lines}


def _describe(
    homes: NetworkHomes,
    prepared: Prepared,
    events: dict[str, dict[str, Any]],
    join_s: float,
    restart_s: float,
) -> Join:
    if "state fetched" not in events:
        raise LedgerError(f"node {JOINER} joined without a state transfer: see {homes.nodes[JOINER].log}")
    fetched = events["state fetched"]
    return Join(
        height=fetched["height"],
        accounts=prepared.accounts,
        orders=prepared.orders,
        state_mb=prepared.pages * 16384 / 1e6,
        chunks=events["state to fetch"]["chunks"],
        received_mb=fetched["bytes"] / 1e6,
        transfer_s=fetched["seconds"],
        join_s=join_s,
        restart_s=restart_s,
        prepare_s=prepared.build_s,
    )


def _to_text(result: dict[str, Any]) -> str:
    return (
        f"{result['accounts']:,} accounts, {result['orders']:,} open orders,"
        f" {result['state_mb']:,.0f} MB of pages\n"
        f"joined empty in {result['join_s']} s: {result['received_mb']:,.0f} MB in"
        f" {result['chunks']:,} chunks, fetched and read back in {result['transfer_s']} s\n"
        f"restarted with its disk in {result['restart_s']} s\n"
        f"{result['cores']} cores, load {result['load']}; say what else ran when you quote this"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
