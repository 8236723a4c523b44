"""The normal case, and what a backup refuses in it."""

from dataclasses import replace

import pytest

from consensus.effects import BatchReady, Execute, StoreBatches, StoreBlock, TimerFired
from consensus.messages import Attest, Block, Commit, FetchBatches, Prepare, PrePrepare
from consensus.replica import ReplicaConfig
from tests.helpers.group import CONFIG, Group
from tests.helpers.votes import TIME_MS, make_block, name_of


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 10])
def test_every_size_of_group_agrees_and_executes(n: int) -> None:
    group = Group(n)
    group.submit(*range(20))
    group.wait(50_000)
    assert min(group.heights()) == max(group.heights()) >= 5
    group.check_agreement()
    listed = [name for block in group.seats[0].executed for name in block.batches]
    assert sorted(listed) == sorted(name_of(k) for k in range(20))


def test_what_waits_goes_into_one_block() -> None:
    """The pipeline fills with small blocks first; whatever comes meanwhile shares the next."""
    group = Group(config=replace(CONFIG, in_flight_max=2))
    for seat in group.seats:
        group.hold(seat.id, *range(10))
    group.wait(50_000)
    assert [len(block.batches) for block in group.seats[1].executed] == [1, 1, 8]


def test_an_idle_group_proposes_nothing_and_falls_silent() -> None:
    group = Group()
    group.submit(1)
    group.wait(60_000_000)
    before = [len(seat.effects) for seat in group.seats]
    group.wait(600_000_000)
    assert group.heights() == [1] * 4
    assert [len(seat.effects) for seat in group.seats] == before
    assert not any(seat.timers for seat in group.seats)


def backup(n: int = 4, config: ReplicaConfig = CONFIG) -> Group:
    """Replica 1 of view 0, alone at the table: nobody else hears or speaks."""
    group = Group(n, config)
    group.isolate(*range(n))
    group.seats[1].effects.clear()
    return group


def test_a_backup_prepares_only_what_it_holds() -> None:
    group = backup()
    group.deliver(1, group.voters.proposal(0, make_block(1, 1, 2)), sender=0)
    group.hold(1, 1)
    assert not group.seats[1].said(Prepare)
    group.hold(1, 2)
    assert len(group.seats[1].said(Prepare)) == 1
    stored = [e.digests for e in group.seats[1].effects if isinstance(e, StoreBatches)]
    assert stored == [(name_of(1), name_of(2))]


def test_a_missing_payload_is_fetched_after_a_moment_and_from_others_in_turn() -> None:
    group = backup()
    group.deliver(1, group.voters.pre_prepare(0, make_block(1, 1)), sender=0)
    assert not group.seats[1].said(FetchBatches)
    group.wait(2_000_000)
    fetches = [
        e.to
        for e in group.seats[1].effects
        if type(e).__name__ == "Send" and isinstance(e.message, FetchBatches)
    ]
    assert fetches[:3] == [0, 2, 3]


def test_a_commit_follows_q_equal_votes_and_delivery_q_commits() -> None:
    group = backup()
    voters, block = group.voters, make_block(1, 1)
    group.hold(1, 1)
    group.deliver(1, voters.pre_prepare(0, block), sender=0)
    assert not group.seats[1].said(Commit)
    group.deliver(1, voters.prepare(2, 0, block))
    assert len(group.seats[1].said(Commit)) == 1, "proposal, own vote and one more are q = 3"
    group.deliver(1, voters.commit(2, 0, block))
    assert not group.seats[1].of(Execute)
    group.deliver(1, voters.commit(3, 0, block))
    assert [e.block for e in group.seats[1].of(Execute)] == [block]  # type: ignore[attr-defined]
    assert len(group.seats[1].of(StoreBlock)) == 1


def test_votes_may_come_before_the_proposal() -> None:
    group = backup()
    voters, block = group.voters, make_block(1, 1)
    for replica in (2, 3):
        group.deliver(1, voters.prepare(replica, 0, block))
        group.deliver(1, voters.commit(replica, 0, block))
    group.hold(1, 1)
    group.deliver(1, voters.pre_prepare(0, block), sender=3)
    assert [e.block for e in group.seats[1].of(Execute)] == [block]  # type: ignore[attr-defined]


