"""The bitmap against a set of occupied rows, around the ends of words and sections."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.layout import LEVEL, NONE
from engine.matching.ladder import (
    new_ladder,
    next_occupied,
    occupy,
    previous_occupied,
    rebuild_ladder,
    vacate,
)
from engine.tables.table import kernel_view


@pytest.mark.parametrize("rows", [1, 64, 65, 4096, 4097, 300_000])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_neighbours_are_those_of_a_sorted_set(rows, data):
    edges = [row for row in (0, 63, 64, 127, 4095, 4096, 262_143, 262_144, rows - 1) if row < rows]
    row_numbers = st.one_of(st.sampled_from(edges), st.integers(0, rows - 1))
    ladder, occupied = new_ladder(rows), set()
    for row in data.draw(st.lists(row_numbers, max_size=40)):
        if row in occupied:
            vacate(ladder, row)
            occupied.remove(row)
        else:
            occupy(ladder, row)
            occupied.add(row)
        for probe in (*edges, row):
            assert next_occupied(ladder, probe) == min((r for r in occupied if r > probe), default=NONE)
            assert previous_occupied(ladder, probe) == max((r for r in occupied if r < probe), default=NONE)


def test_rebuilt_bitmap_equals_the_one_that_was_kept():
    levels = np.zeros(5000, LEVEL)
    kept = new_ladder(5000)
    for row in (1, 2, 63, 64, 1000, 4999):
        levels["head"][row] = 7
        occupy(kept, row)
    rebuilt = new_ladder(5000)
    occupy(rebuilt, 77)
    rebuild_ladder(rebuilt, kernel_view(levels), 5000)
    assert np.array_equal(rebuilt, kept)
