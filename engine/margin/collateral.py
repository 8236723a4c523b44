"""What an account's other assets are worth as backing for its positions.

Each asset backs one settlement asset at most, so nothing counts twice. Its value is that of whole lots of
the spot market named for it, at the index price, less a haircut, and only up to a cap per account. While that
price is not VALID it is worth nothing: whoever could still trade on a stale price would. An asset that lost
its peg counts for less by the haircut that breakers name.
"""

from engine.compiled import outlined, widen
from engine.fixed_point import E6, fee_rounded_up
from engine.layout import NONE, AssetAlarm, Core, PriceStatus
from engine.tables.index import find_balance

COLLATERAL_VALUE_MAX = 2**56  # quote units of one asset of one account; listing checks it


@outlined
def collateral_value(core: Core, account: int, pool_row: int, asset: int, amount: int) -> int:
    """Quote units that the account's available assets count for, rounded down, beside the settlement asset.

    `amount` units of `asset` (NONE: no asset) are thought away first.
    """
    total = 0
    for row in range(core.counters.rows[0].collaterals):
        item = core.collaterals.rows[row]
        if item.pool != pool_row:
            continue
        balance_row = find_balance(core.balance_index, core.balances.rows, account, item.asset)
        if balance_row == NONE:
            continue
        owned = core.balances.rows[balance_row].available
        if item.asset == asset:
            owned -= amount
        market = core.markets.rows[item.market]
        if market.price_status != PriceStatus.VALID or owned <= 0:
            continue
        lots = min(owned, item.cap) // market.base_per_lot
        value = lots * market.index_price * market.quote_per_lot_tick
        haircut_ppm = widen(item.haircut_ppm)
        if core.assets.rows[item.asset].alarms & AssetAlarm.DEPEGGED:
            haircut_ppm = min(haircut_ppm + widen(core.assets.rows[item.asset].peg_haircut_ppm), E6)
        total += value - fee_rounded_up(value, haircut_ppm)
    return total
