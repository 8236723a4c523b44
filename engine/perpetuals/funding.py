"""Funding: what longs pay shorts, or shorts longs, so that the contract stays near its index.

A market's funding index says what one long lot has paid since listing: `funding_whole` quote units and
`funding_part` millionths. A position is charged when it is touched: its lots × how far the index
has moved, rounded up, so a payer pays up to one unit more and a receiver gets up to one less. Lots of
all positions add up to zero, so what is charged does too, but for what rounding took: `funding_residue`,
in millionths, which becomes the venue's by whole units.
"""

import numpy as np

from engine.compiled import outlined, shared
from engine.fixed_point import E6
from engine.layout import PERPETUAL_PAGE, POOL_PAGE, POSITION_PAGE, Core, PriceStatus
from engine.perpetuals.cash import book_pnl

FUNDING_CAP_PPM_MAX = 10_000  # of one interval
PREMIUM_PPM_MAX = 100_000  # of one sample: no single moment decides
GAP_MS_MAX = 60_000  # how long one sample counts at most: halts count for nothing


@shared
def funding_owed(perpetual: np.record, position: np.record) -> int:
    """Quote units that a position owes for funding since it was last charged, rounded up; negative: it gets.

    Bound: every position is visited between two fundings (see sweep), so the index moved by at most
    FUNDING_CAP_PPM_MAX of the index price per lot, and |qty| × price × quote_per_lot_tick ≤ NOTIONAL_MAX.
    """
    whole = perpetual.funding_whole - position.funding_whole
    part = np.int64(perpetual.funding_part) - np.int64(position.funding_part)
    return position.qty * whole - (-position.qty * part) // E6


@outlined
def charge_funding(core: Core, perpetual: np.record, row: int) -> int:
    """Charge a position what it owes for funding; returns that. It may be owed it instead."""
    position, pool = core.positions.rows[row], core.pools.rows[perpetual.pool]
    part = np.int64(perpetual.funding_part) - np.int64(position.funding_part)
    if part == 0 and position.funding_whole == perpetual.funding_whole:
        return 0
    owed = funding_owed(perpetual, position)
    parts_owed = -((-position.qty * part) // E6)
    perpetual.funding_residue += parts_owed * E6 - position.qty * part
    perpetual.funding_net += owed
    book_pnl(pool, position, -owed)
    position.funding_whole = perpetual.funding_whole
    position.funding_part = perpetual.funding_part
    core.positions.dirty[row >> POSITION_PAGE] = 1
    core.pools.dirty[perpetual.pool >> POOL_PAGE] = 1
    core.perpetuals.dirty[core.markets.rows[position.market].perpetual >> PERPETUAL_PAGE] = 1
    return owed


@outlined
def sample_premium(core: Core, perpetual_row: int) -> None:
    """Count the premium at which the book stood since the last block, and note where it stands now.

    ppm of the index, rounded towards zero, from the middle of the book, or the last price where a side is
    empty. Without an index price to rely on, time does not count.
    """
    perpetual = core.perpetuals.rows[perpetual_row]
    market = core.markets.rows[perpetual.market]
    time_ms = core.counters.rows[0].time_ms
    if time_ms > perpetual.sampled_ms and market.price_status == PriceStatus.VALID:
        elapsed = min(time_ms - perpetual.sampled_ms, GAP_MS_MAX)
        perpetual.premium_sum += perpetual.premium_ppm * elapsed
        perpetual.premium_ms += elapsed
    perpetual.sampled_ms = time_ms
    twice = 2 * market.last_price
    if market.best_bid > 0 and market.best_ask <= market.price_max:
        twice = market.best_bid + market.best_ask
    perpetual.premium_ppm = 0
    if market.price_status == PriceStatus.VALID and market.index_price > 0 and twice > 0:
        premium = divide_towards_zero((twice - 2 * market.index_price) * E6, 2 * market.index_price)
        perpetual.premium_ppm = max(min(premium, PREMIUM_PPM_MAX), -PREMIUM_PPM_MAX)
    core.perpetuals.dirty[perpetual_row >> PERPETUAL_PAGE] = 1


@outlined
def fund(core: Core, perpetual_row: int) -> int:
    """An interval is over: move the index by the average premium, within the cap. Returns the rate in ppm.

    Intervals that nobody saw, since no block came, are not made up for. Positions pay when they are touched.
    """
    perpetual = core.perpetuals.rows[perpetual_row]
    market = core.markets.rows[perpetual.market]
    rate, cap = 0, np.int64(perpetual.funding_cap_ppm)
    if market.price_status == PriceStatus.VALID and perpetual.premium_ms > 0:
        average = divide_towards_zero(perpetual.premium_sum, perpetual.premium_ms)
        rate = max(min(average, cap), -cap)
    lot_value = market.index_price * market.quote_per_lot_tick
    parts = np.int64(perpetual.funding_part) + lot_value % E6 * rate
    perpetual.funding_whole += lot_value // E6 * rate + parts // E6
    perpetual.funding_part = parts % E6
    perpetual.premium_sum = perpetual.premium_ms = 0
    late = core.counters.rows[0].time_ms - perpetual.funding_next_ms
    perpetual.funding_next_ms += (late // perpetual.funding_interval_ms + 1) * perpetual.funding_interval_ms
    core.perpetuals.dirty[perpetual_row >> PERPETUAL_PAGE] = 1
    return rate


@outlined
def give_residue_to_venue(core: Core, perpetual_row: int) -> None:
    """Whole units that rounding took from funding payments are due to the venue."""
    perpetual = core.perpetuals.rows[perpetual_row]
    whole = perpetual.funding_residue // E6
    if whole > 0:
        perpetual.funding_residue -= whole * E6
        perpetual.funding_net -= whole
        core.pools.rows[perpetual.pool].fees_due += whole
        core.pools.dirty[perpetual.pool >> POOL_PAGE] = 1
        core.perpetuals.dirty[perpetual_row >> PERPETUAL_PAGE] = 1


@shared
def divide_towards_zero(a: int, b: int) -> int:
    """a / b without its fraction, b > 0."""
    return a // b if a >= 0 else -(-a // b)
