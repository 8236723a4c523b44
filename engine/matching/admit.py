"""What an order must satisfy before it may touch the book. Each rule reads, none writes.

Rules are asked in one fixed order, and the first that refuses gives the code: operation, market,
account, its limits, market status, price, collar, quantity, notional, order id, funds, then what its time
in force asks of the book.
"""

import numpy as np

from engine.accounts.limits import take_token
from engine.compiled import inlined, outlined
from engine.fixed_point import product_fits
from engine.layout import NONE, Core, OrderFlag
from engine.markets.states import Action, allows
from engine.matching.book import find_level, is_same_owner
from engine.matching.iceberg import count_hidden
from engine.matching.ladder import next_occupied, previous_occupied
from engine.records import (
    SLIDE,
    STP_MASK,
    STP_SHIFT,
    TIF_MASK,
    TIF_SHIFT,
    Code,
    SelfTrade,
    Side,
    TimeInForce,
)

_ENTER, _MATCH = Action.ENTER.value, Action.MATCH.value
FILLS_PER_ORDER_MAX = 1024  # resting orders that one order may meet; bounds the work of an operation


@inlined
def time_in_force(op: np.record) -> int:
    """The time in force that an operation's flags carry."""
    return (op["flags"] >> TIF_SHIFT) & TIF_MASK


@inlined
def self_trade_mode(op: np.record) -> int:
    """The self-trade mode that an operation's flags carry."""
    return (op["flags"] >> STP_SHIFT) & STP_MASK


@inlined
def check_names(core: Core, op: np.record) -> int:
    """The operation is well formed and names a market and an account that exist."""
    counters = core.counters.rows[0]
    tif = time_in_force(op)
    if tif > TimeInForce.MARKET:
        return Code.BAD_OP.value
    if op["flags"] & SLIDE and tif != TimeInForce.POST_ONLY:
        return Code.BAD_OP.value
    if op.market >= counters.markets:
        return Code.UNKNOWN_MARKET.value
    if op.account >= counters.accounts:
        return Code.UNKNOWN_ACCOUNT.value
    return Code.OK.value


@inlined
def check_account(core: Core, op: np.record, more_orders: int) -> int:
    """The account may send one more operation now, and have `more_orders` more orders open."""
    account = core.accounts.rows[op.account]
    if account.open_orders + more_orders > account.open_orders_max:
        return Code.TOO_MANY_ORDERS.value
    if account.rate_max != 0 and not take_token(core, op.account):
        return Code.TOO_FAST.value
    return Code.OK.value


@inlined
def check_terms(market: np.record, op: np.record, side: int, waits: bool) -> int:
    """The market takes orders, and price, quantity and notional are within its bounds. An order that waits
    for its trigger meets the collar of that day.

    After this, price × qty × quote_per_lot_tick ≤ AMOUNT_MAX. Listing ensured that
    qty_max × quote_per_lot_tick and qty_max × base_per_lot are.
    """
    if not allows(market.status, _ENTER):
        return Code.MARKET_CLOSED.value
    if op.price < 1 or op.price > market.price_max:
        return Code.PRICE_OUT_OF_RANGE.value
    if not waits and (op.price > market.collar_high if side == Side.BUY else op.price < market.collar_low):
        return Code.BEYOND_COLLAR.value
    if op.qty < 1 or op.qty > market.qty_max:
        return Code.QTY_OUT_OF_RANGE.value
    quote_per_tick = op.qty * market.quote_per_lot_tick
    if not product_fits(op.price, quote_per_tick):
        return Code.NOTIONAL_TOO_LARGE.value
    if op.price * quote_per_tick < market.notional_min:
        return Code.NOTIONAL_TOO_SMALL.value
    return Code.OK.value


@inlined
def crosses(market: np.record, side: int, price: int) -> bool:
    """Whether an order at `price` would meet the best of the other side. Empty sides never cross."""
    if side == Side.BUY:
        return market.best_ask <= price
    return market.best_bid >= price


@inlined
def check_book(core: Core, market: np.record, op: np.record, side: int) -> int:
    """The book lets an order of this time in force in."""
    tif = time_in_force(op)
    if not allows(market.status, _MATCH):
        return Code.OK.value if tif == TimeInForce.GTC else Code.NOT_IN_A_CALL.value
    if is_beyond_band(market, side, op.price):
        return _check_book_at_band(core, market, op, side)
    crossing = crosses(market, side, op.price)
    if tif == TimeInForce.GTC:
        return Code.OK.value
    if tif == TimeInForce.POST_ONLY:
        return Code.WOULD_CROSS.value if crossing else Code.OK.value
    if tif == TimeInForce.FOK:
        return Code.OK.value if crossing and _is_fillable(core, market, op, side) else Code.NOT_FILLABLE.value
    return Code.OK.value if crossing else Code.NO_LIQUIDITY.value


