"""Margin by size: each part of a position asks for more than the part below it.

A market has up to TIERS_MAX tiers. Tier n margins the part of a position's notional above its
`notional_from`, at its own rates; what the parts below ask for is its base. So margin has no steps: one more
lot never asks for more than its own share at the highest rate, and a rounding.
"""

import numpy as np

from engine.compiled import kernel, shared, widen
from engine.fixed_point import fee_rounded_up
from engine.layout import Core


@kernel
def compute_risk(core: Core, market: np.record, lots: int) -> tuple[int, int]:
    """(initial, maintenance) margin of `lots` ≥ 0 at the mark price, quote units, rounded up.

    Initial margin covers the scan range too: a move of `scan_ppm`. Bound: lots ≤ 2 × LOTS_MAX and
    lots × price_max × quote_per_lot_tick ≤ 2 × NOTIONAL_MAX; margin never exceeds notional + TIERS_MAX.
    """
    if lots == 0:
        return 0, 0
    perpetual = core.perpetuals.rows[market.perpetual]
    notional = lots * market.mark_price * market.quote_per_lot_tick
    row = perpetual.tier_start + perpetual.tiers - 1
    while core.tiers.rows[row].notional_from > notional:
        row -= 1
    tier = core.tiers.rows[row]
    part = notional - tier.notional_from
    initial = tier.initial_base + fee_rounded_up(part, widen(tier.initial_ppm))
    maintenance = tier.maintenance_base + fee_rounded_up(part, widen(tier.maintenance_ppm))
    return max(initial, fee_rounded_up(notional, widen(perpetual.scan_ppm))), maintenance


@shared
def base_of_next(base: int, notional: int, rate_ppm: int) -> int:
    """Margin of a position that fills a tier of `notional` quote units to its end."""
    return base + fee_rounded_up(notional, rate_ppm)
