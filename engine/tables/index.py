"""Deterministic hash indexes from a pair of integers to a row: open addressing in one int64 array.

An entry is `(hash << 32) | (row + 1)`, and 0 means empty. A hash has 31 bits, so entries are never
negative and deletion finds an entry's home slot without touching its row. The number of slots is a
power of two, load at most one half (`new_index`), probing is linear, and deletion shifts later
entries back, so there are no tombstones and cost stays flat in history.

An index is derived data: no result depends on its layout, only on what is in it. That is why each
process may hash with a secret seed of its own, kept in the word behind the slots: clients choose
their order ids, and with a known hash they could choose them so that all meet in one slot.
Every product here stays below 2^63, so interpreted and compiled hashes are equal without wrapping.
"""

import numpy as np

from engine.compiled import inlined, kernel, shared
from engine.layout import NONE

INDEX_SLOTS_MIN = 64
_LOW_32 = 0xFFFFFFFF


def new_index(rows: int, seed: int) -> np.ndarray:
    """An empty index for `rows` rows: at least twice as many slots, then the seed (0..2^62 − 1)."""
    slots = max(INDEX_SLOTS_MIN, 1 << (2 * rows - 1).bit_length())
    index = np.zeros(slots + 1, dtype=np.int64)
    index[slots] = seed
    return index


@shared
def mix(x: int) -> int:
    """A bijection of 32-bit integers in which every input bit moves about half of the output bits.

    Constants: C. Wellons, "Prospecting for hash functions" (2018); both are below 2^31.
    """
    x ^= x >> 15
    x = (x * 0x2C1B3C6D) & _LOW_32
    x ^= x >> 12
    x = (x * 0x297A2D39) & _LOW_32
    return x ^ (x >> 15)


@shared
def slot_mask(index: np.ndarray) -> int:
    """What turns a hash into a slot."""
    return index.shape[0] - 2


@shared
def hash_pair(index: np.ndarray, a: int, b: int) -> int:
    """31-bit hash of a (0..2^32 − 1) and b (any int64) under the seed of `index`.

    Each half of b meets a secret before it meets the other half, so no two of them are known to
    cancel out.
    """
    seed = index[index.shape[0] - 1]
    first, second = np.int64(a), np.int64(b)  # columns are narrower: numpy would wrap them at 32 bits
    x = mix((second & _LOW_32) ^ (seed & _LOW_32))
    x = mix(((x + ((second >> 32) & _LOW_32)) & _LOW_32) ^ (seed >> 32))
    return mix((x + first * 0x1E3779B1) & _LOW_32) >> 1


@shared
def index_insert(index: np.ndarray, hashed: int, row: int) -> None:
    """Add `row`, which is not in the index yet. Caller ensures load stays at most one half."""
    mask = slot_mask(index)
    slot = hashed & mask
    while index[slot] != 0:
        slot = (slot + 1) & mask
    index[slot] = (hashed << 32) | (row + 1)


@shared
def index_remove(index: np.ndarray, hashed: int, row: int) -> None:
    """Remove `row`, which is in the index under `hashed`, and close the gap behind it."""
    mask = slot_mask(index)
    entry = (hashed << 32) | (row + 1)
    slot = hashed & mask
    while index[slot] != entry:
        slot = (slot + 1) & mask
    _close_gap(index, slot, mask)


@inlined
def _close_gap(index: np.ndarray, gap: int, mask: int) -> None:
    """Empty slot `gap`, moving back whatever its probe sequence had pushed behind it (Knuth 6.4, R)."""
    slot = gap
    while True:
        slot = (slot + 1) & mask
        entry = index[slot]
        if entry == 0:
            break
        home = (entry >> 32) & mask
        if ((slot - home) & mask) >= ((slot - gap) & mask):
            index[gap] = entry
            gap = slot
    index[gap] = 0


@shared
def find_order(index: np.ndarray, orders: np.ndarray, account: int, client_order_id: int) -> int:
    """Row of an account's live order, or NONE."""
    mask = slot_mask(index)
    hashed = hash_pair(index, account, client_order_id)
    slot = hashed & mask
    while index[slot] != 0:
        if (index[slot] >> 32) == hashed:
            row = (index[slot] & _LOW_32) - 1
            if orders[row].client_order_id == client_order_id and orders[row].account == account:
                return row
        slot = (slot + 1) & mask
    return NONE


@shared
def find_balance(index: np.ndarray, balances: np.ndarray, account: int, asset: int) -> int:
    """Row of an account's balance in one asset, or NONE."""
    mask = slot_mask(index)
    hashed = hash_pair(index, account, asset)
    slot = hashed & mask
    while index[slot] != 0:
        if (index[slot] >> 32) == hashed:
            row = (index[slot] & _LOW_32) - 1
            if balances[row].account == account and balances[row].asset == asset:
                return row
        slot = (slot + 1) & mask
    return NONE


@shared
def find_grant(index: np.ndarray, grants: np.ndarray, key: int, account: int) -> int:
    """Row of the grant that `key` (a row of the key table) holds on `account`, or NONE."""
    mask = slot_mask(index)
    hashed = hash_pair(index, key, account)
    slot = hashed & mask
    while index[slot] != 0:
        if (index[slot] >> 32) == hashed:
            row = (index[slot] & _LOW_32) - 1
            if grants[row].key == key and grants[row].account == account:
                return row
        slot = (slot + 1) & mask
    return NONE


@shared
def find_position(index: np.ndarray, positions: np.ndarray, account: int, market: int) -> int:
    """Row of an account's position in one market, or NONE."""
    mask = slot_mask(index)
    hashed = hash_pair(index, account, market)
    slot = hashed & mask
    while index[slot] != 0:
        if (index[slot] >> 32) == hashed:
            row = (index[slot] & _LOW_32) - 1
            if positions[row].account == account and positions[row].market == market:
                return row
        slot = (slot + 1) & mask
    return NONE


@kernel
def rebuild_order_index(index: np.ndarray, orders: np.ndarray, used: int) -> None:
    """Index the live ones among the first `used` order rows. The slots are overwritten."""
    index[: slot_mask(index) + 1] = 0
    for row in range(used):
        if orders[row]["flags"] & 1:  # `.flags` is an attribute of numpy's own
            index_insert(index, hash_pair(index, orders[row].account, orders[row].client_order_id), row)


@kernel
def rebuild_balance_index(index: np.ndarray, balances: np.ndarray, count: int) -> None:
    """Index the first `count` balance rows. The slots are overwritten."""
    index[: slot_mask(index) + 1] = 0
    for row in range(count):
        index_insert(index, hash_pair(index, balances[row].account, balances[row].asset), row)


@kernel
def rebuild_grant_index(index: np.ndarray, grants: np.ndarray, count: int) -> None:
    """Index the first `count` grant rows. The slots are overwritten."""
    index[: slot_mask(index) + 1] = 0
    for row in range(count):
        index_insert(index, hash_pair(index, grants[row].key, grants[row].account), row)


@kernel
def rebuild_position_index(index: np.ndarray, positions: np.ndarray, used: int) -> None:
    """Index the live ones among the first `used` position rows. The slots are overwritten."""
    index[: slot_mask(index) + 1] = 0
    for row in range(used):
        if positions[row]["flags"] & 1:
            index_insert(index, hash_pair(index, positions[row].account, positions[row].market), row)
