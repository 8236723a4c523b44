"""Makes a failing run smaller: fewer kinds of faults, fewer liars, less work, a shorter time.

Greedy (Zeller's delta debugging in its simplest form): try one simplification after another, keep
each under which the run still fails in the same manner, and start over; the end is reached when none
helps any more, or time is up. Whatever shifts chance may hide a bug, so a few neighbouring
seeds are tried before a simplification is given up.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from consensus.simulator.options import DiskOptions, FaultOptions, NetworkOptions, SimOptions
from consensus.simulator.replay import Plan

SEEDS_TRIED = 4
GAP_MAX_US = 10_000_000

Failure = Callable[[Plan], str]  # runs a plan; empty if it went well


def shrink(plan: Plan, failure: str, try_plan: Failure, is_over: Callable[[], bool]) -> Plan:
    """The simplest plan found that fails as `plan` does; asks `is_over` before every run."""
    kind = _kind(failure)
    progress = True
    while progress:
        progress = False
        for options in simpler(plan.options):
            found = _still_fails(Plan(plan.seed, options), kind, try_plan, is_over)
            if is_over():
                return found or plan
            if found is not None:
                plan, progress = found, True
                break
    return plan


def _still_fails(plan: Plan, kind: str, try_plan: Failure, is_over: Callable[[], bool]) -> Plan | None:
    for seed in range(plan.seed, plan.seed + SEEDS_TRIED):
        if is_over():
            return None
        candidate = Plan(seed, plan.options)
        if _kind(try_plan(candidate)) == kind:
            return candidate
    return None


def _kind(failure: str) -> str:
    """How a run failed: the error's name. Its words hold numbers that change with every step."""
    return failure.partition(":")[0]


def simpler(options: SimOptions) -> Iterator[SimOptions]:
    """Simpler options, boldest first; each is smaller in some respect and larger in none."""
    if options.n > 4 and len(options.strategies) + options.disk.bad_disks <= 1:
        yield replace(options, n=4, leave_dead=min(options.leave_dead, 1))
    for whole in ("network", "faults", "disk"):
        yield from _reset(options, whole)
    for place in range(len(options.strategies)):
        kept = options.strategies[:place] + options.strategies[place + 1 :]
        yield replace(options, strategies=kept, twin_views=options.twin_views if "twins" in kept else 0)
    for name in ("leave_dead", "twin_views", "changes"):
        yield from _reset(options, name)
    for part, names in _switches(options):
        for name in names:
            owner = getattr(options, part)
            yield from ((replace(options, **{part: other})) for other in _reset(owner, name))
    yield from _halved(options, "batches")
    yield from _halved(options, "fault_phase_us")
    yield from _rarer(options)
    for name in (
        "commit_us",
        "execute_us",
        "window",
        "in_flight_max",
        "block_orders_max",
        "stash_max",
        "batches_max",
        "catch_up_blocks",
    ):
        yield from (other for other in _reset(options, name) if other.window >= 2 * other.checkpoint_interval)


def _switches(options: SimOptions) -> list[tuple[str, list[str]]]:
    network = [field.name for field in fields(NetworkOptions) if field.name != "codec_rate"]
    faults = [field.name for field in fields(FaultOptions) if not field.name.endswith("_gap_us")]
    gaps = [field.name for field in fields(FaultOptions) if field.name.endswith("_gap_us")]
    disk = [field.name for field in fields(DiskOptions)]
    return [("faults", gaps), ("network", network), ("disk", disk), ("faults", faults)]


def _reset(owner: Any, name: str) -> Iterator[Any]:
    """`owner` with one field as calm runs have it, if it is not."""
    default = getattr(type(owner)(), name)
    if getattr(owner, name) != default:
        yield replace(owner, **{name: default})


def _halved(options: SimOptions, name: str) -> Iterator[SimOptions]:
    value = getattr(options, name)
    for divisor in (8, 2):
        if value >= divisor:
            yield replace(options, **{name: value // divisor})


def _rarer(options: SimOptions) -> Iterator[SimOptions]:
    """Each fault half as often."""
    for field in fields(FaultOptions):
        gap_us = getattr(options.faults, field.name)
        if field.name.endswith("_gap_us") and 0 < gap_us < GAP_MAX_US:
            yield replace(options, faults=replace(options.faults, **{field.name: 2 * gap_us}))
