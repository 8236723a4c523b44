"""Measures what a flood does to a network: memory of every node, and what honest clients still get.

A network of real processes serves honest orders at a steady rate. After a quiet spell its last validator
is stopped and its key used to flood the others with every kind of well-typed message; strangers flood the
client ports, and silent connections crowd all ports. Memory is sampled every second; its slope is taken
over the second half of the flood, since queues fill to their bounds first.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Any
from urllib.request import urlopen

import trio

from node.config import load_config
from testnet.flood import resident_bytes
from testnet.load import Pace, Tally
from testnet.session import Session, open_network, run_session
from testnet.sources import SyntheticSource

NODES = 4
QUIET_SECONDS = 4
PACE = Pace(orders_per_envelope=100, envelopes_per_second=50.0)
REFUSALS = ("kontor_peer_faults_total", "kontor_client_errors_total", "kontor_blamed_total")
SLOPE_MAX_MIB = 0.5  # a second, of one node, in the second half


@dataclass
class Samples:
    """Anonymous resident MiB of each node by second, and honest orders committed by second."""

    resident_mib: dict[int, list[float]] = field(default_factory=dict)
    committed: list[int] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kontor bench flood`."""
    parser.add_argument("--seconds", type=int, default=20, metavar="S", help="of the flood (20)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_command(args: argparse.Namespace) -> int:
    """Measure and print. Status 1: memory grew, or honest clients were not served."""
    from testnet.cli import run_until_signal

    found: list[dict[str, Any]] = []

    async def main() -> None:
        found.append(await measure(args.seconds))

    run_until_signal(main)
    if not found:
        return 130
    result = found[0]
    if args.json:
        print(json.dumps(result))
    else:
        _print_table(result)
    return 1 if result["faults"] else 0


async def measure(seconds: int) -> dict[str, Any]:
    """One fresh network, flooded."""
    quiet, flooded, tally = Samples(), Samples(), Tally()
    with tempfile.TemporaryDirectory(prefix="kontor-bench-") as directory:
        homes = open_network(Path(directory), NODES)
        source = SyntheticSource(2)
        async with run_session(homes, source, _say) as session, trio.open_nursery() as nursery:
            nursery.start_soon(session.load, PACE, tally)
            nodes = range(NODES - 1)
            await _sample(session, nodes, tally, QUIET_SECONDS, quiet)
            await session.launcher.kill(NODES - 1)
            _say(f"flooding for {seconds} s")
            command = [sys.executable, "-P", "-m", "testnet.flood", str(homes.root)]
            flooder = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE)
            await _sample(session, nodes, tally, seconds, flooded)
            refused = await trio.to_thread.run_sync(_read_refusals, session, nodes)
            views = [status.view for status in (await session.launcher.statuses(nodes)).values() if status]
            sent = await _stop(flooder)
            nursery.cancel_scope.cancel()
    return _summarise(quiet, flooded, sent, refused, views)


async def _stop(flooder: trio.Process) -> dict[str, Any]:
    """End the flood; return what it sent."""
    assert flooder.stdin is not None and flooder.stdout is not None
    await flooder.stdin.aclose()
    text = b"".join([part async for part in flooder.stdout])
    await flooder.wait()
    result: dict[str, Any] = json.loads(text)
    return result


async def _sample(session: Session, nodes: range, tally: Tally, seconds: int, samples: Samples) -> None:
    before = tally.orders_committed
    for _ in range(seconds):
        await trio.sleep(1)
        session.launcher.check_alive(nodes)
        for node in nodes:
            size = resident_bytes(session.launcher.pid(node)) / (1 << 20)
            samples.resident_mib.setdefault(node, []).append(round(size, 1))
        samples.committed.append(tally.orders_committed - before)
        before = tally.orders_committed


def _read_refusals(session: Session, nodes: range) -> dict[str, int]:
    """What the nodes refused so far, by metric and labels."""
    refused: dict[str, int] = {}
    for node in nodes:
        config = load_config(session.launcher.homes.nodes[node].config)
        with urlopen(f"http://{config.telemetry.metrics_listen}/metrics", timeout=5) as response:
            for line in response.read().decode().splitlines():
                if line.startswith(REFUSALS):
                    name, _, value = line.rpartition(" ")
                    refused[name] = refused.get(name, 0) + int(float(value))
    return dict(sorted(refused.items()))


def _summarise(
    quiet: Samples,
    flooded: Samples,
    sent: dict[str, Any],
    refused: dict[str, int],
    views: list[int],
) -> dict[str, Any]:
    slopes = {node: compute_slope(sizes[len(sizes) // 2 :]) for node, sizes in flooded.resident_mib.items()}
    rates = {
        name: round(sum(samples.committed) / max(1, len(samples.committed)))
        for name, samples in (("quiet", quiet), ("flooded", flooded))
    }
    faults = [
        f"node {node} grows by {slope} MiB/s" for node, slope in slopes.items() if slope > SLOPE_MAX_MIB
    ]
    if 2 * rates["flooded"] < rates["quiet"]:
        faults.append(f"honest clients got {rates['flooded']} orders/s of {rates['quiet']}")
    return {
        "seconds": len(flooded.committed),
        "honest_orders_per_second": rates,
        "resident_mib": flooded.resident_mib,
        "slope_mib_per_second": slopes,
        "flood_messages": sum(sent["messages"].values()),
        "flood_requests": sent["requests"],
        "clients_cut_off": sent["cut_off"],
        "refused": refused,
        "views": views,
        "faults": faults,
    }


def compute_slope(sizes: list[float]) -> float:
    """Least-squares slope of samples one second apart."""
    count = len(sizes)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(sizes) / count
    spread = sum((place - middle) ** 2 for place in range(count))
    return round(sum((place - middle) * (size - mean) for place, size in enumerate(sizes)) / spread, 3)


def _print_table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{NODES} nodes, one of them a liar; flooded for {result['seconds']} s")
    table.add_column("what")
    table.add_column("value", justify="right")
    rates = result["honest_orders_per_second"]
    table.add_row("honest orders/s, quiet and flooded", f"{rates['quiet']:,} {rates['flooded']:,}")
    table.add_row(
        "messages of the liar, requests of strangers",
        f"{result['flood_messages']:,} {result['flood_requests']:,}",
    )
    for node, sizes in result["resident_mib"].items():
        slope = result["slope_mib_per_second"][node]
        table.add_row(
            f"node {node}: MiB first, last; slope of 2nd half", f"{sizes[0]} {sizes[-1]}; {slope}/s"
        )
    for name, count in result["refused"].items():
        table.add_row(name.replace("kontor_", ""), f"{count:,}")
    for fault in result["faults"]:
        table.add_row("fault", fault)
    Console().print(table)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
