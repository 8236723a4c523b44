"""Plugins: who carries out which command, and in which order they get their turn.

A plugin owns rules and names the tables it needs; `State` keeps their rows. `validate` may refuse
and writes nothing; `apply` carries out what was validated and cannot fail. Plugins meet through
tables, in registry order, and do not import one another.

Rules whose sudden change would be an attack have a `delay`: such a command is validated when it comes,
waits in the timelock's queue, and is validated again when it is due (see `engine.timelock`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from consensus.primitives.errors import ensure
from engine.commands import CommandKind, CommandNumber, kind_of
from engine.events import Events
from engine.records import JOURNAL, Code, Kind
from engine.state import State
from engine.tables.table import TableSpec
from engine.timelock import queue

_NO_LINES = np.zeros(0, dtype=JOURNAL)


class Context(NamedTuple):
    """Under what a command, or a plugin's turn at a block's start or end, runs."""

    key: int  # row of the key that signed; NONE in a plugin's turn
    time_ms: int  # of the block
    height: int
    events: Events  # journal lines beside a command's own
    done: np.ndarray = (
        _NO_LINES  # (n,) JOURNAL, at a block's end: what happened before, FILL lines among them
    )


class Entry(NamedTuple):
    """What a command's journal line tells beside its code; ids of new rows go into `detail`."""

    subject: int = 0  # asset or market
    account: int = 0
    counter_account: int = 0
    qty: int = 0  # amount
    detail: int = 0


class Handler(NamedTuple):
    """One command of a plugin."""

    command: type
    validate: Callable[[State, Any, Context], Code]
    apply: Callable[[State, Any, Context], Entry]
    delay: Callable[[State], int] | None = None  # ms of ledger time that it waits; None: it never does


class Plugin:
    """A part of the rulebook. Whoever writes one overrides what they need."""

    name = ""
    handlers: Sequence[Handler] = ()
    tables: Sequence[TableSpec] = ()  # that it owns; `State.table(name)` gives them

    def on_block_start(self, state: State, context: Context) -> None:
        """Before the block's commands, in registry order."""

    def on_block_end(self, state: State, context: Context) -> None:
        """After the block's orders, in registry order."""

    def check_invariants(self, state: State) -> None:
        """Raise `InvariantViolation` if this plugin's laws do not hold. May be slow."""


# What became of one command, as its journal line tells it: (code, number, *entry). A plain tuple,
# since a block may hold a hundred thousand and the garbage collector need not watch these.
Outcome = tuple[int, int, int, int, int, int, int]

_NOTHING = Entry()
_OK = int(Code.OK)
_UNKNOWN: Outcome = (int(Code.UNKNOWN_COMMAND), int(CommandNumber.UNKNOWN), *_NOTHING)


class Registry:
    """The plugins of a ledger, in the order in which they get their turn."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._handlers: dict[str, tuple[CommandKind, Handler]] = {}
        for plugin in self.plugins:
            for handler in plugin.handlers:
                kind = kind_of(handler.command, len(self._handlers))
                ensure(kind.name not in self._handlers, f"two plugins handle {kind.name}")
                self._handlers[kind.name] = (kind, handler)

    def execute(self, state: State, raw: list[Any], context: Context) -> Outcome:
        """Carry out one raw command, or refuse it and change nothing."""
        found = self._handlers.get(raw[0])
        if found is None:
            return _UNKNOWN
        kind, handler = found
        command = kind.read(raw)
        if command is None:
            return (int(Code.BAD_ARGUMENT), kind.number, *_NOTHING)
        code = handler.validate(state, command, context)
        delay_ms = 0 if code or handler.delay is None else handler.delay(state)
        if delay_ms:
            code = queue.check_room(state, raw)
        if code:
            return (int(code), kind.number, *_NOTHING)
        if delay_ms:
            due_ms = context.time_ms + delay_ms
            number = queue.add(state, raw, context.key, due_ms)
            return (_OK, kind.number, *Entry(qty=due_ms, detail=number))
        return (_OK, kind.number, *handler.apply(state, command, context))

    def on_block_start(self, state: State, context: Context) -> None:
        """Every plugin's turn before the block's commands."""
        for plugin in self.plugins:
            plugin.on_block_start(state, context)

    def on_block_end(self, state: State, context: Context) -> None:
        """Changes of rules that are due, then every plugin's end-of-block pass."""
        self._apply_due(state, context)
        for plugin in self.plugins:
            plugin.on_block_end(state, context)

    def check_invariants(self, state: State) -> None:
        """Every plugin's laws."""
        for plugin in self.plugins:
            plugin.check_invariants(state)

    def _apply_due(self, state: State, context: Context) -> None:
        """Carry out what has waited long enough, as its sender may still do it; drop what it may not."""
        for number, key, raw in queue.take_due(state, context.time_ms):
            kind, handler = self._handlers[raw[0]]
            command = kind.read(raw)
            sender = context._replace(key=key)
            code = handler.validate(state, command, sender)
            entry = _NOTHING if code else handler.apply(state, command, sender)
            line = dict(zip(("market", "account", "counter_account", "qty"), entry[:4], strict=True))
            context.events.add(Kind.APPLIED, code=code, op=kind.number, detail=number, **line)
