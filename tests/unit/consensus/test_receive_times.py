"""Who may list what first in a block, and what a liar among those who say so can do about it."""

from dataclasses import replace

import pytest

from consensus.certificates import Refused, check_order, compute_order
from consensus.effects import BatchReady
from consensus.messages import ACK_ITEMS_MAX, Ack, Block, CommitCert, NewView, Prepare, PrePrepare, Status
from consensus.primitives.errors import SignatureError
from consensus.quorum import first_view
from consensus.receive_times import ALONE_US, TIMES_MAX, WAIT_US
from tests.helpers.group import CONFIG, Group
from tests.helpers.votes import TIME_MS, Voters, make_block, name_of

T = TIME_MS * 1000
NARROW = replace(CONFIG, in_flight_max=1)


def acked(voters: Voters, block: Block, *times: tuple[int, ...]) -> PrePrepare:
    """A proposal in which replica k received the block's batches at `times[k]`."""
    acks = tuple(
        voters.ack(replica, list(zip(block.batches, told, strict=True))) for replica, told in enumerate(times)
    )
    return replace(voters.pre_prepare(0, block), acks=acks)


def code_of(voters: Voters, proposal: PrePrepare) -> str:
    with pytest.raises(Refused) as refused:
        check_order(voters.authority, proposal)
    return refused.value.code


def test_batches_are_listed_by_the_median_of_their_times() -> None:
    voters = Voters()
    check_order(voters.authority, acked(voters, make_block(1, 1, 2), (1, 3), (4, 5), (9, 8)))
    assert code_of(voters, acked(voters, make_block(1, 2, 1), (3, 1), (5, 4), (8, 9))) == "batch-order"


def test_of_an_even_number_of_times_the_lower_middle_one_counts() -> None:
    voters, block = Voters(), make_block(1, 1, 2)
    times = (1, 3), (2, 3), (9, 3), (9, 3)
    check_order(voters.authority, acked(voters, block, *times))
    assert compute_order(block.batches, acked(voters, block, *times).acks) == block.batches


def test_equal_medians_are_listed_by_digest() -> None:
    voters = Voters()
    first, second = sorted((name_of(1), name_of(2)))
    times = ((5, 5),) * 3
    check_order(voters.authority, acked(voters, Block(1, TIME_MS, (first, second)), *times))
    assert code_of(voters, acked(voters, Block(1, TIME_MS, (second, first)), *times)) == "batch-order"


def test_one_liar_among_four_cannot_bring_its_batch_before_one_that_all_others_saw_earlier() -> None:
    block = make_block(1, 1, 2)
    for lie in ((0, 2**62), (2**62, 0), (15, 15)):
        acks = acked(Voters(), block, lie, (10, 20), (11, 21)).acks
        assert compute_order(block.batches, acks) == block.batches


def test_of_two_times_that_one_replica_states_the_first_counts() -> None:
    voters, block = Voters(), make_block(1, 1, 2)
    honest = acked(voters, block, (1, 2), (1, 2), (1, 2))
    late = voters.ack(0, [(name_of(1), 99)])
    check_order(voters.authority, replace(honest, acks=(*honest.acks, late)))
    assert compute_order(block.batches, (late, *honest.acks[1:])) == block.batches


def test_a_proof_needs_n_minus_f_replicas_for_every_batch() -> None:
    voters, block = Voters(), make_block(1, 1, 2)
    two = acked(voters, block, (1, 2), (1, 2))
    assert code_of(voters, two) == "few-acks"
    half = voters.ack(2, [(name_of(1), 1)])
    assert code_of(voters, replace(two, acks=(*two.acks, half))) == "few-acks"
    again = voters.ack(1, [(name_of(1), 1), (name_of(2), 2)])
    assert code_of(voters, replace(two, acks=(*two.acks, again))) == "few-acks", "a replica counts once"


def test_a_proof_is_refused_if_it_is_padded_missing_or_needless() -> None:
    voters, block = Voters(), make_block(1, 1, 2)
    honest = acked(voters, block, (1, 2), (1, 2), (1, 2))
    other = voters.ack(3, [(name_of(7), 1)])
    assert code_of(voters, replace(honest, acks=(*honest.acks, other))) == "useless-ack"
    assert code_of(voters, replace(honest, acks=())) == "acks"
    assert code_of(voters, acked(voters, make_block(1, 1), (1,))) == "acks"


def test_a_forged_time_proves_nothing() -> None:
    voters, block = Voters(), make_block(1, 1, 2)
    honest = acked(voters, block, (1, 2), (1, 2), (1, 2))
    stolen = replace(honest.acks[0], replica=3)
    with pytest.raises(SignatureError):
        check_order(voters.authority, replace(honest, acks=(*honest.acks[:2], stolen)))
    stranger = replace(honest.acks[0], replica=17)
    with pytest.raises(Refused, match="unknown-replica"):
        check_order(voters.authority, replace(honest, acks=(*honest.acks[:2], stranger)))


