"""`kontor sim`: many seeds of the deterministic simulator on every core.

A failing seed is made smaller and printed as one line that replays it. The same seed and the same
code always give the same run, on any machine. Enough seeds must also have met every path of
`consensus.simulator.coverage`, and `--mutants` shows that each known bug is caught.
"""

import json
import os
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from functools import partial

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from consensus.primitives.errors import ConfigError
from consensus.simulator.coverage import PATHS
from consensus.simulator.mutants import MUTANTS
from consensus.simulator.options import NODES_MAX, NODES_MIN
from consensus.simulator.replay import from_text
from consensus.simulator.trial import SimResult, run
from testnet.sim_runs import (
    SECOND_US,
    Failed,
    Hunted,
    Summary,
    judges_coverage,
    run_mutants,
    run_plan,
    run_seeds,
    shrink_failures,
)

FAILURES_SHOWN_MAX = 10
SHRINK_SECONDS = 60.0
REFRESHES_PER_SECOND = 2


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of `kontor sim`."""
    parser.add_argument(
        "--seeds",
        type=int,
        default=200,
        metavar="N",
        help="how many seeds to run (default 200: some 40 s on two cores)",
    )
    parser.add_argument("--first", type=int, default=0, metavar="S", help="the first seed (default 0)")
    parser.add_argument(
        "--nodes",
        type=_read_nodes,
        default=(4, 7),
        metavar="N[,N…]",
        help=f"cluster sizes, taken in turn, {NODES_MIN} to {NODES_MAX} (default 4,7)",
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="run this one seed instead, with the first size"
    )
    parser.add_argument("--replay", metavar="LINE", help="run what a failure's line describes instead")
    parser.add_argument("--trace", action="store_true", help="print every message and fault of one run")
    parser.add_argument(
        "--mutants", action="store_true", help="hunt replicas with known bugs instead (some 20 s)"
    )
    parser.add_argument(
        "--no-coverage", action="store_true", help="do not fail if some path was never met in all seeds"
    )
    parser.add_argument(
        "--shrink",
        type=float,
        default=SHRINK_SECONDS,
        metavar="SECONDS",
        help=f"how long to look for simpler runs that fail alike (default {SHRINK_SECONDS:g}; 0: not at all)",
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="J", help="processes (default: cores)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _read_nodes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and NODES_MIN <= int(part) <= NODES_MAX for part in parts):
        raise ArgumentTypeError(f"{text[:40]}: choose sizes from {NODES_MIN} to {NODES_MAX}, as in 4,7")
    return tuple(map(int, parts))


def run_command(args: Namespace) -> int:
    """Run the seeds; 0 if every one kept every rule, 1 if one did not, 2 for arguments that make no sense."""
    console = Console(stderr=True)
    complaint = _find_fault(args)
    if complaint:
        console.print(complaint)
        return 2
    if args.mutants:
        return _hunt_mutants(args, console)
    try:
        summary = _run_one(args) if _is_one_run(args) else _run_many(args, console)
    except ConfigError as error:
        console.print(str(error))
        return 2
    if summary.failures:
        shrink_failures(summary, args.shrink, partial(console.print, highlight=False))
    if args.json:
        print(json.dumps(summary.to_json()))
    else:
        _print_summary(summary)
    return 1 if summary.failures or summary.unmet else 0


def _is_one_run(args: Namespace) -> bool:
    return args.seed is not None or args.replay is not None


def _find_fault(args: Namespace) -> str:
    """What is wrong with the arguments together; empty if nothing is."""
    if args.seeds < 1 or args.first < 0 or args.jobs < 1 or (args.seed is not None and args.seed < 0):
        return "--seeds and --jobs start at 1, --first and --seed at 0: choose larger ones"
    if not 0 <= args.shrink < float("inf"):
        return f"--shrink {args.shrink}: choose a number of seconds, or 0"
    if args.trace and not _is_one_run(args):
        return "--trace prints one run: name it with --seed S or --replay LINE"
    if args.seed is not None and args.replay is not None:
        return "--seed and --replay both name the run: choose one"
    return ""


def _run_one(args: Namespace) -> Summary:
    started = time.perf_counter()
    if args.replay is not None:
        plan = from_text(args.replay)
        result = run_plan(plan, args.trace)
    else:
        result = run(args.seed, args.nodes[0], trace=args.trace)
    summary = Summary((result.n,))
    summary.seconds = time.perf_counter() - started
    summary.add(result)
    for line in result.trace:
        print(line)
    return summary


def _progress(console: Console, args: Namespace) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # Drawn rarely: the cores are for the runs.
    return Progress(
        *columns, console=console, transient=True, disable=args.json, refresh_per_second=REFRESHES_PER_SECOND
    )


def _run_many(args: Namespace, console: Console) -> Summary:
    summary = Summary(args.nodes, judges_coverage(args.seeds, not args.no_coverage))
    started = time.perf_counter()
    name = f"{','.join(map(str, args.nodes))} replicas"
    with _progress(console, args) as progress:
        task = progress.add_task(name, total=args.seeds)
        for result in run_seeds(range(args.first, args.first + args.seeds), args.nodes, args.jobs):
            summary.add(result)
            progress.update(task, advance=1, description=f"{name}, {len(summary.failures)} failed")
    summary.seconds = time.perf_counter() - started
    return summary


def _print_summary(summary: Summary) -> None:
    console = Console()
    if summary.seeds > 1:
        _print_coverage(console, summary)
    fields = summary.to_json()
    console.print(
        f"{summary.seeds} seeds in {fields['seconds']} s ({fields['seeds_per_second']} a second):"
        f" {fields['virtual_seconds']:,} virtual seconds, {summary.events:,} events",
        highlight=False,
    )
    if summary.unmet:
        console.print(f"never met: {', '.join(summary.unmet)}", style="red", highlight=False)
    if not summary.failures:
        console.print("every rule held", style="green")
    for failed in summary.failures[:FAILURES_SHOWN_MAX]:
        _print_failure(console, failed)
    if len(summary.failures) > FAILURES_SHOWN_MAX:
        console.print(f"… and {len(summary.failures) - FAILURES_SHOWN_MAX} more")


def _print_coverage(console: Console, summary: Summary) -> None:
    nodes = ", ".join(map(str, summary.nodes))
    table = Table("what happened", "times", title=f"{summary.seeds} seeds, {nodes} replicas")
    table.columns[1].justify = "right"
    for path in PATHS:
        count = summary.counters.get(path.counter, 0)
        table.add_row(path.what, f"{count:,}", style="" if count else "yellow")
    console.print(table)


def _print_failure(console: Console, failed: Failed) -> None:
    result: SimResult = failed.result
    console.print(
        f"seed {result.seed} of {result.n} replicas failed at {result.virtual_us / SECOND_US:.3f} s:"
        f" {result.failure}",
        style="red",
        highlight=False,
        markup=False,
    )
    print(f"    {failed.replay()}")  # one line, however long: it is to be copied


def _hunt_mutants(args: Namespace, console: Console) -> int:
    hunted: list[Hunted] = []
    with _progress(console, args) as progress:
        task = progress.add_task("mutants", total=len(MUTANTS))
        for each in run_mutants(args.jobs):
            hunted.append(each)
            progress.update(task, advance=1)
    hunted.sort(key=lambda each: (each.seed is not None, each.name))
    survivors = [each.name for each in hunted if each.seed is None]
    if args.json:
        mutants = [{"name": each.name, "seed": each.seed, "failure": each.failure} for each in hunted]
        print(json.dumps({"mutants": mutants, "survivors": survivors}))
        return 1 if survivors else 0
    table = Table("mutant", "what is broken", "seed", "caught by", title="replicas with known bugs")
    for each in hunted:
        seed = "–" if each.seed is None else str(each.seed)
        table.add_row(
            each.name, each.breaks, seed, each.failure[:200], style="" if each.seed is not None else "red"
        )
    out = Console()
    out.print(table)
    out.print(
        f"{len(hunted) - len(survivors)} of {len(hunted)} caught", style="red" if survivors else "green"
    )
    return 1 if survivors else 0
