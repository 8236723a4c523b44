"""Measures a local network of durable nodes: real processes, TLS, fsync, proofs checked by clients.

Throughput: envelopes of 1,000 orders, a window of them always under way. Latency: the same network at
a tenth of that rate, open loop: an envelope counts from when it was due, so a stall counts in full.
Each repeat is a fresh network; the table gives medians, with the lowest and highest in brackets. All
nodes and the load share this machine: say what else ran when you quote a figure.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import trio

from testnet.load import Pace, Tally, percentiles_ms
from testnet.run import wait_level
from testnet.session import open_network, run_session
from testnet.sources import SyntheticSource

LATENCY_SHARE = 0.1  # of the throughput just measured
DRAIN_SECONDS = 0.5  # between the two loads


@dataclass(frozen=True)
class Sample:
    """One repeat."""

    orders_per_second: float
    full_p50_ms: float
    full_p99_ms: float
    light_orders_per_second: float
    light_p50_ms: float
    light_p99_ms: float


TITLES = {
    "orders_per_second": "orders/s, ordered, matched, cleared, durable, proven",
    "full_p50_ms": "latency p50 at full load, ms",
    "full_p99_ms": "latency p99 at full load, ms",
    "light_orders_per_second": "orders/s at light load",
    "light_p50_ms": "latency p50 at light load, ms",
    "light_p99_ms": "latency p99 at light load, ms",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kontor bench cluster`."""
    parser.add_argument("--nodes", type=int, default=4, metavar="N", help="how many nodes (4)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of each load (10)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="fresh networks (3)")
    parser.add_argument("--envelope", type=int, default=1000, metavar="N", help="orders per envelope (1000)")
    parser.add_argument(
        "--window", type=int, default=32, metavar="N", help="envelopes under way per desk (32)"
    )
    parser.add_argument("--desks", type=int, default=4, metavar="N", help="client keys (4)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_command(args: argparse.Namespace) -> int:
    """Measure and print."""
    samples: list[Sample] = []
    for repeat in range(args.repeats):
        _say(f"repeat {repeat + 1} of {args.repeats}")
        sample = trio.run(partial(_guarded, args))
        if sample is None:
            return 130
        samples.append(sample)
    result = summarise(args, samples)
    if args.json:
        print(json.dumps(result))
    else:
        _print_table(args, samples)
    return 0


def summarise(args: argparse.Namespace, samples: list[Sample]) -> dict[str, Any]:
    """Medians and all samples as plain values."""
    return {
        "nodes": args.nodes,
        "orders_per_envelope": args.envelope,
        "desks": args.desks,
        "window": args.window,
        "seconds": args.seconds,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "median": {item.name: round(_median(samples, item.name), 2) for item in fields(Sample)},
        "samples": [
            {item.name: round(getattr(sample, item.name), 2) for item in fields(Sample)} for sample in samples
        ],
    }


async def measure(args: argparse.Namespace) -> Sample:
    """One fresh network: a full load, then a light one."""
    with tempfile.TemporaryDirectory(prefix="kontor-bench-") as directory:
        homes = open_network(Path(directory), args.nodes)
        source = SyntheticSource(args.desks)
        async with run_session(homes, source, _say) as session:
            full = Tally()
            _say(f"full load, {args.seconds:.0f} s")
            with trio.move_on_after(args.seconds):
                await session.load(Pace(args.envelope, args.window), full)
            await wait_level(session.launcher)
            await trio.sleep(DRAIN_SECONDS)
            rate = LATENCY_SHARE * full.orders_per_second / args.envelope
            _say(f"{full.orders_per_second:,.0f} orders/s; light load, {args.seconds:.0f} s")
            light = Tally()
            with trio.move_on_after(args.seconds):
                await session.load(Pace(args.envelope, envelopes_per_second=max(1.0, rate)), light)
            await wait_level(session.launcher)
    at_full, at_light = percentiles_ms(full.latencies_s), percentiles_ms(light.latencies_s)
    return Sample(
        full.orders_per_second,
        at_full["p50"],
        at_full["p99"],
        light.orders_per_second,
        at_light["p50"],
        at_light["p99"],
    )


async def _guarded(args: argparse.Namespace) -> Sample | None:
    """`measure`, stopped cleanly by Ctrl-C and SIGTERM."""
    found: list[Sample] = []
    async with trio.open_nursery() as nursery:

        async def watch(task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                async for _ in signals:
                    nursery.cancel_scope.cancel()

        await nursery.start(watch)
        found.append(await measure(args))
        nursery.cancel_scope.cancel()
    return found[0] if found else None


def _median(samples: list[Sample], name: str) -> float:
    return statistics.median(getattr(sample, name) for sample in samples)


def _print_table(args: argparse.Namespace, samples: list[Sample]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{args.nodes} durable nodes, {args.envelope} orders an envelope, {os.cpu_count()} cores"
    )
    table.add_column("what")
    table.add_column(f"median of {len(samples)} (lowest, highest)", justify="right")
    for name, title in TITLES.items():
        values = [getattr(sample, name) for sample in samples]
        table.add_row(title, f"{_median(samples, name):,.1f} ({min(values):,.1f}, {max(values):,.1f})")
    Console().print(table)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
