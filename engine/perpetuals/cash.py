"""Cash of positions: what a profit is paid from is what losses have paid in, and nothing else.

A pool is clearing's own balance in one settlement asset. Every change of what a position is owed passes
through `book_pnl`, every movement of cash through `settle_cash`, so that for each pool, exactly and always,

    cash = Σ positions (unsettled − entry) + Σ markets funding_net + fees_due

and `claims` is the sum of what positions have coming. Balances never go below zero: a loss that its account
cannot pay yet stays in the position, as a debt; a profit that nobody has paid yet stays there as a claim.

Bound for all of it: |unsettled| stays below 2^56 (see `engine.perpetuals.admission`), balances below 2^62.
"""

import numpy as np

from engine.clearing.settle import credit
from engine.compiled import inlined, kernel, outlined
from engine.layout import BALANCE_PAGE, POOL_PAGE, POSITION_PAGE, Core, PositionFlag

_ISOLATED = PositionFlag.ISOLATED.value


@inlined
def book_pnl(pool: np.record, position: np.record, amount: int) -> None:
    """A position is owed `amount` more; negative: it owes it. The caller marks both pages."""
    before: int = position.unsettled
    after = before + amount
    position.unsettled = after
    pool.claims += max(after, 0) - max(before, 0)


@kernel
def settle_cash(core: Core, pool_row: int, row: int) -> int:
    """Move what a position owes into the pool, or what it is owed out of it, as far as there is cash.

    Returns the units moved, positive towards the position. Cash of an isolated position is its own
    collateral, of others what its account has available.
    """
    position, pool = core.positions.rows[row], core.pools.rows[pool_row]
    clearing = core.balances.rows[pool.balance_row]
    due = position.unsettled
    if due > 0:
        moved = min(due, clearing.available)
    else:
        moved = -min(-due, _cash(core, position))
    if moved == 0:
        return 0
    book_pnl(pool, position, -moved)
    clearing.available -= moved
    _add_cash(core, position, moved)
    core.balances.dirty[pool.balance_row >> BALANCE_PAGE] = 1
    core.pools.dirty[pool_row >> POOL_PAGE] = 1
    core.positions.dirty[row >> POSITION_PAGE] = 1
    return moved


@outlined
def pay_fee(core: Core, pool_row: int, row: int, fee: int) -> None:
    """The venue gets `fee` from a position's cash; what is missing is owed, and due to the venue."""
    position, pool = core.positions.rows[row], core.pools.rows[pool_row]
    paid = min(fee, _cash(core, position))
    _add_cash(core, position, -paid)
    credit(core.balances, pool.fee_row, paid)
    if paid < fee:
        book_pnl(pool, position, paid - fee)
        pool.fees_due += fee - paid
        core.pools.dirty[pool_row >> POOL_PAGE] = 1
    core.positions.dirty[row >> POSITION_PAGE] = 1


@outlined
def pay_venue(core: Core, pool_row: int) -> None:
    """Pay fees that are due from cash that no trader has a claim on."""
    pool = core.pools.rows[pool_row]
    clearing = core.balances.rows[pool.balance_row]
    paid = min(pool.fees_due, clearing.available - pool.claims)
    if paid > 0:
        pool.fees_due -= paid
        clearing.available -= paid
        credit(core.balances, pool.fee_row, paid)
        core.balances.dirty[pool.balance_row >> BALANCE_PAGE] = 1
        core.pools.dirty[pool_row >> POOL_PAGE] = 1


@kernel
def move_collateral(core: Core, pool_row: int, row: int, amount: int) -> None:
    """Move `amount` from what the account has available into an isolated position; negative: back."""
    position, pool = core.positions.rows[row], core.pools.rows[pool_row]
    core.balances.rows[position.quote_row].available -= amount
    position.collateral += amount
    core.balances.rows[pool.balance_row].held += amount
    core.balances.dirty[position.quote_row >> BALANCE_PAGE] = 1
    core.balances.dirty[pool.balance_row >> BALANCE_PAGE] = 1
    core.positions.dirty[row >> POSITION_PAGE] = 1


@inlined
def _cash(core: Core, position: np.record) -> int:
    if position["flags"] & _ISOLATED:
        return position.collateral
    return core.balances.rows[position.quote_row].available


@inlined
def _add_cash(core: Core, position: np.record, amount: int) -> None:
    if position["flags"] & _ISOLATED:
        position.collateral += amount
        pool = core.pools.rows[core.perpetuals.rows[core.markets.rows[position.market].perpetual].pool]
        core.balances.rows[pool.balance_row].held += amount
        core.balances.dirty[pool.balance_row >> BALANCE_PAGE] = 1
    else:
        core.balances.rows[position.quote_row].available += amount
        core.balances.dirty[position.quote_row >> BALANCE_PAGE] = 1
