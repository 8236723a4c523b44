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
    index_remove,
    new_index,
    rebuild_balance_index,
    rebuild_order_index,
    slot_mask,
)

KEYS = st.tuples(st.integers(0, 3), st.integers(0, 7))


def test_length_keeps_load_at_or_below_one_half():
    for rows in (1, 31, 32, 33, 64, 1000, 1 << 20):
        slots = slot_mask(new_index(rows, 5)) + 1
        assert slots >= 2 * rows and slots & (slots - 1) == 0


@given(st.integers(1, 2**62 - 1))
def test_each_seed_scatters_the_same_keys_another_way(seed):
    """Keys that meet under one seed, as a client might choose them, do not under another."""
    known, secret = new_index(1024, 0), new_index(1024, seed)
    colliding = [key for key in range(4096) if hash_pair(known, 1, key) & slot_mask(known) < 32]
    slots = {hash_pair(secret, 1, key) & slot_mask(secret) for key in colliding}
    assert len(colliding) > 40 and len(slots) > len(colliding) // 2 and max(slots) >= 1024


@given(st.integers(0, 2**32 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**62 - 1))
def test_hashes_are_31_bits_and_equal_in_plain_integers(a, b, seed):
    assert hash_pair(new_index(1, seed), a, b) == _plain_hash(a, b, seed) < 2**31


def _plain_hash(a, b, seed):
    def mix(x):
        x ^= x >> 15
        x = x * 0x2C1B3C6D % 2**32
        x ^= x >> 12
        x = x * 0x297A2D39 % 2**32
        return x ^ x >> 15

    low, high = b % 2**32, (b >> 32) % 2**32
    x = mix(low ^ seed % 2**32)
    x = mix((x + high) % 2**32 ^ seed >> 32)
    return mix((x + a * 0x1E3779B1) % 2**32) >> 1


def test_sequential_keys_probe_little():
    """Accounts and client order ids count upwards in practice; chains must stay short."""
    rows = 1 << 16
    orders = np.zeros(rows, ORDER).view(np.recarray)
    orders.account, orders.client_order_id, orders.flags = np.arange(rows) % 256, np.arange(rows) // 256, 1
    index = new_index(rows, 12345)
    rebuild_order_index(index, orders, rows)
    slots = index[:-1]
    used = np.flatnonzero(slots)
    home = (slots[used] >> 32) & slot_mask(index)
    assert ((used - home) % len(slots)).mean() < 1.0


@settings(max_examples=60, deadline=None)
@given(st.lists(KEYS, max_size=60))
def test_index_agrees_with_a_dict(keys):
    """Toggling keys in and out."""
    orders = np.zeros(64, ORDER).view(np.recarray)
    index = new_index(32, 0)
    where: dict[tuple[int, int], int] = {}
    free = list(range(32))
    for key in keys:
        hashed = hash_pair(index, *key)
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
    index = new_index(32, 0)
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
    index = new_index(100, 99)
    index[:-1] = 7
    rebuild_balance_index(index, balances, 99)
    assert [find_balance(index, balances, row // 3, row % 3) for row in range(99)] == list(range(99))
    assert find_balance(index, balances, 33, 0) == NONE
