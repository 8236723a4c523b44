"""A market's index and mark price, in ticks, from feeds and its own book: the kernel at a block's end.

    index   of feeds in whole ticks, each rounded down: their lower weighted median, or for a basket their
            weighted mean, rounded down again
    basis   middle of the book less index, averaged over BASIS_MS of ledger time
    mark    the median of index, index + basis, and what the book says: the median of best bid, best ask and
            last trade, or as much of that as there is

Two of the three inputs of the mark are the index, or near it: whoever moves a thin book moves the mark by no
more than the average basis, slowly, and by BASIS_MAX_PPM at most. After Binance's and Hyperliquid's mark
prices, in integers.
"""

import numpy as np

from engine.compiled import inlined, kernel, outlined, widen
from engine.fixed_point import share_rounded_down
from engine.layout import MARKET_PAGE, NONE, PriceStatus, Rows
from engine.markets.states import Action, allows
from engine.oracle.tables import FEEDS_PER_INDEX_MAX, INDEX_PAGE, IndexMethod
from engine.records import Kind, PriceLine

BASIS_MS = 150_000
BASIS_STEP_MS = 1000  # how often it moves
BASIS_MAX_PPM = 50_000  # of the index
INDEX_SCRATCH = 2 * FEEDS_PER_INDEX_MAX
_MATCH = Action.MATCH.value
_Q = 16  # fraction bits of the average basis
_TICKS_MAX = 2**31


@kernel
def update_prices(
    markets: Rows,
    indexes: Rows,
    index_feeds: Rows,
    feeds: Rows,
    used: int,
    time_ms: int,
    scratch: np.ndarray,
    lines: np.ndarray,
) -> int:
    """Write index, mark and status of every market with an index.

    scratch (INDEX_SCRATCH,) int64. lines (≥ used,) JOURNAL, zero; returns how many were written, at most one
    a market. Prices are 1..price_max < 2^26 ticks, or 0 while no feed has a value.
    """
    written = 0
    for row in range(used):
        index = indexes.rows[row]
        if index.method == IndexMethod.NONE:
            continue
        market = markets.rows[row]
        price, status = _compute_index(index, index_feeds, feeds, row, scratch)
        if price == NONE:
            price = market.index_price
        elif price < 1 or price > market.price_max:
            price = min(max(price, 1), market.price_max)
            status = max(status, PriceStatus.UNCERTAIN.value)
        if time_ms - index.basis_ms >= BASIS_STEP_MS:
            _move_basis(index, market, price, status, time_ms)
            indexes.dirty[row >> INDEX_PAGE] = 1
        mark = _compute_mark(index, market, price)
        if market.index_price == price and market.mark_price == mark and market.price_status == status:
            continue
        market.index_price = price
        market.mark_price = mark
        market.price_status = status
        markets.dirty[row >> MARKET_PAGE] = 1
        line = lines[written]
        line.kind = Kind.PRICE.value
        line.op = PriceLine.MARKET.value
        line["flags"] = status
        line.market = row
        line.price = price
        line.qty = mark
        written += 1
    return written


@outlined
def _compute_index(
    index: np.record, index_feeds: Rows, feeds: Rows, market_row: int, scratch: np.ndarray
) -> tuple[int, int]:
    """(ticks or NONE, PriceStatus) of one index.

    The status is the best one for which the feeds of this status or better weigh more than half of all, in
    a basket everything; those are the feeds that count. Bounds: `SetIndexFeed` ensured that
    value × numerator ≤ AMOUNT_MAX; ticks are cut at 2^31, weights are at most 10^6 each.
    """
    first = market_row * FEEDS_PER_INDEX_MAX
    total = 0
    for row in range(first, first + FEEDS_PER_INDEX_MAX):
        total += widen(index_feeds.rows[row].weight)
    if total == 0:
        return NONE, PriceStatus.STALE.value
    for status in range(PriceStatus.NONE.value):
        count, weight, weighted = 0, 0, 0
        for row in range(first, first + FEEDS_PER_INDEX_MAX):
            part = index_feeds.rows[row]
            if part.weight == 0:
                continue
            feed = feeds.rows[part.feed]
            if feed.value == 0 or feed.status > status:
                continue
            ticks = min(feed.value * part.numerator // part.denominator, _TICKS_MAX)
            _insert(scratch, count, ticks, widen(part.weight))
            count += 1
            weight += widen(part.weight)
            weighted += ticks * widen(part.weight)
        if index.method == IndexMethod.MEAN:
            if weight == total:
                return weighted // total, status
        elif 2 * weight > total:
            return _lower_median(scratch, weight), status
    return NONE, PriceStatus.STALE.value


@inlined
def _insert(scratch: np.ndarray, count: int, ticks: int, weight: int) -> None:
    """Put (ticks, weight) into its place among `count` pairs, by ticks."""
    j = count
    while j > 0 and scratch[2 * j - 2] > ticks:
        scratch[2 * j] = scratch[2 * j - 2]
        scratch[2 * j + 1] = scratch[2 * j - 1]
        j -= 1
    scratch[2 * j] = ticks
    scratch[2 * j + 1] = weight


@inlined
def _lower_median(scratch: np.ndarray, weight: int) -> int:
    """The first of the sorted pairs at which half of `weight` is reached."""
    i, reached = 0, scratch[1]
    while 2 * reached < weight:
        i += 1
        reached += scratch[2 * i + 1]
    return int(scratch[2 * i])


@outlined
def _move_basis(index: np.record, market: np.record, price: int, status: int, time_ms: int) -> None:
    """Move the average basis towards the present one, by the share of BASIS_MS that has passed.

    Rounded down. It stands still while the index is not VALID or the book has not two sides. Bounds: a basis
    is within ±2^26 ticks, in 2^-16 ticks within ±2^42, times BASIS_MS < 2^60.
    """
    passed = min(time_ms - index.basis_ms, BASIS_MS)
    index.basis_ms = time_ms
    if status != PriceStatus.VALID or not _has_two_sides(market):
        return
    most = share_rounded_down(price, BASIS_MAX_PPM)
    basis = min(max((market.best_bid + market.best_ask) // 2 - price, -most), most)
    index.basis_q16 += ((basis << _Q) - index.basis_q16) * passed // BASIS_MS


@inlined
def _compute_mark(index: np.record, market: np.record, price: int) -> int:
    """The mark price that goes with an index `price`, both in 1..price_max, or 0 for 0."""
    if price == 0:
        return 0
    own = price
    if _has_two_sides(market):
        own = (market.best_bid + market.best_ask) // 2
        if market.last_price > 0:
            own = _median(market.best_bid, market.best_ask, market.last_price)
    elif market.last_price > 0:
        own = market.last_price
    mark = _median(price, price + (index.basis_q16 >> _Q), own)
    return int(min(max(mark, 1), market.price_max))


@inlined
def _has_two_sides(market: np.record) -> bool:
    """Whether the book has a bid and an ask that do not cross, in a market that matches."""
    return bool(market.best_bid > 0 and market.best_ask <= market.price_max and allows(market.status, _MATCH))


@inlined
def _median(a: int, b: int, c: int) -> int:
    return max(min(a, b), min(max(a, b), c))
