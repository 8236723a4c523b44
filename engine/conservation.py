"""The check of every block: no value was created or lost, and nobody has less than nothing.

Exact audits (`invariants`) look at every balance. This one looks at the pages of balances that the block
wrote, and compares one number. Each page has a sum of what its rows own, each amount times a weight of its
asset; the sum of all pages must be the same sum over the supplies of all assets. Sums and products are
modulo 2^64.

What escapes: errors whose weighted sum is 0 modulo 2^64. Weights are odd, so an error in one asset, of less
than 2^64 in all, never is; errors in several assets are with a chance of about 2^-64.

None of it is replicated state: a machine makes it from the balances when it starts.
"""

import numpy as np

from consensus.primitives.errors import ensure
from engine.compiled import kernel
from engine.invariants import check_conservation, check_no_negative_balance
from engine.layout import BALANCE_PAGE
from engine.state import State

CHANGED, CHECKED = 1, 2  # what a byte of `Table.dirty` says: writers set the first, this module the second
_SPREAD = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: multiples of it lie far apart (Knuth, TAOCP 6.4)


class ConservationCheck:
    """Sums of the pages of balances, kept up to date block by block."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sums = np.zeros(0, dtype=np.int64)  # by page of balances
        self._weights = np.zeros(0, dtype=np.int64)  # by asset
        self._total = 0
        self._grow()
        self._add(np.arange(state.balances.dirty.shape[0]))

    def check(self) -> None:
        """Raise `InvariantViolation` unless all that was written since the last call conserved value."""
        dirty = self._state.balances.dirty
        self._grow()
        pages = np.flatnonzero(dirty == CHANGED)
        lowest = self._add(pages)
        dirty[pages] = CHECKED  # still dirty for whoever hashes pages
        if lowest < 0 or self._total != self._supply():
            check_no_negative_balance(self._state)
            check_conservation(self._state)  # tells in which asset, and how much
            ensure(False, "balances and supplies do not match")

    def _grow(self) -> None:
        """Follow the tables of balances and assets."""
        pages, assets = self._state.balances.dirty.shape[0], self._state.count["assets"]
        if self._sums.shape[0] < pages:
            self._sums = np.concatenate([self._sums, np.zeros(pages - self._sums.shape[0], dtype=np.int64)])
        known = self._weights.shape[0]
        if known < assets:
            more = np.array([_weight(asset) for asset in range(known, assets)], dtype=np.int64)
            self._weights = np.concatenate([self._weights, more])

    def _add(self, pages: np.ndarray) -> int:
        """Sum up pages anew; returns the lowest amount that stands there, or 0."""
        with np.errstate(over="ignore"):  # interpreted kernels wrap like compiled ones, but complain
            change, lowest = sum_pages(
                self._state.balances.rows, self._state.count["balances"], pages, self._weights, self._sums
            )
        self._total = _wrap(self._total + int(change))
        return int(lowest)

    def _supply(self) -> int:
        columns, assets = self._state.assets.columns, self._state.count["assets"]
        supply = columns["deposited"][:assets] - columns["withdrawn"][:assets]
        return int(np.sum(supply * self._weights))


@kernel
def sum_pages(
    rows: np.ndarray, used: int, pages: np.ndarray, weights: np.ndarray, sums: np.ndarray
) -> tuple[int, int]:
    """Bring the sums of some pages up to date. Returns (their change modulo 2^64, lowest amount or 0).

    rows BALANCE, of which `used` are in use. pages (n,) page numbers. weights int64 by asset. sums int64 by
    page. Wraps on purpose.
    """
    change, lowest = 0, 0
    for i in range(pages.shape[0]):
        page = pages[i]
        total = np.int64(0)
        for row in range(page << BALANCE_PAGE, min((page + 1) << BALANCE_PAGE, used)):
            balance = rows[row]
            total += (balance.available + balance.held) * weights[balance.asset]
            lowest = min(lowest, balance.available, balance.held)
        change += total - sums[page]
        sums[page] = total
    return change, lowest


def _weight(asset: int) -> int:
    return _wrap((asset + 1) * _SPREAD ^ asset << 40 | 1)


def _wrap(value: int) -> int:
    """The int64 that a number is modulo 2^64."""
    return (value + 2**63) % 2**64 - 2**63
