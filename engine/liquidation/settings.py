"""What the venue decides about liquidation."""

from engine.authority import is_venue
from engine.layout import NONE
from engine.liquidation.commands import RegisterBackstop, SetLiquidation
from engine.liquidation.tables import open_rules
from engine.perpetuals.listing import check_venue_and_contract, find_pool
from engine.plugin import Context, Entry
from engine.records import Code
from engine.state import State

_FIELDS = ("fee_ppm", "large_from", "cooldown_ms", "cover_max", "alarm_at")


def validate_set_liquidation(state: State, command: SetLiquidation, context: Context) -> Code:
    """The venue sets the rules of a settlement asset; the fund's account has a balance in it."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if find_pool(state, command.asset) == NONE:
        return Code.UNKNOWN_ASSET
    if command.insurance >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    known = state.balance_row(command.insurance, command.asset) != NONE
    return Code.OK if known or state.has_room(state.balances) else Code.LIMIT_REACHED


def apply_set_liquidation(state: State, command: SetLiquidation, context: Context) -> Entry:
    """From this block's end on."""
    pool, table = find_pool(state, command.asset), open_rules(state)
    state.add_balance(command.insurance, command.asset)
    table.columns["insurance_plus_one"][pool] = command.insurance + 1
    for field in _FIELDS:
        table.columns[field][pool] = getattr(command, field)
    table.mark(pool)
    return Entry(command.asset, command.insurance, 0, command.cover_max, command.fee_ppm)


def validate_register_backstop(state: State, command: RegisterBackstop, context: Context) -> Code:
    """The venue registers accounts, up to a number of them."""
    code = check_venue_and_contract(state, command.market, context)
    if code:
        return code
    if command.account >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    known = _find(state, command) != NONE
    return Code.OK if known or state.has_room(state.table("backstops")) else Code.LIMIT_REACHED


def apply_register_backstop(state: State, command: RegisterBackstop, context: Context) -> Entry:
    """From this block's end on. One that is registered keeps its place."""
    table, row = state.table("backstops"), _find(state, command)
    if row == NONE:
        row = state.add_rows(table)
    table.columns["account"][row] = command.account
    table.columns["market"][row] = command.market
    table.columns["lots_max"][row] = command.lots_max
    table.mark(row)
    return Entry(command.market, command.account, 0, command.lots_max, row)


def _find(state: State, command: RegisterBackstop) -> int:
    table = state.table("backstops")
    used = state.used(table)
    pairs = zip(
        table.columns["account"][:used].tolist(), table.columns["market"][:used].tolist(), strict=True
    )
    wanted = command.account, command.market
    return next((row for row, pair in enumerate(pairs) if pair == wanted), NONE)
