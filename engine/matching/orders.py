"""The order operations: who may enter the book, entering it, and leaving it.

admit_new    every rule that may refuse; a refused operation changes nothing
enter_book   match, settle, rest: what an admitted order does
leave_book   cancel and reduce
cancel_all   an account's orders, so many at a time
"""

from typing import NamedTuple

import numpy as np

from engine.clearing.balances import can_open_balance, find_or_open_balance
from engine.clearing.holds import compute_hold
from engine.clearing.settle import settle_taker
from engine.compiled import inlined, kernel, outlined, widen
from engine.layout import NONE, Core, MarketKind
from engine.margin.spending import may_spend
from engine.markets.states import Action, allows
from engine.matching.admit import check_account, check_book, check_names, check_terms, time_in_force
from engine.matching.book import add_order, begin_own_at, has_free_row
from engine.matching.iceberg import open_lots
from engine.matching.records import write_cancelled
from engine.matching.taking import take, take_off
from engine.perpetuals.orders import begin_order, check_order, drop_open_lots, take_order_off
from engine.perpetuals.positions import can_open_position, position_of
from engine.records import EVERY_MARKET, REDUCE_ONLY, CancelSides, Code, Op, Side, TimeInForce
from engine.tables.index import find_balance, find_order

_MATCH = Action.MATCH.value
CANCELS_PER_OPERATION_MAX = 1024  # own orders that one CANCEL_ALL may look at in one pass


class Admission(NamedTuple):
    """Whether an order may enter the book, and what its checks found out."""

    code: int
    side: int
    pay_row: int  # the account's balance of what this side pays
    receive_row: int
    filled: int  # lots filled before, of an order that is replaced


@inlined
def refuse(code: int, side: int) -> Admission:
    """No admission, because of `code`."""
    return Admission(code, side, NONE, NONE, 0)


@inlined
def admit_new(core: Core, op: np.record, waits: bool) -> Admission:
    """NEW: names, limits, terms, an unused order id, funds for the whole order, and the book's consent, which
    an order that waits for its trigger does not need yet."""
    side = op["flags"] & 1
    code = check_names(core, op)
    if code == Code.OK:
        code = check_account(core, op, 1)
    if code != Code.OK:
        return refuse(code, side)
    market = core.markets.rows[op.market]
    code = check_terms(market, op, side, waits)
    if code != Code.OK:
        return refuse(code, side)
    if find_order(core.order_index, core.orders.rows, op.account, op.client_order_id) != NONE:
        return refuse(Code.DUPLICATE_ORDER_ID.value, side)
    if market.kind | (op["flags"] & REDUCE_ONLY) != 0:
        return admit_perpetual(core, op, side, NONE, waits)
    pay_asset, receive_asset = market.quote_asset, market.base_asset
    if side == Side.SELL:
        pay_asset, receive_asset = receive_asset, pay_asset
    pay_row = find_balance(core.balance_index, core.balances.rows, op.account, pay_asset)
    if pay_row == NONE:
        return refuse(Code.INSUFFICIENT_FUNDS.value, side)
    hold = compute_hold(side, op.price, op.qty, market)
    if core.balances.rows[pay_row].available < hold:
        return refuse(Code.INSUFFICIENT_FUNDS.value, side)
    has_positions = core.accounts.rows[op.account].first_position != NONE
    if has_positions and not may_spend(core, widen(op.account), widen(pay_asset), hold):
        return refuse(Code.MARGIN_TOO_LOW.value, side)
    if not waits:
        code = check_book(core, market, op, side)
    if code != Code.OK:
        return refuse(code, side)
    if not has_free_row(core):
        return refuse(Code.LIMIT_REACHED.value, side)
    receive_row = find_or_open_balance(core, op.account, receive_asset)
    if receive_row == NONE:
        return refuse(Code.LIMIT_REACHED.value, side)
    return Admission(Code.OK.value, side, pay_row, receive_row, 0)


@outlined
def admit_perpetual(core: Core, op: np.record, side: int, row: int, waits: bool) -> Admission:
    """NEW in a perpetual market, or REPLACE of order `row`: margin instead of funds.

    Reduce-only is for these markets only, and a replacement is reduce-only exactly if its original is.
    """
    market = core.markets.rows[op.market]
    if market.kind != MarketKind.PERPETUAL:
        return refuse(Code.BAD_OP.value, side)
    filled = 0
    if row == NONE:
        code = check_order(core, op, side)
    else:
        order = core.orders.rows[row]
        if (order["flags"] ^ op["flags"]) & REDUCE_ONLY:
            return refuse(Code.BAD_OP.value, side)
        filled, opened = order.filled, open_lots(core, row)
        take_order_off(core, order, opened)  # the new order may use what the original asks for
        code = check_order(core, op, side)
        take_order_off(core, order, -opened)
    if code == Code.OK and not waits:
        code = check_book(core, market, op, side)
    if code == Code.OK and not _has_room_for_perpetual(core, op, widen(market.quote_asset), row):
        code = Code.LIMIT_REACHED.value
    if code != Code.OK:
        return refuse(code, side)
    quote_row = find_or_open_balance(core, op.account, market.quote_asset)
    return Admission(Code.OK.value, side, quote_row, quote_row, filled)


