"""The book: orders in FIFO order on a dense ladder of price levels, and each account's own orders.

A level row holds head and tail (order rows plus one), an order row its neighbours, so joining and
leaving a level touch three rows and walk nothing. The same order row is linked into its account's
list, for cancel-all. Free rows form a stack through `prev`; the row freed last, still in cache, is
taken first.

These kernels move orders and leave money alone (see `engine.clearing`).
"""

import numpy as np

from engine.compiled import inlined
from engine.layout import ACCOUNT_PAGE, LEVEL_PAGE, MARKET_PAGE, NONE, ORDER_PAGE, Core, OrderFlag
from engine.matching.ladder import next_occupied, occupy, previous_occupied, vacate
from engine.matching.waiting import leave_trigger
from engine.records import REDUCE_ONLY, Side
from engine.tables.alarms import drop_alarm
from engine.tables.index import hash_pair, index_insert, index_remove


@inlined
def has_free_row(core: Core) -> bool:
    """Whether one more order can rest."""
    counters = core.counters.rows[0]
    return counters.orders_free != NONE or counters.orders_used < core.orders.rows.shape[0]


@inlined
def find_level(market: np.record, side: int, price: int) -> int:
    """Level row of a side's orders at `price`. Bids and asks have ladders of their own: a book may cross."""
    return (market.bid_start if side == Side.BUY else market.ask_start) + price


@inlined
def add_order(
    core: Core,
    market_row: int,
    op: np.record,
    side: int,
    leaves: int,
    filled: int,
    base_row: int,
    quote_row: int,
) -> None:
    """Rest `leaves` lots of the order that `op` describes, behind everybody at its price.

    Caller ensured a free row, price 1..price_max and an unused (account, client_order_id).
    """
    row = register_order(core, market_row, op, side, leaves, filled, base_row, quote_row)
    _join_level(core, core.markets.rows[market_row], row)


@inlined
def register_order(
    core: Core,
    market_row: int,
    op: np.record,
    side: int,
    leaves: int,
    filled: int,
    base_row: int,
    quote_row: int,
) -> int:
    """A row for a live order, in its account's list and the index, and on no level yet."""
    row = _take_row(core)
    order = core.orders.rows[row]
    order.account = op.account
    order.market = market_row
    order.side = side
    order["flags"] = OrderFlag.LIVE | op["flags"] & REDUCE_ONLY  # admission lets it in where it counts
    order.client_order_id = op.client_order_id
    order.price = op.price
    order.leaves = leaves
    order.filled = filled
    order.base_row = base_row
    order.quote_row = quote_row
    core.orders.dirty[row >> ORDER_PAGE] = 1
    market = core.markets.rows[market_row]
    market.open_orders += 1
    core.markets.dirty[market_row >> MARKET_PAGE] = 1
    _join_own(core, row)
    index_insert(core.order_index, hash_pair(core.order_index, op.account, op.client_order_id), row)
    return row


@inlined
def remove_order(core: Core, row: int) -> None:
    """Take a live order out of its level or queue, its account's list and the index, and free its row."""
    order = core.orders.rows[row]
    market_row = order.market
    market = core.markets.rows[market_row]
    market.open_orders -= 1
    core.markets.dirty[market_row >> MARKET_PAGE] = 1
    index_remove(core.order_index, hash_pair(core.order_index, order.account, order.client_order_id), row)
    if order["flags"] & OrderFlag.WAITING:
        leave_trigger(core, market, row)
    else:
        _leave_level(core, market, order)
    _leave_own(core, order)
    if order["flags"] & OrderFlag.HAS_TERMS:
        drop_alarm(core, row)
    _free_row(core, row)


@inlined
def shrink_level(core: Core, order: np.record, qty: int) -> None:
    """`qty` lots of an order at this level are gone. An order that waits is at none."""
    if order["flags"] & OrderFlag.WAITING:
        return
    level_row = find_level(core.markets.rows[order.market], order.side, order.price)
    core.levels.rows[level_row].qty -= qty
    core.levels.dirty[level_row >> LEVEL_PAGE] = 1


@inlined
def shrink_order(core: Core, row: int, qty: int) -> None:
    """Take `qty` lots, fewer than are open, off an order in place: it keeps its priority."""
    order = core.orders.rows[row]
    order.leaves -= qty
    core.orders.dirty[row >> ORDER_PAGE] = 1
    shrink_level(core, order, qty)


@inlined
def show_again(core: Core, row: int, qty: int) -> None:
    """The lots that an order showed are filled: it shows `qty` others, behind everybody at its price."""
    order = core.orders.rows[row]
    level_row = find_level(core.markets.rows[order.market], order.side, order.price)
    level = core.levels.rows[level_row]
    level.qty -= order.leaves
    core.levels.dirty[level_row >> LEVEL_PAGE] = 1
    order.leaves = qty
    core.orders.dirty[row >> ORDER_PAGE] = 1
    after, tail = order.next, level.tail - 1
    if after == NONE:
        return
    if order.prev != NONE:
        core.orders.rows[order.prev].next = after
        core.orders.dirty[order.prev >> ORDER_PAGE] = 1
    else:
        level.head = after + 1
    core.orders.rows[after].prev = order.prev
    core.orders.dirty[after >> ORDER_PAGE] = 1
    order.prev = tail
    order.next = NONE
    core.orders.rows[tail].next = row
    core.orders.dirty[tail >> ORDER_PAGE] = 1
    level.tail = row + 1


