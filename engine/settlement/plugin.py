"""The settlement plugin: its commands, and its cycle at the end of a block."""

from collections.abc import Sequence

import numpy as np

from engine.genesis import Genesis
from engine.margin.spending import may_withdraw
from engine.plugin import Context, Handler, Plugin
from engine.records import Kind, SettlementLine
from engine.settlement import queue
from engine.settlement.handlers import HANDLERS, write_line
from engine.settlement.netting import Due, compute_net, find_funded
from engine.settlement.tables import make_specs
from engine.state import State
from engine.tables.table import TableSpec


class SettlementPlugin(Plugin):
    """Obligations between accounts, netted and settled in cycles."""

    name = "settlement"
    handlers: Sequence[Handler] = HANDLERS

    def __init__(self, genesis: Genesis) -> None:
        self.tables: Sequence[TableSpec] = make_specs(genesis)

    def on_block_end(self, state: State, context: Context) -> None:
        """Run the cycle, if one is due. However many were missed, it is one."""
        table = state.table("settlement")
        if state.used(table) == 0:
            return
        period, next_ms = table.columns["period_ms"].item(0), table.columns["next_ms"].item(0)
        if period == 0 or context.time_ms < next_ms:
            return
        table.columns["next_ms"][0] = context.time_ms + period - context.time_ms % period
        table.mark(0)
        if table.columns["pending"].item(0) > 0:
            _run_cycle(state, context)

    def check_invariants(self, state: State) -> None:
        """What waits is counted right."""
        queue.check_counts(state)


def _run_cycle(state: State, context: Context) -> None:
    """Settle what is funded, asset by asset; at most OBLIGATIONS_MAX obligations wait in all."""
    table = state.table("obligations")
    numbers = table.columns["number"][: state.used(table)]
    waiting = np.flatnonzero(numbers > 0)
    waiting = waiting[np.argsort(numbers[waiting])]  # oldest first
    assets = table.columns["asset"][waiting]
    for asset in np.unique(assets).tolist():
        _settle_asset(state, context, asset, waiting[assets == asset].tolist())


def _settle_asset(state: State, context: Context, asset: int, rows: list[int]) -> None:
    data = state.table("obligations").data
    dues = [
        Due(int(data[row]["debtor"]), int(data[row]["creditor"]), int(data[row]["amount"])) for row in rows
    ]
    accounts = sorted({account for due in dues for account in due[:2]})
    available = state.balances.columns["available"]
    balance_rows = {account: state.balance_row(account, asset) for account in accounts}
    funds = {account: _find_funds(state, account, asset, row) for account, row in balance_rows.items()}
    places = find_funded(dues, funds)
    if not places:
        return
    settled = [dues[place] for place in places]
    moved = 0
    for account, change in compute_net(settled).items():
        available[balance_rows[account]] += change
        state.balances.mark(balance_rows[account])
        moved += max(change, 0)
    for place in places:
        write_line(context, SettlementLine.SETTLED, data[rows[place]])
        queue.remove(state, rows[place])
    gross = sum(due.amount for due in settled)
    told = {
        "qty": min(gross, 2**63 - 1),
        "fee": moved,
        "detail": len(places),
        "price": len(rows) - len(places),
    }
    context.events.add(Kind.SETTLEMENT, op=SettlementLine.CYCLE, market=asset, **told)


def _find_funds(state: State, account: int, asset: int, row: int) -> int:
    """What an account may give away: all that it has available, or nothing while its positions need some."""
    free: int = state.balances.columns["available"].item(row)
    return free if may_withdraw(state.core(), account, asset, free) else 0
