"""What an account decides about its margin: mode, isolated positions and their collateral."""

from engine.authority import has_scope
from engine.layout import NONE, MarginMode, PositionFlag, PriceStatus, Scope
from engine.margin.account import NO_CHANGE, assess, assess_isolated
from engine.margin.spending import may_withdraw
from engine.perpetuals.cash import move_collateral
from engine.perpetuals.commands import AddCollateral, RemoveCollateral, SetIsolation, SetMarginMode
from engine.perpetuals.listing import check_contract, perpetual_row
from engine.perpetuals.positions import can_open_position, find_or_open_position
from engine.plugin import Context, Entry
from engine.records import Code
from engine.state import State

_TRADE = int(Scope.TRADE)


def validate_set_margin_mode(state: State, command: SetMarginMode, context: Context) -> Code:
    """A TRADE key changes the mode, if there is enough margin in the new one."""
    code = _check_account(state, command.account, context)
    if code:
        return code
    modes = state.accounts.columns["margin_mode"]
    before = int(modes[command.account])
    modes[command.account] = command.mode  # for the question only
    found = [assess(state.core(), command.account, pool, NO_CHANGE) for pool in range(state.count["pools"])]
    modes[command.account] = before
    if command.mode == MarginMode.STANDARD and any(item.equity < item.initial for item in found):
        return Code.MARGIN_TOO_LOW
    return Code.OK


def apply_set_margin_mode(state: State, command: SetMarginMode, context: Context) -> Entry:
    """From this block's first order on."""
    state.accounts.columns["margin_mode"][command.account] = command.mode
    state.accounts.mark(command.account)
    return Entry(account=command.account, detail=command.mode)


def validate_set_isolation(state: State, command: SetIsolation, context: Context) -> Code:
    """A TRADE key changes a flat position without open lots, or opens one."""
    code = _check_account(state, command.account, context) or check_contract(state, command.market)
    if code:
        return Code(code)
    row = state.position_row(command.account, command.market)
    if row == NONE:
        state.reserve_positions(1)
        room = can_open_position(state.core(), command.account) and state.has_room(state.balances)
        return Code.OK if room else Code.LIMIT_REACHED
    columns = state.positions.columns
    busy = any(int(columns[name][row]) for name in ("qty", "open_buy", "open_sell"))
    owes = int(columns["unsettled"][row]) != 0 and command.isolated
    return Code.POSITION_OPEN if busy or owes else Code.OK


def apply_set_isolation(state: State, command: SetIsolation, context: Context) -> Entry:
    """Set the flag; collateral of a position that is isolated no more becomes available."""
    asset = int(state.markets.columns["quote_asset"][command.market])
    quote_row = state.add_balance(command.account, asset)
    row = find_or_open_position(state.core(), command.account, command.market, quote_row)
    columns = state.positions.columns
    back = int(columns["collateral"][row])
    if not command.isolated and back:
        move_collateral(state.core(), _pool_of(state, command.market), row, -back)
    flag = PositionFlag.ISOLATED if command.isolated else 0
    columns["flags"][row] = PositionFlag.LIVE | flag
    state.positions.mark(row)
    return Entry(command.market, command.account, 0, back, command.isolated)


def validate_add_collateral(state: State, command: AddCollateral, context: Context) -> Code:
    """A TRADE key moves what the account has available and its other positions do not need."""
    code = _check_isolated(state, command.account, command.market, context)
    if code:
        return code
    columns, row = state.positions.columns, state.position_row(command.account, command.market)
    if state.balances.columns["available"][int(columns["quote_row"][row])] < command.amount:
        return Code.INSUFFICIENT_FUNDS
    asset = int(state.markets.columns["quote_asset"][command.market])
    free = may_withdraw(state.core(), command.account, asset, command.amount)
    return Code.OK if free else Code.MARGIN_TOO_LOW


def apply_add_collateral(state: State, command: AddCollateral, context: Context) -> Entry:
    """Set it aside."""
    row = state.position_row(command.account, command.market)
    move_collateral(state.core(), _pool_of(state, command.market), row, command.amount)
    return Entry(command.market, command.account, 0, command.amount, row)


def validate_remove_collateral(state: State, command: RemoveCollateral, context: Context) -> Code:
    """A TRADE key takes back what the position does not need, at a mark price to rely on."""
    code = _check_isolated(state, command.account, command.market, context)
    if code:
        return code
    columns, row = state.positions.columns, state.position_row(command.account, command.market)
    if columns["collateral"][row] < command.amount:
        return Code.INSUFFICIENT_FUNDS
    if columns["qty"][row] and state.markets.columns["price_status"][command.market] != PriceStatus.VALID:
        return Code.NO_MARK_PRICE
    found = assess_isolated(state.core(), row, NO_CHANGE)
    return Code.OK if found.equity - command.amount >= found.initial else Code.MARGIN_TOO_LOW


def apply_remove_collateral(state: State, command: RemoveCollateral, context: Context) -> Entry:
    """Give it back."""
    row = state.position_row(command.account, command.market)
    move_collateral(state.core(), _pool_of(state, command.market), row, -command.amount)
    return Entry(command.market, command.account, 0, command.amount, row)


def _check_account(state: State, account: int, context: Context) -> Code:
    if account >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    may = has_scope(state, context.key, account, _TRADE, context.time_ms)
    return Code.OK if may else Code.NOT_AUTHORISED


def _check_isolated(state: State, account: int, market: int, context: Context) -> Code:
    code = _check_account(state, account, context) or check_contract(state, market)
    if code:
        return Code(code)
    row = state.position_row(account, market)
    if row == NONE or not int(state.positions.columns["flags"][row]) & PositionFlag.ISOLATED:
        return Code.BAD_ARGUMENT
    return Code.OK


def _pool_of(state: State, market: int) -> int:
    return int(state.perpetuals.columns["pool"][perpetual_row(state, market)])
