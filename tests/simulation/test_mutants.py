"""Every replica with a known bug is caught, and the same seed is clean without the bug."""

import pytest

from consensus.simulator.mutants import MUTANTS, SEEDS_MAX, Mutant, hunt
from consensus.simulator.replay import Plan, from_text, to_text
from consensus.simulator.shrink import shrink
from consensus.simulator.trial import run


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulator_catches(mutant: Mutant) -> None:
    caught = hunt(mutant)
    assert caught is not None, f"{mutant.name} survived {SEEDS_MAX} seeds: {mutant.breaks}"
    sound = run(caught.seed, mutant.n, mutant.options(caught.seed))
    assert not sound.failure, f"seed {caught.seed} fails without {mutant.name}, too: {sound.failure}"


def test_a_failing_run_shrinks_to_a_line_that_still_fails() -> None:
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == "view_change_forgets_older_views"]
    caught, runs = hunt(mutant), 0

    def try_plan(plan: Plan) -> str:
        nonlocal runs
        runs += 1
        with mutant.applied():
            return run(plan.seed, plan.options.n, plan.options).failure

    assert caught is not None and caught.options is not None
    plan = Plan(caught.seed, caught.options)
    small = shrink(plan, caught.failure, try_plan, lambda: runs >= 25)
    assert try_plan(from_text(to_text(small)))
    assert len(to_text(small)) < len(to_text(plan))


def test_a_patch_is_gone_when_its_run_ends() -> None:
    for mutant in MUTANTS:
        before = [patch.owner.__dict__[patch.name] for patch in mutant.patches]
        with mutant.applied():
            assert all(
                patch.owner.__dict__[patch.name] is not then
                for patch, then in zip(mutant.patches, before, strict=True)
            )
        assert [patch.owner.__dict__[patch.name] for patch in mutant.patches] == before
