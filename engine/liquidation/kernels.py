"""Compiled parts of liquidation: finding accounts, selling to the book, ranking the other side."""

import numpy as np

from engine.compiled import inlined, kernel, widen
from engine.fixed_point import E6
from engine.layout import BALANCE_PAGE, NONE, POOL_PAGE, POSITION_PAGE, Core, PositionFlag
from engine.margin.account import NO_CHANGE, UNKNOWN, assess, assess_isolated, unrealised_pnl
from engine.margin.tiers import compute_risk
from engine.matching.orders import Admission, enter_book
from engine.perpetuals.cash import book_pnl
from engine.records import Code

ACCOUNTS_SEEN_MAX = 1 << 16  # in one block
ACCOUNTS_ASSESSED_MAX = 1024  # of those: the ones with positions
UNITS_OF_ACCOUNT_MAX = 24  # pools, and isolated positions
_RATIO_MAX = 10**9
_LEVERAGE_MAX = 10**6
_EXACT = 2**42  # below it, a product with E6 fits

_ISOLATED = PositionFlag.ISOLATED.value
_LIVE = PositionFlag.LIVE.value


@kernel
def find_units(core: Core, first: int, out: np.ndarray) -> tuple[int, int]:
    """Look for units below maintenance from account `first` on. Returns (next account, units found).

    out (n, 3) int64, n ≥ UNITS_OF_ACCOUNT_MAX: account, pool, and position row or NONE for the cross ones.
    Stops where `out` might not hold another account's. Accounts without a mark price are passed over.
    """
    seen, assessed, used = 0, 0, 0
    account, counters = first, core.counters.rows[0]
    while account < counters.accounts and seen < ACCOUNTS_SEEN_MAX and assessed < ACCOUNTS_ASSESSED_MAX:
        if used + UNITS_OF_ACCOUNT_MAX > out.shape[0]:
            break
        seen += 1
        row = widen(core.accounts.rows[account].first_position)
        if row != NONE:
            assessed += 1
            for pool in range(counters.pools):
                found = assess(core, account, pool, NO_CHANGE)
                if found.equity != UNKNOWN and found.equity < found.maintenance:
                    used = _note(out, used, account, pool, NONE)
        while row != NONE:
            position = core.positions.rows[row]
            if position["flags"] & _ISOLATED:
                alone = assess_isolated(core, row, NO_CHANGE)
                if alone.equity != UNKNOWN and alone.equity < alone.maintenance:
                    pool = widen(core.perpetuals.rows[core.markets.rows[position.market].perpetual].pool)
                    used = _note(out, used, account, pool, row)
            row = widen(position.next_own)
        account += 1
    return account, used


@inlined
def _note(out: np.ndarray, used: int, account: int, pool: int, row: int) -> int:
    out[used, 0], out[used, 1], out[used, 2] = account, pool, row
    return used + 1


@kernel
def maintenance_of(core: Core, row: int) -> int:
    """Maintenance margin of one position by itself."""
    position = core.positions.rows[row]
    _, maintenance = compute_risk(core, core.markets.rows[position.market], abs(position.qty))
    return maintenance


@kernel
def lots_to_recover(core: Core, row: int, equity: int, initial: int) -> int:
    """The fewest lots of a position whose closing at the mark price brings initial margin down to `equity`,
    or all of them. `initial`: the account's, with the position whole."""
    position = core.positions.rows[row]
    market, lots = core.markets.rows[position.market], abs(position.qty)
    before, _ = compute_risk(core, market, lots)
    low, high = 1, lots
    while low < high:
        middle = (low + high) // 2
        after, _ = compute_risk(core, market, lots - middle)
        if initial - before + after <= equity:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def sell(core: Core, ops: np.ndarray, row: int, lines: np.ndarray) -> tuple[int, int]:
    """Send ops[0], a reduce-only IOC order of position `row`, to the book. Returns (lots, lines written)."""
    op, quote_row = ops[0], widen(core.positions.rows[row].quote_row)
    admitted = Admission(Code.OK.value, op["flags"] & 1, quote_row, quote_row, 0)
    _, filled, _, used = enter_book(core, op, admitted, lines, 0)
    return filled, used


@kernel
def cover_debt(core: Core, pool_row: int, row: int, insurance_row: int, amount: int) -> None:
    """The fund pays `amount` of what a position owes into the pool."""
    pool = core.pools.rows[pool_row]
    core.balances.rows[insurance_row].available -= amount
    core.balances.rows[pool.balance_row].available += amount
    book_pnl(pool, core.positions.rows[row], amount)
    core.balances.dirty[insurance_row >> BALANCE_PAGE] = 1
    core.balances.dirty[pool.balance_row >> BALANCE_PAGE] = 1
    core.pools.dirty[pool_row >> POOL_PAGE] = 1
    core.positions.dirty[row >> POSITION_PAGE] = 1


@kernel
def rank(core: Core, closed_row: int, pool_row: int, price: int, must_gain: bool, out: np.ndarray) -> int:
    """The positions of the other side that are closed first, at `price`. Returns how many.

    out (n, 3) int64: score, account, row; highest score first, ties by account id. Score: profit over
    cost, in ppm, × notional over equity, in thousandths; nothing for positions without profit. `must_gain`:
    only those that realise no loss at `price`. Work: every position of the venue, once.
    """
    closed = core.positions.rows[closed_row]
    lot_value = core.markets.rows[closed.market].quote_per_lot_tick * price
    used = 0
    for row in range(core.counters.rows[0].positions_used):
        position = core.positions.rows[row]
        if position["flags"] & _LIVE == 0 or position.market != closed.market:
            continue
        if position.qty == 0 or (position.qty > 0) == (closed.qty > 0) or position.account == closed.account:
            continue
        if must_gain and position.qty * lot_value < position.entry:
            continue
        used = _insert(out, used, _score(core, pool_row, row), widen(position.account), row)
    return used


@inlined
def _score(core: Core, pool_row: int, row: int) -> int:
    position = core.positions.rows[row]
    profit = unrealised_pnl(core, position)
    if profit <= 0:
        return 0
    if position["flags"] & _ISOLATED:
        equity = assess_isolated(core, row, NO_CHANGE).equity
    else:
        equity = assess(core, widen(position.account), pool_row, NO_CHANGE).equity
    ratio = _divide(profit, abs(position.entry), E6)
    leverage = _divide(abs(position.entry + profit), max(equity, 1), 1000)
    return min(ratio, _RATIO_MAX) * min(leverage, _LEVERAGE_MAX)


@inlined
def _divide(a: int, b: int, scale: int) -> int:
    """a × scale / b, both ≥ 0 and below 2^63; both lose their low bits until the product fits."""
    while a >= _EXACT:
        a >>= 1
        b >>= 1
    return a * scale // max(b, 1)


@inlined
def _insert(out: np.ndarray, used: int, score: int, account: int, row: int) -> int:
    """Put one among the best; the last falls off when `out` is full."""
    place = used
    while place > 0 and (
        out[place - 1, 0] < score or (out[place - 1, 0] == score and out[place - 1, 1] > account)
    ):
        place -= 1
    if place == out.shape[0]:
        return used
    used = min(used + 1, out.shape[0])
    for i in range(used - 1, place, -1):
        out[i, 0], out[i, 1], out[i, 2] = out[i - 1, 0], out[i - 1, 1], out[i - 1, 2]
    out[place, 0], out[place, 1], out[place, 2] = score, account, row
    return used
