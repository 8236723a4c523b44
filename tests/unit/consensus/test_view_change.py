"""Leaving a view and starting the next: nothing committed is lost, nothing unproven is believed."""

from dataclasses import replace

import pytest

from consensus.effects import Blame
from consensus.messages import Block, CommitCert, Complain, Message, NewView, Prepare, PrePrepare, ViewChange
from consensus.primitives.crypto import digest
from tests.helpers.group import Group
from tests.helpers.votes import make_block, name_of

ROOT, STATE = digest("test.root"), digest("test.state")


@pytest.mark.parametrize("n", [4, 5, 7, 10])
def test_a_dead_primary_is_replaced_and_work_goes_on(n: int) -> None:
    group = Group(n)
    group.submit(1, 2)
    group.run()
    group.crash(0)
    group.submit(3, 4)
    group.wait(3_000_000)
    assert group.heights()[1:] == [group.heights()[1]] * (n - 1)
    assert group.heights()[1] > group.heights()[0]
    assert group.views()[1:] == [1] * (n - 1)
    group.check_agreement()


def test_two_dead_primaries_in_a_row_are_passed_over() -> None:
    group = Group(7)
    group.crash(0)
    group.crash(1)
    group.submit(1)
    group.wait(10_000_000)
    assert group.heights()[2:] == [1] * 5
    assert group.views()[2:] == [2] * 5


@pytest.mark.parametrize("n", [1, 2, 3])
def test_groups_without_faults_to_spare_change_views_too(n: int) -> None:
    group = Group(n)
    for seat in group.seats:
        for replica in range(group.voters.replicas.collect):
            if replica != seat.id:
                group.deliver(seat.id, group.voters.complain(replica, 0), sender=(seat.id + 1) % n)
    if n == 1:
        group[0]._view_changes.leave(1, ())
        group[0]._settle()
        group._carry_out(group.seats[0], group[0]._state.take_effects())
    group.run()
    group.submit(1)
    group.wait(5_000_000)
    assert group.heights() == [1] * n
    assert min(group.views()) >= 1


def commit_at_one_only(group: Group, loner: int) -> None:
    """Block 1 commits at `loner`; commits to everybody else get lost, then the primary dies."""
    group.drops = lambda sender, to, m: type(m).__name__ == "Commit" and to != loner
    group.submit(1)
    group.run()
    assert group.heights() == [1 if seat.id == loner else 0 for seat in group.seats]


def test_what_one_replica_executed_survives_the_view_change() -> None:
    """The lock: q replicas prepared it, so every n−f of them hold its certificate."""
    group = Group()
    commit_at_one_only(group, loner=0)
    group.heal()
    group.crash(0)
    group.submit(2)
    group.wait(3_000_000)
    group.check_agreement()
    assert group.heights() == [1, 2, 2, 2]
    assert group.seats[1].executed[0] == group.seats[0].executed[0]


def test_a_replica_that_executed_votes_again_but_never_runs_a_block_twice() -> None:
    group = Group()
    commit_at_one_only(group, loner=2)
    group.heal()
    group.crash(0)
    group.submit(2)
    group.wait(3_000_000)
    group.check_agreement()
    assert group.heights()[1:] == [2, 2, 2]
    again = [m for m in group.seats[2].said(Prepare) if m.view > 0 and m.seq == 1]  # type: ignore[attr-defined]
    assert again


def test_a_gap_before_a_prepared_block_is_filled_with_a_null_block() -> None:
    """Block 1 reaches nobody, block 2 everybody."""
    group = Group()
    group.drops = lambda sender, to, m: isinstance(m, PrePrepare) and m.block.seq == 1
    group.submit(1)
    group.run()
    group.submit(2)
    group.run()
    assert group.heights() == [0] * 4
    group.crash(0)
    group.heal()
    group.submit(3)
    group.wait(3_000_000)
    group.check_agreement()
    executed = group.seats[1].executed
    assert executed[0] == Block.null(1)
    assert executed[1].batches == (name_of(2),)
    assert {name for block in executed for name in block.batches} == {name_of(k) for k in (1, 2, 3)}
    assert group[1].counters["null_fills"] == 1
    assert group[1].counters["reproposals"] == 1


