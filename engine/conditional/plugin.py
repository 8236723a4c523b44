"""The conditional plugin: at a block's end, orders whose trigger was reached enter the book."""

import numpy as np

from engine.conditional.audit import check_waiting
from engine.conditional.triggering import (
    LINES_PER_TRIGGER,
    begin_turn,
    end_turn,
    find_due,
    trigger_orders,
)
from engine.layout import Core
from engine.plugin import Context, Plugin
from engine.records import ORDER_OP
from engine.state import State
from engine.tables.table import kernel_view

TRIGGERS_PER_BLOCK_MAX = 4096  # orders, of all markets; the rest is due in the next block
LINES_PER_CALL = 8 * LINES_PER_TRIGGER


class ConditionalPlugin(Plugin):
    """Orders that wait for a price."""

    name = "conditional"

    def on_block_end(self, state: State, context: Context) -> None:
        """Every market's turn, beginning with another one in every block."""
        markets = state.count["markets"]
        due = np.zeros(markets, dtype=np.uint8)
        find_due(state.core(), due)
        found = np.flatnonzero(due).tolist()
        first = context.height % max(markets, 1)
        budget = TRIGGERS_PER_BLOCK_MAX
        for market in sorted(found, key=lambda row: (row - first) % markets):
            if budget > 0:
                budget -= _take_turn(state.core(), context, market, budget)

    def check_invariants(self, state: State) -> None:
        """Whoever waits stands in a queue, and the queues are what they seem."""
        check_waiting(state)


def _take_turn(core: Core, context: Context, market: int, budget: int) -> int:
    """Let what is due in one market enter, `budget` orders at most; return how many did."""
    ops = kernel_view(np.zeros(1, dtype=ORDER_OP))
    low, high = begin_turn(core, market)
    done = 0
    while done < budget:
        lines = context.events.room(LINES_PER_CALL)
        count, used = trigger_orders(core, market, low, high, budget - done, ops, lines)
        context.events.took(used)
        done += count
        if count == 0:
            break
    end_turn(core, market, low, high)
    return done
