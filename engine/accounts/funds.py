"""Assets, and value that enters, moves and leaves.

Supply of an asset (deposited − withdrawn) never exceeds AMOUNT_MAX, so no sum of balances of one
asset can: additions below need no further check.
"""

from engine.authority import has_scope, is_issuer, is_venue
from engine.commands import Deposit, RegisterAsset, Transfer, Withdraw
from engine.layout import NONE, AssetAlarm, Scope
from engine.margin.spending import may_withdraw
from engine.plugin import Context, Entry
from engine.records import AMOUNT_MAX, Code
from engine.state import State

_TRANSFER = int(Scope.TRANSFER)


def validate_register_asset(state: State, command: RegisterAsset, context: Context) -> Code:
    """The venue registers assets, each name once."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if command.issuer >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    if command.name in state.asset_ids:
        return Code.NAME_TAKEN
    return Code.OK if state.has_room(state.assets) else Code.LIMIT_REACHED


def apply_register_asset(state: State, command: RegisterAsset, context: Context) -> Entry:
    """Append the asset."""
    asset = state.add_asset(command.name, command.decimals, command.issuer)
    return Entry(subject=asset, account=command.issuer, detail=asset)


def validate_deposit(state: State, command: Deposit, context: Context) -> Code:
    """An issuer deposits, up to the largest supply."""
    account, asset, amount = command
    code = _check_asset_and_account(state, asset, account)
    if code:
        return code
    if not is_issuer(state, context.key, asset, context.time_ms):
        return Code.NOT_AUTHORISED
    columns = state.assets.columns
    if columns["deposited"].item(asset) - columns["withdrawn"].item(asset) + amount > AMOUNT_MAX:
        return Code.SUPPLY_OVERFLOW
    return check_room_for_balance(state, account, asset)


def apply_deposit(state: State, command: Deposit, context: Context) -> Entry:
    """Create value."""
    account, asset, amount = command
    row = state.add_balance(account, asset)
    _add_available(state, row, amount)
    columns = state.assets.columns
    deposited = columns["deposited"].item(asset)
    if deposited + amount > AMOUNT_MAX:
        # Decades of turnover: forget what both totals share. Their difference, the supply, stays.
        deposited -= columns["withdrawn"].item(asset)
        columns["withdrawn"][asset] = 0
    columns["deposited"][asset] = deposited + amount
    state.assets.mark(asset)
    return Entry(asset, account, 0, amount, row)


def validate_withdraw(state: State, command: Withdraw, context: Context) -> Code:
    """The owner or an issuer withdraws what is available."""
    account, asset, amount = command
    code = _check_asset_and_account(state, asset, account)
    if code:
        return code
    if not (
        has_scope(state, context.key, account, _TRANSFER, context.time_ms)
        or is_issuer(state, context.key, asset, context.time_ms)
    ):
        return Code.NOT_AUTHORISED
    code = _check_outflow(state, asset, amount)
    return code if code else check_available(state, account, asset, amount)


def apply_withdraw(state: State, command: Withdraw, context: Context) -> Entry:
    """Destroy value."""
    account, asset, amount = command
    row = state.balance_row(account, asset)
    _add_available(state, row, -amount)
    state.assets.columns["withdrawn"][asset] += amount
    if state.assets.columns["alarms"].item(asset) & AssetAlarm.OUTFLOW_LIMITED:
        state.assets.columns["outflow_left"][asset] -= amount
    state.assets.mark(asset)
    return Entry(asset, account, 0, amount, row)


def validate_transfer(state: State, command: Transfer, context: Context) -> Code:
    """The owner transfers what is available to another account."""
    source, target, asset, amount = command
    code = _check_asset_and_account(state, asset, source)
    if code:
        return code
    if target >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    if source == target:
        return Code.BAD_ARGUMENT
    if not has_scope(state, context.key, source, _TRANSFER, context.time_ms):
        return Code.NOT_AUTHORISED
    code = check_available(state, source, asset, amount)
    return code if code else check_room_for_balance(state, target, asset)


def apply_transfer(state: State, command: Transfer, context: Context) -> Entry:
    """Move value."""
    source, target, asset, amount = command
    return Entry(asset, source, target, amount, move(state, source, target, asset, amount))


def move(state: State, source: int, target: int, asset: int, amount: int) -> int:
    """Move what `source` has available to `target`; return the target's row. The caller has asked
    `check_available` and `check_room_for_balance`."""
    _add_available(state, state.balance_row(source, asset), -amount)
    row = state.add_balance(target, asset)
    _add_available(state, row, amount)
    return row


def _check_asset_and_account(state: State, asset: int, account: int) -> Code:
    if asset >= state.count["assets"]:
        return Code.UNKNOWN_ASSET
    return Code.OK if account < state.count["accounts"] else Code.UNKNOWN_ACCOUNT


def _check_outflow(state: State, asset: int, amount: int) -> Code:
    """Nothing leaves while losses are uncovered; breakers let so much of the asset leave now."""
    alarms = state.assets.columns["alarms"].item(asset)
    if alarms & AssetAlarm.WITHDRAWALS_PAUSED:
        return Code.WITHDRAWALS_PAUSED
    if alarms & AssetAlarm.DEFICIT:
        return Code.DEFICIT_OPEN
    is_limited = alarms & AssetAlarm.OUTFLOW_LIMITED
    too_much = is_limited and amount > state.assets.columns["outflow_left"].item(asset)
    return Code.OUTFLOW_LIMIT if too_much else Code.OK


def check_available(state: State, account: int, asset: int, amount: int) -> Code:
    """Whether an account may part with so much."""
    row = state.balance_row(account, asset)
    if row == NONE or state.balances.columns["available"].item(row) < amount:
        return Code.INSUFFICIENT_FUNDS
    if state.accounts.columns["first_position"].item(account) == NONE:
        return Code.OK
    return Code.OK if may_withdraw(state.core(), account, asset, amount) else Code.MARGIN_TOO_LOW


def check_room_for_balance(state: State, account: int, asset: int) -> Code:
    """Whether an account has a balance of an asset, or may get one."""
    if state.has_room(state.balances) or state.balance_row(account, asset) != NONE:
        return Code.OK
    return Code.LIMIT_REACHED


def _add_available(state: State, row: int, amount: int) -> None:
    state.balances.columns["available"][row] += amount
    state.balances.mark(row)
