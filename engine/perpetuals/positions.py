"""Position rows: one per (account, market) with anything in it, linked into its account's list.

A row is freed when nothing is left in it and its account needs the place, or when the round of visits
comes by; so whoever holds open lots, a claim or a debt keeps the row. Free rows form a stack through
`prev_own`.
"""

import numpy as np

from engine.compiled import inlined, kernel, outlined, widen
from engine.layout import ACCOUNT_PAGE, NONE, POSITION_PAGE, Core, PositionFlag
from engine.tables.index import find_position, hash_pair, index_insert, index_remove

POSITIONS_PER_ACCOUNT_MAX = 16  # bounds the work of every margin check
_LIVE = PositionFlag.LIVE.value


@inlined
def position_of(core: Core, account: int, market_row: int) -> int:
    """Row of an account's position in a market, or NONE."""
    return find_position(core.position_index, core.positions.rows, account, market_row)


@inlined
def lots_of(core: Core, row: int) -> int:
    """Lots of a position, negative if short; 0 if there is no row."""
    return 0 if row == NONE else core.positions.rows[row].qty


@kernel
def can_open_position(core: Core, account: int) -> bool:
    """Whether the account may have one more position, and the table has a row for it."""
    counters = core.counters.rows[0]
    if counters.positions_free == 0 and counters.positions_used >= core.positions.rows.shape[0]:
        return False
    if core.accounts.rows[account].positions < POSITIONS_PER_ACCOUNT_MAX:
        return True
    row = widen(core.accounts.rows[account].first_position)
    while row != NONE:
        if is_empty(core.positions.rows[row]):
            return True
        row = widen(core.positions.rows[row].next_own)
    return False


@kernel
def find_or_open_position(core: Core, account: int, market_row: int, quote_row: int) -> int:
    """Row of an account's position, opened flat if there is none. Caller asked `can_open_position`."""
    row = position_of(core, account, market_row)
    if row != NONE:
        return row
    if core.accounts.rows[account].positions >= POSITIONS_PER_ACCOUNT_MAX:
        _free_empty_rows(core, account)
    row = _take_row(core)
    position = core.positions.rows[row]
    perpetual = core.perpetuals.rows[core.markets.rows[market_row].perpetual]
    position.account = account
    position.market = market_row
    position["flags"] = _LIVE
    position.quote_row = quote_row
    position.cooldown_ms = 0
    position.funding_whole = perpetual.funding_whole
    position.funding_part = perpetual.funding_part
    core.positions.dirty[row >> POSITION_PAGE] = 1
    _join_own(core, row)
    index_insert(core.position_index, hash_pair(core.position_index, account, market_row), row)
    return row


@inlined
def is_empty(position: np.record) -> bool:
    """Whether nothing is left in a position: no lots, no orders, nobody owes."""
    lots = position.qty | position.open_buy | position.open_sell
    return bool(lots | position.unsettled | position.collateral == 0 and position["flags"] == _LIVE)


@outlined
def free_position(core: Core, row: int) -> None:
    """Forget a position that `is_empty`."""
    position = core.positions.rows[row]
    hashed = hash_pair(core.position_index, position.account, position.market)
    index_remove(core.position_index, hashed, row)
    _leave_own(core, position)
    counters = core.counters.rows[0]
    position["flags"] = 0
    position.prev_own = counters.positions_free - 1
    counters.positions_free = row + 1
    core.counters.dirty[0] = 1
    core.positions.dirty[row >> POSITION_PAGE] = 1


@outlined
def _free_empty_rows(core: Core, account: int) -> None:
    row = widen(core.accounts.rows[account].first_position)
    while row != NONE:
        following = widen(core.positions.rows[row].next_own)
        if is_empty(core.positions.rows[row]):
            free_position(core, row)
        row = following


@inlined
def _take_row(core: Core) -> int:
    counters = core.counters.rows[0]
    core.counters.dirty[0] = 1
    row = counters.positions_free - 1
    if row == NONE:
        row = counters.positions_used
        counters.positions_used = row + 1
    else:
        counters.positions_free = widen(core.positions.rows[row].prev_own) + 1
    return row


@inlined
def _join_own(core: Core, row: int) -> None:
    position = core.positions.rows[row]
    account = core.accounts.rows[position.account]
    first = account.first_position
    position.prev_own = NONE
    position.next_own = first
    if first != NONE:
        core.positions.rows[first].prev_own = row
        core.positions.dirty[first >> POSITION_PAGE] = 1
    account.first_position = row
    account.positions += 1
    core.accounts.dirty[position.account >> ACCOUNT_PAGE] = 1


@inlined
def _leave_own(core: Core, position: np.record) -> None:
    account = core.accounts.rows[position.account]
    before, after = position.prev_own, position.next_own
    if before != NONE:
        core.positions.rows[before].next_own = after
        core.positions.dirty[before >> POSITION_PAGE] = 1
    else:
        account.first_position = after
    if after != NONE:
        core.positions.rows[after].prev_own = before
        core.positions.dirty[after >> POSITION_PAGE] = 1
    account.positions -= 1
    core.accounts.dirty[position.account >> ACCOUNT_PAGE] = 1
