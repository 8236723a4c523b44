"""The checker of histories: it accepts what can have happened, and names what cannot."""

import math
from collections.abc import Iterator
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testnet.chaos.history import Operation, Reading, check_history


class Register:
    """`add n` answers the sum before it; a negative sum is refused with -1."""

    def start(self) -> int:
        return 0

    def apply(self, state: int, request: int) -> tuple[int, int]:
        return (state + request, state) if state + request >= 0 else (state, -1)

    def read(self, state: int) -> int:
        return state


def add(
    amount: int,
    when: tuple[float, float],
    place: tuple[int, int] | None,
    answer: int | None = None,
    client: str = "ann",
) -> Operation:
    return Operation(client, amount, *when, place, answer)


def check(operations: list[Operation], readings: list[Reading] | None = None) -> list[str]:
    return check_history(operations, readings or [], Register())


def test_operations_in_order_with_right_answers_pass():
    history = [add(1, (0, 1), (1, 0), 0), add(2, (2, 3), (1, 1), 1), add(3, (4, 5), (2, 0), 3)]
    assert check(history, [Reading("bob", 1, 9, 3), Reading("bob", 2, 9, 6), Reading("bob", 0, 9, 0)]) == []


def test_operations_under_way_together_may_stand_in_either_order():
    for first, second in (((1, 0), (2, 0)), ((2, 0), (1, 0))):
        answers = (0, 1) if first < second else (2, 0)
        history = [add(1, (0, 9), first, answers[0]), add(2, (1, 8), second, answers[1])]
        assert check(history) == []


def test_an_operation_answered_before_another_began_must_stand_before_it():
    history = [add(1, (0, 1), (2, 0), 2), add(2, (5, 6), (1, 0), 0)]
    (fault,) = check(history)
    assert "ann's 1 at height 2, line 0 was answered before ann's 2 at height 1" in fault


def test_a_wrong_answer_is_named_with_the_right_one():
    (fault,) = check([add(1, (0, 1), (1, 0), 0), add(1, (2, 3), (2, 0), 0)])
    assert fault == "ann's 1 at height 2, line 0 gave 0; by all before it, it should be 1"


def test_a_lost_operation_shows_in_what_follows():
    """The second answer denies the first, which was acknowledged."""
    assert check([add(5, (0, 1), (1, 0), 0), add(-5, (2, 3), (2, 0), -1)])


def test_two_operations_cannot_have_one_place():
    (fault,) = check([add(1, (0, 9), (1, 0), 0), add(1, (0, 9), (1, 0), 0, "bob")])
    assert "have one place" in fault


def test_a_reading_must_agree_with_its_height():
    history = [add(1, (0, 1), (1, 0), 0), add(2, (2, 3), (2, 0), 1)]
    assert check(history, [Reading("bob", 1, 9, 1)]) == []
    (fault,) = check(history, [Reading("bob", 1, 9, 3)])
    assert fault == "bob's reading at height 1 gave 3; by all before it, it should be 1"


def test_a_reading_shows_nothing_that_was_asked_for_later():
    """Height 2 was shown at 1.5 s, so what was asked for at 2 s cannot stand at height 1."""
    history = [add(1, (0, 1), (2, 0), 2), add(2, (2, 3), (1, 0), 0)]
    assert "bob's reading at height 2 was answered before" in " ".join(
        check([add(2, (2, 3), (1, 0), 0)], [Reading("bob", 2, 1.5, 2)])
    )
    assert check(history)


def test_an_old_state_may_be_read_late():
    history = [add(1, (0, 1), (1, 0), 0), add(2, (2, 3), (2, 0), 1)]
    assert check(history, [Reading("bob", 1, 99, 1)]) == []


def test_an_unknown_operation_may_have_happened_or_not():
    unknown = add(4, (1, math.inf), None)
    assert check([unknown, add(1, (5, 6), (1, 0), 0)]) == []
    assert check([unknown, add(1, (5, 6), (1, 0), 4)]) == []


def test_an_unknown_operation_happened_once_at_most():
    history = [add(4, (1, math.inf), None), add(1, (5, 6), (1, 0), 8)]
    (fault,) = check(history)
    assert "gave 8" in fault


def test_an_unknown_operation_cannot_happen_before_it_was_asked_for():
    history = [add(1, (0, 1), (1, 0), 4), add(4, (2, math.inf), None)]
    assert check(history)
    assert check([add(1, (0, 3), (1, 0), 4), add(4, (2, math.inf), None)]) == []


def test_a_search_without_end_is_an_error():
    unknown = [add(1 << number, (0, math.inf), None) for number in range(12)]
    history = [*unknown, add(1, (0, 1), (1, 0), 99_999)]
    (fault,) = check_history(history, [], Register(), steps_max=1000)
    assert "undecided after 1000 steps with 12 unknown outcomes" in fault


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """What a correct system does: operations take effect one by one between request and answer."""
    amounts = draw(st.lists(st.integers(-3, 3), min_size=1, max_size=6))
    state, history = 0, []
    for number, amount in enumerate(amounts):
        state, answer = Register().apply(state, amount)
        before, after = draw(st.tuples(st.floats(0, 3), st.floats(0, 3)))
        is_known = draw(st.booleans())
        history.append(
            add(
                amount,
                (number - before, number + after if is_known else math.inf),
                (number + 1, 0) if is_known else None,
                answer if is_known else None,
                client=f"c{number}",
            )
        )
    return history


@given(histories())
def test_what_a_correct_system_does_passes(history: list[Operation]):
    assert check(history) == []


@settings(max_examples=300)
@given(histories(), st.data())
def test_the_search_decides_as_trying_everything_does(history: list[Operation], data: st.DataObject):
    """Answers and places are spoilt; a slow twin tries every order of every choice of the unknown."""
    spoilt = [
        Operation(
            item.client,
            item.request,
            item.invoked_s,
            item.returned_s,
            item.place,
            None if item.place is None else data.draw(st.sampled_from([item.answer, -1, 0, 1, 2])),
        )
        for item in history
    ]
    assert (check(spoilt) == []) == any(map(is_right, orders_of(spoilt)))


def orders_of(history: list[Operation]) -> Iterator[tuple[Operation, ...]]:
    """Every order of all known and any unknown operations that keeps places and real time."""
    known = sum(item.place is not None for item in history)
    for count in range(known, len(history) + 1):
        for order in permutations(history, count):
            places = [item.place for item in order if item.place is not None]
            if len(places) == known and places == sorted(places) and keeps_real_time(order):
                yield order


def keeps_real_time(order: tuple[Operation, ...]) -> bool:
    return not any(
        later.returned_s < earlier.invoked_s
        for index, earlier in enumerate(order)
        for later in order[index + 1 :]
    )


def is_right(order: tuple[Operation, ...]) -> bool:
    state = 0
    for item in order:
        state, answer = Register().apply(state, item.request)
        if item.place is not None and answer != item.answer:
            return False
    return True


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_history_passes(count: int):
    assert check([add(1, (0, math.inf), None)] * count) == []
