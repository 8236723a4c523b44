"""Replay lines say a whole run; shrinking keeps the failure and drops what it does not need."""

from dataclasses import replace
from random import Random

import pytest

from consensus.primitives.errors import ConfigError
from consensus.simulator.options import (
    NODES_MAX,
    FaultOptions,
    NetworkOptions,
    SimOptions,
    draw_options,
)
from consensus.simulator.replay import Plan, from_text, to_text
from consensus.simulator.shrink import shrink, simpler
from consensus.simulator.trial import run

RUN = Plan(11, draw_options(Random(11), 7))


def never() -> bool:
    return False


@pytest.mark.parametrize("n", range(1, NODES_MAX + 1))
def test_every_drawn_run_is_the_same_after_a_trip_through_its_line(n: int) -> None:
    for seed in range(100):
        plan = Plan(seed, draw_options(Random(seed), n))
        assert from_text(to_text(plan)) == plan


def test_a_replayed_line_is_the_same_run() -> None:
    options = draw_options(Random(5), 4)
    plan = from_text(to_text(Plan(5, options)))
    first, again = run(5, 4), run(plan.seed, plan.options.n, plan.options)
    assert (first.fingerprint, first.events) == (again.fingerprint, again.events)


def test_defaults_are_part_of_the_format() -> None:
    """A line names only what differs from them: change one, and old lines mean another run."""
    assert to_text(Plan(3, SimOptions())) == "1,seed=3,n=4"
    assert SimOptions().network == NetworkOptions(500, 500, 0.0, 50_000, 0.0, 0.0, 0.0, True, 4096, 0.02)
    assert SimOptions().faults == FaultOptions(
        down_us=400_000,
        partition_us=1_000_000,
        clog_us=500_000,
        swizzle_us=1_000_000,
        pause_us=300_000,
        slow_us=1_000_000,
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "version"),
        ("2,seed=1", "version '2'"),
        ("1", "seed"),
        ("1,seed=1,colour=red", "'colour'"),
        ("1,seed=1,network.colour=red", "network.colour"),
        ("1,seed=1,n.real=4", "n.real"),
        ("1,seed=1,__class__=4", "__class__"),
        ("1,seed=1,network=4", "network"),
        ("1,seed=x", "seed=x"),
        ("1,seed", "NAME=VALUE"),
        ("1,seed=1,n=99", "13"),
        ("1,seed=1,network.loss_rate=2", "loss_rate=2"),
        ("1,seed=1,network.loss_rate=nan", "loss_rate=nan"),
        ("1,seed=1,batches=99999999999", "batches"),
        ("1,seed=1,fault_phase_us=0", "fault_phase_us=0"),
        ("1,seed=1,strategies=twins+twins", "bear 1"),
        ("1,seed=1,strategies=polite", "polite"),
        ("1,seed=1,window=4,checkpoint_interval=4", "window"),
        ("1," + "x" * 5000, "characters"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        from_text(text)


def test_shrinking_keeps_what_the_failure_needs_and_drops_the_rest() -> None:
    def fails_when_crashing_under_loss(plan: Plan) -> str:
        faults = plan.options.faults
        return "SafetyViolation: x" if faults.crash_gap_us and plan.options.network.loss_rate else ""

    options = replace(
        RUN.options,
        network=replace(RUN.options.network, loss_rate=0.25),
        faults=replace(RUN.options.faults, crash_gap_us=300_000),
    )
    small = shrink(Plan(11, options), "SafetyViolation: y", fails_when_crashing_under_loss, never).options
    assert small.n == 4 and small.strategies == () and small.batches == 1
    assert small.network == NetworkOptions(loss_rate=0.25)
    assert small.faults.crash_gap_us > 300_000
    assert replace(small.faults, crash_gap_us=0) == FaultOptions()


def test_shrinking_does_not_trade_one_failure_for_another() -> None:
    def fails(plan: Plan) -> str:
        return "SafetyViolation: x" if plan.options.batches > 8 else "LivenessViolation: y"

    options = SimOptions(batches=80)
    assert shrink(Plan(1, options), "SafetyViolation: z", fails, never).options.batches > 8


def test_shrinking_stops_when_its_time_is_up() -> None:
    runs: list[Plan] = []

    def fails(plan: Plan) -> str:
        runs.append(plan)
        return "SafetyViolation: x"

    shrink(RUN, "SafetyViolation: x", fails, lambda: len(runs) >= 3)
    assert len(runs) == 3


def test_a_simplification_is_never_the_run_itself_and_always_makes_sense() -> None:
    for seed in range(50):
        options = draw_options(Random(seed), 7)
        for other in simpler(options):
            assert other != options
            from_text(to_text(Plan(0, other)))
