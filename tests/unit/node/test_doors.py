"""Who waits at a port, and who has to make way."""

import pytest

from node.doors import Door, Visitor


def evicted(visitors: list[Visitor]) -> list[int]:
    return [place for place, visitor in enumerate(visitors) if visitor.scope.cancel_called]


@pytest.mark.trio
async def test_of_a_crowded_address_the_longest_silent_connection_makes_way() -> None:
    door = Door(10, 2)
    visitors = [door.enter("a") for _ in range(4)]
    assert evicted(visitors) == [0, 1]
    assert len(door) == 2


@pytest.mark.trio
async def test_of_many_strangers_the_most_crowded_address_makes_way() -> None:
    door = Door(4, 3)
    crowd = [door.enter("a") for _ in range(3)]
    others = [door.enter(name) for name in "bcd"]
    assert evicted(crowd) == [0, 1]
    assert evicted(others) == []
    assert len(door) == 4


@pytest.mark.trio
async def test_strangers_take_no_room_of_those_who_are_known() -> None:
    door = Door(2, 2, known=("k",))
    known = [door.enter("k") for _ in range(2)]
    crowd = [door.enter(str(number)) for number in range(50)]
    assert evicted(known) == []
    assert len(evicted(crowd)) == 48
    door.enter("k")
    assert evicted(known) == [0]


@pytest.mark.parametrize("known", [(), ("a",)])
@pytest.mark.trio
async def test_whoever_left_is_never_told_to_make_way_and_leaves_nothing(known: tuple[str, ...]) -> None:
    door = Door(2, 2, known)
    first = door.enter("a")
    door.leave(first)
    door.leave(first)
    assert len(door) == 0
    second = [door.enter("a") for _ in range(2)]
    assert not first.scope.cancel_called and evicted(second) == []
