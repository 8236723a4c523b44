"""Which micro-batches are pending, assigned, lacking or done."""

from consensus.batches import Batches
from consensus.effects import BatchReady
from tests.helpers.votes import make_block, name_of


def ready(number: int, orders: int = 1, size: int = 100, origin: int = 0) -> BatchReady:
    return BatchReady(name_of(number), orders, size, origin)


def test_batches_are_chosen_in_order_of_arrival_up_to_the_limits() -> None:
    batches = Batches(100)
    for number in (3, 1, 2):
        batches.add(ready(number, orders=4, size=10), 0)
    assert batches.choose(batches.pending, 8, 1000) == (name_of(3), name_of(1))
    assert batches.choose(batches.pending, 100, 29) == (name_of(3), name_of(1))
    assert batches.choose(batches.pending, 100, 30) == (name_of(3), name_of(1), name_of(2))
    assert batches.choose(batches.pending, 1, 1) == (name_of(3),), (
        "a single batch always fits, or it would block the rest"
    )


def test_the_same_limits_hold_for_a_block_of_somebody_else() -> None:
    batches = Batches(100)
    for number in (1, 2):
        batches.add(ready(number, orders=4, size=10), 0)
    assert batches.fits(make_block(1, 1, 2), 8, 20)
    assert not batches.fits(make_block(1, 1, 2), 7, 20)
    assert not batches.fits(make_block(1, 1, 2), 8, 19)
    assert batches.fits(make_block(1, 1), 1, 1)


def test_a_batch_in_a_proposal_is_not_pending_until_the_view_ends() -> None:
    batches = Batches(100)
    batches.add(ready(1), 0)
    batches.add(ready(2), 0)
    batches.assign(make_block(1, 1, 3))
    batches.add(ready(3), 0)
    assert list(batches.pending) == [name_of(2)]
    batches.start_view()
    assert list(batches.pending) == [name_of(1), name_of(2), name_of(3)]


def test_a_settled_batch_never_comes_back() -> None:
    batches = Batches(100)
    batches.add(ready(1), 0)
    batches.settle(make_block(1, 1, 2))
    batches.add(ready(1), 0)
    batches.add(ready(2), 0)
    assert not batches.held
    assert not batches.pending
    assert batches.has(name_of(2))


def test_a_block_is_complete_when_its_last_payload_comes() -> None:
    batches = Batches(100)
    first, second = make_block(1, 1, 2), make_block(2, 2, 3)
    assert not batches.want(first, source=3)
    assert not batches.want(second, source=3)
    assert not batches.want(second, source=3), "asking twice counts once"
    assert list(batches.wanted) == [name_of(1), name_of(2), name_of(3)]
    assert batches.add(ready(2), 0) == []
    assert batches.add(ready(1), 0) == [1]
    assert batches.add(ready(3), 0) == [2]
    assert batches.want(second, source=3)
    assert not batches.wanted


def test_two_blocks_at_one_place_are_complete_each_for_itself() -> None:
    batches = Batches(100)
    mine, theirs = make_block(1, 1), make_block(1, 1, 2)
    assert not batches.want(mine, 0)
    assert not batches.want(theirs, 0)
    assert batches.add(ready(1), 0) == [1]
    assert batches.want(mine, 0)
    assert not batches.want(theirs, 0)


def test_a_full_store_takes_only_what_a_block_lists() -> None:
    batches = Batches(1)
    batches.add(ready(1), 0)
    batches.add(ready(2), 0)
    assert list(batches.held) == [name_of(1)]
    assert not batches.want(make_block(1, 3), 0)
    assert batches.add(ready(3), 0) == [1]


def test_payloads_of_own_votes_are_at_hand_after_a_restart() -> None:
    batches = Batches(10)
    batches.note_stored(make_block(1, 1))
    assert batches.want(make_block(1, 1), 0)
    assert not batches.held


def test_an_origin_that_floods_takes_no_room_of_another() -> None:
    batches = Batches(2)
    for number in range(5):
        batches.add(ready(number, origin=3), 0)
    batches.add(ready(5, origin=1), 0)
    assert list(batches.held) == [name_of(0), name_of(1), name_of(5)]
    batches.settle(make_block(1, 0))
    batches.add(ready(6, origin=3), 0)
    assert name_of(6) in batches.held
