"""Orders of perpetual markets: what they must satisfy, and what matching asks about them.

An order that may add to a position counts from admission on among its position's open lots, so margin
is there before it fills. An order that can only reduce, by its flag or by its size, needs no margin and no
mark price. Reduce-only orders are no open lots: what they may trade is asked at entry and again whenever
one is met, and one that would reduce no more is cancelled when it is met.
"""

import numpy as np

from engine.compiled import inlined, outlined, widen
from engine.fees.rates import find_maker_rate_without_rebate, find_taker_rate
from engine.fixed_point import E6
from engine.layout import NONE, POSITION_PAGE, Core, PositionFlag, PriceStatus
from engine.margin.account import Change, assess, assess_isolated
from engine.perpetuals.positions import find_or_open_position, lots_of, position_of
from engine.perpetuals.trades import change_hands, charge_fee
from engine.records import REDUCE_ONLY, TIF_MASK, TIF_SHIFT, Code, Side, TimeInForce

UNSETTLED_MAX = 2**55  # quote units that a position may be owed, or owe, when it takes new risk


@outlined
def check_order(core: Core, op: np.record, side: int) -> int:
    """Whether the account may have this order: flags, mark price, collar, limits, margin, in this order."""
    market = core.markets.rows[op.market]
    perpetual = core.perpetuals.rows[market.perpetual]
    row = position_of(core, op.account, op.market)
    closable = closable_lots(lots_of(core, row), side)
    if op["flags"] & REDUCE_ONLY:
        if closable <= 0:
            return Code.WOULD_NOT_REDUCE.value
        is_fok = (op["flags"] >> TIF_SHIFT) & TIF_MASK == TimeInForce.FOK
        return Code.NOT_FILLABLE.value if is_fok and op.qty > closable else Code.OK.value
    opened = _open_lots_of(core, row, side) + op.qty
    if opened <= closable:
        return Code.OK.value
    if market.mark_price == 0 or market.price_status != PriceStatus.VALID:
        return Code.NO_MARK_PRICE.value
    if _is_far_from_mark(market.mark_price, widen(perpetual.collar_ppm), op.price, side):
        return Code.FAR_FROM_MARK.value
    unsettled = 0 if row == NONE else core.positions.rows[row].unsettled
    if opened - closable > perpetual.position_max or abs(unsettled) > UNSETTLED_MAX:
        return Code.POSITION_LIMIT.value
    if op.qty > perpetual.open_interest_max - perpetual.open_interest:
        return Code.OPEN_INTEREST_LIMIT.value
    change = Change(widen(op.market), side, op.qty, op.price, NONE, 0)
    if row != NONE and core.positions.rows[row]["flags"] & PositionFlag.ISOLATED:
        found = assess_isolated(core, row, change)
    else:
        found = assess(core, widen(op.account), widen(perpetual.pool), change)
    return Code.OK.value if found.equity >= found.initial else Code.MARGIN_TOO_LOW.value


@inlined
def closable_lots(lots: int, side: int) -> int:
    """How many lots of a position an order of `side` closes at most; not positive if it would add."""
    return -lots if side == Side.BUY else lots


@outlined
def lots_to_take(core: Core, op: np.record, side: int) -> int:
    """Lots with which an admitted order sets out: all of it, or what it may reduce."""
    if op["flags"] & REDUCE_ONLY == 0:
        return op.qty
    return min(op.qty, closable_lots(lots_of(core, position_of(core, op.account, op.market)), side))


@outlined
def reducible(core: Core, order: np.record, qty: int) -> int:
    """How many of `qty` lots a resting order may trade, if it is reduce-only; else all."""
    if order["flags"] & REDUCE_ONLY == 0:
        return qty
    lots = lots_of(core, position_of(core, order.account, order.market))
    return min(qty, max(closable_lots(lots, widen(order.side)), 0))


@outlined
def has_room_to_cross(core: Core, buy: np.record, sell: np.record, qty: int) -> bool:
    """Whether two resting orders may trade `qty` lots without open interest passing its maximum.

    Only auctions ask: a taker that may add to its position found room for all its lots when it entered, and
    one that can only reduce makes no open interest, whoever it meets.
    """
    market_row = widen(buy.market)
    perpetual = core.perpetuals.rows[core.markets.rows[market_row].perpetual]
    bought = lots_of(core, position_of(core, buy.account, market_row))
    sold = lots_of(core, position_of(core, sell.account, market_row))
    growth = max(bought + qty, 0) - max(bought, 0) + max(sold - qty, 0) - max(sold, 0)
    return bool(growth <= 0 or perpetual.open_interest + growth <= perpetual.open_interest_max)