def test_votes_for_different_digests_do_not_add_up() -> None:
    group = backup()
    voters, block = group.voters, make_block(1, 1)
    group.hold(1, 1)
    group.deliver(1, voters.pre_prepare(0, block), sender=0)
    for replica in (2, 3):
        group.deliver(1, voters.prepare(replica, 0, make_block(1, 2)))
        group.deliver(1, voters.commit(replica, 0, make_block(1, 2)))
    assert not group.seats[1].said(Commit)
    assert not group.seats[1].of(Execute)


def test_one_voter_counts_once_however_often_it_speaks() -> None:
    group = backup(n=7)
    voters, block = group.voters, make_block(1, 1)
    group.hold(1, 1)
    group.deliver(1, voters.pre_prepare(0, block), sender=0)
    for _ in range(5):
        group.deliver(1, voters.prepare(2, 0, block))
    assert not group.seats[1].said(Commit)


def test_two_proposals_for_one_place_are_evidence_and_the_first_stands() -> None:
    group = backup()
    voters = group.voters
    first, second = voters.pre_prepare(0, make_block(1, 1)), voters.pre_prepare(0, make_block(1, 2))
    group.hold(1, 1, 2)
    group.deliver(1, first, sender=0)
    group.deliver(1, second, sender=2)
    assert len(group.seats[1].said(Prepare)) == 1
    assert group.seats[1].blames() == [(0, "equivocation")], "the signer is to blame, not who passed it on"
    assert group.seats[1].effects[-1].evidence == (first, second)  # type: ignore[union-attr]


def test_two_votes_of_one_replica_are_evidence() -> None:
    group = backup()
    first = group.voters.prepare(2, 0, make_block(1, 1))
    second = group.voters.prepare(2, 0, make_block(1, 2))
    group.deliver(1, first)
    group.deliver(1, second)
    assert group.seats[1].blames() == [(2, "equivocation")]


def refused_messages() -> list[tuple[str, str]]:
    return [
        ("forged", "bad-signature"),
        ("impostor", "bad-signature"),
        ("empty", "empty-block"),
        ("primary prepares", "primary-prepare"),
        ("forged prepare", "bad-signature"),
        ("stranger", "unknown-replica"),
        ("forged commit", "bad-signature"),
    ]


@pytest.mark.parametrize(("what", "code"), refused_messages())
def test_a_backup_refuses_and_blames_the_sender(what: str, code: str) -> None:
    group = backup()
    voters, block = group.voters, make_block(1, 1)
    group.hold(1, 1)
    message = {
        "forged": PrePrepare(0, block, bytes(64)),
        "impostor": voters.pre_prepare(0, block, replica=2),
        "empty": voters.pre_prepare(0, Block(1, TIME_MS, ())),
        "primary prepares": voters.prepare(0, 0, block),
        "forged prepare": replace(voters.prepare(2, 0, block), replica=3),
        "stranger": replace(voters.prepare(2, 0, block), replica=17),
        "forged commit": replace(voters.commit(2, 0, block), digest=make_block(1, 2).digest),
    }[what]
    group.deliver(1, message, sender=3)
    assert group.seats[1].blames() == [(3, code)]
    assert not group.seats[1].said(Prepare)


def test_a_message_in_its_own_name_is_ignored() -> None:
    group = backup()
    group.deliver(1, group.voters.prepare(2, 0, make_block(1, 1)), sender=1)
    assert not group.seats[1].effects


@pytest.mark.parametrize("seq", [0, 9, 2**62])
def test_no_vote_outside_the_window(seq: int) -> None:
    group = backup()
    group.hold(1, 1)
    group.deliver(1, group.voters.pre_prepare(0, make_block(seq, 1)), sender=0)
    assert not group.seats[1].said(Prepare)


def test_an_early_message_is_kept_until_the_window_reaches_it() -> None:
    """Watermarks move at different times: what is early here was on time there (Fabric #1119)."""
    group = Group()
    group.submit(*range(3))
    group.run()
    early = group.voters.pre_prepare(0, make_block(9, 77))
    group.deliver(3, early, sender=0)
    assert group[3].counters["stashed"] == 1
    group.hold(3, 77)
    for number in range(10, 16):
        group.submit(number)
        group.run()
    assert any(m.seq == 9 and m.digest == early.block.digest for m in group.seats[3].said(Prepare))  # type: ignore[attr-defined]


def test_the_stash_is_bounded() -> None:
    group = backup(config=replace(CONFIG, stash_max=5))
    for seq in range(100, 200):
        group.deliver(1, group.voters.prepare(2, 0, make_block(seq, 1)))
    assert group[1].counters["stashed"] == 100
    assert len(group[1]._ordering.stash) == 5


