"""The schedule of a Twins scenario: leaders, and who hears whom in each phase of each view."""

from itertools import product
from random import Random

from consensus.messages import Block, Commit, FetchBlocks, Message, Prepare, PrePrepare
from consensus.simulator.cluster import Cluster
from consensus.simulator.options import SimOptions
from consensus.simulator.scheduler import Scheduler
from consensus.simulator.twins import Schedule, ScheduledReplicas, Sides

ADDRESSES = 5


def heard(schedule: Schedule, message: Message) -> list[bool]:
    return [schedule.allows(a, b, message) for a, b in product(range(ADDRESSES), repeat=2)]


def messages(view: int) -> list[Message]:
    name, none = bytes(32), b""
    return [
        PrePrepare(view, Block(1, 1, (name,)), none),
        Prepare(view, 1, name, 0, none),
        Commit(view, 1, name, 0, none),
    ]


def test_each_phase_of_each_view_has_a_partition_of_its_own_that_stays() -> None:
    differing = 0
    for seed in range(30):
        schedule = Schedule(Random(seed), ADDRESSES, views=3)
        parts = [heard(schedule, message) for view in range(3) for message in messages(view)]
        assert parts == [heard(schedule, message) for view in range(3) for message in messages(view)]
        differing += len({tuple(part) for part in parts}) > 3
    assert differing > 20


def test_views_after_the_schedule_are_whole_and_so_is_everything_once_healed() -> None:
    schedule = Schedule(Random(4), ADDRESSES, views=3)
    schedule.repairs = False
    assert all(all(heard(schedule, message)) for message in messages(3))
    assert any(not all(heard(schedule, message)) for view in range(3) for message in messages(view))
    schedule.whole = True
    assert all(all(heard(schedule, message)) for view in range(3) for message in messages(view))


def test_repair_is_parted_like_the_latest_view_spoken_of() -> None:
    partings = 0
    for seed in range(20):
        schedule = Schedule(Random(seed), ADDRESSES, views=2)
        schedule.repairs = False
        partings += not all(heard(schedule, FetchBlocks(1, 2)))
        schedule.allows(0, 1, messages(2)[0])
        assert all(heard(schedule, FetchBlocks(1, 2)))
    assert partings > 5


def test_leaders_follow_the_schedule_and_then_the_rule() -> None:
    cluster = Cluster(n=4, seed=5, options=SimOptions(strategies=("twins",), twin_views=3))
    replicas = cluster.replicas
    assert isinstance(replicas, ScheduledReplicas) and len(replicas.leaders) == 3
    assert [replicas.primary(view) for view in range(3)] == list(replicas.leaders)
    assert [replicas.primary(view) for view in range(3, 8)] == [3, 0, 1, 2, 3]


def test_one_twin_of_two_is_heard_by_each_other_replica() -> None:
    sides = Sides(Random(1), Scheduler(), {2: 4}, ADDRESSES)
    for other in (0, 1, 3):
        assert sides.allows(2, other, FetchBlocks(1, 1)) != sides.allows(4, other, FetchBlocks(1, 1))
        assert sides.allows(2, other, FetchBlocks(1, 1)) == sides.allows(other, 2, FetchBlocks(1, 1))
    assert sides.allows(0, 1, FetchBlocks(1, 1))


def test_twins_share_an_id_and_a_key_but_no_address() -> None:
    cluster = Cluster(n=4, seed=5, options=SimOptions(strategies=("twins",)))
    (twin,) = cluster.byzantine
    assert [node.id for node in cluster.nodes] == [0, 1, 2, 3, twin]
    assert [node.address for node in cluster.nodes] == [0, 1, 2, 3, 4]
    assert len(cluster.honest) == 3