def test_a_lock_outlives_views_that_skipped_it() -> None:
    """The certificate of the highest view ever held is carried on, even past a view without it."""
    group = Group()
    voters, block = group.voters, make_block(1, 1)
    group.isolate(0, 1, 2, 3)
    group.hold(3, 1)
    group.deliver(3, voters.pre_prepare(0, block), sender=0)
    group.deliver(3, voters.prepare(2, 0, block))
    empty = [voters.view_change(replica, 1) for replica in (0, 1, 2)]
    group.deliver(3, voters.new_view(1, empty))
    assert (group[3].view, group[3].active) == (1, True)
    for replica in (0, 1, 2):
        group.deliver(3, voters.complain(replica, 1))
    change = group.seats[3].said(ViewChange)[-1]
    assert isinstance(change, ViewChange)
    assert [(cert.proposal.view, cert.proposal.block) for cert in change.prepared] == [(0, block)]


# Two steps


def test_one_replica_that_hears_nobody_complains_and_stays() -> None:
    group = Group()
    group.isolate(3)
    group.submit(1)
    group.wait(10_000_000)
    assert group.heights() == [1, 1, 1, 0]
    assert group.views() == [0] * 4
    assert group.seats[3].said(Complain)
    group.heal()
    group.wait(10_000_000)
    assert group.heights() == [1] * 4
    assert group.views() == [0] * 4, "it caught up by certificates; nobody else noticed"


def alone(replica_id: int = 2, n: int = 4) -> Group:
    group = Group(n)
    group.isolate(*range(n))
    group.seats[replica_id].effects.clear()
    return group


def test_f_plus_one_complaints_are_echoed_and_n_minus_f_end_the_view() -> None:
    group = alone()
    group.deliver(2, group.voters.complain(0, 0))
    assert not group.seats[2].said(Complain)
    group.deliver(2, group.voters.complain(3, 0))
    assert len(group.seats[2].said(Complain)) == 1
    assert (group[2].view, group[2].active) == (1, False), "with our own they are n−f"
    (change,) = group.seats[2].said(ViewChange)
    assert isinstance(change, ViewChange)
    assert [m.replica for m in change.complaints] == [0, 2, 3]


def test_forged_and_repeated_complaints_do_not_count() -> None:
    group = alone()
    for _ in range(5):
        group.deliver(2, group.voters.complain(0, 0))
    group.deliver(2, replace(group.voters.complain(0, 0), replica=3))
    assert group.seats[2].blames() == [(3, "bad-signature")]
    assert not group.seats[2].said(Complain)


def test_complaints_grow_old() -> None:
    """Three replicas that were cut off for a moment, hours apart, do not depose a primary."""
    group = alone()
    group.deliver(2, group.voters.complain(0, 0))
    group.now_us += 3_600_000_000
    group.deliver(2, group.voters.complain(3, 0))
    assert not group.seats[2].said(Complain)


def test_f_plus_one_view_changes_are_joined_at_the_smallest() -> None:
    group = alone(n=7)
    for replica, view in ((0, 9), (1, 5)):
        group.deliver(2, group.voters.view_change(replica, view))
    assert group[2].view == 0
    group.deliver(2, group.voters.view_change(3, 7))
    assert (group[2].view, group[2].active) == (5, False)


def test_proven_complaints_take_everybody_along() -> None:
    group = alone()
    group.deliver(2, group.voters.view_change(0, 1, complaints=group.voters.complaints(0)))
    assert (group[2].view, group[2].active) == (1, False)


def test_a_view_change_with_rubbish_inside_is_refused_whole() -> None:
    group = alone()
    bad = group.voters.view_change(0, 1, [group.voters.prepared(1, make_block(1, 1))])
    group.deliver(2, bad)
    group.deliver(2, group.voters.view_change(3, 1))
    assert group.seats[2].blames() == [(0, "prepared-view")]
    assert group[2].view == 0


def test_an_invalid_certificate_never_hides_a_valid_one() -> None:
    """The same replica may send a valid view change after a refused one (Concord #50)."""
    group = alone()
    group.deliver(2, group.voters.view_change(0, 9, [group.voters.prepared(9, make_block(1, 1))]))
    group.deliver(2, group.voters.view_change(0, 1))
    group.deliver(2, group.voters.view_change(3, 1))
    assert group[2].view == 1


# New views