@inlined
def _has_room_for_perpetual(core: Core, op: np.record, asset: int, replaced_row: int) -> bool:
    """Whether there is a row for the order, the position, and the balance that it is settled in."""
    if replaced_row == NONE and not has_free_row(core):
        return False
    if not can_open_balance(core, op.account, asset):
        return False
    has_position = position_of(core, op.account, op.market) != NONE
    return has_position or can_open_position(core, widen(op.account))


@inlined
def enter_book(
    core: Core, op: np.record, admitted: Admission, events: np.ndarray, used: int
) -> tuple[int, int, int, int]:
    """An admitted order trades, where the market matches; what is left rests if its time in force says so.

    Returns (code, filled lots, lots left open, events used).
    """
    side, pay_row = admitted.side, admitted.pay_row
    market = core.markets.rows[op.market]
    code, filled, leaves, paid, received = Code.OK.value, 0, op.qty, 0, 0
    is_perpetual = market.kind == MarketKind.PERPETUAL
    if is_perpetual:
        begin_order(core, op, side, pay_row)
    if allows(market.status, _MATCH):
        code, filled, leaves, paid, received, used = take(core, market, op, side, events, used)
    tif = time_in_force(op)
    left = 0
    if code == Code.OK and (tif == TimeInForce.GTC or tif == TimeInForce.POST_ONLY):
        left = leaves
    if is_perpetual:
        drop_open_lots(core, op, side, op.qty - filled - left)
    else:
        hold = compute_hold(side, op.price, left, market)
        if paid + hold > 0:
            settle_taker(core.balances, pay_row, paid, hold, admitted.receive_row, received)
    if left > 0:
        base_row, quote_row = admitted.receive_row, pay_row
        if side == Side.SELL:
            base_row, quote_row = quote_row, base_row
        add_order(core, op.market, op, side, left, admitted.filled + filled, base_row, quote_row)
    elif code == Code.OK and filled == 0:
        code = Code.NO_LIQUIDITY.value
    return code, filled, left, used


@inlined
def leave_book(core: Core, op: np.record) -> tuple[int, int, int, int]:
    """CANCEL or REDUCE a live order. Returns (lots taken off, lots left, side, price); 0 lots if there is
    no such order or nothing to take off."""
    row = find_own_order(core, op)
    if row == NONE or (op.op == Op.REDUCE and op.qty < 1):
        return 0, 0, op["flags"] & 1, op.price
    order = core.orders.rows[row]
    side, price, leaves = widen(order.side), order.price, open_lots(core, row)
    qty = min(op.qty, leaves) if op.op == Op.REDUCE else leaves
    take_off(core, row, qty)
    return qty, leaves - qty, side, price


@inlined
def find_own_order(core: Core, op: np.record) -> int:
    """Row of the live order that an operation names by account, id and market, or NONE."""
    row = find_order(core.order_index, core.orders.rows, op.account, op.client_order_id)
    if row != NONE and core.orders.rows[row].market != op.market:
        return NONE
    return row


@kernel
def cancel_all(core: Core, op: np.record, events: np.ndarray, used: int) -> tuple[int, int, int]:
    """Cancel the account's live orders that the operation selects. Returns (code, orders, events used).

    After CANCELS_PER_OPERATION_MAX orders, cancelled or not selected, it stops with WORK_LIMIT,
    and what it passed over goes to the end of the account's list: the next one begins where this stopped.
    """
    row = core.accounts.rows[op.account].first_order
    seen, count = 0, 0
    while row != NONE and seen < CANCELS_PER_OPERATION_MAX:
        seen += 1
        order = core.orders.rows[row]
        following = order.next_own
        if _selects(op, order):
            leaves = open_lots(core, row)
            write_cancelled(events[used], op, Code.OK, order, leaves, 0)
            used += 1
            count += 1
            take_off(core, row, leaves)
        row = following
    if row == NONE:
        return Code.OK.value, count, used
    begin_own_at(core, row)
    return Code.WORK_LIMIT.value, count, used


@inlined
def _selects(op: np.record, order: np.record) -> bool:
    """Whether a CANCEL_ALL means this order: by market, side, and range of client order ids."""
    if op.market != EVERY_MARKET and op.market != order.market:
        return False
    if op.qty != CancelSides.BOTH and op.qty - 1 != order.side:
        return False
    if op.client_order_id == 0 and op.price == 0:
        return True
    return bool(op.client_order_id <= order.client_order_id and order.client_order_id <= op.price)