@outlined
def _check_book_at_band(core: Core, market: np.record, op: np.record, side: int) -> int:
    """What would pay more, or take less, than the band allows cannot rest: it trades up to the band's end, or
    is refused."""
    tif = time_in_force(op)
    crossing = crosses(market, side, limit_at_band(market, side, op.price))
    if tif == TimeInForce.FOK:
        return Code.OK.value if crossing and _is_fillable(core, market, op, side) else Code.NOT_FILLABLE.value
    return Code.OK.value if crossing and tif != TimeInForce.POST_ONLY else Code.OUTSIDE_BAND.value


@inlined
def is_beyond_band(market: np.record, side: int, price: int) -> bool:
    """Whether a buyer would pay more than the price band allows, or a seller take less. Without a band,
    nobody does."""
    if side == Side.BUY:
        return bool(price > market.band_high and market.band_high != 0)
    return bool(price < market.band_low)


@inlined
def limit_at_band(market: np.record, side: int, price: int) -> int:
    """The worst price at which an order at `price` may trade."""
    if is_beyond_band(market, side, price):
        return int(market.band_high if side == Side.BUY else market.band_low)
    return price


@inlined
def is_left_behind(market: np.record, side: int, price: int) -> bool:
    """Whether the band has moved past a maker at `price`, whom an order of `side` would meet: a trade there
    would be outside."""
    if side == Side.BUY:
        return bool(price < market.band_low)
    return bool(price > market.band_high and market.band_high != 0)


@outlined
def slide(core: Core, op: np.record, side: int) -> None:
    """SLIDE of a post-only order: a price that would cross becomes the best that does not, if any is."""
    counters = core.counters.rows[0]
    if op.market >= counters.markets or time_in_force(op) != TimeInForce.POST_ONLY:
        return
    market = core.markets.rows[op.market]
    if not allows(market.status, _MATCH) or op.price < 1 or op.price > market.price_max:
        return
    if crosses(market, side, op.price):
        price = market.best_ask - 1 if side == Side.BUY else market.best_bid + 1
        if price >= 1 and price <= market.price_max:
            op.price = price


@outlined
def _is_fillable(core: Core, market: np.record, op: np.record, side: int) -> bool:
    """Whether the whole of `op` would trade at once: found by walking, not by trading and undoing.

    Own orders in the way are skipped if they would be cancelled, and spoil it in the other modes. An
    iceberg's hidden slices count behind everybody at its price, each as a meeting of its own. Whom the band
    left behind is met and gives nothing; who would only reduce is met and may give nothing.
    """
    wanted, met = op.qty, 0
    limit = limit_at_band(market, side, op.price)
    group = core.accounts.rows[op.account].group
    price = market.best_ask if side == Side.BUY else market.best_bid
    while price != NONE:
        hides = False
        head = core.levels.rows[find_level(market, 1 - side, price)].head - 1
        row = head
        while row != NONE:
            if met == FILLS_PER_ORDER_MAX:
                return False
            met += 1
            order = core.orders.rows[row]
            if is_left_behind(market, side, price) or order["flags"] & OrderFlag.REDUCE_ONLY:
                pass
            elif not is_same_owner(core, op.account, group, order.account):
                wanted -= order.leaves
                if wanted <= 0:
                    return True
                hides = hides or order["flags"] & OrderFlag.HAS_TERMS != 0
            elif self_trade_mode(op) != SelfTrade.CANCEL_MAKER:
                return False
            row = order.next
        if hides:
            slices, lots = count_hidden(core, head, wanted, op.account, group)
            met += slices
            wanted -= lots
            if wanted <= 0 or met > FILLS_PER_ORDER_MAX:
                return bool(met <= FILLS_PER_ORDER_MAX)
        price = _next_price(core, market, side, price, limit)
    return False


@inlined
def _next_price(core: Core, market: np.record, side: int, price: int, limit: int) -> int:
    """The next occupied price behind `price` on the other side, no worse than `limit`, or NONE."""
    if side == Side.BUY:
        start = market.ask_start
        row = next_occupied(core.ladder_bits, start + price)
        return row - start if row != NONE and row - start <= limit else NONE
    start = market.bid_start
    row = previous_occupied(core.ladder_bits, start + price)
    return row - start if row - start >= limit else NONE
