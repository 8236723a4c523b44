"""Every replica with a known bug is caught, and the same seed is clean without the bug."""

import pytest

from consensus.simulator.mutants import MUTANTS, SEEDS_MAX, Mutant, hunt
from consensus.simulator.trial import run


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulator_catches(mutant: Mutant) -> None:
    caught = hunt(mutant)
    assert caught is not None, f"{mutant.name} survived {SEEDS_MAX} seeds: {mutant.breaks}"
    sound = run(caught.seed, mutant.n, mutant.options(caught.seed))
    assert not sound.failure, f"seed {caught.seed} fails without {mutant.name}, too: {sound.failure}"


def test_a_patch_is_gone_when_its_run_ends() -> None:
    for mutant in MUTANTS:
        before = [patch.owner.__dict__[patch.name] for patch in mutant.patches]
        with mutant.applied():
            assert all(
                patch.owner.__dict__[patch.name] is not then
                for patch, then in zip(mutant.patches, before, strict=True)
            )
        assert [patch.owner.__dict__[patch.name] for patch in mutant.patches] == before
