"""Trading a crossed book at one price: best price first, oldest first, on both sides."""

import numpy as np

from engine.clearing.holds import compute_hold
from engine.clearing.settle import credit
from engine.compiled import inlined, kernel, outlined
from engine.fees.rates import find_maker_rate_without_rebate
from engine.fixed_point import fee_rounded_up
from engine.layout import BALANCE_PAGE, MARKET_PAGE, Core, MarketKind, OrderFlag
from engine.matching.book import find_level, is_same_owner, remove_order, shrink_order
from engine.matching.iceberg import open_lots, refill
from engine.matching.records import write_cross, write_removed
from engine.matching.taking import take_off
from engine.matching.waiting import widen_trades
from engine.perpetuals.orders import has_room_to_cross, reducible, settle_cross
from engine.records import Code, Side

LINES_PER_MEETING = 2  # of the journal: a trade, or two orders taken off


@kernel
def uncross(
    core: Core, market_row: int, price: int, volume: int, meetings_max: int, events: np.ndarray
) -> tuple[int, int, int]:
    """Let up to `volume` lots trade at `price`. Returns (lots done, meetings, lines written).

    events JOURNAL, with room for LINES_PER_MEETING × meetings_max lines. Stops after `meetings_max`
    meetings, or when one side has no order left that accepts the price.
    """
    market = core.markets.rows[market_row]
    done, meetings, used, fills = 0, 0, 0, 0
    while done < volume and meetings < meetings_max:
        if market.best_bid < price or market.best_ask > price:
            break
        meetings += 1
        buy_row = core.levels.rows[find_level(market, Side.BUY.value, market.best_bid)].head - 1
        sell_row = core.levels.rows[find_level(market, Side.SELL.value, market.best_ask)].head - 1
        buy, sell = core.orders.rows[buy_row], core.orders.rows[sell_row]
        qty = min(min(buy.leaves, sell.leaves), volume - done)
        if market.kind == MarketKind.PERPETUAL:
            qty, used = _limit(core, buy_row, sell_row, qty, events, used)
            if qty == 0:
                continue
        done += qty
        if is_same_owner(core, buy.account, core.accounts.rows[buy.account].group, sell.account):
            used = _drop(core, buy_row, qty, Code.SELF_TRADE.value, events, used)
            used = _drop(core, sell_row, qty, Code.SELF_TRADE.value, events, used)
            continue
        _trade(core, market, buy, sell, price, qty, events[used])
        used += 1
        fills += 1
        _fill(core, buy_row, qty)
        _fill(core, sell_row, qty)
    if fills > 0:
        core.counters.rows[0].fills += fills
        core.counters.dirty[0] = 1
        market.last_price = price
        widen_trades(market, price)
        core.markets.dirty[market_row >> MARKET_PAGE] = 1
    return done, meetings, used


@outlined
def _limit(
    core: Core, buy_row: int, sell_row: int, qty: int, events: np.ndarray, used: int
) -> tuple[int, int]:
    """How many of `qty` lots of a contract two orders may trade, and the lines used. Whoever stands in the
    way leaves: a reduce-only order that reduces nothing, or both where open interest has no room for them."""
    for row in (buy_row, sell_row):
        allowed = reducible(core, core.orders.rows[row], qty)
        if allowed == 0:
            return 0, _drop(core, row, open_lots(core, row), Code.WOULD_NOT_REDUCE.value, events, used)
        qty = allowed
    if not has_room_to_cross(core, core.orders.rows[buy_row], core.orders.rows[sell_row], qty):
        used = _drop(core, buy_row, qty, Code.OPEN_INTEREST_LIMIT.value, events, used)
        return 0, _drop(core, sell_row, qty, Code.OPEN_INTEREST_LIMIT.value, events, used)
    return qty, used


@inlined
def _drop(core: Core, row: int, qty: int, code: int, events: np.ndarray, used: int) -> int:
    """`qty` lots of an order leave the book, because of `code`. Returns the lines used."""
    write_removed(events[used], code, core.orders.rows[row], qty, open_lots(core, row) - qty)
    take_off(core, row, qty)
    return used + 1


@inlined
def _trade(
    core: Core, market: np.record, buy: np.record, sell: np.record, price: int, qty: int, line: np.record
) -> None:
    """Settle one trade. The buyer's hold is for its own price or more: the difference becomes available."""
    if market.kind == MarketKind.PERPETUAL:
        buy_fee, sell_fee = settle_cross(core, buy, sell, price, qty)
        write_cross(line, buy, sell, price, qty, buy_fee, sell_fee)
        return
    base, quote = qty * market.base_per_lot, price * qty * market.quote_per_lot_tick
    buy_fee = fee_rounded_up(base, find_maker_rate_without_rebate(core, market, buy.account))
    sell_fee = fee_rounded_up(quote, find_maker_rate_without_rebate(core, market, sell.account))
    held = compute_hold(Side.BUY.value, buy.price, qty, market)
    _pay(core, buy.quote_row, held, held - quote)
    credit(core.balances, buy.base_row, base - buy_fee)
    _pay(core, sell.base_row, base, 0)
    credit(core.balances, sell.quote_row, quote - sell_fee)
    credit(core.balances, market.fee_base_row, buy_fee)
    credit(core.balances, market.fee_quote_row, sell_fee)
    write_cross(line, buy, sell, price, qty, buy_fee, sell_fee)


@inlined
def _pay(core: Core, row: int, held: int, back: int) -> None:
    """`held` leaves the hold of a balance row, `back` of it becomes available again."""
    balance = core.balances.rows[row]
    balance.held -= held
    balance.available += back
    core.balances.dirty[row >> BALANCE_PAGE] = 1


@inlined
def _fill(core: Core, row: int, qty: int) -> None:
    """`qty` shown lots of an order are filled: it shrinks, shows its next slice, or is done."""
    order = core.orders.rows[row]
    order.filled += qty
    if qty < order.leaves:
        shrink_order(core, row, qty)
    elif order["flags"] & OrderFlag.HAS_TERMS == 0 or not refill(core, row):
        remove_order(core, row)