def test_a_block_beyond_the_limits_is_never_voted_for() -> None:
    group = backup(config=replace(CONFIG, block_orders_max=2))
    group.hold(1, 1, 2, 3)
    group.deliver(1, group.voters.proposal(0, make_block(1, 1, 2, 3)), sender=0)
    assert group.seats[1].blames() == [(0, "oversized-block")]
    group.deliver(1, group.voters.prepare(2, 0, make_block(1, 1, 2, 3)))
    assert not group.seats[1].said(Prepare)


@pytest.mark.parametrize("offset_ms", [-6000, 6000])
def test_a_wrong_clock_waits_for_an_honest_one(offset_ms: int) -> None:
    group = backup()
    group.hold(1, 1)
    block = Block(1, TIME_MS + offset_ms, (name_of(1),))
    group.deliver(1, group.voters.pre_prepare(0, block), sender=0)
    assert not group.seats[1].said(Prepare)
    group.deliver(1, group.voters.prepare(2, 0, block))
    assert not group.seats[1].said(Prepare), "one of f+1 voters is honest, but one alone may lie"
    group.deliver(1, group.voters.prepare(3, 0, block))
    assert len(group.seats[1].said(Prepare)) == 1


def test_a_primary_keeps_to_its_pipeline_and_window() -> None:
    group = Group(config=replace(CONFIG, in_flight_max=3))
    group.isolate(0)
    for number in range(20):
        group.submit(number, to=(0,))
        group.run()
    assert len(group.seats[0].said(PrePrepare)) == 3


def test_a_primary_waits_for_its_own_executor() -> None:
    group = Group(n=1, config=replace(CONFIG, unexecuted_max=2))
    seat = group.seats[0]
    seat.effects.clear()
    for number in range(5):
        seat.pool.add(name_of(number))
        effects = seat.replica.step(BatchReady(name_of(number), 1, 100, 0), group.now_us)
        seat.effects += effects
    assert len(seat.of(Execute)) == 2, "results never came, so nothing more was proposed"


def test_block_times_never_go_back_at_one_primary() -> None:
    group = Group()
    group.submit(1)
    group.run()
    group.now_us -= 3_000_000
    group.submit(2)
    group.run()
    times = [block.time_ms for block in group.seats[2].executed]
    assert times == sorted(times)
    assert len(times) == 2


def test_a_late_copy_of_a_delivered_batch_is_not_proposed_again() -> None:
    group = Group()
    group.submit(1)
    group.run()
    group.submit(1)
    group.run()
    assert group.heights() == [1] * 4


def test_an_unknown_timer_changes_nothing() -> None:
    group = Group()
    before = len(group.seats[0].effects)
    group.feed(0, TimerFired("tea"))
    assert len(group.seats[0].effects) == before


def test_a_primary_waits_for_replicas_that_lag() -> None:
    """A quorum's word for what it executed bounds how far the rest may run ahead."""
    group = Group(config=replace(CONFIG, lag_max=2))
    group.drops = lambda sender, to, message: to == 0 and sender in (2, 3) and isinstance(message, Attest)
    group.submit(*range(3))
    group.run()
    assert group.seats[0].replica._ordering.next_seq == 3
    group.heal()
    group.wait(1_000_000)
    assert sum(len(block.batches) for block in group.seats[0].executed) == 3
    assert group.views() == [0] * 4


def test_a_primary_whose_clock_was_ahead_proposes_the_present_again() -> None:
    """Else no voter would take its blocks until the world has caught up."""
    group = Group()
    group.now_us += 3600 * 1_000_000
    group.submit(1)
    group.run()
    group.now_us -= 3600 * 1_000_000
    group.submit(2)
    group.run()
    times = [block.time_ms for block in group.seats[1].executed]
    assert len(times) == 2 and times[1] - TIME_MS < 1000 < times[0] - TIME_MS


def test_a_payload_is_fetched_again_although_the_clock_jumped_back() -> None:
    group = backup()
    group.now_us += 3600 * 1_000_000
    group.deliver(1, group.voters.proposal(0, make_block(1, 1)), sender=0)
    group.feed(1, TimerFired("fetch"))
    group.now_us -= 3600 * 1_000_000
    asked = len(group.seats[1].said(FetchBatches))
    group.feed(1, TimerFired("fetch"))
    assert len(group.seats[1].said(FetchBatches)) == asked + 1
