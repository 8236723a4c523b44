"""The one price of a crossed book: most lots, fewest left over, nearest to the reference.

At price p, demand D(p) is the lots bid at p or more, supply S(p) those offered at p or less. D falls and S
rises with p, and both change only at prices that have orders. So the price line falls into points (prices
with orders) and gaps between them, and one walk up from the best ask to the best bid compares all.
"""

from typing import NamedTuple

import numpy as np

from engine.compiled import inlined, kernel
from engine.layout import NONE, Core
from engine.matching.ladder import next_occupied
from engine.records import AMOUNT_MAX


class Cross(NamedTuple):
    """What uncrossing a book would do."""

    price: int  # ticks; 0: the book is not crossed
    volume: int  # lots that trade
    surplus: int  # lots left over at that price; positive: bids


@kernel
def find_cross(core: Core, market_row: int, reference: int) -> Cross:
    """The price at which the market's book uncrosses, and what trades there.

    reference 1..price_max in ticks, or 0 for the middle of the crossed range. Sums of lots stop at
    AMOUNT_MAX, beyond which both sides have more than either could settle.
    """
    market = core.markets.rows[market_row]
    low, high = market.best_ask, market.best_bid
    if low > high:
        return Cross(0, 0, 0)
    if reference == 0:
        reference = (low + high) // 2
    demand = _lots_between(core, market.bid_start, low, high)
    supply = 0
    best = Cross(0, 0, 0)
    price = low
    while price <= high:
        supply = _add(supply, core.levels.rows[market.ask_start + price].qty)
        best = _better(best, demand, supply, price, price, reference)
        demand -= core.levels.rows[market.bid_start + price].qty
        following = _next_price(core, market, price, high)
        if following > price + 1:
            best = _better(best, demand, supply, price + 1, following - 1, reference)
        price = following
    return best


@inlined
def _better(best: Cross, demand: int, supply: int, low: int, high: int, reference: int) -> Cross:
    """The better of `best` and the prices low..high, which all have this demand and supply."""
    volume, surplus = min(demand, supply), demand - supply
    price = min(max(reference, low), high)
    if volume < best.volume or volume == 0:
        return best
    if volume == best.volume:
        if abs(surplus) > abs(best.surplus):
            return best
        if abs(surplus) == abs(best.surplus) and abs(price - reference) >= abs(best.price - reference):
            return best
    return Cross(price, volume, surplus)


@inlined
def _lots_between(core: Core, start: int, low: int, high: int) -> int:
    """Lots on the levels low..high of one ladder, at most AMOUNT_MAX."""
    lots = core.levels.rows[start + low].qty
    row = next_occupied(core.ladder_bits, start + low)
    while row != NONE and row <= start + high:
        lots = _add(lots, core.levels.rows[row].qty)
        row = next_occupied(core.ladder_bits, row)
    return lots


@inlined
def _next_price(core: Core, market: np.record, price: int, high: int) -> int:
    """The next price above `price` that has orders of either side, or high + 1."""
    found = high + 1
    for start in (market.bid_start, market.ask_start):
        row = next_occupied(core.ladder_bits, start + price)
        if row != NONE and row - start < found:
            found = row - start
    return found


@inlined
def _add(lots: int, more: int) -> int:
    return lots + min(more, AMOUNT_MAX - lots)
