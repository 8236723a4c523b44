"""Which orders are due, and what becomes of them."""

import numpy as np

from engine.compiled import inlined, kernel, outlined, widen
from engine.layout import MARKET_PAGE, NONE, Core, MarketKind
from engine.markets.states import Action, allows
from engine.matching.admit import FILLS_PER_ORDER_MAX, check_book, check_terms, slide
from engine.matching.attached import Terms, attach, terms_of
from engine.matching.orders import Admission, admit_perpetual, enter_book, find_own_order
from engine.matching.records import write_triggered
from engine.matching.taking import take_off
from engine.matching.waiting import first_to_trigger
from engine.oracle.ladder import PriceAction, price_allows
from engine.records import SLIDE, Code, Reference, Side

LINES_PER_TRIGGER = FILLS_PER_ORDER_MAX + 1
_TRIGGER = Action.TRIGGER.value
_PRICE_TRIGGERS = PriceAction.TRIGGER.value
_REFERENCES = len(Reference)


@kernel
def find_due(core: Core, due: np.ndarray) -> None:
    """Mark in `due` (markets,) uint8 where somebody is due; elsewhere forget which prices were touched."""
    for row in range(core.counters.rows[0].markets):
        market = core.markets.rows[row]
        waiting = core.counters.rows[0].orders_waiting
        if waiting > 0 and _next_due(core, market, market.trade_low, market.trade_high) != NONE:
            due[row] = allows(market.status, _TRIGGER)
        else:
            forget_trades(core, row)


@inlined
def forget_trades(core: Core, market_row: int) -> None:
    """Of the prices at which a market traded only the last one counts."""
    market = core.markets.rows[market_row]
    last = market.last_price
    if last > 0 and (market.trade_low != last or market.trade_high != last):
        market.trade_low = last
        market.trade_high = last
        core.markets.dirty[market_row >> MARKET_PAGE] = 1


@kernel
def begin_turn(core: Core, market_row: int) -> tuple[int, int]:
    """The prices at which the market traded, which its turn is about; trades of the turn are for the next."""
    market = core.markets.rows[market_row]
    low, high = market.trade_low, market.trade_high
    forget_trades(core, market_row)
    return low, high


@kernel
def end_turn(core: Core, market_row: int, low: int, high: int) -> None:
    """If others are due at these prices, they go on to count."""
    market = core.markets.rows[market_row]
    if _next_due(core, market, low, high) != NONE:
        market.trade_low = min(market.trade_low, low)
        market.trade_high = max(market.trade_high, high)
        core.markets.dirty[market_row >> MARKET_PAGE] = 1


@kernel
def trigger_orders(
    core: Core, market_row: int, low: int, high: int, most: int, ops: np.ndarray, events: np.ndarray
) -> tuple[int, int]:
    """Let up to `most` orders enter that are due in a market which traded at low..high.

    ops (1,) ORDER_OP, scratch. events JOURNAL; stops where fewer than LINES_PER_TRIGGER lines are left.
    Returns (orders triggered, lines written).
    """
    market = core.markets.rows[market_row]
    count, used = 0, 0
    while count < most and events.shape[0] - used >= LINES_PER_TRIGGER:
        row = _next_due(core, market, low, high)
        if row == NONE:
            break
        used = _enter(core, market, row, ops[0], events, used)
        count += 1
    return count, used


@inlined
def _next_due(core: Core, market: np.record, low: int, high: int) -> int:
    """The order that enters next if the market traded at low..high, or NONE."""
    for reference in range(_REFERENCES):
        rising, falling = high, low
        if reference != Reference.LAST:
            rising = market.mark_price if reference == Reference.MARK else market.index_price
            falling = rising
            if rising < 1 or not price_allows(market.price_status, _PRICE_TRIGGERS):
                continue
        row = first_to_trigger(core, market, Side.BUY.value, reference)
        if row != NONE and core.terms.rows[row].trigger <= rising:
            return row
        row = first_to_trigger(core, market, Side.SELL.value, reference)
        if row != NONE and core.terms.rows[row].trigger >= falling:
            return row
    return NONE


@outlined
def _enter(core: Core, market: np.record, row: int, op: np.record, events: np.ndarray, used: int) -> int:
    """A waiting order leaves its queue and enters the book as what it becomes. Returns the lines used."""
    order, waited = core.orders.rows[row], terms_of(core, row)
    op.op = 0
    op["flags"] = waited.becomes
    op.market = order.market
    op.account = order.account
    op.client_order_id = order.client_order_id
    op.price = order.price
    op.qty = order.leaves
    side, pay_row, receive_row = widen(order.side), widen(order.base_row), widen(order.quote_row)
    if side == Side.BUY:
        pay_row, receive_row = receive_row, pay_row
    admitted = Admission(Code.OK.value, side, pay_row, receive_row, order.filled)
    take_off(core, row, order.leaves)
    if op["flags"] & SLIDE:
        slide(core, op, side)
    op.price = min(op.price, market.collar_high) if side == Side.BUY else max(op.price, market.collar_low)
    code, filled, left = check_terms(market, op, side, False), 0, 0
    if code == Code.OK and market.kind == MarketKind.PERPETUAL:
        code = admit_perpetual(core, op, side, NONE, False).code
    elif code == Code.OK:
        code = check_book(core, market, op, side)
    line = events[used]
    used += 1
    if code == Code.OK:
        code, filled, left, used = enter_book(core, op, admitted, events, used)
    if left > 0 and (waited.display > 0 or waited.expiry_ms > 0):
        rest = Terms(Code.OK.value, 1, waited.display, waited.expiry_ms, 0, 0, 0)
        attach(core, find_own_order(core, op), rest)
    write_triggered(line, op, side, waited.trigger, code, filled, left)
    return used
