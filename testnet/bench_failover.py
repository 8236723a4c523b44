"""Measures what clients see when the primary dies: real processes, SIGKILL, restarted, again and again.

Orders arrive at a light, steady rate over all nodes (open loop). Each time the primary is killed, and the
figure is the time from the kill to the first proven answer to an order that was due after it: noticing,
the view change, and one whole commit, with the client's own turn to another node. Then the node starts
again, and the next kill comes once every node is at the head. In the end every ledger is audited. All
nodes and the load share this machine: say what else ran when you quote a figure.
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from consensus.primitives.errors import ConfigError, LedgerError
from testnet.chaos.observer import Observer
from testnet.load import Pace, Tally, percentiles_ms
from testnet.run import agree, audit_all, find_doubled, find_lost, find_primary, wait_level
from testnet.session import Session, open_network, run_session
from testnet.sources import SyntheticSource

KILLS_MAX = 10_000
NODES_MIN = 4  # fewer cannot go on without one
DESKS = 4
ORDERS_PER_ENVELOPE = 10
WAIT_SECONDS = 60.0  # for an answer, or for a node to return: then something is wrong
POLL_SECONDS = 0.02
CALM_SECONDS = (0.3, 0.8)  # between a return and the next kill, at random: kills keep no step with timers
REPORT_EVERY = 5
SEED = 1


@dataclass
class Samples:
    """What each kill took, in seconds."""

    failover_s: list[float] = field(default_factory=list)  # kill to the next answer
    return_s: list[float] = field(default_factory=list)  # start of the killed node to all at the head
    faults: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kontor bench failover`."""
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="how often (50)")
    parser.add_argument("--nodes", type=int, default=4, metavar="N", help="how many nodes (4)")
    parser.add_argument("--rate", type=float, default=50.0, metavar="R", help="envelopes a second (50)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_command(args: argparse.Namespace) -> int:
    """Measure and print."""
    from testnet.cli import run_until_signal

    _check(args)
    found: list[Samples] = []

    async def main() -> None:
        found.append(await measure(args))

    run_until_signal(main)
    if not found:
        return 130
    result = summarise(args, found[0])
    if args.json:
        print(json.dumps(result))
    else:
        _print_table(result)
    return 1 if found[0].faults else 0


def summarise(args: argparse.Namespace, samples: Samples) -> dict[str, Any]:
    """Percentiles and all samples as plain values, in milliseconds."""
    return {
        "nodes": args.nodes,
        "kills": len(samples.failover_s),
        "envelopes_per_second": args.rate,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "failover_ms": _figures(samples.failover_s),
        "return_ms": _figures(samples.return_s),
        "samples_ms": [round(1000 * item, 1) for item in samples.failover_s],
        "faults": samples.faults,
    }


async def measure(args: argparse.Namespace) -> Samples:
    """One fresh network, killed `args.kills` times, and audited."""
    samples, tally = Samples(), Tally()
    with tempfile.TemporaryDirectory(prefix="kontor-bench-") as directory:
        homes = open_network(Path(directory), args.nodes)
        async with (
            run_session(homes, SyntheticSource(DESKS), _say) as session,
            trio.open_nursery() as nursery,
        ):
            observer = Observer(session.launcher)
            nursery.start_soon(observer.run)
            pace = Pace(ORDERS_PER_ENVELOPE, envelopes_per_second=args.rate)
            nursery.start_soon(session.load, pace, tally)
            await _kill_and_measure(session, observer, tally, args.kills, samples)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_level(session.launcher)
                await session.launcher.stop()
        audits = await audit_all(homes, range(args.nodes))
    if not agree(audits) or not all(audit.conserved for audit in audits):
        samples.faults.append("the ledgers disagree, or do not conserve value")
    if find_lost(tally, audits) or find_doubled(audits):
        samples.faults.append("an acknowledged envelope is missing, or one took effect twice")
    return samples


async def _kill_and_measure(
    session: Session, observer: Observer, tally: Tally, kills: int, samples: Samples
) -> None:
    rng, launcher = random.Random(SEED), session.launcher
    await wait_answer(tally, time.monotonic())
    for number in range(1, kills + 1):
        await trio.sleep(rng.uniform(*CALM_SECONDS))
        primary = await find_primary(launcher)
        killed_s = time.monotonic()
        await launcher.kill(primary)
        samples.failover_s.append(await wait_answer(tally, killed_s) - killed_s)
        started_s = time.monotonic()
        await launcher.start(primary)
        await observer.wait_level(WAIT_SECONDS)
        samples.return_s.append(time.monotonic() - started_s)
        if number % REPORT_EVERY == 0 or number == kills:
            figures = _figures(samples.failover_s)
            _say(f"{number} of {kills} kills: p50 {figures['p50']} ms, max {figures['max']} ms")


async def wait_answer(tally: Tally, since_s: float) -> float:
    """When the first envelope that was due after `since_s` was answered. Raises `LedgerError`."""
    with trio.move_on_after(WAIT_SECONDS):
        while True:
            answered = [at for at, _, latency_s in tally.recent if at - latency_s >= since_s]
            if answered:
                return min(answered)
            await trio.sleep(POLL_SECONDS)
    raise LedgerError(f"no order was answered for {WAIT_SECONDS:.0f} s after the primary was killed")


def _check(args: argparse.Namespace) -> None:
    if not 1 <= args.kills <= KILLS_MAX:
        raise ConfigError(f"--kills is {args.kills}; it must lie between 1 and {KILLS_MAX}")
    if not NODES_MIN <= args.nodes <= 64:
        raise ConfigError(f"--nodes is {args.nodes}; {NODES_MIN} to 64 can go on without one")
    if not 1.0 <= args.rate <= 1000.0:
        raise ConfigError(f"--rate is {args.rate:g}; it must lie between 1 and 1000 envelopes a second")


def _figures(samples_s: list[float]) -> dict[str, float]:
    largest = round(1000 * max(samples_s, default=0.0), 1)
    return {**{name: round(value, 1) for name, value in percentiles_ms(samples_s).items()}, "max": largest}


def _print_table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{result['kills']} kills of the primary, {result['nodes']} nodes, {os.cpu_count()} cores"
    )
    table.add_column("what, in ms")
    for name in ("p50", "p99", "max"):
        table.add_column(name, justify="right")
    for key, title in (
        ("failover_ms", "killed → next answer to a client"),
        ("return_ms", "killed node started → all nodes at the head"),
    ):
        table.add_row(title, *(f"{result[key][name]:,.1f}" for name in ("p50", "p99", "max")))
    Console().print(table)
    for fault in result["faults"]:
        print(f"FAULT: {fault}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