# A backup


def backup() -> Group:
    """Replica 1 of view 0, which holds batches 1 and 2, alone at the table."""
    group = Group()
    group.isolate(*range(4))
    group.hold(1, 1, 2)
    group.seats[1].effects.clear()
    return group


def test_a_primary_that_lists_out_of_order_is_blamed_and_gets_no_vote() -> None:
    group = backup()
    wrong = acked(group.voters, make_block(1, 2, 1), (3, 1), (5, 4), (8, 9))
    group.deliver(1, wrong, sender=0)
    assert group.seats[1].blames() == [(0, "batch-order")]
    assert not group.seats[1].said(Prepare)


def test_a_primary_that_lists_out_of_order_is_replaced() -> None:
    group = Group()
    group.drops = lambda sender, to, message: isinstance(message, PrePrepare) and message.view == 0
    group.submit(1, 2)
    group.run()
    wrong = acked(group.voters, make_block(1, 2, 1), (3, 1), (5, 4), (8, 9))
    for seat in group.seats[1:]:
        group.deliver(seat.id, wrong, sender=0)
    group.wait(3_000_000)
    assert min(group.views()) >= 1
    assert min(group.heights()) >= 1
    group.check_agreement()


def test_a_proposal_without_its_acks_is_voted_for_once_f_plus_1_others_did() -> None:
    """Who passes a proposal on may not hold its proof; one of f+1 is honest and saw it."""
    group = backup()
    block = make_block(1, 1, 2)
    group.deliver(1, group.voters.pre_prepare(0, block), sender=2)
    assert not group.seats[1].said(Prepare) and not group.seats[1].blames()
    group.deliver(1, group.voters.prepare(2, 0, block))
    assert not group.seats[1].said(Prepare)
    group.deliver(1, group.voters.prepare(3, 0, block))
    assert len(group.seats[1].said(Prepare)) == 1


def test_acks_that_come_after_their_proposal_still_prove_it() -> None:
    group = backup()
    proposal = group.voters.proposal(0, make_block(1, 1, 2))
    group.deliver(1, replace(proposal, acks=()), sender=2)
    group.deliver(1, proposal, sender=0)
    assert len(group.seats[1].said(Prepare)) == 1


def test_neither_the_vote_log_nor_a_certificate_keeps_acks() -> None:
    group = Group(config=NARROW)
    group.submit(*range(10))
    group.wait(50_000)
    fresh = [m for m in group.seats[0].said(PrePrepare) if isinstance(m, PrePrepare)]
    assert any(m.acks for m in fresh)
    marked = [m.acks[0].signature for m in fresh if m.acks]
    for seat in group.seats:
        assert not any(mark in value for mark in marked for value in seat.votes.values())
        assert all(isinstance(cert, CommitCert) for cert in seat.blocks.values())


# Telling the primary


def acks_of(group: Group, replica: int) -> list[Ack]:
    return [m for m in group.seats[replica].said(Ack) if isinstance(m, Ack)]


def test_many_arrivals_share_one_signature_and_one_recipient() -> None:
    group = backup()
    group.hold(1, *range(3, 8))
    group.wait(10_000)
    (ack,) = acks_of(group, 1)
    assert [item.batch for item in ack.items] == [name_of(k) for k in (1, 2, *range(3, 8))]
    assert {item.time_us for item in ack.items} == {T}


def test_a_flood_of_arrivals_is_told_in_messages_that_keep_their_bound() -> None:
    group = backup()
    group.hold(1, *range(100, 100 + 2 * ACK_ITEMS_MAX))
    group.wait(10_000)
    assert [len(ack.items) for ack in acks_of(group, 1)] == [ACK_ITEMS_MAX, ACK_ITEMS_MAX, 2]


def test_what_is_proposed_already_needs_no_ack() -> None:
    """A lone order costs nobody a signature."""
    group = Group()
    group.submit(1)
    group.wait(50_000)
    assert group.heights() == [1] * 4
    assert not any(acks_of(group, replica) for replica in range(4))


def test_a_new_primary_is_told_what_the_old_one_was() -> None:
    group = Group()
    group.isolate(0)
    for seat in group.seats[1:]:
        group.hold(seat.id, *range(6))
    group.wait(3_000_000)
    assert group.views()[1:] == [1, 1, 1]
    assert group.seats[1].said(NewView)
    assert {ack.replica for seat in group.seats for ack in acks_of(group, seat.id)} >= {2, 3}
    assert group.heights()[1:] != [0, 0, 0]
    listed = [name for block in group.seats[1].executed for name in block.batches]
    assert sorted(listed) == sorted(name_of(k) for k in range(6))


# A primary


