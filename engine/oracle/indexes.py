"""Which feeds make a market's index, and in which proportion.

A feed's value counts 10^-decimals quote units per whole base unit, a tick quote_per_lot_tick smallest quote
units per lot. So with d decimals of the feed, b of the base and q of the quote asset

    ticks = value × base_per_lot × 10^q / (10^(d + b) × quote_per_lot_tick)

The fraction is reduced once, when the feed is set. It must fit: a feed is to be finer than a tick.
"""

import math
from collections.abc import Sequence

import numpy as np

from engine.authority import is_venue
from engine.layout import NONE, PriceStatus
from engine.oracle.commands import SetIndex, SetIndexFeed
from engine.oracle.tables import FEEDS_PER_INDEX_MAX, INDEX, INDEX_FEED, VALUE_MAX, IndexMethod
from engine.plugin import Context, Entry, Handler
from engine.records import AMOUNT_MAX, Code
from engine.state import State
from engine.timelock.queue import delay_of_rules


def ticks_per_value(state: State, market: int, feed: int) -> tuple[int, int]:
    """(numerator, denominator) in lowest terms: what one unit of a feed's value is in a market's ticks."""
    columns, decimals = state.markets.columns, state.assets.columns["decimals"]
    base = decimals.item(columns["base_asset"].item(market))
    quote = decimals.item(columns["quote_asset"].item(market))
    own = state.table("feeds").columns["decimals"].item(feed)
    numerator = columns["base_per_lot"].item(market) * 10**quote
    denominator = columns["quote_per_lot_tick"].item(market) * 10 ** (own + base)
    divisor = math.gcd(numerator, denominator)
    return numerator // divisor, denominator // divisor


def validate_set_index(state: State, command: SetIndex, context: Context) -> Code:
    """The venue says how indexes are made."""
    return _check_venue_and_market(state, command.market, context)


def apply_set_index(state: State, command: SetIndex, context: Context) -> Entry:
    """From the end of this block on. Without a method there are no prices by an oracle any more."""
    _reserve(state, command.market)
    table = state.table("indexes")
    if command.method == IndexMethod.NONE:
        table.data[command.market] = np.zeros((), dtype=INDEX)
        for name in ("index_price", "mark_price"):
            state.markets.columns[name][command.market] = 0
        state.markets.columns["price_status"][command.market] = PriceStatus.NONE
        state.markets.mark(command.market)
    table.columns["method"][command.market] = command.method
    table.mark(command.market)
    return Entry(subject=command.market, detail=command.method)


def validate_set_index_feed(state: State, command: SetIndexFeed, context: Context) -> Code:
    """The venue weighs feeds, whose values must be expressible in the market's ticks."""
    market, feed, weight = command
    code = _check_venue_and_market(state, market, context)
    if code:
        return code
    if feed >= state.used(state.table("feeds")):
        return Code.UNKNOWN_FEED
    numerator, denominator = ticks_per_value(state, market, feed)
    if numerator > AMOUNT_MAX // VALUE_MAX or denominator > AMOUNT_MAX:
        return Code.BAD_ARGUMENT
    if _find_part(state, market, feed) != NONE:
        return Code.OK
    if weight == 0:
        return Code.NOTHING_TO_DO
    return Code.OK if _find_free(state, market) != NONE else Code.LIMIT_REACHED


def apply_set_index_feed(state: State, command: SetIndexFeed, context: Context) -> Entry:
    """From the end of this block on."""
    market, feed, weight = command
    _reserve(state, market)
    table = state.table("index_feeds")
    row = _find_part(state, market, feed)
    if row == NONE:
        row = _find_free(state, market)
    table.data[row] = np.zeros((), dtype=INDEX_FEED)
    if weight:
        numerator, denominator = ticks_per_value(state, market, feed)
        values = {"feed": feed, "weight": weight, "numerator": numerator, "denominator": denominator}
        for name, value in values.items():
            table.columns[name][row] = value
    table.mark(row)
    return Entry(subject=market, qty=weight, detail=feed)


def _find_part(state: State, market: int, feed: int) -> int:
    """Row of a feed that weighs in a market's index, or NONE."""
    table = state.table("index_feeds")
    first = market * FEEDS_PER_INDEX_MAX
    for row in range(first, min(first + FEEDS_PER_INDEX_MAX, state.used(table))):
        if table.columns["weight"].item(row) and table.columns["feed"].item(row) == feed:
            return row
    return NONE


def _find_free(state: State, market: int) -> int:
    """Row for one more feed of a market's index, or NONE; it may still be unreserved."""
    table = state.table("index_feeds")
    first = market * FEEDS_PER_INDEX_MAX
    for row in range(first, first + FEEDS_PER_INDEX_MAX):
        if row >= state.used(table) or table.columns["weight"].item(row) == 0:
            return row
    return NONE


def _reserve(state: State, market: int) -> None:
    """Append rows up to this market's."""
    for name, per_market in (("indexes", 1), ("index_feeds", FEEDS_PER_INDEX_MAX)):
        table = state.table(name)
        missing = (market + 1) * per_market - state.used(table)
        if missing > 0:
            state.add_rows(table, missing)


def _check_venue_and_market(state: State, market: int, context: Context) -> Code:
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    return Code.OK if market < state.count["markets"] else Code.UNKNOWN_MARKET


HANDLERS: Sequence[Handler] = (
    Handler(SetIndex, validate_set_index, apply_set_index, delay_of_rules),
    Handler(SetIndexFeed, validate_set_index_feed, apply_set_index_feed, delay_of_rules),
)
