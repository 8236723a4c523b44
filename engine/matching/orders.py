"""One function per order operation. Each returns what its RESULT line says.

new_order      GTC, IOC, FOK, post-only, market
replace_order  new price and new open quantity; a refused one leaves the original where it is
cancel_order, reduce_order, cancel_all
"""

import numpy as np

from engine.clearing.balances import find_or_open_balance
from engine.clearing.holds import compute_hold, release_hold
from engine.clearing.settle import settle_taker
from engine.compiled import inlined
from engine.layout import NONE, Core
from engine.matching.admit import check_book, check_names, check_terms, time_in_force
from engine.matching.book import add_order, has_free_row, remove_order
from engine.matching.records import write_cancelled
from engine.matching.taking import take, take_off
from engine.records import EVERY_MARKET, Code, Side, TimeInForce
from engine.tables.index import find_balance, find_order


@inlined
def new_order(core: Core, op: np.record, events: np.ndarray, used: int) -> tuple[int, int, int, int]:
    """Check, match, and rest what is left. Returns (code, filled lots, lots left open, events used)."""
    side = op["flags"] & 1
    code = check_names(core, op)
    if code != Code.OK:
        return code, 0, 0, used
    market = core.markets.rows[op.market]
    code = check_terms(market, op)
    if code != Code.OK:
        return code, 0, 0, used
    if find_order(core.order_index, core.orders.rows, op.account, op.client_order_id) != NONE:
        return Code.DUPLICATE_ORDER_ID.value, 0, 0, used
    pay_asset, receive_asset = market.quote_asset, market.base_asset
    if side == Side.SELL:
        pay_asset, receive_asset = receive_asset, pay_asset
    pay_row = find_balance(core.balance_index, core.balances.rows, op.account, pay_asset)
    hold = compute_hold(side, op.price, op.qty, market)
    if pay_row == NONE or core.balances.rows[pay_row].available < hold:
        return Code.INSUFFICIENT_FUNDS.value, 0, 0, used
    code = check_book(core, market, op, side)
    if code != Code.OK:
        return code, 0, 0, used
    if not has_free_row(core):
        return Code.LIMIT_REACHED.value, 0, 0, used
    receive_row = find_or_open_balance(core, op.account, receive_asset)
    if receive_row == NONE:
        return Code.LIMIT_REACHED.value, 0, 0, used
    return _match_and_rest(core, op, op.market, side, pay_row, receive_row, 0, events, used)


@inlined
def replace_order(
    core: Core, op: np.record, row: int, events: np.ndarray, used: int
) -> tuple[int, int, int, int]:
    """Give the order in `row` (or NONE) a new price and open quantity, behind everybody at that price.

    Its side and the lots it has filled stay. It may match at once, and time in force may be GTC
    or post-only. Returns (code, filled lots, lots left open, events used).
    """
    if time_in_force(op) != TimeInForce.GTC and time_in_force(op) != TimeInForce.POST_ONLY:
        return Code.BAD_OP.value, 0, 0, used
    if row == NONE:
        return Code.UNKNOWN_ORDER.value, 0, 0, used
    order = core.orders.rows[row]
    market = core.markets.rows[order.market]
    side, filled = int(order.side), order.filled
    pay_row, receive_row = int(order.base_row), int(order.quote_row)
    if side == Side.BUY:
        pay_row, receive_row = receive_row, pay_row
    code = check_terms(market, op)
    if code != Code.OK:
        return code, 0, 0, used
    released = compute_hold(side, order.price, order.leaves, market)
    available = core.balances.rows[pay_row].available + released
    if available < compute_hold(side, op.price, op.qty, market):
        return Code.INSUFFICIENT_FUNDS.value, 0, 0, used
    code = check_book(core, market, op, side)
    if code != Code.OK:
        return code, 0, 0, used
    release_hold(core.balances, pay_row, released)
    remove_order(core, row)
    return _match_and_rest(core, op, op.market, side, pay_row, receive_row, filled, events, used)


@inlined
def _match_and_rest(
    core: Core,
    op: np.record,
    market_row: int,
    side: int,
    pay_row: int,
    receive_row: int,
    filled_before: int,
    events: np.ndarray,
    used: int,
) -> tuple[int, int, int, int]:
    """An admitted order trades; what is left rests if its time in force says so."""
    market = core.markets.rows[market_row]
    code, filled, leaves, paid, received, used = take(core, market, op, side, events, used)
    tif = time_in_force(op)
    left = 0
    if code == Code.OK and (tif == TimeInForce.GTC or tif == TimeInForce.POST_ONLY):
        left = leaves
    hold = compute_hold(side, op.price, left, market)
    if paid + hold > 0:
        settle_taker(core.balances, pay_row, paid, hold, receive_row, received)
    if left > 0:
        base_row, quote_row = receive_row, pay_row
        if side == Side.SELL:
            base_row, quote_row = pay_row, receive_row
        add_order(core, market_row, op, side, left, filled_before + filled, base_row, quote_row)
    elif code == Code.OK and filled == 0:
        code = Code.NO_LIQUIDITY.value
    return code, filled, left, used


@inlined
def find_own_order(core: Core, op: np.record) -> int:
    """Row of the live order that an operation names by account, id and market, or NONE."""
    row = find_order(core.order_index, core.orders.rows, op.account, op.client_order_id)
    if row != NONE and core.orders.rows[row].market != op.market:
        return NONE
    return row


@inlined
def cancel_all(core: Core, op: np.record, events: np.ndarray, used: int) -> tuple[int, int]:
    """Cancel every live order of the account on one market, or on all. Returns (orders, events used)."""
    row = core.accounts.rows[op.account].first_order
    count = 0
    while row != NONE:
        order = core.orders.rows[row]
        following = order.next_own
        if op.market == EVERY_MARKET or op.market == order.market:
            write_cancelled(events[used], op, Code.OK, order, order.leaves)
            used += 1
            count += 1
            take_off(core, row, order.leaves)
        row = following
    return count, used