# -- order rows -----------------------------------------------------------------------------------


@inlined
def _take_row(core: Core) -> int:
    counters = core.counters.rows[0]
    counters.orders_live += 1
    core.counters.dirty[0] = 1
    row = counters.orders_free
    if row == NONE:
        row = counters.orders_used
        counters.orders_used = row + 1
    else:
        counters.orders_free = core.orders.rows[row].prev
    return row


@inlined
def _free_row(core: Core, row: int) -> None:
    counters = core.counters.rows[0]
    counters.orders_live -= 1
    core.counters.dirty[0] = 1
    order = core.orders.rows[row]
    order["flags"] = 0
    order.prev = counters.orders_free
    counters.orders_free = row
    core.orders.dirty[row >> ORDER_PAGE] = 1


# -- price levels ---------------------------------------------------------------------------------


@inlined
def _join_level(core: Core, market: np.record, row: int) -> None:
    order = core.orders.rows[row]
    level_row = find_level(market, order.side, order.price)
    level = core.levels.rows[level_row]
    tail = level.tail - 1
    order.prev = tail
    order.next = NONE
    level.tail = row + 1
    level.qty += order.leaves
    core.levels.dirty[level_row >> LEVEL_PAGE] = 1
    if tail != NONE:
        core.orders.rows[tail].next = row
        core.orders.dirty[tail >> ORDER_PAGE] = 1
        return
    level.head = row + 1
    occupy(core.ladder_bits, level_row)
    if order.side == Side.BUY:
        market.best_bid = max(market.best_bid, order.price)
    else:
        market.best_ask = min(market.best_ask, order.price)


@inlined
def _leave_level(core: Core, market: np.record, order: np.record) -> None:
    level_row = find_level(market, order.side, order.price)
    level = core.levels.rows[level_row]
    level.qty -= order.leaves
    core.levels.dirty[level_row >> LEVEL_PAGE] = 1
    before, after = order.prev, order.next
    if before != NONE:
        core.orders.rows[before].next = after
        core.orders.dirty[before >> ORDER_PAGE] = 1
    else:
        level.head = after + 1
    if after != NONE:
        core.orders.rows[after].prev = before
        core.orders.dirty[after >> ORDER_PAGE] = 1
    else:
        level.tail = before + 1
    if before == NONE and after == NONE:
        vacate(core.ladder_bits, level_row)
        _find_best(core, market, order)


@inlined
def _find_best(core: Core, market: np.record, order: np.record) -> None:
    """The level of `order` has just become empty: if it was the best of its side, find the next."""
    if order.side == Side.BUY:
        if order.price == market.best_bid:
            found = previous_occupied(core.ladder_bits, market.bid_start + order.price)
            market.best_bid = max(found - market.bid_start, 0)
    elif order.price == market.best_ask:
        found = next_occupied(core.ladder_bits, market.ask_start + order.price)
        price = found - market.ask_start
        none = market.price_max + 1
        market.best_ask = price if found != NONE and price < none else none


@inlined
def is_same_owner(core: Core, account: int, group: int, other: int) -> bool:
    """Whether `other` is `account`, or of its `group` of accounts of one owner (NONE: it is alone)."""
    return account == other or (group != NONE and core.accounts.rows[other].group == group)


# -- an account's own orders ----------------------------------------------------------------------


@inlined
def _join_own(core: Core, row: int) -> None:
    order = core.orders.rows[row]
    account = core.accounts.rows[order.account]
    first = account.first_order
    order.prev_own = NONE
    order.next_own = first
    if first != NONE:
        core.orders.rows[first].prev_own = row
        core.orders.dirty[first >> ORDER_PAGE] = 1
    else:
        account.last_order = row
    account.first_order = row
    account.open_orders += 1
    core.accounts.dirty[order.account >> ACCOUNT_PAGE] = 1


@inlined
def _leave_own(core: Core, order: np.record) -> None:
    account = core.accounts.rows[order.account]
    before, after = order.prev_own, order.next_own
    if before != NONE:
        core.orders.rows[before].next_own = after
        core.orders.dirty[before >> ORDER_PAGE] = 1
    else:
        account.first_order = after
    if after != NONE:
        core.orders.rows[after].prev_own = before
        core.orders.dirty[after >> ORDER_PAGE] = 1
    else:
        account.last_order = before
    account.open_orders -= 1
    core.accounts.dirty[order.account >> ACCOUNT_PAGE] = 1


@inlined
def begin_own_at(core: Core, row: int) -> None:
    """Turn an account's list so that it begins at `row`: what stands before it moves behind the last."""
    order = core.orders.rows[row]
    before = order.prev_own
    if before != NONE:
        account = core.accounts.rows[order.account]
        first, last = account.first_order, account.last_order
        core.orders.rows[last].next_own = first
        core.orders.rows[first].prev_own = last
        core.orders.rows[before].next_own = NONE
        order.prev_own = NONE
        core.orders.dirty[last >> ORDER_PAGE] = 1
        core.orders.dirty[first >> ORDER_PAGE] = 1
        core.orders.dirty[before >> ORDER_PAGE] = 1
        core.orders.dirty[row >> ORDER_PAGE] = 1
        account.first_order = row
        account.last_order = before
        core.accounts.dirty[order.account >> ACCOUNT_PAGE] = 1
