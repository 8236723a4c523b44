"""Many runs of the simulator on every core, what they came to, and the smallest run that still fails."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, TypeVar

from consensus.simulator import trial
from consensus.simulator.coverage import PATHS, SEEDS_MIN, list_unmet
from consensus.simulator.mutants import MUTANTS, SEEDS_MAX, hunt
from consensus.simulator.replay import Plan, to_text
from consensus.simulator.shrink import shrink
from consensus.simulator.trial import SimResult

SECOND_US = 1_000_000
SHRUNK_MAX = 3  # failing runs that are made smaller; the others most often fail for the same reason

Job = TypeVar("Job")
Done = TypeVar("Done")


@dataclass
class Failed:
    """A run that broke a rule, and the simplest one found that still does."""

    result: SimResult
    shrunk: Plan | None = None

    def replay(self) -> str:
        """The one line that runs it again."""
        options = self.result.options
        plan = self.shrunk or (Plan(self.result.seed, options) if options else None)
        if plan is None:
            return f"kontor sim --nodes {self.result.n} --seed {self.result.seed}"
        return f"kontor sim --replay '{to_text(plan)}'"


@dataclass
class Summary:
    """What a batch of runs came to. `judges_coverage`: a path never met counts as a failure."""

    nodes: tuple[int, ...]
    judges_coverage: bool = False
    seeds: int = 0
    virtual_us: int = 0
    events: int = 0
    seconds: float = 0.0
    failures: list[Failed] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)

    def add(self, result: SimResult) -> None:
        """Take one run's result into the totals."""
        self.seeds += 1
        self.virtual_us += result.virtual_us
        self.events += result.events
        if result.failure:
            self.failures.append(Failed(result))
            self.failures.sort(key=lambda failed: (failed.result.n, failed.result.seed))
        for name, value in result.counters.items():
            self.counters[name] = self.counters.get(name, 0) + value

    @property
    def unmet(self) -> list[str]:
        """What should have happened in so many runs and did not."""
        return (
            [path.counter for path in list_unmet(self.counters, self.seeds)] if self.judges_coverage else []
        )

    def to_json(self) -> dict[str, Any]:
        """Fields of `--json`."""
        seconds = max(self.seconds, 1e-9)
        return {
            "nodes": list(self.nodes),
            "seeds": self.seeds,
            "failures": [
                {
                    "seed": failed.result.seed,
                    "nodes": failed.result.n,
                    "failure": failed.result.failure,
                    "replay": failed.replay(),
                }
                for failed in self.failures
            ],
            "virtual_seconds": round(self.virtual_us / SECOND_US, 1),
            "seconds": round(self.seconds, 2),
            "seeds_per_second": round(self.seeds / seconds, 2),
            "virtual_minutes_per_second": round(self.virtual_us / SECOND_US / 60 / seconds, 2),
            "events": self.events,
            "coverage": {path.counter: self.counters.get(path.counter, 0) for path in PATHS},
            "unmet": self.unmet,
            "counters": dict(sorted(self.counters.items())),
        }


def judges_coverage(seeds: int, wanted: bool) -> bool:
    """Whether so many runs are enough to hold an unmet path against them."""
    return wanted and seeds >= SEEDS_MIN


def run_seeds(seeds: range, nodes: Sequence[int], jobs: int) -> Iterator[SimResult]:
    """Each seed with one of the cluster sizes, in turn; results in the order they finish."""
    return _spread(_run_seed, [(seed, nodes[seed % len(nodes)]) for seed in seeds], jobs)


def _run_seed(work: tuple[int, int]) -> SimResult:
    seed, nodes = work
    return trial.run(seed, nodes)


def run_plan(plan: Plan, trace: bool = False) -> SimResult:
    """The run that a line describes."""
    return trial.run(plan.seed, plan.options.n, plan.options, trace=trace)


def shrink_failures(summary: Summary, seconds: float, say: Callable[[str], None]) -> None:
    """Look for simpler runs that fail like the first few failures; stops after `seconds` in all."""
    deadline = time.monotonic() + seconds
    for count, failed in enumerate(summary.failures[:SHRUNK_MAX]):
        options = failed.result.options
        if options is None or seconds <= 0:
            return
        say(f"shrinking seed {failed.result.seed}")
        share = time.monotonic() + (deadline - time.monotonic()) / (SHRUNK_MAX - count)
        failed.shrunk = shrink(
            Plan(failed.result.seed, options),
            failed.result.failure,
            lambda plan: run_plan(plan).failure,
            lambda end=share: time.monotonic() >= end,  # type: ignore[misc]
        )


# Mutants


@dataclass(frozen=True)
class Hunted:
    """A replica with a known bug, and the seed that caught it (None: it survived)."""

    name: str
    breaks: str
    seed: int | None
    failure: str


def run_mutants(jobs: int) -> Iterator[Hunted]:
    """Hunt every mutant; in the order they are caught."""
    return _spread(_hunt, [mutant.name for mutant in MUTANTS], jobs)


def _hunt(name: str) -> Hunted:
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == name]
    caught = hunt(mutant)
    if caught is None:
        return Hunted(name, mutant.breaks, None, f"survived {SEEDS_MAX} seeds")
    return Hunted(name, mutant.breaks, caught.seed, caught.failure)


def _spread(work: Callable[[Job], Done], jobs: Sequence[Job], processes: int) -> Iterator[Done]:
    """Map over a spawned pool: no inherited threads, the same on every system."""
    if processes == 1 or len(jobs) == 1:
        yield from map(work, jobs)
        return
    with get_context("spawn").Pool(min(processes, len(jobs))) as pool:
        yield from pool.imap_unordered(work, jobs, chunksize=2 if len(jobs) > 100 else 1)
