"""Balance rows from inside compiled code: found by (account, asset), opened on first use."""

from engine.compiled import inlined
from engine.layout import BALANCE_PAGE, NONE, Core
from engine.tables.index import find_balance, hash_pair, index_insert


@inlined
def find_or_open_balance(core: Core, account: int, asset: int) -> int:
    """Row of an account's balance, appended empty if there is none; NONE if the table is full."""
    row = find_balance(core.balance_index, core.balances.rows, account, asset)
    if row == NONE:
        row = _open_balance(core, account, asset)
    return row


@inlined
def can_open_balance(core: Core, account: int, asset: int) -> bool:
    """Whether `find_or_open_balance` would find or open a row."""
    if core.counters.rows[0].balances < core.balances.rows.shape[0]:
        return True
    return bool(find_balance(core.balance_index, core.balances.rows, account, asset) != NONE)


@inlined
def _open_balance(core: Core, account: int, asset: int) -> int:
    counters = core.counters.rows[0]
    row = counters.balances
    if row >= core.balances.rows.shape[0]:
        return NONE
    counters.balances = row + 1
    core.counters.dirty[0] = 1
    balance = core.balances.rows[row]
    balance.account = account
    balance.asset = asset
    core.balances.dirty[row >> BALANCE_PAGE] = 1
    index_insert(core.balance_index, hash_pair(core.balance_index, account, asset), row)
    return row
