"""The lifetimes plugin: the dead man's switch, and what rings at the start of a block."""

from collections.abc import Sequence

from engine.authority import has_scope
from engine.commands import CancelAllAfter
from engine.layout import Scope
from engine.lifetimes.audit import check_alarms
from engine.lifetimes.ringing import ring_alarms
from engine.plugin import Context, Entry, Handler, Plugin
from engine.records import Code
from engine.state import State
from engine.tables.alarms import drop_alarm, set_alarm

ALARMS_PER_BLOCK_MAX = 1 << 18  # orders


def validate_cancel_all_after(state: State, command: CancelAllAfter, context: Context) -> Code:
    """A TRADE key of the account sets its switch."""
    if command.account >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    if not has_scope(state, context.key, command.account, Scope.TRADE, context.time_ms):
        return Code.NOT_AUTHORISED
    return Code.OK


def apply_cancel_all_after(state: State, command: CancelAllAfter, context: Context) -> Entry:
    """Set the deadline anew, or forget it."""
    who = ~command.account
    if command.timeout_ms == 0:
        drop_alarm(state.core(), who)
    else:
        state.reserve_alarms(1)
        set_alarm(state.core(), who, context.time_ms + command.timeout_ms)
    return Entry(account=command.account, qty=command.timeout_ms)


class LifetimesPlugin(Plugin):
    """GTD orders and dead man's switches."""

    name = "lifetimes"
    handlers: Sequence[Handler] = (
        Handler(CancelAllAfter, validate_cancel_all_after, apply_cancel_all_after),
    )

    def on_block_start(self, state: State, context: Context) -> None:
        """Cancel what is due."""
        due = min(max(state.count["orders_live"], 1), ALARMS_PER_BLOCK_MAX)
        if state.count["alarms"] and state.alarms.columns["time_ms"].item(0) <= context.time_ms:
            context.events.took(ring_alarms(state.core(), context.time_ms, context.events.room(due)))

    def check_invariants(self, state: State) -> None:
        """Whoever has an alarm stands in the heap, and the heap is one."""
        check_alarms(state)