def test_a_new_primary_starts_once_it_holds_n_minus_f_view_changes() -> None:
    group = alone(replica_id=1)
    voters = group.voters
    group.deliver(1, voters.view_change(0, 1, complaints=voters.complaints(0)))
    assert not group.seats[1].said(NewView)
    group.deliver(1, voters.view_change(3, 1, [voters.prepared(0, make_block(2, 2))]))
    (new_view,) = group.seats[1].said(NewView)
    assert isinstance(new_view, NewView)
    assert [change.replica for change in new_view.view_changes] == [0, 1, 3]
    assert [p.block for p in new_view.proposals] == [Block.null(1), make_block(2, 2)]
    assert group[1].active


def test_a_new_primary_without_the_base_fetches_it_first() -> None:
    """It must not start a view from blocks it does not hold (Indy #1368)."""
    group = alone(replica_id=1)
    voters = group.voters
    blocks = [make_block(seq, seq) for seq in range(1, 5)]
    stable = voters.checkpoint(blocks[3], ROOT, STATE)
    group.deliver(1, voters.view_change(0, 1, stable=stable, complaints=voters.complaints(0)))
    group.deliver(1, voters.view_change(3, 1))
    assert not group.seats[1].said(NewView)
    group.hold(1, 1, 2, 3, 4)
    for block in blocks:
        group.deliver(1, voters.commit_cert(0, block), sender=0)
    assert len(group.seats[1].said(NewView)) == 1


def test_a_new_view_is_entered_only_with_proof() -> None:
    group = alone()
    voters = group.voters
    changes = [voters.view_change(replica, 1) for replica in (0, 1, 3)]
    bad = voters.new_view(1, changes, [make_block(1, 1)])
    group.deliver(2, bad)
    assert group.seats[2].blames() == [(1, "wrong-proposals")]
    assert (group[2].view, group[2].active) == (0, True)
    group.deliver(2, voters.new_view(1, changes))
    assert (group[2].view, group[2].active) == (1, True)


def test_an_older_new_view_changes_nothing() -> None:
    group = alone()
    voters = group.voters
    group.deliver(2, voters.new_view(5, [voters.view_change(replica, 5) for replica in (0, 1, 3)]))
    before = dict(group.seats[2].votes)
    group.deliver(2, voters.new_view(4, [voters.view_change(replica, 4) for replica in (0, 1, 3)]))
    assert group[2].view == 5
    assert group.seats[2].votes == before


def test_two_view_changes_for_one_view_are_evidence_once() -> None:
    group = alone()
    voters = group.voters
    first, second, third = (
        voters.view_change(0, 1, [voters.prepared(0, make_block(1, number))]) for number in (1, 2, 3)
    )
    group.deliver(2, first)
    group.deliver(2, first)
    assert group.seats[2].blames() == []
    group.deliver(2, second, sender=3)
    group.deliver(2, third)
    assert group.seats[2].blames() == [(0, "equivocation")], "a view's signer, not who passed it on"
    (blame,) = [effect for effect in group.seats[2].effects if isinstance(effect, Blame)]
    assert blame.evidence == (first, second)


def test_a_forged_second_view_change_accuses_nobody_but_its_sender() -> None:
    group = alone()
    group.deliver(2, group.voters.view_change(0, 1))
    forged = group.voters.view_change(0, 1, [group.voters.prepared(0, make_block(1, 1))])
    group.deliver(2, replace(forged, signature=bytes(64)), sender=3)
    assert [replica for replica, _ in group.seats[2].blames()] == [3]
    assert "equivocations" not in group[2].counters


def test_a_new_view_shows_who_told_others_of_another_view_change() -> None:
    group = alone()
    voters = group.voters
    told_us = voters.view_change(0, 1, [voters.prepared(0, make_block(1, 1))])
    group.deliver(2, told_us)
    changes = [voters.view_change(replica, 1) for replica in (0, 1, 3)]
    group.deliver(2, voters.new_view(1, changes))
    assert group[2].active and group.seats[2].blames() == [(0, "equivocation")]