def primary(*withheld: int) -> Group:
    """Replica 0 leads; nothing of `withheld` replicas' acks arrives."""
    group = Group(config=NARROW)
    group.drops = lambda sender, to, message: isinstance(message, Ack) and sender in withheld
    return group


def heights_after(group: Group, wait_us: int) -> int:
    group.submit(*range(20))
    group.wait(wait_us)
    return group.heights()[0]


def test_one_replica_that_withholds_its_acks_delays_nothing() -> None:
    assert heights_after(primary(3), 10_000) == heights_after(primary(), 10_000) == 2


def test_batches_without_acks_get_blocks_of_their_own() -> None:
    """More than f replicas are mute: slow, but nothing stops."""
    group = primary(2, 3)
    assert heights_after(group, 20 * WAIT_US) == 20
    assert all(len(block.batches) == 1 for block in group.seats[1].executed)


def test_a_batch_that_only_the_primary_holds_does_not_hold_up_the_others_and_is_not_forgotten() -> None:
    group = primary()
    group.hold(0, 1, 50)
    group.submit(*range(1, 10))
    group.wait(WAIT_US)
    assert not any(name_of(50) in block.batches for block in group.seats[0].executed)
    assert group.heights()[0] >= 2
    group.submit(*range(10, 13))
    group.wait(2 * ALONE_US)
    assert any(block.batches == (name_of(50),) for block in group.seats[1].executed)


def test_a_forged_ack_spoils_no_proposal_and_is_paid_for_once() -> None:
    group = primary()
    group.submit(1)
    for number in range(2, 12):
        forged = replace(group.voters.ack(3, [(name_of(number), T)]), signature=bytes(64))
        group.deliver(0, forged)
    group.submit(*range(2, 12))
    group.wait(20_000)
    assert group.seats[0].blames() == [(3, "bad-signature")]
    assert len(group.seats[1].executed) <= 3
    assert sum(len(block.batches) for block in group.seats[1].executed) == 11


def test_nobody_speaks_for_another() -> None:
    group = primary()
    group.deliver(0, group.voters.ack(3, [(name_of(1), T)]), sender=2)
    assert group.seats[0].blames() == [(2, "foreign-ack")]


def test_a_flood_of_acks_about_nothing_takes_a_bounded_room_and_no_signature_check() -> None:
    group = primary()
    times = group[0]._ordering.times
    junk = replace(group.voters.ack(3, [(name_of(0), T)]), signature=b"")
    for start in range(0, 2 * TIMES_MAX, ACK_ITEMS_MAX // 2):
        fresh = [(name_of(10**6 + start + k), T) for k in range(ACK_ITEMS_MAX // 2)]
        padding = [(name_of(k), T) for k in range(ACK_ITEMS_MAX // 2)]
        items = group.voters.ack(3, fresh + padding).items
        group.deliver(0, replace(junk, items=items))
    assert times._items[3] <= TIMES_MAX
    assert len(times._told) <= TIMES_MAX
    assert sum(len(ack.items) for ack in times._acks[3]) == times._items[3]
    assert not group.seats[0].blames()


def test_what_was_delivered_leaves_nothing_behind() -> None:
    group = primary()
    group.submit(*range(20))
    group.wait(50_000)
    for number in range(20):
        group.deliver(0, group.voters.ack(3, [(name_of(number), T)]))
    times = group[0]._ordering.times
    assert not times._told and not times.ready
    group.feed(0, BatchReady(name_of(5), 1, 100, 1))
    assert not times.ready


def test_a_primary_that_comes_to_an_epoch_last_is_told_again_what_it_dropped() -> None:
    """Backups tell it when they came to the epoch; it drops all that once it comes there itself."""
    group = primary()
    group.drops = lambda sender, to, message: isinstance(message, PrePrepare)
    group.submit(*range(10))
    group.wait(WAIT_US // 2)
    names = set(map(name_of, range(10)))
    for seat in group.seats:
        seat.replica._ordering.times.start_epoch()
    leader, backup = (group[number]._ordering.times for number in (0, 1))
    assert not leader._told and not backup._untold
    status = Status(0, True, 0, None, False)
    for number in (1, 2, 3):
        group.deliver(number, status, sender=2 if number != 2 else 1)
    assert not backup._untold  # that another backup lives there says nothing of the primary
    for number in (1, 2, 3):
        group.deliver(number, status, sender=0)
    assert set(backup._untold) == names
    group.wait(WAIT_US // 2)
    assert set(leader._told) == names
    group.deliver(1, status, sender=0)
    assert not backup._untold  # once


def test_a_primary_that_still_lives_in_the_epoch_before_is_told_when_it_proposes_in_the_new_one() -> None:
    group = primary()
    times = group[1]._ordering.times
    times.start_epoch()
    group.submit(1)
    group.run()
    assert not times._is_unheard
    times.start_epoch()
    times.hear_primary(0, first_view(1))
    assert times._is_unheard  # of an epoch that is not this one
