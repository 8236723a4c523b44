"""`kontor sim`: many seeds of the deterministic simulator on every core.

A failing seed is printed with the one command that replays it. The same seed and the same code
always give the same run, on any machine.
"""

import json
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from consensus.simulator.options import NODES_MAX, NODES_MIN
from consensus.simulator.trial import SimResult, run

SECOND_US = 1_000_000
FAILURES_SHOWN_MAX = 10


@dataclass
class Summary:
    """What a batch of seeds came to."""

    nodes: int
    seeds: int = 0
    virtual_us: int = 0
    events: int = 0
    seconds: float = 0.0
    failures: list[SimResult] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)

    def add(self, result: SimResult) -> None:
        """Take one seed's result into the totals."""
        self.seeds += 1
        self.virtual_us += result.virtual_us
        self.events += result.events
        if result.failure:
            self.failures.append(result)
            self.failures.sort(key=lambda failed: failed.seed)
        for name, value in result.counters.items():
            self.counters[name] = self.counters.get(name, 0) + value

    def to_json(self) -> dict[str, Any]:
        """Fields of `--json`."""
        return {
            "nodes": self.nodes,
            "seeds": self.seeds,
            "failures": [
                {"seed": failed.seed, "failure": failed.failure, "replay": replay_command(failed)}
                for failed in self.failures
            ],
            "virtual_seconds": round(self.virtual_us / SECOND_US, 1),
            "seconds": round(self.seconds, 2),
            "virtual_minutes_per_second": round(
                self.virtual_us / SECOND_US / 60 / max(self.seconds, 1e-9), 2
            ),
            "events": self.events,
            "counters": dict(sorted(self.counters.items())),
        }


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of `kontor sim`."""
    parser.add_argument(
        "--seeds", type=int, default=100, metavar="N", help="how many seeds to run (default 100)"
    )
    parser.add_argument("--first", type=int, default=0, metavar="S", help="the first seed (default 0)")
    parser.add_argument(
        "--nodes", type=int, default=4, metavar="N", help=f"replicas, {NODES_MIN} to {NODES_MAX} (default 4)"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="run this one seed instead")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every message and fault")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="J", help="processes (default: cores)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run_command(args: Namespace) -> int:
    """Run the seeds; 0 if every one kept every rule, 1 if one did not, 2 for arguments that make no sense."""
    console = Console(stderr=True)
    if not NODES_MIN <= args.nodes <= NODES_MAX:
        console.print(f"--nodes {args.nodes}: choose between {NODES_MIN} and {NODES_MAX} replicas")
        return 2
    if args.seeds < 1 or args.first < 0 or args.jobs < 1 or (args.seed is not None and args.seed < 0):
        console.print("--seeds and --jobs start at 1, --first and --seed at 0: choose larger ones")
        return 2
    if args.trace and args.seed is None:
        console.print("--trace prints one run: name it with --seed S")
        return 2
    summary = _run_one(args) if args.seed is not None else _run_many(args, console)
    if args.json:
        print(json.dumps(summary.to_json()))
    else:
        _print_summary(summary)
    return 1 if summary.failures else 0


def replay_command(result: SimResult) -> str:
    """The command that runs a seed again, step by step."""
    return f"kontor sim --nodes {result.n} --seed {result.seed} --trace"


def _run_one(args: Namespace) -> Summary:
    summary = Summary(args.nodes)
    started = time.perf_counter()
    result = run(args.seed, args.nodes, trace=args.trace)
    summary.seconds = time.perf_counter() - started
    summary.add(result)
    for line in result.trace:
        print(line)
    return summary


def _run_many(args: Namespace, console: Console) -> Summary:
    summary = Summary(args.nodes)
    started = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=args.json) as progress:
        task = progress.add_task(f"{args.nodes} replicas", total=args.seeds)
        for result in _results(range(args.first, args.first + args.seeds), args.nodes, args.jobs):
            summary.add(result)
            progress.update(
                task, advance=1, description=f"{args.nodes} replicas, {len(summary.failures)} failed"
            )
    summary.seconds = time.perf_counter() - started
    return summary


def _results(seeds: range, nodes: int, jobs: int) -> Iterator[SimResult]:
    """Results in the order they finish. A spawned pool: no inherited threads, the same on every system."""
    work = [(seed, nodes) for seed in seeds]
    if jobs == 1 or len(work) == 1:
        yield from map(_run_seed, work)
        return
    with get_context("spawn").Pool(min(jobs, len(work))) as pool:
        yield from pool.imap_unordered(_run_seed, work, chunksize=2)


def _run_seed(work: tuple[int, int]) -> SimResult:
    seed, nodes = work
    return run(seed, nodes)


def _print_summary(summary: Summary) -> None:
    console = Console()
    table = Table("counter", "count", title=f"{summary.seeds} seeds, {summary.nodes} replicas")
    table.columns[1].justify = "right"
    for name, value in sorted(summary.counters.items()):
        table.add_row(name, f"{value:,}")
    console.print(table)
    fields = summary.to_json()
    console.print(
        f"{fields['virtual_seconds']:,} virtual seconds in {fields['seconds']} s"
        f" ({fields['virtual_minutes_per_second']} virtual minutes per second), {summary.events:,} events",
        highlight=False,
    )
    if not summary.failures:
        console.print("every rule held", style="green")
    for failed in summary.failures[:FAILURES_SHOWN_MAX]:
        console.print(
            f"seed {failed.seed} failed at {failed.virtual_us / SECOND_US:.3f} s: {failed.failure}",
            style="red",
        )
        console.print(f"    {replay_command(failed)}", highlight=False)
    if len(summary.failures) > FAILURES_SHOWN_MAX:
        console.print(f"… and {len(summary.failures) - FAILURES_SHOWN_MAX} more")
