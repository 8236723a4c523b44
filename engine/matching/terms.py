"""Orders with terms: a NEW behind TERMS operations, each of which says one thing more about it.

A kind of order lives in a file of its own; here its arguments are read and checked, once, before
anything else is asked of the order.
"""

import numpy as np

from engine.compiled import inlined, outlined, widen
from engine.layout import Core
from engine.matching.admit import slide, time_in_force
from engine.matching.attached import Terms, attach, no_terms
from engine.matching.orders import admit_new, enter_book, find_own_order
from engine.matching.progress import Progress
from engine.matching.records import write_result
from engine.matching.stops import is_stop, wait
from engine.records import SLIDE, TERMS_MAX, Code, Op, Term, TimeInForce


@outlined
def is_followed_by_its_order(ops: np.ndarray, codes: np.ndarray, i: int) -> bool:
    """Whether the NEW of TERMS operation i comes at once, with no more than other TERMS between."""
    op = ops[i]
    for j in range(i + 1, min(i + TERMS_MAX + 1, ops.shape[0])):
        if codes[j] != Code.OK or not _names_the_same(op, ops[j]):
            return False
        if ops[j].op != Op.TERMS:
            return bool(ops[j].op == Op.NEW)
    return False


@outlined
def enter_with_terms(
    core: Core,
    ops: np.ndarray,
    codes: np.ndarray,
    i: int,
    line: np.record,
    events: np.ndarray,
    progress: np.ndarray,
) -> None:
    """NEW operation i with the TERMS before it: admit, match, rest. Writes its RESULT."""
    op = ops[i]
    terms = _read_terms(core, ops, codes, i)
    if terms.code != Code.OK:
        write_result(line, op, terms.code, op["flags"] & 1, op.price, 0, 0)
        return
    waits = terms.trigger > 0
    if op["flags"] & SLIDE and not waits:
        slide(core, op, op["flags"] & 1)
    admitted = admit_new(core, op, waits)
    code, filled, left = admitted.code, 0, 0
    if code == Code.OK and waits:
        wait(core, op, admitted, terms)
        left = op.qty
    elif code == Code.OK:
        code, filled, left, used = enter_book(core, op, admitted, events, progress[Progress.EVENTS])
        progress[Progress.EVENTS] = used
    if left > 0 and terms.terms > 0 and not waits:
        attach(core, find_own_order(core, op), terms)
    write_result(line, op, code, admitted.side, op.price, filled, left)


@outlined
def _read_terms(core: Core, ops: np.ndarray, codes: np.ndarray, i: int) -> Terms:
    """The terms of NEW operation i, checked against one another and the order.

    What others put before it without its account's key, or about another order, is none of them.
    """
    op = ops[i]
    count, display, expiry_ms, trigger, reference = 0, 0, 0, 0, 0
    for j in range(i - 1, max(i - TERMS_MAX, 0) - 1, -1):
        term = ops[j]
        if term.op != Op.TERMS or codes[j] != Code.OK or not _names_the_same(op, term):
            break
        count += 1
        kind = term["flags"]
        if kind == Term.DISPLAY and display == 0 and term.qty >= 1 and term.qty < op.qty:
            display = term.qty
        elif kind == Term.EXPIRE and expiry_ms == 0 and term.price >= 1:
            expiry_ms = term.price
        elif kind == Term.STOP and trigger == 0 and is_stop(core, op, term):
            trigger, reference = term.price, term.qty
        else:
            return no_terms(Code.BAD_TERMS.value)
    tif = time_in_force(op)
    rests = tif == TimeInForce.GTC or tif == TimeInForce.POST_ONLY
    if not rests and (display > 0 or (count > 0 and trigger == 0)):
        return no_terms(Code.BAD_TERMS.value)
    if expiry_ms > 0 and expiry_ms <= core.counters.rows[0].time_ms:
        return no_terms(Code.EXPIRED.value)
    return Terms(Code.OK.value, count, display, expiry_ms, trigger, reference, widen(op["flags"]))


@inlined
def _names_the_same(one: np.record, other: np.record) -> bool:
    return bool(
        one.account == other.account
        and one.market == other.market
        and one.client_order_id == other.client_order_id
    )
