"""A plugin from outside the package: it counts, per account, what it is told to, and tells at block end."""

from typing import NamedTuple

import numpy as np

from engine.commands import AccountId, Amount
from engine.plugin import Entry, Handler, Plugin
from engine.records import Code, Kind
from engine.tables.table import TableSpec

TALLY = np.dtype([("total", "<i8"), ("blocks", "<i8")])


class AddTally(NamedTuple):
    """Add `amount` to an account's tally."""

    account: AccountId
    amount: Amount


class TallyPlugin(Plugin):
    """One row per account, appended when it is first counted for."""

    name = "tally"
    tables = (TableSpec("tallies", TALLY, 1 << 16),)

    def __init__(self, genesis) -> None:
        self.handlers = (Handler(AddTally, self.validate, self.apply),)

    def validate(self, state, command, context):
        return Code.OK if command.account < state.count["accounts"] else Code.UNKNOWN_ACCOUNT

    def apply(self, state, command, context):
        table = state.table("tallies")
        missing = command.account + 1 - state.used(table)
        if missing > 0:
            state.add_rows(table, missing)
        table.columns["total"][command.account] += command.amount
        table.mark(command.account)
        context.events.add(Kind.FOREIGN, account=command.account, qty=command.amount)
        return Entry(account=command.account, qty=command.amount)

    def on_block_end(self, state, context):
        table = state.table("tallies")
        for row in range(state.used(table)):
            table.columns["blocks"][row] += 1
            table.mark(row)
            context.events.add(Kind.FOREIGN, account=row, detail=context.height)
