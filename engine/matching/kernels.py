"""The compiled call that executes a block's order operations, and its driver.

Two passes (DESIGN, deterministic transaction ordering): first, in listing order, cancels and reductions of
orders that rest on the book when the block starts; then everything else. A cancel whose order
is not there at block start waits for the second pass: the order may be placed before it in the list.
CANCEL_ALL takes part in both: what rests at block start leaves early, what the block placed before it
leaves in its turn.
"""

import numpy as np

from engine.compiled import inlined, kernel, outlined, widen
from engine.layout import NONE, Core
from engine.matching.admit import FILLS_PER_ORDER_MAX, slide
from engine.matching.orders import (
    CANCELS_PER_OPERATION_MAX,
    admit_new,
    cancel_all,
    enter_book,
    find_own_order,
    leave_book,
)
from engine.matching.prefetch import is_worth_looking_ahead, look_ahead_joining, look_ahead_leaving
from engine.matching.progress import PROGRESS_LENGTH, Progress
from engine.matching.records import write_result
from engine.matching.replacing import replace_order
from engine.matching.terms import enter_with_terms, is_followed_by_its_order
from engine.records import EVERY_MARKET, JOURNAL, SLIDE, CancelSides, Code, Op
from engine.tables.table import kernel_view

_DONE_EARLY = 255  # in `codes`: the operation ran in the first pass


@kernel
def execute_orders(
    core: Core,
    ops: np.ndarray,
    codes: np.ndarray,
    results: np.ndarray,
    events: np.ndarray,
    progress: np.ndarray,
) -> bool:
    """Execute a block's operations; return True when done, False when `events` needs more room.

    ops (n,) ORDER_OP. codes (n,) uint8: not OK where the operation was refused before
    (authorisation); used as scratch. results (n,) JOURNAL, written in listing order. events JOURNAL,
    written in execution order up to progress[EVENTS]. progress (4,) int64, zero at first: the
    caller copies events into a longer array and calls again with the same arguments otherwise.
    The caller reserved rows (`State.reserve_for_orders`).
    """
    if progress[Progress.PASS] == 0:
        if not _leave_early(core, ops, codes, results, events, progress):
            return False
        progress[Progress.PASS] = 1
        progress[Progress.NEXT_OP] = 0
    if not _execute_rest(core, ops, codes, results, events, progress):
        return False
    progress[Progress.PASS] = 2
    return True


