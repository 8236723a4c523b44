"""What a bench of a flood says of memory."""

import pytest

from testnet.bench_flood import compute_slope


@pytest.mark.parametrize(
    ("sizes", "slope"),
    [
        ([], 0.0),
        ([5.0], 0.0),
        ([7.0] * 9, 0.0),
        ([1.0, 3.0, 5.0], 2.0),
        ([5.0, 4.0, 3.0, 2.0], -1.0),
        ([1.0, 9.0, 1.0], 0.0),
    ],
)
def test_the_slope_is_that_of_the_best_line(sizes: list[float], slope: float) -> None:
    assert compute_slope(sizes) == slope
