"""Validators come, go and change keys while the cluster works. The seed in a test's name replays it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consensus.simulator.app import REMOVED
from consensus.simulator.cluster import Cluster, check_agreement
from consensus.simulator.options import NetworkOptions, SimOptions
from consensus.simulator.scheduler import SECOND_US

SEEDS = range(4)
CALM = SimOptions(spares=2)


def work(cluster: Cluster, batches: int = 20, gap_us: int = 20_000) -> None:
    """Submit one batch after another."""
    for _ in range(batches):
        cluster.submit()
        cluster.run_for(gap_us)


def run_until_epoch(cluster: Cluster, number: int, among: Sequence[int] | None = None) -> None:
    """Run until all live honest nodes (or those in `among`) are in an epoch, under a little load."""
    for _ in range(400):
        if all(node.replica.replicas.epoch >= number for node in cluster.live(among)):
            return
        cluster.run_for(50_000)
    raise AssertionError(f"epoch {number} never starts: {cluster.explain(among)}")


def finish(cluster: Cluster, among: Sequence[int] | None = None) -> None:
    cluster.run_until_quiet(among=among)
    check_agreement(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_validator_is_replaced_under_load(seed: int) -> None:
    cluster = Cluster(n=4, seed=seed, options=CALM)
    cluster.retry()
    work(cluster, 5)
    cluster.restart(4)
    cluster.change((2, REMOVED), (4, cluster.key(4)))
    work(cluster)
    run_until_epoch(cluster, 1)
    work(cluster)
    finish(cluster)
    assert [member.id for member in cluster.epoch().members] == [0, 1, 3, 4]
    assert cluster.honest[2].replica.retired
    assert cluster.nodes[4].replica.may_vote
    assert cluster.view() & 0xFFFFFFFF == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_boundary_is_reached_without_any_load(seed: int) -> None:
    """Empty blocks lead there, and stop with it."""
    cluster = Cluster(n=4, seed=seed, options=CALM)
    cluster.change((0, cluster.key(0, rotated=True)))
    run_until_epoch(cluster, 1)
    height = cluster.epoch().first_seq - 1
    cluster.run_for(10 * SECOND_US)
    assert {node.app.height for node in cluster.live()} == {height}
    work(cluster, 3)
    finish(cluster)
    assert cluster.counters()["checker.nulls_committed"] > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rotated_key_signs_from_its_epoch_on(seed: int) -> None:
    cluster = Cluster(n=4, seed=seed, options=CALM)
    cluster.retry()
    for node_id in (0, 3):
        cluster.change((node_id, cluster.key(node_id, rotated=True)))
        work(cluster)
        run_until_epoch(cluster, 1 if node_id == 0 else 2)
    cluster.crash(1)  # now both are needed
    work(cluster)
    finish(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_validators_are_added_and_removed_one_by_one(seed: int) -> None:
    """From four to six and back to four others; no change waits for anything but the one before."""
    cluster = Cluster(n=4, seed=seed, options=CALM)
    cluster.retry()
    changes = [(4, cluster.key(4)), (5, cluster.key(5)), (0, REMOVED), (1, REMOVED)]
    for number, (node_id, key) in enumerate(changes, 1):
        cluster.restart(node_id)
        cluster.change((node_id, key))
        work(cluster, 5)
        run_until_epoch(cluster, number)
    work(cluster)
    finish(cluster)
    assert [member.id for member in cluster.epoch().members] == [2, 3, 4, 5]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_removed_primary_hands_over(seed: int) -> None:
    cluster = Cluster(n=4, seed=seed, options=CALM)
    cluster.retry()
    primary = cluster.primary()
    cluster.change((primary, REMOVED))
    work(cluster, 5)
    run_until_epoch(cluster, 1)
    work(cluster)
    finish(cluster)
    assert cluster.primary() != primary


@pytest.mark.parametrize("seed", SEEDS)
def test_a_change_under_partition_waits_for_a_quorum(seed: int) -> None:
    """Cut in halves right after it was ordered, nobody changes; healed, all do."""
    cluster = Cluster(n=4, seed=seed, options=CALM)
    cluster.retry()
    cluster.change((3, REMOVED))
    cluster.run_for(4_000 + 1_000 * seed)
    cluster.network.cut([0, 1], [2, 3])
    work(cluster, 10)
    assert cluster.epoch().number == 0
    cluster.heal()
    run_until_epoch(cluster, 1)
    finish(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_primary_that_stalls_the_change_is_replaced(seed: int) -> None:
    """It dies once the change is ordered, and no batch waits: the boundary alone is work enough."""
    cluster = Cluster(n=4, seed=seed, options=CALM)
    cluster.change((2, cluster.key(2, rotated=True)))
    while not any(node.replica.boundary for node in cluster.live()):
        cluster.run_for(500)
    cluster.crash(cluster.primary())
    run_until_epoch(cluster, 1)
    assert cluster.counters()["replica.complaints"] > 0
    work(cluster, 5)
    finish(cluster)


@pytest.mark.parametrize("step_us", range(0, 24_000, 1_500))
def test_power_fails_at_every_step_around_the_boundary(step_us: int) -> None:
    """All replicas at once, twice; whatever was durable, nobody votes twice and the epoch starts."""
    cluster = Cluster(n=4, seed=step_us, options=replace(CALM, spares=1))
    cluster.retry()
    cluster.restart(4)
    cluster.change((1, REMOVED), (4, cluster.key(4)))
    for _ in range(2):
        cluster.run_for(6_000 + step_us)
        for node in cluster.nodes:
            cluster.crash(node.address)
        cluster.run_for(10_000)
        for node in cluster.nodes:
            cluster.restart(node.address)
    run_until_epoch(cluster, 1)
    work(cluster, 5)
    finish(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replica_that_slept_through_two_epochs_catches_up(seed: int) -> None:
    """All whom it knew voted for others meanwhile; each change proves the next."""
    cluster = Cluster(n=4, seed=seed, options=CALM)
    cluster.retry()
    cluster.crash(3)
    for number in (1, 2):
        cluster.restart(3 + number)
        cluster.change((number - 1, REMOVED), (3 + number, cluster.key(3 + number)))
        work(cluster)
        run_until_epoch(cluster, number)
    cluster.restart(3)
    work(cluster, 5)
    finish(cluster)
    assert cluster.honest[3].replica.replicas.epoch == 2
    assert cluster.counters()["replica.epochs_learnt"] > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_lossy_links_lose_no_change(seed: int) -> None:
    lossy = replace(CALM, network=NetworkOptions(loss_rate=0.2, duplicate_rate=0.3, replay_rate=0.1))
    cluster = Cluster(n=4, seed=seed, options=lossy)
    cluster.retry()
    cluster.restart(4)
    cluster.change((0, REMOVED), (4, cluster.key(4)))
    work(cluster, 30)
    cluster.heal()
    run_until_epoch(cluster, 1)
    finish(cluster)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("strategy", ["mutate", "replay", "forge", "flood", "equivocate"])
def test_a_liar_decides_nothing_after_its_removal(seed: int, strategy: str) -> None:
    """It goes on lying, with the only key it has; the new validators bear another liar besides."""
    cluster = Cluster(n=4, seed=seed, options=replace(CALM, strategies=(strategy,)))
    cluster.retry()
    (liar,) = cluster.byzantine
    cluster.restart(4)
    cluster.change((liar, REMOVED), (4, cluster.key(4)))
    work(cluster)
    run_until_epoch(cluster, 1)
    dead = next(node for node in cluster.live() if node.id != 4)
    cluster.crash(dead.address)
    work(cluster)
    finish(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_seven_validators_shrink_to_four_and_the_quorum_with_them(seed: int) -> None:
    """Nobody comes in place of those who leave; two of the four that are left do not decide."""
    cluster = Cluster(n=7, seed=seed, options=replace(CALM, n=7, spares=0))
    cluster.retry()
    for number, node_id in enumerate((0, 3, 6), 1):
        cluster.change((node_id, REMOVED))
        work(cluster, 5)
        run_until_epoch(cluster, number)
    assert [member.id for member in cluster.epoch().members] == [1, 2, 4, 5]
    cluster.crash(1)
    work(cluster, 5)
    finish(cluster)
    cluster.crash(2)
    height = max(cluster.checker.committed)
    work(cluster, 5)
    cluster.run_for(5 * SECOND_US)
    assert max(cluster.checker.committed) == height
    cluster.restart(1)
    finish(cluster)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("change", ["replace", "remove", "rotate"])
@pytest.mark.parametrize("twin_views", [0, 4])
def test_two_cores_under_one_key_fork_no_epoch(seed: int, change: str, twin_views: int) -> None:
    """A twin is replaced, removed or has another key; both cores go on, whatever they are then."""
    options = replace(CALM, strategies=("twins",), twin_views=twin_views, request_timeout_us=150_000)
    cluster = Cluster(n=4, seed=seed, options=options)
    cluster.retry()
    (twin,) = cluster.twins
    work(cluster, 5)
    cluster.restart(cluster.addresses(4)[0])
    changes = {
        "replace": [(twin, REMOVED), (4, cluster.key(4))],
        "remove": [(twin, REMOVED)],
        "rotate": [(twin, cluster.key(twin, rotated=True))],
    }
    cluster.change(*changes[change])
    work(cluster)
    cluster.heal()
    run_until_epoch(cluster, 1)
    work(cluster, 10)
    finish(cluster)
    assert (twin in cluster.checker.newest) == (change == "rotate")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_wedged_chain_stops_until_operators_resume_it(seed: int) -> None:
    cluster = Cluster(n=4, seed=seed, options=CALM)
    cluster.retry()
    work(cluster, 3)
    cluster.change()
    work(cluster, 30)
    cluster.run_for(5 * SECOND_US)
    heights = {node.app.height for node in cluster.live()}
    assert all(node.replica.wedged for node in cluster.live())
    assert heights == {node.replica.boundary for node in cluster.live()}
    views = cluster.view()
    cluster.submit()
    cluster.run_for(20 * SECOND_US)
    assert cluster.view() == views
    assert heights == {node.app.height for node in cluster.live()}
    cluster.resume_after(*heights)
    work(cluster, 5)
    finish(cluster)
    assert cluster.epoch().number == 0
