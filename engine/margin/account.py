"""What an account has, and what its positions ask for: equity, initial and maintenance margin.

The one place that says so: order entry, withdrawals and liquidation all ask `assess`. All sums are in
units of the settlement asset of one pool; positions settled in another asset, and isolated ones, are assessed
apart.

Bounds, with POSITIONS_PER_ACCOUNT_MAX = 16 positions: cash ≤ 2^62, unrealised PnL ≤ 16 × 2^55, unsettled
≤ 16 × 2^56, collateral ≤ 16 × 2^56, so equity stays within ±(2^63 − 1); margins ≤ 16 × 2^57.
"""

from typing import NamedTuple

import numpy as np

from engine.compiled import inlined, kernel, outlined, shared, widen
from engine.fixed_point import E6, fee_rounded_up
from engine.layout import NONE, Core, MarginMode, PositionFlag
from engine.margin.collateral import collateral_value
from engine.margin.scores import margin_addon_bps
from engine.margin.tiers import compute_risk
from engine.perpetuals.funding import funding_owed
from engine.records import Side
from engine.tables.index import find_balance

_ISOLATED = PositionFlag.ISOLATED.value
UNKNOWN = -(2**62)  # equity while a position has no mark price: enough for nothing


class Change(NamedTuple):
    """What would change: an order that comes to rest, or an amount that leaves. NONE, 0: nothing."""

    market: int
    side: int
    qty: int  # lots
    price: int  # ticks
    asset: int
    amount: int


NO_CHANGE = Change(NONE, 0, 0, 0, NONE, 0)


class Assessment(NamedTuple):
    """Quote units. `equity - initial` is free for new risk; below `maintenance` an account is liquidated."""

    equity: int
    initial: int
    maintenance: int


class Exposure(NamedTuple):
    """One position's part. Margins in quote units."""

    value: int  # of the position: unrealised, unsettled, and funding owed
    initial: int  # of its size after the worse side of its open orders filled
    maintenance: int  # of its size now
    lasting: int  # initial margin of the part that is left whatever fills; negative for a short position
    order_loss: int  # what its open orders would lose against the mark price if they filled


@kernel
def assess(core: Core, account: int, pool_row: int, change: Change) -> Assessment:
    """An account's cross-margined positions in one settlement asset, after `change`."""
    asset = widen(core.pools.rows[pool_row].asset)
    equity = collateral_value(core, account, pool_row, change.asset, change.amount)
    cash_row = find_balance(core.balance_index, core.balances.rows, account, asset)
    if cash_row != NONE:
        equity += core.balances.rows[cash_row].available
    if change.asset == asset:
        equity -= change.amount
    initial, maintenance, order_loss = 0, 0, 0
    unknown, met = False, change.market == NONE
    is_portfolio = core.accounts.rows[account].margin_mode == MarginMode.PORTFOLIO
    row = widen(core.accounts.rows[account].first_position)
    while row != NONE:
        position = core.positions.rows[row]
        if _is_counted(core, position, pool_row):
            met = met or position.market == change.market
            exposure = _expose(core, position, change)
            equity += exposure.value
            initial += exposure.initial
            maintenance += exposure.maintenance
            order_loss += exposure.order_loss
            unknown = unknown or core.markets.rows[position.market].mark_price == 0
            if is_portfolio:
                relief, lower = _relief(core, row, pool_row, change)
                initial -= relief
                maintenance -= lower
        row = widen(position.next_own)
    if not met:
        needed, loss = _expose_new(core, change)
        initial += needed
        order_loss += loss
    initial += fee_rounded_up(initial, 100 * margin_addon_bps(core, account)) + order_loss
    return Assessment(UNKNOWN if unknown else equity, initial, maintenance)


@kernel
def assess_isolated(core: Core, row: int, change: Change) -> Assessment:
    """One isolated position against its own collateral, after `change`."""
    position = core.positions.rows[row]
    exposure = _expose(core, position, change)
    initial = exposure.initial
    initial += fee_rounded_up(initial, 100 * margin_addon_bps(core, position.account)) + exposure.order_loss
    equity = position.collateral + exposure.value
    if core.markets.rows[position.market].mark_price == 0 and _has_risk(position):
        equity = UNKNOWN
    return Assessment(equity, initial, exposure.maintenance)


@shared
def account_equity(core: Core, account: int, pool_row: int) -> int:
    """Cash, collateral after haircuts, and what cross positions are worth. UNKNOWN without a mark price."""
    return assess(core, account, pool_row, NO_CHANGE).equity


@shared
def initial_margin(core: Core, account: int, pool_row: int) -> int:
    """What the account's cross positions and open orders ask for before it may take more risk."""
    return assess(core, account, pool_row, NO_CHANGE).initial


@shared
def maintenance_margin(core: Core, account: int, pool_row: int) -> int:
    """The equity below which the account is liquidated."""
    return assess(core, account, pool_row, NO_CHANGE).maintenance


