"""Open addressing against a dict: find, insert, remove with wrap-around and crowded probes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.layout import BALANCE, NONE, ORDER
from engine.tables.index import (
    find_balance,
    find_order,
    hash_pair,
    index_insert,
    index_length,
    index_remove,
    rebuild_balance_index,
    rebuild_order_index,
)

KEYS = st.tuples(st.integers(0, 3), st.integers(0, 7))


def test_length_keeps_load_at_or_below_one_half():
    for rows in (1, 31, 32, 33, 64, 1000, 1 << 20):
        length = index_length(rows)
        assert length >= 2 * rows and length & (length - 1) == 0


def test_hashes_are_fixed_numbers():
    """An index is derived, but a changed hash would still change how every node performs."""
    assert [hash_pair(a, b) for a, b in ((0, 0), (1, 2), (2**32 - 1, -1), (7, 2**62))] == [
        0,
        1677235465,
        2097162138,
        556066107,
    ]


def test_sequential_keys_probe_little():
    """Accounts and client order ids count upwards in practice; chains must stay short."""
    rows = 1 << 16
    orders = np.zeros(rows, ORDER).view(np.recarray)
    orders.account, orders.client_order_id, orders.flags = np.arange(rows) % 256, np.arange(rows) // 256, 1
    index = np.zeros(index_length(rows), np.int64)
    rebuild_order_index(index, orders, rows)
    used = np.flatnonzero(index)
    home = (index[used] >> 32) & (len(index) - 1)
    assert ((used - home) % len(index)).mean() < 1.0


@settings(max_examples=60, deadline=None)
@given(st.lists(KEYS, max_size=60))
def test_index_agrees_with_a_dict(keys):
    """Toggling keys in and out."""
    orders = np.zeros(64, ORDER).view(np.recarray)
    index = np.zeros(64, np.int64)
    where: dict[tuple[int, int], int] = {}
    free = list(range(32))
    for key in keys:
        hashed = hash_pair(*key)
        if key in where:
            row = where.pop(key)
            index_remove(index, hashed, row)
            free.append(row)
        else:
            row = free.pop()
            orders[row].account, orders[row].client_order_id = key
            index_insert(index, hashed, row)
            where[key] = row
        for account in range(4):
            for client_order_id in range(8):
                expected = where.get((account, client_order_id), NONE)
                assert find_order(index, orders, account, client_order_id) == expected
    assert np.count_nonzero(index) == len(where)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=80))
def test_removal_closes_gaps_across_the_end_of_the_array(steps):
    """Few hashes near the last slot: probe sequences collide and wrap round."""
    index = np.zeros(64, np.int64)
    live: list[tuple[int, int]] = []
    for row, (offset, remove) in enumerate(steps):
        if remove and live:
            hashed, old = live.pop(offset % len(live))
            index_remove(index, hashed, old)
        elif len(live) < 32:
            live.append((60 + offset, row))
            index_insert(index, 60 + offset, row)
        entries = {(hashed << 32) | (old + 1) for hashed, old in live}
        assert set(index[index != 0].tolist()) == entries
        for hashed, old in live:  # reachable from home without crossing an empty slot
            slot = hashed
            while index[slot] != (hashed << 32) | (old + 1):
                assert index[slot] != 0
                slot = (slot + 1) % 64


def test_rebuilt_balance_index_finds_every_row():
    balances = np.zeros(100, BALANCE).view(np.recarray)
    balances.account, balances.asset = np.arange(100) // 3, np.arange(100) % 3
    index = np.full(index_length(100), 7, np.int64)
    rebuild_balance_index(index, balances, 99)
    assert [find_balance(index, balances, row // 3, row % 3) for row in range(99)] == list(range(99))
    assert find_balance(index, balances, 33, 0) == NONE
