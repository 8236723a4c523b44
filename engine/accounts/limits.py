"""Limits of one account: open orders, operations a second, and with whom it must not trade.

The first two keep one account from filling the tables, or a block, for all others. The rate is a token
bucket in ledger time that holds one second's worth.
"""

from engine.authority import is_venue
from engine.commands import SetAccountGroup, SetAccountLimits
from engine.compiled import outlined
from engine.layout import ACCOUNT_PAGE, NONE, Core
from engine.plugin import Context, Entry
from engine.records import Code
from engine.state import State

_TOKEN = 1000  # one operation; tokens come in thousandths, as time does
_SECOND_MS = 1000


def validate_set_account_limits(state: State, command: SetAccountLimits, context: Context) -> Code:
    """The venue limits accounts."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    return Code.OK if command.account < state.count["accounts"] else Code.UNKNOWN_ACCOUNT


def apply_set_account_limits(state: State, command: SetAccountLimits, context: Context) -> Entry:
    """From this block's first order on; open orders above a lower limit stay. The bucket starts full."""
    columns = state.accounts.columns
    columns["open_orders_max"][command.account] = command.open_orders_max
    columns["rate_max"][command.account] = command.rate_max
    columns["rate_tokens"][command.account] = command.rate_max * _TOKEN
    columns["rate_ms"][command.account] = context.time_ms
    state.accounts.mark(command.account)
    return Entry(account=command.account, qty=command.open_orders_max, detail=command.rate_max)


def validate_set_account_group(state: State, command: SetAccountGroup, context: Context) -> Code:
    """The venue, which knows its customers, says which accounts have one owner."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    is_known = max(command.account, command.group) < state.count["accounts"]
    return Code.OK if is_known else Code.UNKNOWN_ACCOUNT


def apply_set_account_group(state: State, command: SetAccountGroup, context: Context) -> Entry:
    """From this block's first order on. A group is named after one of its accounts, which is in it."""
    columns = state.accounts.columns
    if command.account == command.group:
        columns["group"][command.account] = NONE
    else:
        columns["group"][[command.account, command.group]] = command.group
        state.accounts.mark(command.group)
    state.accounts.mark(command.account)
    return Entry(account=command.account, counter_account=command.group)


@outlined
def take_token(core: Core, account_row: int) -> bool:
    """Whether one more operation may follow now; if so, it is counted. The account has a rate."""
    account = core.accounts.rows[account_row]
    now, rate = core.counters.rows[0].time_ms, int(account.rate_max)
    passed = min(now - account.rate_ms, _SECOND_MS)
    tokens = min(account.rate_tokens + passed * rate, rate * _TOKEN)
    account.rate_ms = now
    allowed = tokens >= _TOKEN
    if allowed:
        tokens -= _TOKEN
    account.rate_tokens = tokens
    core.accounts.dirty[account_row >> ACCOUNT_PAGE] = 1
    return bool(allowed)
