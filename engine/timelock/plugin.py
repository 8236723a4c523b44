"""The timelock plugin: its delay, and cancelling what waits."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from engine.authority import is_guardian, is_venue
from engine.commands import Bounds
from engine.layout import NONE
from engine.plugin import Context, Entry, Handler, Plugin
from engine.records import Code
from engine.state import State
from engine.tables.table import TableSpec
from engine.timelock import queue


class SetTimelockDelay(NamedTuple):
    """By the venue: how long changes of rules wait from now on. Itself waits as long as they do so far."""

    delay_ms: Annotated[int, Bounds(0, queue.DELAY_MS_MAX)]


class CancelChange(NamedTuple):
    """By the venue or a guardian: a change that waits never happens."""

    number: Annotated[int, Bounds(1, 2**62)]


def validate_set_delay(state: State, command: SetTimelockDelay, context: Context) -> Code:
    """The venue sets the delay."""
    return Code.OK if is_venue(state, context.key, context.time_ms) else Code.NOT_AUTHORISED


def apply_set_delay(state: State, command: SetTimelockDelay, context: Context) -> Entry:
    """From the next change on."""
    queue.set_delay(state, command.delay_ms)
    return Entry(qty=command.delay_ms)


def validate_cancel_change(state: State, command: CancelChange, context: Context) -> Code:
    """The venue and guardians cancel what still waits."""
    key, time_ms = context.key, context.time_ms
    if not (is_venue(state, key, time_ms) or is_guardian(state, key, time_ms)):
        return Code.NOT_AUTHORISED
    return Code.UNKNOWN_CHANGE if queue.find(state, command.number) == NONE else Code.OK


def apply_cancel_change(state: State, command: CancelChange, context: Context) -> Entry:
    """Remove it from the queue."""
    queue.remove(state, queue.find(state, command.number))
    return Entry(detail=command.number)


class TimelockPlugin(Plugin):
    """Changes of rules that wait; the registry carries out what is due before any plugin's turn."""

    name = "timelock"
    tables: Sequence[TableSpec] = queue.TABLES
    handlers: Sequence[Handler] = (
        Handler(SetTimelockDelay, validate_set_delay, apply_set_delay, queue.delay_of_rules),
        Handler(CancelChange, validate_cancel_change, apply_cancel_change),
    )

    def check_invariants(self, state: State) -> None:
        """What waits is counted right."""
        queue.check_count(state)
