"""What may leave an account: only what its positions do not need."""

from engine.compiled import kernel, outlined
from engine.layout import NONE, Core
from engine.margin.account import Change, assess


@outlined
def may_spend(core: Core, account: int, asset: int, amount: int) -> bool:
    """Whether `amount` of `asset` may leave what the account has available, as far as margin is concerned.

    Whoever owes nothing and has no position may spend everything. Work: the account's positions, once for
    each settlement asset that `asset` backs, which is one at most.
    """
    if core.accounts.rows[account].first_position == NONE:
        return True
    for pool_row in range(core.counters.rows[0].pools):
        if _backs(core, asset, pool_row):
            found = assess(core, account, pool_row, Change(NONE, 0, 0, 0, asset, amount))
            if found.equity < found.initial:
                return False
    return True


@kernel
def may_withdraw(core: Core, account: int, asset: int, amount: int) -> bool:
    """`may_spend`, for commands."""
    return may_spend(core, account, asset, amount)


@outlined
def _backs(core: Core, asset: int, pool_row: int) -> bool:
    if core.pools.rows[pool_row].asset == asset:
        return True
    for row in range(core.counters.rows[0].collaterals):
        item = core.collaterals.rows[row]
        if item.asset == asset and item.pool == pool_row:
            return True
    return False
