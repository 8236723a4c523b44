"""Orders that wait for a price: FIFO queues by trigger, a bitmap of those that are not empty.

Every level row has three rows in the trigger table, one for each `Reference`: those of a ladder that begins
at level row s and has n levels stand in rows 3·s + reference·n + trigger. One bitmap over all of them finds
the trigger that a price reaches next. Orders of one trigger are linked through `prev` and `next`, as on a
level.
"""

import numpy as np

from engine.compiled import inlined, outlined
from engine.layout import NONE, ORDER_PAGE, TERMS_PAGE, TRIGGER_PAGE, Core, OrderFlag
from engine.matching.ladder import next_occupied, occupy, previous_occupied, vacate
from engine.records import Reference, Side

_REFERENCES = len(Reference)


@inlined
def widen_trades(market: np.record, price: int) -> None:
    """The market traded at `price`, which conditional orders have yet to see."""
    market.trade_low = min(market.trade_low, price)
    market.trade_high = max(market.trade_high, price)


@outlined
def join_trigger(core: Core, market: np.record, row: int) -> None:
    """Let a registered order wait at the trigger in its terms, behind everybody there."""
    order, terms = core.orders.rows[row], core.terms.rows[row]
    order["flags"] |= OrderFlag.HAS_TERMS | OrderFlag.WAITING
    place = _first_row(market, order.side, terms.reference) + terms.trigger
    queue = core.triggers.rows[place]
    tail = queue.tail - 1
    order.prev = tail
    order.next = NONE
    queue.tail = row + 1
    if tail != NONE:
        core.orders.rows[tail].next = row
        core.orders.dirty[tail >> ORDER_PAGE] = 1
    else:
        queue.head = row + 1
        occupy(core.trigger_bits, place)
    core.orders.dirty[row >> ORDER_PAGE] = 1
    core.terms.dirty[row >> TERMS_PAGE] = 1
    core.triggers.dirty[place >> TRIGGER_PAGE] = 1
    core.counters.rows[0].orders_waiting += 1
    core.counters.dirty[0] = 1


@outlined
def leave_trigger(core: Core, market: np.record, row: int) -> None:
    """Take an order that waits out of its queue."""
    order, terms = core.orders.rows[row], core.terms.rows[row]
    place = _first_row(market, order.side, terms.reference) + terms.trigger
    queue = core.triggers.rows[place]
    before, after = order.prev, order.next
    if before != NONE:
        core.orders.rows[before].next = after
        core.orders.dirty[before >> ORDER_PAGE] = 1
    else:
        queue.head = after + 1
    if after != NONE:
        core.orders.rows[after].prev = before
        core.orders.dirty[after >> ORDER_PAGE] = 1
    else:
        queue.tail = before + 1
    if before == NONE and after == NONE:
        vacate(core.trigger_bits, place)
    core.triggers.dirty[place >> TRIGGER_PAGE] = 1
    core.counters.rows[0].orders_waiting -= 1
    core.counters.dirty[0] = 1


@inlined
def first_to_trigger(core: Core, market: np.record, side: int, reference: int) -> int:
    """The order of this side whose trigger the price, rising for buyers and falling for sellers, reaches
    first; of several the oldest. NONE: nobody waits for this price."""
    first = _first_row(market, side, reference)
    if side == Side.BUY:
        place = next_occupied(core.trigger_bits, first)
        if place == NONE or place > first + market.price_max:
            return NONE
    else:
        place = first + market.price_max
        if core.triggers.rows[place].head == 0:
            place = previous_occupied(core.trigger_bits, place)
        if place <= first:
            return NONE
    return int(core.triggers.rows[place].head) - 1


@inlined
def _first_row(market: np.record, side: int, reference: int) -> int:
    """Row of the trigger at 0 ticks, where nobody waits."""
    start = market.bid_start if side == Side.BUY else market.ask_start
    return _REFERENCES * start + np.int64(reference) * (market.price_max + 1)
