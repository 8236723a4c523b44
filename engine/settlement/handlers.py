"""Agents, consents, submitting and cancelling: the commands."""

from collections.abc import Sequence

import numpy as np

from engine.authority import has_scope, is_venue
from engine.layout import NONE, Scope
from engine.plugin import Context, Entry, Handler
from engine.records import Code, Kind, SettlementLine
from engine.settlement import queue
from engine.settlement.commands import (
    AllowSettlementAgent,
    CancelObligation,
    SetSettlementAgent,
    SetSettlementCycle,
    SubmitObligation,
)
from engine.settlement.tables import INSTRUCTIONS_KEPT
from engine.state import State

_TRANSFER = int(Scope.TRANSFER)


def validate_set_agent(state: State, command: SetSettlementAgent, context: Context) -> Code:
    """The venue registers agents, and lets them go."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if command.account >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    table, row = state.table("settlement_agents"), _find_agent(state, command.account)
    if row == NONE:
        return Code.LIMIT_REACHED if command.is_on and not state.has_room(table) else _unless(command.is_on)
    return _unless(table.columns["is_active"].item(row) != command.is_on)


def apply_set_agent(state: State, command: SetSettlementAgent, context: Context) -> Entry:
    """What it submitted before stands."""
    table, row = state.table("settlement_agents"), _find_agent(state, command.account)
    if row == NONE:
        row = state.add_rows(table)
        state.add_rows(state.table("instructions"), INSTRUCTIONS_KEPT)
        table.columns["account"][row] = command.account
    table.columns["is_active"][row] = command.is_on
    table.mark(row)
    return Entry(account=command.account, qty=command.is_on, detail=row)


def validate_set_cycle(state: State, command: SetSettlementCycle, context: Context) -> Code:
    """The venue sets the period."""
    return Code.OK if is_venue(state, context.key, context.time_ms) else Code.NOT_AUTHORISED


def apply_set_cycle(state: State, command: SetSettlementCycle, context: Context) -> Entry:
    """The next cycle is at the next multiple of the period."""
    table, period = queue.settlement_row(state), command.period_ms
    table.columns["period_ms"][0] = period
    table.columns["next_ms"][0] = context.time_ms + period - context.time_ms % period if period else 0
    table.mark(0)
    return Entry(qty=period)


def validate_allow(state: State, command: AllowSettlementAgent, context: Context) -> Code:
    """Whoever may spend an account's funds consents."""
    if command.account >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    if not has_scope(state, context.key, command.account, _TRANSFER, context.time_ms):
        return Code.NOT_AUTHORISED
    return Code.OK if command.agent < state.used(state.table("settlement_agents")) else Code.UNKNOWN_AGENT


def apply_allow(state: State, command: AllowSettlementAgent, context: Context) -> Entry:
    """From the next submission on."""
    table = queue.settler_row(state, command.account)
    bit = 1 << command.agent
    consents = table.columns["consents"].item(command.account)
    table.columns["consents"][command.account] = consents | bit if command.is_on else consents & ~bit
    table.mark(command.account)
    return Entry(account=command.account, qty=command.is_on, detail=command.agent)


def validate_submit(state: State, command: SubmitObligation, context: Context) -> Code:
    """An active agent submits what a consenting debtor owes, each instruction once, while there is room."""
    agents = state.table("settlement_agents")
    if command.agent >= state.used(agents) or not agents.columns["is_active"].item(command.agent):
        return Code.UNKNOWN_AGENT
    account = agents.columns["account"].item(command.agent)
    if not has_scope(state, context.key, account, _TRANSFER, context.time_ms):
        return Code.NOT_AUTHORISED
    if code := queue.check_instruction(state, command):
        return code
    if max(command.debtor, command.creditor) >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    if command.asset >= state.count["assets"]:
        return Code.UNKNOWN_ASSET
    if command.debtor == command.creditor:
        return Code.BAD_ARGUMENT
    if not queue.has_consent(state, command.debtor, command.agent):
        return Code.NO_CONSENT
    if code := queue.check_room(state, command):
        return code
    return Code.OK if state.has_room(state.balances, 2) else Code.LIMIT_REACHED


def apply_submit(state: State, command: SubmitObligation, context: Context) -> Entry:
    """It waits for the next cycle. Both balances are opened here, so that the cycle cannot lack one."""
    for account in (command.debtor, command.creditor):
        state.add_balance(account, command.asset)
    number = queue.add(state, command)
    return Entry(command.asset, command.debtor, command.creditor, command.amount, number)


def validate_cancel(state: State, command: CancelObligation, context: Context) -> Code:
    """Debtor and creditor cancel, each once."""
    if command.account >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    if not has_scope(state, context.key, command.account, _TRANSFER, context.time_ms):
        return Code.NOT_AUTHORISED
    row = queue.find(state, command.number)
    side = 0 if row == NONE else _side(state, row, command.account)
    if side == 0:
        return Code.UNKNOWN_OBLIGATION
    return _unless(not state.table("obligations").columns["cancels"].item(row) & side)


def apply_cancel(state: State, command: CancelObligation, context: Context) -> Entry:
    """The second of the two takes it out of the queue."""
    table, row = state.table("obligations"), queue.find(state, command.number)
    cancels = table.columns["cancels"].item(row) | _side(state, row, command.account)
    table.columns["cancels"][row] = cancels
    table.mark(row)
    if cancels == 3:
        write_line(context, SettlementLine.CANCELLED, table.data[row])
        queue.remove(state, row)
    return Entry(account=command.account, qty=int(cancels == 3), detail=command.number)


def write_line(context: Context, what: SettlementLine, row: np.void) -> None:
    """Tell what became of an obligation."""
    context.events.add(
        Kind.SETTLEMENT,
        op=what,
        market=int(row["asset"]),
        account=int(row["debtor"]),
        counter_account=int(row["creditor"]),
        client_order_id=int(row["instruction"]),
        counter_order_id=int(row["agent"]),
        qty=int(row["amount"]),
        detail=int(row["number"]),
    )


def _unless(is_new: int | bool) -> Code:
    return Code.OK if is_new else Code.NOTHING_TO_DO


def _side(state: State, row: int, account: int) -> int:
    """The bit of the party that an account is to an obligation, or 0."""
    columns = state.table("obligations").columns
    if columns["debtor"].item(row) == account:
        return 1
    return 2 if columns["creditor"].item(row) == account else 0


def _find_agent(state: State, account: int) -> int:
    table = state.table("settlement_agents")
    rows = np.flatnonzero(table.columns["account"][: state.used(table)] == account)
    return int(rows[0]) if rows.shape[0] else NONE


HANDLERS: Sequence[Handler] = (
    Handler(SetSettlementAgent, validate_set_agent, apply_set_agent),
    Handler(SetSettlementCycle, validate_set_cycle, apply_set_cycle),
    Handler(AllowSettlementAgent, validate_allow, apply_allow),
    Handler(SubmitObligation, validate_submit, apply_submit),
    Handler(CancelObligation, validate_cancel, apply_cancel),
)
