"""Exact audit of the orders that wait: queues, counter and bitmap say the same."""

import numpy as np

from consensus.primitives.errors import ensure
from engine.layout import NONE, OrderFlag
from engine.matching.ladder import new_ladder, rebuild_ladder
from engine.records import Reference, Side
from engine.state import State


def check_waiting(state: State) -> None:
    """Each order that waits stands in the queue of its trigger, once; nobody else stands in one."""
    rows = state.orders.data[: state.used(state.orders)]
    waiting = np.flatnonzero(rows["flags"] & OrderFlag.WAITING).tolist()
    ensure(len(waiting) == state.count["orders_waiting"], "orders that wait do not match their counter")
    queues = state.triggers.data[: state.used(state.triggers)]
    found: dict[int, int] = {}
    for place in np.flatnonzero(queues["head"]).tolist():
        before, row = NONE, int(queues["head"][place]) - 1
        while row != NONE:
            ensure(int(rows["prev"][row]) == before and row not in found, f"order {row} waits in two places")
            found[row] = place
            before, row = row, int(rows["next"][row])
        ensure(int(queues["tail"][place]) - 1 == before, f"the queue in trigger row {place} has another end")
    ensure(sorted(found) == waiting, "an order that waits is in no queue, or another is in one")
    for row, place in found.items():
        ensure(place == _place(state, row), f"order {row} waits in trigger row {place}")
    bits = new_ladder(state.triggers.capacity)
    rebuild_ladder(bits, state.triggers.rows, state.used(state.triggers))
    ensure(np.array_equal(bits, state.trigger_bits), "the bitmap of triggers is not that of the queues")


def _place(state: State, row: int) -> int:
    order, terms = state.orders.data[row], state.terms.data[row]
    market = state.markets.data[int(order["market"])]
    start = int(market["bid_start"] if order["side"] == Side.BUY else market["ask_start"])
    levels = int(market["price_max"]) + 1
    return len(Reference) * start + int(terms["reference"]) * levels + int(terms["trigger"])
