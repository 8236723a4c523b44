"""What trades mean for fees, at a block's end: volumes and tiers, fees paid in another asset, referrals.

Trades took their fees when they happened. This pass reads their FILL lines, in the order in which they
happened, first the taker's side and then the maker's.
"""

import numpy as np

from engine.clearing.balances import find_or_open_balance
from engine.clearing.settle import credit
from engine.compiled import inlined, kernel, outlined, shared, widen
from engine.fees.tables import (
    DAY_SLOTS,
    DAY_UNITS_MAX,
    DAYS,
    FEE_ACCOUNT_PAGE,
    FEE_VOLUME_PAGE,
    FILL_UNITS_MAX,
    FeeTables,
)
from engine.fixed_point import E6, fee_rounded_up, product_fits, share_rounded_down
from engine.layout import ACCOUNT_PAGE, FEE_TIERS, NONE, Core, MarketKind, PriceStatus
from engine.margin.spending import may_spend
from engine.records import FeeLine, Kind, Side
from engine.tables.index import find_balance

LINES_PER_FILL = 4


@kernel
def account_fills(core: Core, fees: FeeTables, fills: np.ndarray, day: int, lines: np.ndarray) -> int:
    """Account for every FILL line in markets with a schedule. Returns how many `lines` were written.

    fills (n,) JOURNAL. lines JOURNAL, zero, with room for LINES_PER_FILL × n, or none while no account has
    chosen a fee asset or a referrer.
    """
    used = 0
    for i in range(fills.shape[0]):
        fill = fills[i]
        if fill.kind != Kind.FILL:
            continue
        market = core.markets.rows[fill.market]
        if market.fee_schedule == 0:
            continue
        notional = fill.price * fill.qty * market.quote_per_lot_tick  # it was admitted: at most AMOUNT_MAX
        units = min(notional // fees.markets.rows[fill.market].quote_per_unit, FILL_UNITS_MAX)
        _count(core, fees, widen(fill.account), units, day)
        _count(core, fees, widen(fill.counter_account), units, day)
        if lines.shape[0] == 0 or market.kind != MarketKind.SPOT:
            continue
        # Of a fee that paid a rebate, only the rest came to the venue.
        is_base = fill.side == Side.BUY
        used = _settle_afterwards(
            core, fees, market, widen(fill.account), is_base, fill.fee + min(fill.detail, 0), lines, used
        )
        used = _settle_afterwards(
            core, fees, market, widen(fill.counter_account), not is_base, max(fill.detail, 0), lines, used
        )
    return used


@kernel
def sweep_tiers(core: Core, fees: FeeTables, first: int, end: int, day: int) -> None:
    """Let time pass for accounts first..end − 1 that have traded: old days fall out of their volume."""
    for account in range(first, end):
        if fees.accounts.rows[account].volume > 0 or core.accounts.rows[account].fee_tier > 0:
            _count(core, fees, account, 0, day)


@outlined
def _count(core: Core, fees: FeeTables, account: int, units: int, day: int) -> None:
    """Add to today's volume of an account, forget days that are over, and find its tier."""
    row = fees.accounts.rows[account]
    first = account * DAY_SLOTS
    for back in range(min(day - row.day, DAYS)):
        slot = first + (day - back) % DAYS
        row.volume -= fees.volumes.rows[slot].units
        fees.volumes.rows[slot].units = 0
        fees.volumes.dirty[slot >> FEE_VOLUME_PAGE] = 1
    row.day = day
    slot = first + day % DAYS
    added = min(units, DAY_UNITS_MAX - fees.volumes.rows[slot].units)
    fees.volumes.rows[slot].units += added
    fees.volumes.dirty[slot >> FEE_VOLUME_PAGE] = 1
    row.volume += added
    fees.accounts.dirty[account >> FEE_ACCOUNT_PAGE] = 1
    tier = _find_tier(fees, row.volume)
    if core.accounts.rows[account].fee_tier != tier:
        core.accounts.rows[account].fee_tier = tier
        core.accounts.dirty[account >> ACCOUNT_PAGE] = 1


@inlined
def _find_tier(fees: FeeTables, volume: int) -> int:
    """The highest tier that somebody with this volume is in."""
    tier = FEE_TIERS - 1
    while tier > 0:
        needed = fees.tiers.rows[tier].volume_from
        if needed > 0 and needed <= volume:
            break
        tier -= 1
    return tier


@outlined
def _settle_afterwards(
    core: Core,
    fees: FeeTables,
    market: np.record,
    account: int,
    is_base: bool,
    fee: int,
    lines: np.ndarray,
    used: int,
) -> int:
    """One side's fee, which the venue has: swap it for the asset that the account chose, and give the
    referrer its share. Does nothing if the venue has spent the fee since. Returns the lines used."""
    chosen = fees.accounts.rows[account]
    if fee == 0 or (chosen.fee_asset == 0 and chosen.referrer == 0):
        return used
    asset = widen(market.base_asset if is_base else market.quote_asset)
    venue_row = widen(market.fee_base_row if is_base else market.fee_quote_row)
    if core.balances.rows[venue_row].available < fee:
        return used
    if chosen.fee_asset > 0:
        item = fees.assets.rows[chosen.fee_asset - 1]
        other = core.markets.rows[item.market]
        price = _convert(market, is_base, fee, other, widen(item.discount_e6))
        pay_row = find_balance(core.balance_index, core.balances.rows, account, other.base_asset)
        own_row = find_balance(core.balance_index, core.balances.rows, account, asset)
        if (
            price > 0
            and asset != other.base_asset
            and own_row != NONE
            and pay_row != NONE
            and core.balances.rows[pay_row].available >= price
            and may_spend(core, account, other.base_asset, price)
        ):
            _move(core, venue_row, own_row, fee)
            _write(lines[used], FeeLine.CONVERTED.value, widen(other.base_asset), account, 0, price)
            lines[used].fee = fee
            lines[used].detail = asset
            used += 1
            venue_row, fee, asset = widen(other.fee_base_row), price, widen(other.base_asset)
            _move(core, pay_row, venue_row, fee)
    share = share_rounded_down(fee, fees.settings.rows[0].referral_share_e6)
    if chosen.referrer > 0 and share > 0:
        referrer = widen(chosen.referrer) - 1
        row = find_or_open_balance(core, referrer, asset)
        if row != NONE:
            _move(core, venue_row, row, share)
            _write(lines[used], FeeLine.REFERRAL.value, asset, referrer, account, share)
            used += 1
    return used


@shared
def _convert(market: np.record, is_base: bool, fee: int, other: np.record, discount_e6: int) -> int:
    """What a fee in an asset of `market` costs in the base asset of `other`; 0: nobody can tell.

    Both steps, into the quote asset at the index of `market` and out of it at that of `other`, and the
    discount between them are rounded up. Where a price is not VALID, the quote assets differ or a
    product would pass AMOUNT_MAX, nobody can tell. Bound: price_max × quote_per_lot_tick ≤ AMOUNT_MAX.
    """
    if other.quote_asset != market.quote_asset or not _has_index(other):
        return 0
    value = fee
    if is_base:
        tick_value = market.index_price * market.quote_per_lot_tick
        if not _has_index(market) or not product_fits(tick_value, fee):
            return 0
        value = _divide_up(fee * tick_value, market.base_per_lot)
    value = fee_rounded_up(value, E6 - discount_e6)
    if not product_fits(other.base_per_lot, value):
        return 0
    return _divide_up(value * other.base_per_lot, other.index_price * other.quote_per_lot_tick)


@inlined
def _has_index(market: np.record) -> bool:
    return bool(market.price_status == PriceStatus.VALID and market.index_price > 0)


@inlined
def _divide_up(amount: int, divisor: int) -> int:
    """⌈amount / divisor⌉ without a sum that could wrap; divisor ≥ 1."""
    return amount // divisor + (1 if amount % divisor != 0 else 0)


@inlined
def _move(core: Core, source_row: int, target_row: int, amount: int) -> None:
    credit(core.balances, source_row, -amount)
    credit(core.balances, target_row, amount)


@inlined
def _write(line: np.record, what: int, asset: int, account: int, other: int, amount: int) -> None:
    line.kind = Kind.FEE.value
    line.op = what
    line.market = asset
    line.account = account
    line.counter_account = other
    line.qty = amount
