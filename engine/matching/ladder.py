"""Which price levels are occupied: a bitmap over all level rows, with summary words above it.

Section 0 has one bit per level row, 64 a word; each further section has one bit per word of the
section below, up to a section of one word. The next occupied price is found in a few steps however far
away it is, and a book of 250 levels costs what a book of 40,000 costs.

The array starts with a header: words 0..6 say where each section starts, word 7 how many there are.
Derived data: `rebuild_ladder` recomputes it from the level table.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from engine.compiled import inlined, kernel, shared
from engine.layout import NONE

_HEADER = 8
_DEPTH = 7  # header word: number of sections


def new_ladder(level_rows: int) -> np.ndarray:
    """An empty bitmap for `level_rows` rows of the level table."""
    starts, length, bits = [], _HEADER, level_rows
    while True:
        bits = max(1, -(-bits // 64))
        starts.append(length)
        length += bits
        if bits == 1:
            break
    ladder = np.zeros(length, dtype=np.int64)
    ladder[: len(starts)] = starts
    ladder[_DEPTH] = len(starts)
    return ladder


@kernel
def rebuild_ladder(ladder: np.ndarray, levels: np.ndarray, used: int) -> None:
    """Mark every level among the first `used` rows that has an order. Bits are overwritten."""
    ladder[_HEADER:] = 0
    for row in range(used):
        if levels[row].head != 0:
            occupy(ladder, row)


@shared
def occupy(ladder: np.ndarray, row: int) -> None:
    """Mark a level row as occupied, which it was not."""
    position = np.int64(row)
    for section in range(ladder[_DEPTH]):
        word = ladder[section] + (position >> 6)
        before = ladder[word]
        ladder[word] = before | (np.int64(1) << (position & 63))
        if before != 0:
            break
        position >>= 6


@shared
def vacate(ladder: np.ndarray, row: int) -> None:
    """Mark a level row as empty, which it was not."""
    position = np.int64(row)
    for section in range(ladder[_DEPTH]):
        word = ladder[section] + (position >> 6)
        after = ladder[word] & ~(np.int64(1) << (position & 63))
        ladder[word] = after
        if after != 0:
            break
        position >>= 6


@shared
def next_occupied(ladder: np.ndarray, row: int) -> int:
    """Lowest occupied level row above `row`, or NONE."""
    position = np.int64(row)
    for section in range(ladder[_DEPTH]):
        word = ladder[ladder[section] + (position >> 6)]
        above = word & (np.int64(-2) << (position & 63))
        if above != 0:
            return _descend_lowest(ladder, section, (position & ~63) + lowest_bit(above))
        position >>= 6
    return NONE


@shared
def previous_occupied(ladder: np.ndarray, row: int) -> int:
    """Highest occupied level row below `row`, or NONE."""
    position = np.int64(row)
    for section in range(ladder[_DEPTH]):
        word = ladder[ladder[section] + (position >> 6)]
        below = word & ~(np.int64(-1) << (position & 63))
        if below != 0:
            return _descend_highest(ladder, section, (position & ~63) + highest_bit(below))
        position >>= 6
    return NONE


@inlined
def _descend_lowest(ladder: np.ndarray, section: int, position: int) -> int:
    """The lowest level row under summary bit `position` of `section`."""
    while section > 0:
        section -= 1
        position = (position << 6) + lowest_bit(ladder[ladder[section] + position])
    return position


@inlined
def _descend_highest(ladder: np.ndarray, section: int, position: int) -> int:
    """The highest level row under summary bit `position` of `section`."""
    while section > 0:
        section -= 1
        position = (position << 6) + highest_bit(ladder[ladder[section] + position])
    return position


# The processor counts zeros in one instruction, for which numba has no public name. Interpreted
# kernels get the same numbers from Python integers.

if config.DISABLE_JIT:

    def lowest_bit(word: int) -> int:
        """Position of the lowest set bit of a word that is not 0."""
        return (int(word) & -int(word)).bit_length() - 1

    def highest_bit(word: int) -> int:
        """Position of the highest set bit of a word that is not 0."""
        return (int(word) & (2**64 - 1)).bit_length() - 1

else:

    @intrinsic
    def lowest_bit(_: Any, word: Any) -> Any:
        """Position of the lowest set bit of a word that is not 0."""

        def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
            return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

        return types.int64(types.int64), emit

    @intrinsic
    def highest_bit(_: Any, word: Any) -> Any:
        """Position of the highest set bit of a word that is not 0."""

        def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
            zeros = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))
            return builder.sub(ir.Constant(ir.IntType(64), 63), zeros)

        return types.int64(types.int64), emit
