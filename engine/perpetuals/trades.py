"""A trade in a perpetual market: lots change hands, what closes is realised, fees are charged.

What a position cost is kept exactly, as the sum of its fills: there is no averaged price. Closing part
of it realises that part's share of the cost; the share is rounded so that the profit is rounded down, and
what rounding left out stays in the cost of the other lots, to the last of them.
"""

import numpy as np

from engine.compiled import kernel, outlined
from engine.fixed_point import fee_rounded_up, part_rounded_down, part_rounded_up
from engine.layout import PERPETUAL_PAGE, POOL_PAGE, POSITION_PAGE, Core
from engine.perpetuals.cash import book_pnl, pay_fee, settle_cash
from engine.perpetuals.funding import charge_funding


@kernel
def change_hands(core: Core, market_row: int, buyer: int, seller: int, price: int, qty: int) -> None:
    """`qty` lots move from position row `seller` to position row `buyer` at `price` ticks, without fees.

    Bound: price × qty × quote_per_lot_tick ≤ NOTIONAL_MAX. Rows differ. Caller ensured that open interest
    stays within what listing checked.
    """
    market = core.markets.rows[market_row]
    perpetual_row = market.perpetual
    perpetual = core.perpetuals.rows[perpetual_row]
    lot_value = price * market.quote_per_lot_tick
    longs = max(core.positions.rows[buyer].qty, 0) + max(core.positions.rows[seller].qty, 0)
    _add_lots(core, perpetual, buyer, qty, lot_value)
    _add_lots(core, perpetual, seller, -qty, lot_value)
    longs_after = max(core.positions.rows[buyer].qty, 0) + max(core.positions.rows[seller].qty, 0)
    perpetual.open_interest += longs_after - longs
    core.perpetuals.dirty[perpetual_row >> PERPETUAL_PAGE] = 1
    settle_cash(core, perpetual.pool, buyer)
    settle_cash(core, perpetual.pool, seller)


@outlined
def charge_fee(core: Core, market: np.record, row: int, notional: int, rate_e6: int) -> int:
    """The venue gets its part of `notional` quote units, rounded up, from position row `row`; returns it."""
    fee = fee_rounded_up(notional, rate_e6)
    pay_fee(core, core.perpetuals.rows[market.perpetual].pool, row, fee)
    return fee


@outlined
def _add_lots(core: Core, perpetual: np.record, row: int, qty: int, lot_value: int) -> None:
    """Add `qty` lots, negative if sold, at `lot_value` quote units each; realise what that closes."""
    position, pool = core.positions.rows[row], core.pools.rows[perpetual.pool]
    charge_funding(core, perpetual, row)
    lots = position.qty
    closed = 0
    if lots > 0 and qty < 0:
        closed = min(lots, -qty)
        cost = part_rounded_up(position.entry, closed, lots)
        position.entry -= cost
        book_pnl(pool, position, closed * lot_value - cost)
    elif lots < 0 and qty > 0:
        closed = min(-lots, qty)
        proceeds = part_rounded_down(-position.entry, closed, -lots)
        position.entry += proceeds
        book_pnl(pool, position, proceeds - closed * lot_value)
    opened = qty + closed if qty < 0 else qty - closed
    position.entry += opened * lot_value
    position.qty = lots + qty
    core.pools.dirty[perpetual.pool >> POOL_PAGE] = 1
    core.positions.dirty[row >> POSITION_PAGE] = 1
