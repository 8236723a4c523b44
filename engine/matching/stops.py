"""Stops: an order that waits, its funds held, until a price comes to its trigger.

It is a live order like others: it has an id, counts among the account's, is cancelled, reduced, replaced, and
expires. On the book it is only when it has become what its NEW says; see `engine.conditional`.
"""

import numpy as np

from engine.clearing.holds import compute_hold
from engine.clearing.settle import settle_taker
from engine.compiled import inlined, outlined
from engine.layout import Core, MarketKind, OrderFlag
from engine.matching.attached import Terms, write_terms
from engine.matching.book import register_order
from engine.matching.orders import Admission
from engine.matching.waiting import join_trigger
from engine.perpetuals.orders import begin_order
from engine.records import Reference, Side

_REFERENCES = len(Reference)


@inlined
def is_stop(core: Core, op: np.record, term: np.record) -> bool:
    """Whether a STOP's arguments are in bounds: 1..price_max ticks of a known Reference."""
    if op.market >= core.counters.rows[0].markets or term.qty < 0 or term.qty >= _REFERENCES:
        return False
    return bool(term.price >= 1 and term.price <= core.markets.rows[op.market].price_max)


@inlined
def is_waiting(core: Core, row: int) -> bool:
    """Whether a live order waits for its trigger."""
    return bool(core.orders.rows[row]["flags"] & OrderFlag.WAITING)


@outlined
def wait(core: Core, op: np.record, admitted: Admission, terms: Terms) -> None:
    """An admitted order holds its funds, or margin, and waits for its trigger with all lots in `leaves`."""
    side, pay_row, receive_row = admitted.side, admitted.pay_row, admitted.receive_row
    market = core.markets.rows[op.market]
    if market.kind == MarketKind.PERPETUAL:
        begin_order(core, op, side, pay_row)
    else:
        settle_taker(core.balances, pay_row, 0, compute_hold(side, op.price, op.qty, market), receive_row, 0)
    base_row, quote_row = receive_row, pay_row
    if side == Side.SELL:
        base_row, quote_row = quote_row, base_row
    row = register_order(core, op.market, op, side, op.qty, admitted.filled, base_row, quote_row)
    core.terms.rows[row].hidden = 0
    write_terms(core, row, terms)
    join_trigger(core, market, row)
