"""REPLACE: a resting order gets another price and open quantity.

If only the quantity shrinks, the order stays where it is. Otherwise it leaves the book and enters as new,
behind everybody, with its terms: an iceberg hides again, an expiry stays. An order that waits goes on waiting
for its trigger, and becomes what its NEW said. A replacement that is refused leaves the original where it is.
"""

import numpy as np

from engine.clearing.holds import compute_hold
from engine.compiled import inlined, outlined, widen
from engine.layout import NONE, Core
from engine.margin.spending import may_spend
from engine.matching.admit import (
    check_account,
    check_book,
    check_names,
    check_terms,
    slide,
    time_in_force,
)
from engine.matching.attached import attach, terms_of
from engine.matching.iceberg import open_lots
from engine.matching.orders import Admission, admit_perpetual, enter_book, find_own_order, refuse
from engine.matching.progress import Progress
from engine.matching.records import write_result
from engine.matching.stops import is_waiting, wait
from engine.matching.taking import take_off
from engine.records import REDUCE_ONLY, SLIDE, Code, Side, TimeInForce


@outlined
def replace_order(
    core: Core, op: np.record, line: np.record, events: np.ndarray, progress: np.ndarray
) -> None:
    """Carry out one REPLACE and write its RESULT."""
    admitted = _admit(core, op)
    code, filled, left = admitted.code, 0, 0
    if code == Code.OK:
        row = find_own_order(core, op)
        opened = open_lots(core, row)
        if op.price == core.orders.rows[row].price and op.qty <= opened:
            left = op.qty
            if left < opened:
                take_off(core, row, opened - left)
        elif is_waiting(core, row):
            terms = terms_of(core, row)
            take_off(core, row, opened)
            wait(core, op, admitted, terms)
            left = op.qty
        else:
            terms = terms_of(core, row)
            take_off(core, row, opened)
            code, filled, left, used = enter_book(core, op, admitted, events, progress[Progress.EVENTS])
            progress[Progress.EVENTS] = used
            if left > 0 and terms.terms > 0:
                attach(core, find_own_order(core, op), terms)
    write_result(line, op, code, admitted.side, op.price, filled, left)


@inlined
def _admit(core: Core, op: np.record) -> Admission:
    """Whether the new price and open quantity may stand; the original stays on the book.

    Side and lots filled stay those of the original; time in force may be GTC or post-only.
    """
    side = op["flags"] & 1
    code = check_names(core, op)
    if code == Code.OK:
        code = check_account(core, op, 0)
    if code != Code.OK:
        return refuse(code, side)
    row = find_own_order(core, op)
    if row != NONE:
        side = widen(core.orders.rows[row].side)
    if time_in_force(op) != TimeInForce.GTC and time_in_force(op) != TimeInForce.POST_ONLY:
        return refuse(Code.BAD_OP.value, side)
    if row == NONE:
        return refuse(Code.UNKNOWN_ORDER.value, side)
    waits = is_waiting(core, row)
    if op["flags"] & SLIDE and not waits:
        slide(core, op, side)
    order = core.orders.rows[row]
    market = core.markets.rows[order.market]
    code = check_terms(market, op, side, waits)
    if code != Code.OK:
        return refuse(code, side)
    if market.kind | (op["flags"] & REDUCE_ONLY) != 0:
        return admit_perpetual(core, op, side, row, waits)
    pay_row, receive_row = widen(order.base_row), widen(order.quote_row)
    if side == Side.BUY:
        pay_row, receive_row = receive_row, pay_row
    released = compute_hold(side, order.price, open_lots(core, row), market)
    more = compute_hold(side, op.price, op.qty, market) - released
    if core.balances.rows[pay_row].available < more:
        return refuse(Code.INSUFFICIENT_FUNDS.value, side)
    if more > 0 and not may_spend(core, widen(op.account), widen(core.balances.rows[pay_row].asset), more):
        return refuse(Code.MARGIN_TOO_LOW.value, side)
    if not waits:
        code = check_book(core, market, op, side)
    if code != Code.OK:
        return refuse(code, side)
    return Admission(Code.OK.value, side, pay_row, receive_row, order.filled)