@outlined
def begin_order(core: Core, op: np.record, side: int, quote_row: int) -> None:
    """An admitted order enters: its lots are open lots of the position, which may be a new one."""
    row = find_or_open_position(core, widen(op.account), widen(op.market), quote_row)
    if op["flags"] & REDUCE_ONLY == 0:
        add_open_lots(core, row, side, op.qty, op.price)


@outlined
def settle_fill(core: Core, op: np.record, side: int, maker: np.record, qty: int) -> tuple[int, int]:
    """`qty` lots trade at the maker's price: open lots become positions. Returns (taker's, maker's) fee."""
    market_row = widen(op.market)
    market = core.markets.rows[market_row]
    taker_row = position_of(core, op.account, market_row)
    maker_row = position_of(core, maker.account, market_row)
    if op["flags"] & REDUCE_ONLY == 0:
        add_open_lots(core, taker_row, side, -qty, op.price)
    take_order_off(core, maker, qty)
    if side == Side.BUY:
        change_hands(core, market_row, taker_row, maker_row, maker.price, qty)
    else:
        change_hands(core, market_row, maker_row, taker_row, maker.price, qty)
    notional = maker.price * qty * market.quote_per_lot_tick
    fee = charge_fee(core, market, taker_row, notional, find_taker_rate(core, market, op.account))
    return fee, charge_fee(
        core, market, maker_row, notional, find_maker_rate_without_rebate(core, market, maker.account)
    )


@outlined
def settle_cross(core: Core, buy: np.record, sell: np.record, price: int, qty: int) -> tuple[int, int]:
    """`qty` lots of two resting orders trade at an auction's price. Returns (buyer's, seller's) fee."""
    market_row = widen(buy.market)
    market = core.markets.rows[market_row]
    buyer = position_of(core, buy.account, market_row)
    seller = position_of(core, sell.account, market_row)
    take_order_off(core, buy, qty)
    take_order_off(core, sell, qty)
    change_hands(core, market_row, buyer, seller, price, qty)
    notional = price * qty * market.quote_per_lot_tick
    fee = charge_fee(core, market, buyer, notional, find_maker_rate_without_rebate(core, market, buy.account))
    return fee, charge_fee(
        core, market, seller, notional, find_maker_rate_without_rebate(core, market, sell.account)
    )


@outlined
def drop_open_lots(core: Core, op: np.record, side: int, qty: int) -> None:
    """`qty` lots of an operation that was admitted neither traded nor rest."""
    if op["flags"] & REDUCE_ONLY == 0 and qty > 0:
        add_open_lots(core, position_of(core, op.account, op.market), side, -qty, op.price)


@outlined
def take_order_off(core: Core, order: np.record, qty: int) -> None:
    """`qty` lots of a resting order leave the book."""
    if order["flags"] & REDUCE_ONLY == 0:
        row = position_of(core, order.account, order.market)
        add_open_lots(core, row, widen(order.side), -qty, order.price)


@outlined
def add_open_lots(core: Core, row: int, side: int, qty: int, price: int) -> None:
    """`qty` lots at `price` join the open orders of a position; negative: they leave them."""
    position = core.positions.rows[row]
    notional = qty * price * core.markets.rows[position.market].quote_per_lot_tick
    if side == Side.BUY:
        position.open_buy += qty
        position.buy_notional += notional
    else:
        position.open_sell += qty
        position.sell_notional += notional
    core.positions.dirty[row >> POSITION_PAGE] = 1


@inlined
def _open_lots_of(core: Core, row: int, side: int) -> int:
    if row == NONE:
        return 0
    position = core.positions.rows[row]
    return position.open_buy if side == Side.BUY else position.open_sell


@inlined
def _is_far_from_mark(mark_price: int, collar_ppm: int, price: int, side: int) -> bool:
    """Whether an order might trade worse than the mark price by more than the collar. Prices < 2^26."""
    if side == Side.BUY:
        return bool(price * E6 > mark_price * (E6 + collar_ppm))
    return bool(price * E6 < mark_price * (E6 - collar_ppm))
