"""Tables: pages, growth, and what is known about each page."""

import numpy as np
import pytest

from consensus.primitives.errors import InvariantViolation
from engine.layout import BALANCE, PAGE_SIZE
from engine.tables.table import Table

PAGE_ROWS = PAGE_SIZE // BALANCE.itemsize


def test_a_table_starts_with_whole_zeroed_pages():
    table = Table("t", BALANCE, 10_000)
    assert table.capacity == PAGE_ROWS
    assert not table.data["available"].any()


def test_growing_keeps_rows_and_what_is_known_of_pages():
    table = Table("t", BALANCE, 1 << 20)
    table.columns["available"][3] = 7
    table.mark(3)
    assert table.reserve(PAGE_ROWS + 1)
    assert table.capacity == 2 * PAGE_ROWS
    assert table.columns["available"][3] == 7
    assert table.take_dirty().tolist() == [0]


def test_growing_copies_pages_that_were_hashed_before():
    table = Table("t", BALANCE, 1 << 20)
    table.columns["available"][3] = 7
    table.mark(3)
    table.take_dirty()
    table.reserve(10 * PAGE_ROWS)
    assert table.columns["available"][3] == 7
    assert table.take_unsaved().tolist() == [0]


def test_a_table_with_room_does_not_grow():
    table = Table("t", BALANCE, 1 << 20)
    rows = table.rows
    assert not table.reserve(PAGE_ROWS)
    assert table.rows is rows


def test_a_table_never_grows_beyond_its_maximum():
    table = Table("t", BALANCE, 3 * PAGE_ROWS)
    table.reserve(1 << 30)
    assert table.capacity == 3 * PAGE_ROWS


def test_rows_start_on_cache_lines():
    table = Table("t", BALANCE, 1 << 20, 5000)
    assert table.data.ctypes.data % 64 == 0


def test_dirty_pages_are_reported_once_in_ascending_order():
    table = Table("t", BALANCE, 1 << 20, 5 * PAGE_ROWS)
    for row in (4 * PAGE_ROWS, 0, 2 * PAGE_ROWS + 5):
        table.mark(row)
    assert table.take_dirty().tolist() == [0, 2, 4]
    assert table.take_dirty().tolist() == []
    assert table.take_unsaved().tolist() == [0, 2, 4]
    assert table.take_unsaved().tolist() == []


def test_rows_may_not_straddle_pages():
    with pytest.raises(InvariantViolation, match="straddle"):
        Table("t", np.dtype([("x", "V48")]), 10)


def test_byte_columns_take_and_give_bytes():
    table = Table("t", np.dtype([("key", "u1", (32,)), ("n", "<i8"), ("pad", "u1", (24,))]), 10)
    value = bytes(range(31)) + b"\0"
    table.columns["key"][2] = value
    assert table.columns["key"][2].tobytes() == value
