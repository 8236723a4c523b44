"""What waits for its time: at most CHANGES_MAX changes, each as the command that was sent."""

from typing import Any

import msgpack
import numpy as np

from consensus.primitives.errors import ensure
from engine.layout import NONE
from engine.records import Code
from engine.state import State
from engine.tables.table import TableSpec

CHANGES_MAX = 64  # that wait at a time
COMMAND_BYTES_MAX = 224
DELAY_MS_MAX = 90 * 86_400_000

CHANGE_ROW = np.dtype(
    [
        ("number", "<i8"),  # counts from 1; 0: the row is free
        ("due_ms", "<i8"),
        ("key", "<i4"),  # row of the key that signed it
        ("command_bytes", "<i4"),  # of `command` in use
        ("command", "u1", (COMMAND_BYTES_MAX,)),  # msgpack, padded with zero bytes
        ("reserved", "u1", (8,)),
    ]
)  # 256 bytes
TIMELOCK = np.dtype([("delay_ms", "<i8"), ("changes", "<i8"), ("reserved", "u1", (48,))])
# 64 bytes; one row: the delay in force, and how many changes were proposed, ever

TABLES = (TableSpec("timelock", TIMELOCK, 1), TableSpec("changes", CHANGE_ROW, CHANGES_MAX))


def delay_of_rules(state: State) -> int:
    """How long changes of rules wait, in ms."""
    table = state.table("timelock")
    return table.columns["delay_ms"].item(0) if state.used(table) else 0


def set_delay(state: State, delay_ms: int) -> None:
    """From now on changes wait that long; those that wait already keep their times."""
    table = state.table("timelock")
    if state.used(table) == 0:
        state.add_rows(table)
    table.columns["delay_ms"][0] = delay_ms
    table.mark(0)


def check_room(state: State, raw: list[Any]) -> Code:
    """Whether one more change may wait."""
    if len(msgpack.packb(raw)) > COMMAND_BYTES_MAX:
        return Code.BAD_ARGUMENT
    table = state.table("changes")
    is_full = state.used(table) == CHANGES_MAX and _free_row(state) == NONE
    return Code.LIMIT_REACHED if is_full else Code.OK


def add(state: State, raw: list[Any], key: int, due_ms: int) -> int:
    """Let a raw command wait; return its number. The caller has asked `check_room`."""
    timelock, table = state.table("timelock"), state.table("changes")
    if state.used(timelock) == 0:
        state.add_rows(timelock)
    row = _free_row(state)
    if row == NONE:
        row = state.add_rows(table)
    timelock.columns["changes"][0] += 1
    timelock.mark(0)
    number = timelock.columns["changes"].item(0)
    payload = msgpack.packb(raw)
    values = {"number": number, "due_ms": due_ms, "key": key, "command_bytes": len(payload)}
    for name, value in values.items():
        table.columns[name][row] = value
    table.columns["command"][row] = payload.ljust(COMMAND_BYTES_MAX, b"\0")
    table.mark(row)
    state.count["changes_waiting"] += 1
    return number


def find(state: State, number: int) -> int:
    """Row of the change with this number, or NONE if none such waits."""
    table = state.table("changes")
    rows = np.flatnonzero(table.columns["number"][: state.used(table)] == number)
    return int(rows[0]) if rows.shape[0] else NONE


def remove(state: State, row: int) -> None:
    """Forget a change."""
    table = state.table("changes")
    table.data[row] = np.zeros((), dtype=CHANGE_ROW)
    table.mark(row)
    state.count["changes_waiting"] -= 1


def take_due(state: State, time_ms: int) -> list[tuple[int, int, list[Any]]]:
    """Remove what is due and return it, in the order of proposal: (number, key row, raw command)."""
    if state.count["changes_waiting"] == 0:
        return []
    table = state.table("changes")
    columns = {name: column[: state.used(table)] for name, column in table.columns.items()}
    due = np.flatnonzero((columns["number"] > 0) & (columns["due_ms"] <= time_ms)).tolist()
    found = []
    for row in sorted(due, key=lambda row: columns["number"].item(row)):
        size = columns["command_bytes"].item(row)
        raw = msgpack.unpackb(columns["command"][row].tobytes()[:size], raw=False)
        found.append((columns["number"].item(row), columns["key"].item(row), raw))
        remove(state, row)
    return found


def _free_row(state: State) -> int:
    return find(state, 0)


def check_count(state: State) -> None:
    """`InvariantViolation` unless the counter says how many changes wait, each under a number of its own."""
    table, timelock = state.table("changes"), state.table("timelock")
    numbers = table.columns["number"][: state.used(table)]
    waiting = numbers[numbers > 0]
    ensure(waiting.shape[0] == state.count["changes_waiting"], "changes that wait do not match their counter")
    ensure(np.unique(waiting).shape == waiting.shape, "two changes that wait have one number")
    last = timelock.columns["changes"].item(0) if state.used(timelock) else 0
    ensure(int(waiting.max(initial=0)) <= last, "a change waits that nobody proposed")
