"""Primaries that break no rule of agreement and still cheat are replaced; honest ones never are.

Virtual time: a seed gives the same run everywhere. The seed in a test's name replays it.
"""

from dataclasses import replace

import pytest

from consensus.simulator.cluster import Cluster, check_agreement
from consensus.simulator.node import SimNode
from consensus.simulator.options import MS_US, NetworkOptions, SimOptions
from consensus.simulator.scheduler import SECOND_US

SEEDS = range(3)
CHEATS = ("censor", "postpone", "dawdle", "drip", "misorder")


def led_by(strategy: str, seed: int, options: SimOptions | None = None) -> Cluster:
    """A cluster whose first primary cheats."""
    options = replace(options or SimOptions(), strategies=(strategy,))
    for attempt in range(100 * seed, 100 * seed + 100):
        cluster = Cluster(n=4, seed=attempt, options=options)
        if 0 in cluster.byzantine:
            return cluster
    raise AssertionError("no seed made replica 0 the liar")


def not_led_by(strategy: str, seed: int) -> Cluster:
    """A cluster in which somebody else cheats."""
    for attempt in range(100 * seed, 100 * seed + 100):
        cluster = Cluster(n=4, seed=attempt, options=SimOptions(strategies=(strategy,)))
        if 0 not in cluster.byzantine:
            return cluster
    raise AssertionError("no seed made another replica the liar")


def load(cluster: Cluster, seconds: float, gap_us: int, batches: int = 1) -> None:
    """Work arrives all the time, at every replica in turn."""
    for turn in range(int(seconds * SECOND_US) // gap_us):
        cluster.submit(batches=batches, to=turn % 4)
        cluster.run_for(gap_us)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("strategy", CHEATS)
def test_a_primary_that_cheats_loses_its_place_while_all_others_are_served(strategy: str, seed: int) -> None:
    cluster = led_by(strategy, seed, SimOptions(network=NetworkOptions(delay_us=5_000, jitter_us=2_000)))
    load(cluster, 2.5, 10 * MS_US, batches=6)
    assert cluster.view() > 0, "the primary kept its place"
    cluster.run_until_quiet()
    check_agreement(cluster)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("strategy", ["censor", "postpone"])
def test_a_victim_waits_no_longer_than_two_deadlines(strategy: str, seed: int) -> None:
    """Patience, which honest primaries under overload may need, is ten times as long."""
    cluster = led_by(strategy, seed)
    load(cluster, 0.5, 5 * MS_US)
    cluster.submit(to=1)
    name, started = list(cluster.submitted)[-1], cluster.scheduler.now_us
    while any(name not in node.app.executed for node in cluster.honest):
        load(cluster, 0.02, 5 * MS_US)
        assert cluster.scheduler.now_us - started < 2 * cluster.options.request_timeout_us + 200 * MS_US


@pytest.mark.parametrize("delay_us", [200, 5_000])
def test_a_slow_primary_is_told_from_a_slow_network(delay_us: int) -> None:
    """Only where a round takes about as long as the primary dawdles, nobody can tell."""
    network = NetworkOptions(delay_us=delay_us, jitter_us=delay_us // 2)
    slow, honest = SimOptions(network=network), Cluster(n=4, seed=1, options=SimOptions(network=network))
    cheated = led_by("dawdle", 1, slow)
    for cluster in (cheated, honest):
        load(cluster, 6, 25 * MS_US)
    assert cheated.view() > 0
    assert honest.view() == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("delay_us", "commit_us", "execute_us", "in_flight"),
    [
        (200, 50, 20, 4),
        (500, 300, 200, 1),
        (5_000, 2_000, 5_000, 4),
        (40_000, 10_000, 200, 4),
        (80_000, 300, 200, 1),
    ],
)
def test_an_honest_primary_keeps_its_place_through_steps_of_load(
    seed: int, delay_us: int, commit_us: int, execute_us: int, in_flight: int
) -> None:
    """Nothing, a trickle, a flood beyond what it can order, and a trickle again."""
    options = SimOptions(
        network=NetworkOptions(delay_us=delay_us, jitter_us=delay_us),
        commit_us=commit_us,
        execute_us=execute_us,
        in_flight_max=in_flight,
        block_orders_max=64,
    )
    cluster = Cluster(n=4, seed=seed, options=options)
    for seconds, gap_us, batches in ((1, 200_000, 1), (1, 10_000, 1), (1, 10_000, 8), (2, 50_000, 1)):
        load(cluster, seconds, gap_us, batches)
    cluster.run_until_quiet()
    check_agreement(cluster)
    assert cluster.view() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_an_honest_primary_keeps_its_place_although_a_backup_withholds_and_forges_receive_times(
    seed: int,
) -> None:
    cluster = Cluster(n=4, seed=seed, options=SimOptions(strategies=("misdate",)))
    load(cluster, 3, 5 * MS_US, batches=4)
    cluster.run_until_quiet()
    check_agreement(cluster)
    assert cluster.view() == 0


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("gap_us", "batches"), [(10_000, 4), (40_000, 1), (250_000, 1)])
def test_an_honest_primary_keeps_its_place_although_backups_get_batches_that_it_never_got(
    seed: int, gap_us: int, batches: int
) -> None:
    cluster = not_led_by("frame", seed)
    load(cluster, 3, gap_us, batches)
    assert cluster.view() == 0
    cluster.run_until_quiet()
    check_agreement(cluster)
    assert cluster.view() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_machine_that_got_slow_is_no_dead_primary(seed: int) -> None:
    """Rounds grow towards the deadline, as on a machine that others load; the deadline grows with them."""
    cluster = Cluster(n=4, seed=seed)
    nodes = [node for node in cluster.nodes if isinstance(node, SimNode)]
    for commit_us in (300, 10_000, 40_000, 80_000, 150_000):
        for node in nodes:
            node.timing = replace(node.timing, commit_us=commit_us)
        load(cluster, 3, 40 * MS_US)
    cluster.run_until_quiet()
    assert cluster.view() == 0
    cluster.crash(0)
    cluster.submit(to=1)
    cluster.run_until_quiet()
    assert cluster.view() > 0, "a dead primary is still found"
