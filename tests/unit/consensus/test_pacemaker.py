"""Deadlines: who gives up on a primary, when, and what clears it."""

from dataclasses import replace
from itertools import pairwise

import pytest

from consensus.effects import SendBatches, SetTimer
from consensus.messages import Complain, Message, PrePrepare
from consensus.pacemaker import COMPLAINT_LIFE
from consensus.replica import ReplicaConfig
from tests.helpers.group import CONFIG, Group
from tests.helpers.votes import make_block, name_of

TIMEOUT_US = CONFIG.request_timeout_us


def test_a_backup_reminds_the_primary_before_it_complains() -> None:
    """The primary never got the batch: no reason to depose it."""
    group = Group()
    group.submit(1, to=(1,))
    group.wait(TIMEOUT_US * 3)
    assert group.heights() == [1] * 4
    assert group.views() == [0] * 4
    assert next(e.to for e in group.seats[1].of(SendBatches)) == 0  # type: ignore[attr-defined]
    assert not group.seats[1].said(Complain)


def test_pending_work_without_progress_leads_to_a_complaint() -> None:
    group = Group()
    group.isolate(0, 1, 2, 3)
    group.submit(1)
    group.wait(TIMEOUT_US - 1)
    assert not group.seats[1].said(Complain)
    group.wait(TIMEOUT_US // 2)
    assert group.seats[1].said(Complain)
    assert not group.seats[0].said(Complain), "a primary has nobody to complain about"


def test_a_proposal_that_never_commits_is_work_too() -> None:
    """After a restart nobody remembers the client's batch, only the vote for it."""
    group = Group()
    group.isolate(0, 1, 2, 3)
    group.deliver(1, group.voters.pre_prepare(0, make_block(1, 1)), sender=0)
    group.wait(2 * TIMEOUT_US)
    assert group.seats[1].said(Complain)


def test_stray_votes_are_no_work() -> None:
    """Or one liar could depose every primary by voting for a place far ahead."""
    group = Group()
    group.isolate(0, 1, 2, 3)
    group.deliver(1, group.voters.prepare(3, 0, make_block(8, 1)))
    group.wait(20 * TIMEOUT_US)
    assert not group.seats[1].said(Complain)


def test_an_ignored_batch_runs_out_of_patience_whatever_else_progresses() -> None:
    """The primary serves everybody but one client."""
    group = Group(config=replace(CONFIG, patience_us=2_000_000))
    censored = name_of(0)

    def drops(sender: int, to: int, m: Message) -> bool:
        payload = getattr(m, "payload", None)
        return to == 0 and payload == censored

    group.drops = drops
    group.submit(0, to=(1, 2, 3))
    for number in range(1, 40):
        group.submit(number)
        group.wait(TIMEOUT_US // 4)
    group.wait(4_000_000)
    assert min(group.views()) >= 1
    listed = {name for block in group.seats[1].executed for name in block.batches}
    assert censored in listed


def test_progress_postpones_the_complaint_about_the_rest() -> None:
    """A queue under load is no reason to depose an honest primary."""
    group = Group(config=replace(CONFIG, block_orders_max=1, in_flight_max=1))
    for number in range(30):
        group.submit(number)
        group.wait(TIMEOUT_US // 8)
    assert group.views() == [0] * 4
    assert not any(seat.said(Complain) for seat in group.seats)


def test_execution_clears_the_deadline() -> None:
    group = Group()
    group.submit(1)
    group.wait(100 * TIMEOUT_US)
    assert not any(seat.said(Complain) for seat in group.seats)
    assert group.heights() == [1] * 4


def test_views_that_bring_nothing_double_the_wait() -> None:
    """All primaries drop their proposals; every view lasts twice as long as the one before."""
    group = Group(config=replace(CONFIG, timeout_doublings_max=4))
    group.drops = lambda sender, to, m: isinstance(m, PrePrepare)
    group.submit(1)
    starts: list[int] = []
    seen = 0
    for _ in range(400):
        group.wait(TIMEOUT_US // 10)
        if group[3].view > seen:
            seen = group[3].view
            starts.append(group.now_us)
    lengths = [second - first for first, second in pairwise(starts)]
    assert len(lengths) >= 3
    assert all(later > 1.5 * earlier for earlier, later in pairwise(lengths[:3]))
    group.heal()
    group.wait(200 * TIMEOUT_US)
    group.check_agreement()
    assert min(group.heights()) >= 1


def test_the_new_primary_gets_its_time_once_n_minus_f_view_changes_are_held() -> None:
    """Not before: else replicas run ahead of those who have not left yet (Sawtooth #133)."""
    group = Group()
    group.isolate(0, 1, 2, 3)
    voters = group.voters
    seat = group.seats[2]
    group.deliver(2, voters.view_change(0, 1, complaints=voters.complaints(0)))
    assert "new-view" not in seat.timers
    group.deliver(2, voters.view_change(3, 1))
    assert "new-view" in seat.timers
    group.deliver(2, voters.new_view(1, [voters.view_change(replica, 1) for replica in (0, 1, 3)]))
    assert "new-view" not in seat.timers


def test_a_new_primary_that_stays_silent_is_complained_about() -> None:
    group = Group()
    group.isolate(0, 1, 2, 3)
    voters = group.voters
    group.deliver(2, voters.view_change(0, 1, complaints=voters.complaints(0)))
    group.deliver(2, voters.view_change(3, 1))
    group.wait(3 * CONFIG.view_timeout_us)
    complaints = group.seats[2].said(Complain)
    assert {m.view for m in complaints} == {1}  # type: ignore[attr-defined]
    assert (group[2].view, group[2].active) == (1, False), "one complaint moves nobody"


def test_a_replica_that_knows_it_is_behind_has_itself_to_blame() -> None:
    group = Group()
    group.isolate(3)
    for number in range(12):
        group.submit(number, to=(0, 1, 2))
        group.run()
    for replica in (0, 1, 2):
        status = group[replica]._catch_up.status(asks=False)
        group.deliver(3, status, sender=replica)
    group.submit(99, to=(3,))
    group.wait(3 * TIMEOUT_US)
    assert not group.seats[3].said(Complain)


def test_a_clock_that_jumps_back_does_not_silence_a_replica() -> None:
    group = Group()
    group.isolate(0, 1, 2, 3)
    group.submit(1)
    group.run()
    group.now_us -= 3_600_000_000
    for seat in group.seats:
        seat.timers = {name: at - 3_600_000_000 for name, at in seat.timers.items()}
    group.wait(4 * TIMEOUT_US)
    assert group.seats[1].said(Complain)


@pytest.mark.parametrize("field", ["window", "request_timeout_us", "stash_max"])
def test_settings_below_one_are_refused(field: str) -> None:
    with pytest.raises(Exception, match=field):
        ReplicaConfig(**{field: 0})


def test_an_idle_replica_sets_no_timer() -> None:
    group = Group()
    group.wait(10_000_000)
    for seat in group.seats:
        seat.effects.clear()
    group.wait(100_000_000)
    assert not any(seat.of(SetTimer) for seat in group.seats)


@pytest.mark.parametrize(("sender", "is_fresh"), [(3, False), (2, True)])
def test_only_its_author_refreshes_a_complaint(sender: int, is_fresh: bool) -> None:
    """Or one liar keeps old complaints alive until they meet enough new ones."""
    group = Group()
    group.isolate(0, 1, 2, 3)
    old = group.voters.complaints(0)
    own, other = (next(m for m in old if m.replica == replica) for replica in (1, 2))
    group.deliver(0, other, sender=2)
    for _ in range(COMPLAINT_LIFE + 1):
        group.wait(TIMEOUT_US)
        group.deliver(0, other, sender=sender)
    group.deliver(0, own, sender=1)
    assert bool(group.seats[0].said(Complain)) == is_fresh


def test_a_complaint_that_another_replica_hands_on_counts_once() -> None:
    group = Group()
    group.isolate(0, 1, 2, 3)
    for m in group.voters.complaints(0):
        if m.replica in (1, 2):
            group.deliver(0, m, sender=3)
    assert group.seats[0].said(Complain)
