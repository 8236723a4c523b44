"""Named scenarios: one story each, over a few seeds. The seed in a test's name replays it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consensus.effects import Executed
from consensus.messages import Block
from consensus.simulator.app import ChainApp
from consensus.simulator.checks.violations import LivenessViolation
from consensus.simulator.cluster import Cluster, check_agreement
from consensus.simulator.options import STRATEGIES, DiskOptions, NetworkOptions, SimOptions
from consensus.simulator.scheduler import SECOND_US
from consensus.simulator.trial import find_excuse, run

SEEDS = range(5)
CALM = SimOptions()


def test_a_calm_cluster_needs_no_view_change() -> None:
    cluster = Cluster(n=4, seed=1)
    for _ in range(30):
        cluster.submit()
        cluster.run_for(20_000)
    cluster.run_until_quiet()
    check_agreement(cluster)
    assert cluster.view() == 0
    assert cluster.counters()["checker.committed"] >= 10


def test_an_idle_cluster_makes_no_blocks() -> None:
    cluster = Cluster(n=4, seed=1)
    cluster.run_for(30 * SECOND_US)
    assert all(node.app.height == 0 for node in cluster.honest)
    assert cluster.view() == 0


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_cluster_too_small_for_faults_still_works(n: int) -> None:
    cluster = Cluster(n=n, seed=1)
    cluster.submit(batches=5)
    cluster.run_until_quiet()
    check_agreement(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_cut_off_primary_loses_no_committed_batch(seed: int) -> None:
    """The primary is replaced and all replicas share one history."""
    cluster = Cluster(n=4, seed=seed)
    cluster.submit(batches=20)
    cluster.run_for(3_000)
    primary = cluster.primary()
    cluster.isolate(primary)
    cluster.run_until_quiet(among=[node for node in range(4) if node != primary])
    assert cluster.view() > 0
    cluster.heal()
    cluster.run_until_quiet()
    check_agreement(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_primary_comes_back_and_catches_up(seed: int) -> None:
    cluster = Cluster(n=4, seed=seed)
    cluster.submit(batches=10)
    cluster.run_for(2_500)
    dead = cluster.primary()
    cluster.crash(dead)
    for _ in range(60):
        cluster.submit()
        cluster.run_for(30_000)
    cluster.retry()
    cluster.run_until_quiet()
    cluster.restart(dead)
    cluster.run_until_quiet()
    check_agreement(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_power_failure_of_all_replicas_forgets_nothing(seed: int) -> None:
    """All crash at once, in the middle of everything, again and again."""
    cluster = Cluster(n=4, seed=seed)
    cluster.retry()
    for round_number in range(5):
        cluster.submit(batches=4)
        cluster.run_for(1_000 + 700 * round_number)
        for node in range(4):
            cluster.crash(node)
        cluster.run_for(50_000)
        for node in range(4):
            cluster.restart(node)
    cluster.run_until_quiet()
    check_agreement(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replica_cut_off_for_long_catches_up_without_a_view_change(seed: int) -> None:
    """Alone, it may complain as much as it likes; it cannot wedge itself or the others."""
    cluster = Cluster(n=4, seed=seed)
    cluster.isolate(3)
    for _ in range(100):
        cluster.submit(to=0)
        cluster.run_for(20_000)
    cluster.run_until_quiet(among=[0, 1, 2])
    cluster.run_for(5 * SECOND_US)
    cluster.heal()
    cluster.run_until_quiet()
    check_agreement(cluster)
    assert cluster.view() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_an_even_split_stops_and_resumes(seed: int) -> None:
    """Neither half has a quorum: nothing commits, and after healing everything does."""
    cluster = Cluster(n=4, seed=seed)
    cluster.network.cut([0, 1], [2, 3])
    cluster.submit(batches=8)
    cluster.run_for(10 * SECOND_US)
    assert not cluster.checker.committed
    cluster.heal()
    cluster.retry()
    cluster.run_until_quiet()
    check_agreement(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_primary_that_hears_but_is_not_heard_is_replaced(seed: int) -> None:
    cluster = Cluster(n=4, seed=seed)
    cluster.network.cut([0], [1, 2, 3], symmetric=False)
    cluster.submit(batches=8, to=2)
    cluster.run_until_quiet(among=[1, 2, 3])
    assert cluster.view() > 0
    cluster.heal()
    cluster.run_until_quiet()
    check_agreement(cluster)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_liar_among_four_neither_forks_nor_stops_the_rest(seed: int, strategy: str) -> None:
    options = replace(CALM, strategies=(strategy,))
    cluster = Cluster(n=4, seed=seed, options=options)
    cluster.retry()
    for _ in range(20):
        cluster.submit()
        cluster.run_for(50_000)
    cluster.run_until_quiet()
    check_agreement(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_very_lossy_network_still_gets_there_once_healed(seed: int) -> None:
    lossy = NetworkOptions(loss_rate=0.3, duplicate_rate=0.5, tail_rate=0.05, replay_rate=0.1)
    cluster = Cluster(n=4, seed=seed, options=replace(CALM, network=lossy))
    cluster.retry()
    cluster.submit(batches=20)
    cluster.run_for(5 * SECOND_US)
    cluster.heal()
    cluster.run_until_quiet()
    check_agreement(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replica_with_a_wrong_state_stops_voting_and_the_rest_goes_on(seed: int) -> None:
    """Its attestations contradict f+1 others, so it must say so and fall silent."""
    cluster = Cluster(n=4, seed=seed)
    broken = cluster.honest[2]
    cluster.distrust(broken.id)
    broken.app = _WrongApp(cluster.options.checkpoint_interval)
    cluster.retry()
    for _ in range(20):
        cluster.submit(to=0)
        cluster.run_for(20_000)
    cluster.run_until_quiet()
    check_agreement(cluster)
    assert broken.replica.diverged
    assert broken.counters["node.diverged"] == 1


class _WrongApp(ChainApp):
    """Goes wrong at block 3."""

    def apply(self, block: Block, payloads: Sequence[bytes]) -> Executed:
        result = super().apply(block, payloads)
        return replace(result, journal_root=bytes(32)) if block.seq >= 3 else result


def test_a_primary_whose_clock_is_far_off_is_replaced() -> None:
    """Voters refuse its block times, and its own clock keeps it from nothing else."""
    cluster = Cluster(n=4, seed=3)
    node = cluster.honest[0]
    node.timing = replace(node.timing, clock_skew_us=3600 * SECOND_US)
    cluster.submit(batches=5)
    cluster.run_until_quiet()
    check_agreement(cluster)
    assert cluster.view() > 0


def test_a_cluster_without_a_quorum_is_reported_as_stuck() -> None:
    cluster = Cluster(n=4, seed=1)
    cluster.crash(1)
    cluster.crash(2)
    cluster.submit(batches=2, to=0)
    with pytest.raises(LivenessViolation, match="lacks 2 batches"):
        cluster.run_until_quiet(limit_us=5 * SECOND_US)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replica_with_an_empty_disk_rejoins_and_nobody_loses_a_block(seed: int) -> None:
    """It forgot what it promised, so it is one of the f; the others stay agreed."""
    cluster = Cluster(n=4, seed=seed)
    cluster.retry()
    cluster.submit(batches=10)
    cluster.run_for(SECOND_US)
    assert cluster.may_wipe(2)
    cluster.wipe(2)
    assert not cluster.may_wipe(1) and cluster.nodes[2].disk.committed == 0
    cluster.submit(batches=10)
    cluster.run_for(SECOND_US)
    cluster.restart(2)
    cluster.run_until_quiet()
    check_agreement(cluster)
    assert len(cluster.live()) == 4


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("liars", [(), ("missync",)])
def test_a_replica_that_lost_everything_goes_on_from_a_state_that_others_serve(
    seed: int, liars: tuple[str, ...]
) -> None:
    """All blocks below the snapshots are gone, so nothing else helps; one of seven hands out wrong chunks."""
    options = replace(CALM, n=7, strategies=liars, transfer_gap=8)
    cluster = Cluster(n=7, seed=seed, options=options)
    cluster.retry()
    for _ in range(40):
        cluster.submit()
        cluster.run_for(100_000)
    cluster.run_until_quiet()
    for node in cluster.honest:
        assert node.disk.snapshot is not None
        node.disk.prune(node.disk.snapshot[1].height)
        cluster.crash(node.address)
    for node in cluster.honest:
        cluster.restart(node.address)
    cluster.run_until_quiet()
    victim = cluster.honest[seed % len(cluster.honest)]
    cluster.wipe(victim.address)
    cluster.restart(victim.address)
    assert victim.disk.committed == 0
    cluster.submit(batches=3, to=next(node.address for node in cluster.honest if node is not victim))
    cluster.run_until_quiet()
    check_agreement(cluster)
    assert victim.disk.oldest > 1 and cluster.counters()["checker.states_swapped"] == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healed_node_runs_the_blocks_that_it_stored_above_the_state_it_fetched(seed: int) -> None:
    """Nothing new is ordered meanwhile: what runs is on its own disk."""
    cluster = Cluster(n=4, seed=seed)
    cluster.retry()
    while cluster.honest[0].disk.snapshot is None or cluster.honest[0].app.height % 8 != 3:
        cluster.submit(to=0)
        cluster.run_for(100_000)
    cluster.run_until_quiet()
    node, height = cluster.honest[2], cluster.honest[0].app.height
    cluster.crash(2)
    node.plan_heal()
    cluster.restart(2)
    assert node.app.height == 0
    cluster.run_until_quiet()
    check_agreement(cluster)
    assert node.app.height == height
    assert node.counters["node.stored_blocks_run"] == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_payloads_that_a_skipped_block_holds_are_let_go_by_who_fetched_a_state(seed: int) -> None:
    """It was cut off while batches that it held were ordered; then it goes on from a state instead."""
    cluster = Cluster(n=4, seed=seed, options=replace(CALM, transfer_gap=4, catch_up_blocks=1))
    cluster.retry()
    cluster.submit(batches=3, to=0)
    cluster.run_for(1_000)
    cluster.isolate(3)
    held = set(cluster.nodes[3].pool)
    for _ in range(60):
        cluster.submit(to=0)
        cluster.run_for(50_000)
    for node in cluster.nodes[:3]:
        assert node.disk.snapshot is not None
        node.disk.prune(node.disk.snapshot[1].height)
        cluster.crash(node.address)
        cluster.restart(node.address)
    cluster.heal()
    cluster.submit(batches=2, to=1)
    cluster.run_until_quiet()
    check_agreement(cluster)
    assert held and not held & set(cluster.nodes[3].pool)
    assert cluster.nodes[3].counters["node.batches_forgotten"] == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bad_disk_stops_its_node_loudly_and_nothing_wrong_leaves_it(seed: int) -> None:
    disk = DiskOptions(bad_disks=1, read_fault_rate=0.05, write_fault_rate=0.1, misdirect_rate=0.1)
    cluster = Cluster(n=4, seed=seed, options=replace(CALM, disk=disk))
    cluster.retry()
    for _ in range(10):
        cluster.submit(batches=2)
        cluster.run_for(300_000)
        for address in range(4):
            cluster.crash(address)
            cluster.restart(address)
    cluster.heal()
    cluster.run_until_quiet()
    check_agreement(cluster)
    counters = cluster.counters()
    assert counters["node.stopped_by_disk"] > 0
    assert len(cluster.faulty) == 1


@pytest.mark.parametrize("views", [2, 6, 12])
@pytest.mark.parametrize("seed", SEEDS)
def test_twins_on_a_schedule_of_leaders_and_partitions_cannot_fork_the_rest(seed: int, views: int) -> None:
    options = replace(CALM, strategies=("twins",), twin_views=views, request_timeout_us=150_000)
    assert run(seed, 4, options).failure == ""


def test_more_deaths_than_f_are_a_missing_quorum_and_no_failure_of_the_code() -> None:
    result = run(3, 4, replace(CALM, leave_dead=2))
    assert result.failure == "" and result.counters["liveness.missing_quorum"] == 1


def test_a_block_that_no_disk_holds_any_more_is_missing_data() -> None:
    cluster = Cluster(n=4, seed=1)
    cluster.isolate(3)
    cluster.submit(batches=3, to=0)
    cluster.run_for(2 * SECOND_US)
    assert find_excuse(cluster) == ""
    for address in (0, 1, 2):
        cluster.nodes[address].wipe()
    assert find_excuse(cluster) == "missing data"
    cluster.lost.update((0, 1))
    assert find_excuse(cluster) == "missing quorum"
