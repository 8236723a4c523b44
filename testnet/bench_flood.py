"""Measures what a flood does to a network: memory of every node, and what honest clients still get.

A network of real processes serves honest orders at a steady rate. After a quiet spell its last validator
is stopped and its key used to flood the others with every kind of well-typed message; strangers flood the
client ports, and silent connections crowd all ports. Memory is sampled every second; whether it is flat is
said of the second half of the flood, since queues and caches fill to their bounds first.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import pairwise
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
HELD = "kontor_held_bytes"
REFUSALS = ("kontor_peer_faults_total", "kontor_client_errors_total", "kontor_blamed_total")
GROWTH_MAX = 0.02  # of a node's memory, over the second half
WINDOW_SECONDS = 10


@dataclass
class Samples:
    """Anonymous resident MiB of each node by second, and honest orders committed by second."""

    resident_mib: dict[int, list[float]] = field(default_factory=dict)
    committed: list[int] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kontor bench flood`."""
    parser.add_argument("--seconds", type=int, default=100, metavar="S", help="of the flood (100)")
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
            refused = await trio.to_thread.run_sync(_read_counts, session, nodes, REFUSALS)
            held = await trio.to_thread.run_sync(_read_counts, session, nodes, (HELD,))
            views = [status.view for status in (await session.launcher.statuses(nodes)).values() if status]
            sent = await _stop(flooder)
            nursery.cancel_scope.cancel()
    return _summarise(quiet, flooded, sent, refused, held, views)


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


def _read_counts(session: Session, nodes: range, names: tuple[str, ...]) -> dict[str, int]:
    """What the nodes count under these names, together, by metric and labels."""
    refused: dict[str, int] = {}
    for node in nodes:
        config = load_config(session.launcher.homes.nodes[node].config)
        with urlopen(f"http://{config.telemetry.metrics_listen}/metrics", timeout=5) as response:
            for line in response.read().decode().splitlines():
                if line.startswith(names):
                    name, _, value = line.rpartition(" ")
                    refused[name] = refused.get(name, 0) + int(float(value))
    return dict(sorted(refused.items()))


def _summarise(
    quiet: Samples,
    flooded: Samples,
    sent: dict[str, Any],
    refused: dict[str, int],
    held: dict[str, int],
    views: list[int],
) -> dict[str, Any]:
    growths = {node: compute_growth(sizes) for node, sizes in flooded.resident_mib.items()}
    rates = {
        name: round(sum(samples.committed) / max(1, len(samples.committed)))
        for name, samples in (("quiet", quiet), ("flooded", flooded))
    }
    faults = [
        f"node {node} grew by {growth:.1%} in the second half"
        for node, growth in growths.items()
        if growth > GROWTH_MAX
    ]
    is_flat = not faults
    if 2 * rates["flooded"] < rates["quiet"]:
        faults.append(f"honest clients got {rates['flooded']} orders/s of {rates['quiet']}")
    return {
        "seconds": len(flooded.committed),
        "honest_orders_per_second": rates,
        "resident_mib": flooded.resident_mib,
        "window_seconds": WINDOW_SECONDS,
        "window_growth_mib": {node: grow_by_window(sizes) for node, sizes in flooded.resident_mib.items()},
        "second_half_growth": growths,
        "is_flat": is_flat,
        "flood_messages": sum(sent["messages"].values()),
        "flood_requests": sent["requests"],
        "clients_cut_off": sent["cut_off"],
        "refused": refused,
        "held_bytes_of_all_nodes": held,
        "views": views,
        "faults": faults,
    }


def compute_growth(sizes: list[float]) -> float:
    """By what part of itself memory grew over the second half of samples: the rise of the best line through
    the least of each window. Between two rounds of `node.memory.trim_heaps` free pages come and go."""
    half = find_floors(sizes[len(sizes) // 2 :])
    count = len(half)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(half) / count
    spread = sum((place - middle) ** 2 for place in range(count))
    slope = sum((place - middle) * (size - mean) for place, size in enumerate(half)) / spread
    return round(slope * (count - 1) / mean, 4)


def find_floors(sizes: list[float]) -> list[float]:
    """The least of each whole `WINDOW_SECONDS`."""
    starts = range(0, len(sizes) - WINDOW_SECONDS + 1, WINDOW_SECONDS)
    return [min(sizes[start : start + WINDOW_SECONDS]) for start in starts]


def grow_by_window(sizes: list[float]) -> list[float]:
    """MiB gained in each `WINDOW_SECONDS`; a last window that is shorter counts, too."""
    marks = [*sizes[:-1:WINDOW_SECONDS], sizes[-1]] if sizes else []
    return [round(after - before, 1) for before, after in pairwise(marks)]


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
        table.add_row(f"node {node}: MiB first, last", f"{sizes[0]} {sizes[-1]}")
        windows = " ".join(f"{grown:+}" for grown in result["window_growth_mib"][node])
        table.add_row(f"node {node}: MiB in {WINDOW_SECONDS} s each", windows)
        table.add_row(f"node {node}: second half", f"{result['second_half_growth'][node]:+.1%}")
    table.add_row("flat after warm-up", str(result["is_flat"]))
    for name, count in (result["refused"] | result["held_bytes_of_all_nodes"]).items():
        table.add_row(name.replace("kontor_", ""), f"{count:,}")
    for fault in result["faults"]:
        table.add_row("fault", fault)
    Console().print(table)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
