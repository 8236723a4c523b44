"""Which rate a side of a trade pays: one small lookup, in markets that have a schedule."""

import numpy as np

from engine.compiled import inlined, widen
from engine.layout import FEE_TIERS, Core


@inlined
def find_taker_rate(core: Core, market: np.record, account: int) -> int:
    """Millionths that `account` pays as a taker."""
    if market.fee_schedule == 0:
        return market.taker_fee_e6
    tier = core.accounts.rows[account].fee_tier
    return widen(core.fee_rates.rows[market.fee_schedule * FEE_TIERS + tier].taker_fee_e6)


@inlined
def find_maker_rate(core: Core, market: np.record, account: int) -> int:
    """Millionths that `account` pays as a maker in a market with a schedule; negative: it gets a rebate."""
    tier = core.accounts.rows[account].fee_tier
    return widen(core.fee_rates.rows[market.fee_schedule * FEE_TIERS + tier].maker_fee_e6)


@inlined
def find_maker_rate_without_rebate(core: Core, market: np.record, account: int) -> int:
    """Millionths that `account` pays as a maker where no taker's fee pays a rebate: in auctions, where nobody
    takes, and of perpetuals, whose takers may owe their fees."""
    if market.fee_schedule == 0:
        return market.maker_fee_e6
    return max(find_maker_rate(core, market, account), 0)