@shared
def unrealised_pnl(core: Core, position: np.record) -> int:
    """What closing the position at the mark price would realise, quote units; 0 without a mark price."""
    market = core.markets.rows[position.market]
    if market.mark_price == 0:
        return 0
    return position.qty * market.mark_price * market.quote_per_lot_tick - position.entry


@inlined
def _is_counted(core: Core, position: np.record, pool_row: int) -> bool:
    if position["flags"] & _ISOLATED or not _has_risk(position):
        return False
    perpetual = core.perpetuals.rows[core.markets.rows[position.market].perpetual]
    return bool(perpetual.pool == pool_row)


@inlined
def _has_risk(position: np.record) -> bool:
    return bool(position.qty | position.open_buy | position.open_sell | position.unsettled != 0)


@inlined
def _expose(core: Core, position: np.record, change: Change) -> Exposure:
    """A position with its open orders, and with that of `change` if it is in its market."""
    market = core.markets.rows[position.market]
    perpetual = core.perpetuals.rows[market.perpetual]
    lots, mark_value = position.qty, market.mark_price * market.quote_per_lot_tick
    buy, sell = position.open_buy, position.open_sell
    buy_notional, sell_notional, own_loss = position.buy_notional, position.sell_notional, 0
    if change.market == position.market:
        notional = change.qty * change.price * market.quote_per_lot_tick
        own_loss = _loss_at_mark(change.side, notional, change.qty * mark_value)
        if change.side == Side.BUY:
            buy += change.qty
            buy_notional += notional
        else:
            sell += change.qty
            sell_notional += notional
    value = position.unsettled + unrealised_pnl(core, position) - funding_owed(perpetual, position)
    initial, _ = compute_risk(core, market, max(abs(lots + buy), abs(lots - sell)))
    _, maintenance = compute_risk(core, market, abs(lots))
    lasting, _ = compute_risk(core, market, max(lots - sell, -lots - buy, 0))
    order_loss = _loss_at_mark(Side.BUY.value, buy_notional, buy * mark_value)
    order_loss += _loss_at_mark(Side.SELL.value, sell_notional, sell * mark_value)
    return Exposure(value, initial, maintenance, lasting if lots > 0 else -lasting, max(order_loss, own_loss))


@inlined
def _expose_new(core: Core, change: Change) -> tuple[int, int]:
    """An order in a market where the account has no position: (initial margin, loss if it filled)."""
    market = core.markets.rows[change.market]
    notional = change.qty * change.price * market.quote_per_lot_tick
    initial, _ = compute_risk(core, market, change.qty)
    at_mark = change.qty * market.mark_price * market.quote_per_lot_tick
    return initial, _loss_at_mark(change.side, notional, at_mark)


@inlined
def _loss_at_mark(side: int, notional: int, at_mark: int) -> int:
    return max(notional - at_mark if side == Side.BUY else at_mark - notional, 0)


@outlined
def _relief(core: Core, row: int, pool_row: int, change: Change) -> tuple[int, int]:
    """By how much a group of markets asks for less than its members: (initial, maintenance), rounded down.

    Counted once a group, at the first of its positions in the account's list, else (0, 0). Long and
    short of one underlying lose and gain together: of what the smaller side asks for, `offset_ppm` (the
    lowest of the group) is forgiven on both. A linear contract's loss is a straight line in the move, so the
    worst of the scan's sixteen price points is one of its two ends, and no other is looked at.
    """
    first = core.positions.rows[row]
    group = core.perpetuals.rows[core.markets.rows[first.market].perpetual].group
    if group == 0:
        return 0, 0
    longs, shorts, long_maintenance, short_maintenance = 0, 0, 0, 0
    offset_ppm = E6
    other_row = widen(core.accounts.rows[first.account].first_position)
    is_first = True
    while other_row != NONE:
        other = core.positions.rows[other_row]
        perpetual = core.perpetuals.rows[core.markets.rows[other.market].perpetual]
        if perpetual.group == group and _is_counted(core, other, pool_row):
            if is_first and other_row != row:
                return 0, 0
            is_first = False
            offset_ppm = min(offset_ppm, widen(perpetual.offset_ppm))
            exposure = _expose(core, other, change)
            longs += max(exposure.lasting, 0)
            shorts += max(-exposure.lasting, 0)
            if other.qty > 0:
                long_maintenance += exposure.maintenance
            else:
                short_maintenance += exposure.maintenance
        other_row = widen(other.next_own)
    initial = 2 * min(longs, shorts)
    maintenance = 2 * min(long_maintenance, short_maintenance)
    kept_ppm = E6 - offset_ppm
    return (
        initial - fee_rounded_up(initial, kept_ppm),
        maintenance - fee_rounded_up(maintenance, kept_ppm),
    )
