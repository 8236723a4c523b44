"""Random faults from a seed: every rule holds while they rage, and all work gets done once they end.

`kontor sim` runs as many more as one likes.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from random import Random

import pytest

from consensus.simulator.byzantine import LIARS
from consensus.simulator.coverage import SEEDS_MIN, list_unmet
from consensus.simulator.options import STRATEGIES, draw_options
from consensus.simulator.trial import run

FINGERPRINT = """
import json
from consensus.simulator.trial import run
results = [run(seed, 4) for seed in (3, 17)]
print(json.dumps([[r.failure, r.fingerprint, r.events, dict(r.counters)] for r in results]))
"""


@pytest.mark.parametrize("seed", range(60))
def test_four_replicas_stay_safe_and_finish(seed: int) -> None:
    assert run(seed, 4).failure == ""


@pytest.mark.parametrize("seed", range(12))
def test_five_replicas_stay_safe_and_finish(seed: int) -> None:
    """2f+1 would not be a quorum here."""
    assert run(seed, 5).failure == ""


@pytest.mark.parametrize("seed", range(8))
def test_seven_replicas_stay_safe_and_finish(seed: int) -> None:
    """Two of them may lie."""
    assert run(seed, 7).failure == ""


@pytest.mark.parametrize("seed", range(20, 28))
def test_a_lone_replica_stays_safe_and_finishes(seed: int) -> None:
    """It has nobody to correct its clock: at seed 23 that leaps far ahead, and back."""
    assert run(seed, 1).failure == ""


def test_the_seeds_meet_what_they_are_meant_to_meet() -> None:
    """Within as many as `kontor sim` runs before it holds an unmet path against them."""
    met: dict[str, int] = {}
    for seed in range(1000, 1000 + SEEDS_MIN):
        for name, value in run(seed, 4).counters.items():
            met[name] = met.get(name, 0) + value
        if not list_unmet(met, SEEDS_MIN):
            return
    assert [path.what for path in list_unmet(met, SEEDS_MIN)] == []


@pytest.mark.parametrize(
    ("scene", "counter"),
    [
        ("twins", "twins.two_leaders"),
        ("funnels", "checker.rival_certificates"),
        ("transfers", "replica.transfer_bans"),
        ("transfers", "replica.chunks_kept"),
    ],
)
def test_a_scene_soon_meets_what_it_is_for(scene: str, counter: str) -> None:
    """Two hundred seeds of all kinds are too few to be sure of these paths."""
    for seed in range(2000, 2040):
        result = run(seed, 4, draw_options(Random(seed), 4, scene))
        assert result.failure == ""
        if result.counters.get(counter):
            return
    pytest.fail(f"no {counter} in 40 runs of {scene}")


def test_a_run_depends_on_its_seed_alone() -> None:
    """Neither the process nor its hash seed leaves a trace: sets of bytes differ between processes."""
    outputs = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", FINGERPRINT], env=environment, capture_output=True, text=True, check=True
        )
        outputs.append(json.loads(done.stdout))
    assert outputs[0] == outputs[1]
    here = run(17, 4)
    assert outputs[0][1] == [here.failure, here.fingerprint, here.events, dict(here.counters)]
    assert run(18, 4).fingerprint != here.fingerprint


def test_every_kind_of_liar_is_drawn() -> None:
    drawn = [name for seed in range(1000) for name in draw_options(Random(seed), 4).strategies]
    assert set(drawn) == set(STRATEGIES) == set(LIARS)


@pytest.mark.parametrize("seed", range(20))
def test_validators_change_while_faults_strike(seed: int) -> None:
    n = (4, 7)[seed % 2]
    options = replace(
        draw_options(Random(seed), n), changes=3, wedges=seed % 3, spares=3, leave_dead=0, twin_views=0
    )
    assert run(seed, n, options).failure == ""


@pytest.mark.parametrize("seed", range(10))
def test_nodes_are_healed_while_faults_strike(seed: int) -> None:
    drawn = draw_options(Random(seed), 4)
    options = replace(drawn, faults=replace(drawn.faults, heal_gap_us=600_000))
    assert run(seed, 4, options).failure == ""
