"""A bounded memory of names."""

import sys

import pytest

from node.remembered import Remembered


def _names(first: int, last: int) -> list[bytes]:
    return [number.to_bytes(32, "big") for number in range(first, last)]


def test_the_newest_half_is_remembered_and_never_more_than_the_bound() -> None:
    seen = Remembered(100)
    for place, name in enumerate(_names(0, 1000)):
        seen.add(name)
        assert len(seen) <= 100
        assert all(recent in seen for recent in _names(max(0, place - 49), place + 1))
    assert not any(name in seen for name in _names(0, 900))


def test_a_name_added_again_takes_no_second_place() -> None:
    seen = Remembered(4)
    for name in _names(0, 2) * 50:
        seen.add(name)
    assert len(seen) == 2 and all(name in seen for name in _names(0, 2))


@pytest.mark.parametrize("count_max", [20_000, 65_536, 131_072])
def test_a_full_memory_takes_no_more_than_it_says(count_max: int) -> None:
    seen = Remembered(count_max)
    names = _names(0, count_max)
    for name in names:
        seen.add(name)
    tables = sys.getsizeof(seen._young) + sys.getsizeof(seen._old)
    assert tables + sum(sys.getsizeof(name) + 15 for name in names) <= count_max * Remembered.NAME_BYTES
