"""The markets plugin: listing, fees, status.

Bounds are set once, at listing, so that no product in a kernel can exceed AMOUNT_MAX < 2^62: the
factors of one lot are bounded here, and an order's own product at admission by
`price <= AMOUNT_MAX // (qty * quote_per_lot_tick)`.
"""

from collections.abc import Sequence

import numpy as np

from engine.authority import is_venue
from engine.commands import ListMarket, SetCollar, SetFees, SetMarketStatus
from engine.fixed_point import BPS_ONE
from engine.genesis import VENUE_ACCOUNT
from engine.invariants import check_books
from engine.layout import PriceStatus
from engine.markets.states import Action, MarketStatus, allows
from engine.plugin import Context, Entry, Handler, Plugin
from engine.records import AMOUNT_MAX, Code
from engine.state import State


def validate_list_market(state: State, command: ListMarket, context: Context) -> Code:
    """The venue lists markets between two different assets, each name once, within exact arithmetic."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if max(command.base_asset, command.quote_asset) >= state.count["assets"]:
        return Code.UNKNOWN_ASSET
    if command.name in state.market_ids:
        return Code.NAME_TAKEN
    if command.base_asset == command.quote_asset or not _fits(command):
        return Code.BAD_ARGUMENT
    if not (
        state.has_room(state.markets)
        and state.has_room(state.levels, 2 * (command.price_max + 1))
        and state.has_room(state.balances, 2)
    ):
        return Code.LIMIT_REACHED
    return Code.OK


def apply_list_market(state: State, command: ListMarket, context: Context) -> Entry:
    """Append the market, its empty levels, and the balances that collect its fees."""
    market = state.add_market(command.name, command.price_max + 1)
    columns = state.markets.columns
    for field in ("base_asset", "quote_asset", "base_per_lot", "quote_per_lot_tick", "qty_max"):
        columns[field][market] = getattr(command, field)
    for field in ("notional_min", "maker_fee_e6", "taker_fee_e6"):
        columns[field][market] = getattr(command, field)
    reason = state.count["halt_reason"]  # of every market: a new one is no way around it
    columns["halt_reason"][market] = reason
    columns["status"][market] = MarketStatus.HALTED if reason else MarketStatus.OPEN
    columns["fee_base_row"][market] = state.add_balance(VENUE_ACCOUNT, command.base_asset)
    columns["fee_quote_row"][market] = state.add_balance(VENUE_ACCOUNT, command.quote_asset)
    return Entry(subject=market, detail=market)


def validate_set_fees(state: State, command: SetFees, context: Context) -> Code:
    """The venue sets fees."""
    return _check_venue_and_market(state, command.market, context)


def apply_set_fees(state: State, command: SetFees, context: Context) -> Entry:
    """From this block's first order on."""
    state.markets.columns["maker_fee_e6"][command.market] = command.maker_fee_e6
    state.markets.columns["taker_fee_e6"][command.market] = command.taker_fee_e6
    state.markets.mark(command.market)
    return Entry(subject=command.market, qty=command.taker_fee_e6, detail=command.maker_fee_e6)


def validate_set_market_status(state: State, command: SetMarketStatus, context: Context) -> Code:
    """The venue opens and closes markets, but none that a breaker holds, that is crossed, uncrosses, or was
    settled for good. Calls need an end: they are for `call_auction`."""
    code = _check_venue_and_market(state, command.market, context)
    if code:
        return code
    columns = state.markets.columns
    status = int(columns["status"][command.market])
    if status in (MarketStatus.DELISTED, MarketStatus.UNCROSSING):
        return Code.MARKET_CLOSED
    if columns["halt_reason"][command.market]:
        return Code.HALTED
    if command.status == MarketStatus.AUCTION:
        return Code.BAD_ARGUMENT
    crossed = columns["best_bid"][command.market] >= columns["best_ask"][command.market]
    return Code.BOOK_CROSSED if crossed and allows(command.status, Action.MATCH) else Code.OK


def apply_set_market_status(state: State, command: SetMarketStatus, context: Context) -> Entry:
    """From this block's first order on; resting orders stay."""
    state.markets.columns["status"][command.market] = command.status
    state.markets.mark(command.market)
    return Entry(subject=command.market, detail=command.status)


def validate_set_collar(state: State, command: SetCollar, context: Context) -> Code:
    """The venue sets collars."""
    return _check_venue_and_market(state, command.market, context)


def apply_set_collar(state: State, command: SetCollar, context: Context) -> Entry:
    """From this block's first order on."""
    state.markets.columns["collar_bps"][command.market] = command.collar_bps
    _set_collars(state, slice(command.market, command.market + 1))
    return Entry(subject=command.market, detail=command.collar_bps)


def _set_collars(state: State, markets: slice) -> None:
    """Bounds of this block's orders, from the mark price while it is valid, else the last trade.

    Low rounds down and high up: a collar is never narrower than it says. Prices are below 2^26.
    """
    columns = {name: column[markets] for name, column in state.markets.columns.items()}
    is_valid = (columns["price_status"] == PriceStatus.VALID) & (columns["mark_price"] > 0)
    reference = np.where(is_valid, columns["mark_price"], columns["last_price"])
    width = reference * columns["collar_bps"]
    is_bound = (columns["collar_bps"] > 0) & (reference > 0)
    low = np.where(is_bound, (reference * BPS_ONE - width) // BPS_ONE, 0)
    high = np.where(is_bound, -(-(reference * BPS_ONE + width) // BPS_ONE), columns["price_max"])
    for row in np.flatnonzero((low != columns["collar_low"]) | (high != columns["collar_high"])).tolist():
        columns["collar_low"][row] = low[row]
        columns["collar_high"][row] = high[row]
        state.markets.mark(markets.start + row)


class MarketsPlugin(Plugin):
    """Listing, fees, status and collars of markets."""

    name = "markets"
    handlers: Sequence[Handler] = (
        Handler(ListMarket, validate_list_market, apply_list_market),
        Handler(SetFees, validate_set_fees, apply_set_fees),
        Handler(SetMarketStatus, validate_set_market_status, apply_set_market_status),
        Handler(SetCollar, validate_set_collar, apply_set_collar),
    )

    def on_block_start(self, state: State, context: Context) -> None:
        """Collars follow the reference price, block by block."""
        _set_collars(state, slice(0, state.count["markets"]))

    def check_invariants(self, state: State) -> None:
        """Books, holds and counts agree."""
        check_books(state)


def _fits(command: ListMarket) -> bool:
    return (
        command.qty_max <= AMOUNT_MAX // command.base_per_lot
        and command.qty_max <= AMOUNT_MAX // command.quote_per_lot_tick
        and command.price_max <= AMOUNT_MAX // command.quote_per_lot_tick
    )


def _check_venue_and_market(state: State, market: int, context: Context) -> Code:
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    return Code.OK if market < state.count["markets"] else Code.UNKNOWN_MARKET
