"""Obligations that wait, and instructions that are remembered."""

import numpy as np

from consensus.primitives.crypto import digest
from consensus.primitives.errors import ensure
from engine.layout import NONE
from engine.records import Code
from engine.settlement.commands import SubmitObligation
from engine.settlement.tables import (
    DIGEST_BYTES,
    INSTRUCTIONS_KEPT,
    OBLIGATION,
    OBLIGATIONS_MAX,
    OBLIGATIONS_PER_AGENT_MAX,
    OBLIGATIONS_PER_DEBTOR_MAX,
)
from engine.state import State
from engine.tables.table import Table


def settlement_row(state: State) -> Table:
    """The table of one row, which is there from its first use on."""
    table = state.table("settlement")
    if state.used(table) == 0:
        state.add_rows(table)
    return table


def settler_row(state: State, account: int) -> Table:
    """The table of consents and counts, with a row for `account`."""
    table = state.table("settlers")
    missing = account + 1 - state.used(table)
    if missing > 0:
        state.add_rows(table, missing)
    return table


def add_to(table: Table, column: str, row: int, change: int) -> None:
    """Change one counter."""
    table.columns[column][row] += change
    table.mark(row)


def has_consent(state: State, account: int, agent: int) -> bool:
    """Whether an agent may submit what an account owes. Its own debts it always may."""
    table = state.table("settlers")
    if state.table("settlement_agents").columns["account"].item(agent) == account:
        return True
    return account < state.used(table) and bool(table.columns["consents"].item(account) >> agent & 1)


def check_instruction(state: State, command: SubmitObligation) -> Code:
    """Whether an agent's instruction is new."""
    highest = state.table("settlement_agents").columns["highest"].item(command.agent)
    if command.instruction > highest:
        return Code.OK
    if command.instruction <= highest - INSTRUCTIONS_KEPT:
        return Code.INSTRUCTION_TOO_OLD
    table, row = state.table("instructions"), _slot(command)
    if table.columns["instruction"].item(row) != command.instruction:
        return Code.OK
    is_same = table.columns["digest"][row].tobytes() == _digest(command)
    return Code.INSTRUCTION_REPEATED if is_same else Code.INSTRUCTION_CHANGED


def check_room(state: State, command: SubmitObligation) -> Code:
    """Whether one more obligation may wait: in all, of this agent, of this debtor."""
    settlement, settlers = state.table("settlement"), state.table("settlers")
    debtor = command.debtor
    is_full = (
        (state.used(settlement) > 0 and settlement.columns["pending"].item(0) >= OBLIGATIONS_MAX)
        or state.table("settlement_agents").columns["pending"].item(command.agent)
        >= OBLIGATIONS_PER_AGENT_MAX
        or (
            debtor < state.used(settlers)
            and settlers.columns["pending"].item(debtor) >= OBLIGATIONS_PER_DEBTOR_MAX
        )
    )
    return Code.QUEUE_FULL if is_full else Code.OK


def add(state: State, command: SubmitObligation) -> int:
    """Let an obligation wait, and remember its instruction; return its number."""
    settlement, table = settlement_row(state), state.table("obligations")
    row = find(state, 0)
    if row == NONE:
        row = state.add_rows(table)
    add_to(settlement, "submitted", 0, 1)
    number: int = settlement.columns["submitted"].item(0)
    table.columns["number"][row] = number
    for field in ("amount", "instruction", "debtor", "creditor", "asset", "agent"):
        table.columns[field][row] = getattr(command, field)
    table.mark(row)
    _count(state, row, 1)
    _remember(state, command, number)
    return number


def find(state: State, number: int) -> int:
    """Row of the obligation with this number, or NONE; of a free row for 0."""
    table = state.table("obligations")
    rows = np.flatnonzero(table.columns["number"][: state.used(table)] == number)
    return int(rows[0]) if rows.shape[0] else NONE


def remove(state: State, row: int) -> None:
    """An obligation is settled or cancelled."""
    _count(state, row, -1)
    table = state.table("obligations")
    table.data[row] = np.zeros((), dtype=OBLIGATION)
    table.mark(row)


def check_counts(state: State) -> None:
    """`InvariantViolation` unless what waits is counted right, in all, by agent and by debtor."""
    table, settlement = state.table("obligations"), state.table("settlement")
    rows = table.data[: state.used(table)]
    waiting = rows[rows["number"] > 0]
    if state.used(settlement) == 0:
        ensure(waiting.shape[0] == 0, "obligations wait where none was submitted")
        return
    ensure(settlement.columns["pending"].item(0) == waiting.shape[0], "obligations are not counted right")
    ensure(np.unique(waiting["number"]).shape[0] == waiting.shape[0], "two obligations have one number")
    ensure(bool(np.all(waiting["amount"] > 0)), "somebody owes nothing, or less")
    for name, field in (("settlement_agents", "agent"), ("settlers", "debtor")):
        counted = state.table(name)
        used = state.used(counted)
        counts = np.bincount(waiting[field], minlength=used)
        same = np.array_equal(counts, counted.columns["pending"][:used])
        ensure(same, f"obligations of {name} do not match their counter")


def _count(state: State, row: int, change: int) -> None:
    columns = state.table("obligations").columns
    debtor: int = columns["debtor"].item(row)
    add_to(state.table("settlement"), "pending", 0, change)
    add_to(state.table("settlement_agents"), "pending", columns["agent"].item(row), change)
    add_to(settler_row(state, debtor), "pending", debtor, change)


def _remember(state: State, command: SubmitObligation, number: int) -> None:
    agents, table, row = state.table("settlement_agents"), state.table("instructions"), _slot(command)
    table.columns["instruction"][row] = command.instruction
    table.columns["number"][row] = number
    table.columns["digest"][row] = _digest(command)
    table.mark(row)
    highest = agents.columns["highest"].item(command.agent)
    agents.columns["highest"][command.agent] = max(highest, command.instruction)
    agents.mark(command.agent)


def _slot(command: SubmitObligation) -> int:
    return command.agent * INSTRUCTIONS_KEPT + command.instruction % INSTRUCTIONS_KEPT


def _digest(command: SubmitObligation) -> bytes:
    parts = b"".join(value.to_bytes(8, "little") for value in command[2:])
    return digest("kontor.obligation", parts)[:DIGEST_BYTES]