def run_orders(core: Core, ops: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Execute operations, growing the event array as needed. Returns (results, events)."""
    results = np.empty(ops.shape[0], dtype=JOURNAL)
    events = np.empty(ops.shape[0] + FILLS_PER_ORDER_MAX, dtype=JOURNAL)
    progress = np.zeros(PROGRESS_LENGTH, dtype=np.int64)
    arrays = (kernel_view(ops), codes, kernel_view(results))
    while not execute_orders(core, *arrays, kernel_view(events), progress):
        used, needed = int(progress[Progress.EVENTS]), int(progress[Progress.EVENTS_NEEDED])
        longer = np.empty(max(2 * events.shape[0], used + needed), dtype=JOURNAL)
        longer[:used] = events[:used]
        events = longer
    return results, events[: progress[Progress.EVENTS]]


@inlined
def _leave_early(
    core: Core,
    ops: np.ndarray,
    codes: np.ndarray,
    results: np.ndarray,
    events: np.ndarray,
    progress: np.ndarray,
) -> bool:
    """First pass: cancels and reductions of what rests already."""
    far_sighted = is_worth_looking_ahead(core)
    for i in range(progress[Progress.NEXT_OP], ops.shape[0]):
        if far_sighted:
            look_ahead_leaving(core, ops, i)
        op = ops[i]
        if codes[i] != Code.OK:
            continue
        if op.op == Op.CANCEL or op.op == Op.REDUCE:
            qty, left, side, price = leave_book(core, op)
            if qty > 0:
                write_result(results[i], op, Code.OK, side, price, qty, left)
                codes[i] = _DONE_EARLY
        elif op.op == Op.CANCEL_ALL and _may_cancel_all(core, op) == Code.OK:
            if not _has_room(core, op, events, progress):
                progress[Progress.NEXT_OP] = i
                return False
            code, count, used = cancel_all(core, op, events, progress[Progress.EVENTS])
            progress[Progress.EVENTS] = used
            results[i].code = code
            results[i].qty = count
    return True


@inlined
def _execute_rest(
    core: Core,
    ops: np.ndarray,
    codes: np.ndarray,
    results: np.ndarray,
    events: np.ndarray,
    progress: np.ndarray,
) -> bool:
    """Second pass: everything that did not leave early, in listing order."""
    far_sighted = is_worth_looking_ahead(core)
    for i in range(progress[Progress.NEXT_OP], ops.shape[0]):
        if far_sighted:
            look_ahead_joining(core, ops, i)
        op, line = ops[i], results[i]
        if codes[i] == _DONE_EARLY:
            continue
        if codes[i] != Code.OK:
            write_result(line, op, codes[i], op["flags"] & 1, op.price, 0, 0)
            continue
        if not _has_room(core, op, events, progress):
            progress[Progress.NEXT_OP] = i
            return False
        if op.op == Op.NEW:
            if i > 0 and ops[i - 1].op == Op.TERMS:
                enter_with_terms(core, ops, codes, i, line, events, progress)
            else:
                _enter(core, op, line, events, progress)
        elif op.op == Op.REPLACE:
            replace_order(core, op, line, events, progress)
        elif op.op == Op.CANCEL or op.op == Op.REDUCE:
            _leave_late(core, op, line)
        elif op.op == Op.CANCEL_ALL:
            _cancel_all_late(core, op, line, events, progress)
        elif op.op == Op.TERMS and is_followed_by_its_order(ops, codes, i):
            write_result(line, op, Code.OK, 0, op.price, op.qty, 0)
        else:
            write_result(line, op, Code.BAD_OP, 0, op.price, 0, 0)
    return True


@inlined
def _has_room(core: Core, op: np.record, events: np.ndarray, progress: np.ndarray) -> bool:
    """Whether `events` has a line for everything that `op` may cause; else says how many it needs."""
    needed = int(FILLS_PER_ORDER_MAX)
    if op.op == Op.CANCEL_ALL:
        needed = 0
        if op.account < core.counters.rows[0].accounts:
            needed = min(int(core.accounts.rows[op.account].open_orders), int(CANCELS_PER_OPERATION_MAX))
    progress[Progress.EVENTS_NEEDED] = needed
    return events.shape[0] - progress[Progress.EVENTS] >= needed


@inlined
def _enter(core: Core, op: np.record, line: np.record, events: np.ndarray, progress: np.ndarray) -> None:
    """NEW without terms: admit, then match and rest."""
    if op["flags"] & SLIDE:
        slide(core, op, op["flags"] & 1)
    admitted = admit_new(core, op, False)
    code, filled, left = admitted.code, 0, 0
    if code == Code.OK:
        code, filled, left, used = enter_book(core, op, admitted, events, progress[Progress.EVENTS])
        progress[Progress.EVENTS] = used
    write_result(line, op, code, admitted.side, op.price, filled, left)


@outlined
def _leave_late(core: Core, op: np.record, line: np.record) -> None:
    """CANCEL or REDUCE in its turn: the order came earlier in this block, or the operation is refused."""
    qty, left, side, price = leave_book(core, op)
    code = Code.OK.value
    if qty == 0:
        code = Code.UNKNOWN_ORDER.value
        if op.account >= core.counters.rows[0].accounts:
            code = Code.UNKNOWN_ACCOUNT.value
        elif find_own_order(core, op) != NONE:
            code = Code.QTY_OUT_OF_RANGE.value
    write_result(line, op, code, side, price, qty, left)


@inlined
def _may_cancel_all(core: Core, op: np.record) -> int:
    """CANCEL_ALL names an account and a market that exist, or every market, and one side or both."""
    counters = core.counters.rows[0]
    if op.qty < 0 or op.qty > CancelSides.ASKS:
        return Code.BAD_OP.value
    if op.market != EVERY_MARKET and op.market >= counters.markets:
        return Code.UNKNOWN_MARKET.value
    return Code.UNKNOWN_ACCOUNT.value if op.account >= counters.accounts else Code.OK.value


@inlined
def _cancel_all_late(
    core: Core, op: np.record, line: np.record, events: np.ndarray, progress: np.ndarray
) -> None:
    """CANCEL_ALL in its turn: what this block placed before it. Adds to the count of the first pass.

    Nothing is left to do if the first pass came to the limit already."""
    code = _may_cancel_all(core, op)
    count = 0
    if code == Code.OK:
        code, count = widen(line.code), line.qty
        if code == Code.OK:
            code, more, used = cancel_all(core, op, events, progress[Progress.EVENTS])
            progress[Progress.EVENTS] = used
            count += more
    write_result(line, op, code, 0, 0, count, 0)
