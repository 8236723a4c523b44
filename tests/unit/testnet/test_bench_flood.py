"""What a bench of a flood says of memory."""

import pytest

from testnet.bench_flood import WINDOW_SECONDS, compute_growth, grow_by_window


@pytest.mark.parametrize(
    ("floors", "growth"),
    [
        ([], 0.0),
        ([5.0], 0.0),
        ([7.0] * 8, 0.0),
        ([1.0, 50.0, 99.0, 100.0, 100.0, 100.0], 0.0),  # what fills first does not count
        ([0.0, 0.0, 0.0, 99.0, 100.0, 101.0], 0.02),
        ([9.0, 9.0, 9.0, 101.0, 100.0, 99.0], -0.02),
    ],
)
def test_growth_is_that_of_the_floors_of_the_second_half(floors: list[float], growth: float) -> None:
    sizes = [floor + above for floor in floors for above in (3.0, 0.0, *[9.0] * (WINDOW_SECONDS - 2))]
    assert compute_growth(sizes) == growth


@pytest.mark.parametrize(
    ("sizes", "windows"),
    [
        ([], []),
        ([5.0], []),
        ([float(size) for size in range(21)], [10.0, 10.0]),
        ([float(size) for size in range(24)], [10.0, 10.0, 3.0]),
        ([3.0, 2.0], [-1.0]),
    ],
)
def test_windows_tell_when_memory_grew(sizes: list[float], windows: list[float]) -> None:
    assert grow_by_window(sizes) == windows