def test_two_new_views_for_one_view_are_evidence_and_the_first_stands() -> None:
    group = alone()
    voters = group.voters
    changes = [voters.view_change(replica, 1) for replica in (0, 1, 3)]
    locked = voters.view_change(3, 1, [voters.prepared(0, make_block(1, 1))])
    first, second = (
        voters.new_view(1, changes),
        voters.new_view(1, [*changes[:2], locked], [make_block(1, 1)]),
    )
    group.deliver(2, first)
    group.deliver(2, first, sender=0)
    assert group.seats[2].blames() == []
    group.deliver(2, second, sender=0)
    assert group.seats[2].blames() == [(1, "equivocation")]
    assert group.seats[2].said(Prepare) == []


def test_places_settled_by_a_new_view_take_no_fresh_proposal() -> None:
    group = alone()
    voters = group.voters
    locked = voters.prepared(0, make_block(2, 2))
    changes = [voters.view_change(0, 1, [locked]), voters.view_change(1, 1), voters.view_change(3, 1)]
    group.deliver(2, voters.new_view(1, changes))
    group.hold(2, 1, 3)
    group.deliver(2, voters.pre_prepare(1, make_block(1, 1)), sender=1)
    assert group.seats[2].blames() == [(1, "equivocation")], "place 1 is the null block's"
    assert not [m for m in group.seats[2].said(Prepare) if m.digest == make_block(1, 1).digest]  # type: ignore[attr-defined]
    group.deliver(2, voters.pre_prepare(1, make_block(3, 3)), sender=1)
    assert [m for m in group.seats[2].said(Prepare) if m.digest == make_block(3, 3).digest]  # type: ignore[attr-defined]


def test_repeated_proposals_skip_the_clock() -> None:
    group = alone()
    voters = group.voters
    group.hold(2, 1)
    group.now_us += 3_600_000_000
    changes = [voters.view_change(r, 1, [voters.prepared(0, make_block(1, 1))]) for r in (0, 1, 3)]
    group.deliver(2, voters.new_view(1, changes))
    assert [m.digest for m in group.seats[2].said(Prepare)] == [make_block(1, 1).digest]  # type: ignore[attr-defined]


def test_votes_that_outran_the_new_view_are_kept() -> None:
    group = alone()
    voters, block = group.voters, make_block(1, 1)
    changes = [voters.view_change(r, 1, [voters.prepared(0, block)]) for r in (0, 1, 3)]
    group.hold(2, 1)
    for replica in (0, 3):
        group.deliver(2, voters.prepare(replica, 1, block))
        group.deliver(2, voters.commit(replica, 1, block))
    group.deliver(2, voters.new_view(1, changes))
    group.deliver(2, voters.commit(1, 1, block))
    assert len(group.seats[2].executed) == 1


def test_a_commit_certificate_of_a_later_view_does_not_move_the_view() -> None:
    group = alone()
    group.hold(2, 1)
    group.deliver(2, group.voters.commit_cert(7, make_block(1, 1)), sender=0)
    assert len(group.seats[2].executed) == 1
    assert (group[2].view, group[2].active) == (0, True)


def test_lost_new_views_and_view_changes_are_asked_for_again() -> None:
    group = Group()
    lost: list[Message] = []

    def drops(sender: int, to: int, m: Message) -> bool:
        if isinstance(m, NewView | ViewChange) and len(lost) < 12:
            lost.append(m)
            return True
        return False

    group.crash(0)
    group.drops = drops
    group.submit(1)
    group.wait(20_000_000)
    assert len(lost) == 12
    assert group.heights()[1:] == [1] * 3


def test_a_replica_that_missed_the_view_change_is_brought_in() -> None:
    group = Group()
    group.isolate(3)
    group.submit(1)
    group.run()
    for seat in group.seats[:3]:
        for replica in range(3):
            if replica != seat.id:
                group.deliver(seat.id, group.voters.complain(replica, 0))
    group.run()
    assert group.views() == [1, 1, 1, 0]
    group.heal()
    group.submit(2)
    group.wait(5_000_000)
    assert group.views() == [1] * 4
    assert group.heights() == [2] * 4


def test_a_forwarded_certificate_is_worth_as_much_as_the_votes() -> None:
    group = alone()
    block = make_block(1, 1)
    good = group.voters.commit_cert(0, block)
    group.deliver(2, CommitCert(0, block, good.commits[:2]), sender=1)
    assert group.seats[2].blames() == [(1, "vote-count")]
    group.hold(2, 1)
    group.deliver(2, good, sender=1)
    assert group.seats[2].executed == [block]
