"""Asking for memory before it is needed.

Books of many markets or a million orders do not fit the caches: one operation touches ten scattered
rows, each a wait of its own. The loop therefore looks ahead: for an operation `FAR` places ahead it asks
for the index slots that will be probed, for one `NEAR` places ahead for the rows those slots name, for
one `CLOSE` places ahead for what those rows are linked to. Hints change no result: a wrong one costs
time only. While everything fits the caches they would be work for nothing, so they are left out.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from engine.compiled import inlined
from engine.layout import NONE, Core
from engine.matching.book import find_level
from engine.records import Op, Side
from engine.tables.index import hash_pair, slot_mask

FAR, NEAR, CLOSE = 24, 16, 8  # operations ahead
CACHED_ROWS = 16384  # order and balance rows that stay in a core's own cache anyway
_LOW_32 = 0xFFFFFFFF


if config.DISABLE_JIT:

    def touch(array: np.ndarray, i: int) -> None:
        """Interpreted code has nothing to hint."""

else:

    @intrinsic
    def touch(_: Any, array: Any, i: Any) -> Any:
        """Ask for the cache line where `array[i]` starts."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            view = context.make_array(signature.args[0])(context, builder, args[0])
            start = builder.bitcast(view.data, cgutils.voidptr_t)
            offset = builder.mul(args[1], view.itemsize)
            pointer = builder.gep(start, [offset])
            number = ir.IntType(32)
            name = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
            prefetch = cgutils.get_or_insert_function(builder.module, name, "llvm.prefetch.p0i8")
            builder.call(prefetch, [pointer, number(0), number(3), number(1)])
            return context.get_dummy_value()

        return types.none(array, types.int64), emit


@inlined
def is_worth_looking_ahead(core: Core) -> bool:
    """Whether the tables have outgrown the cache."""
    counters = core.counters.rows[0]
    return counters.orders_used + counters.balances > CACHED_ROWS


@inlined
def look_ahead_leaving(core: Core, ops: np.ndarray, i: int) -> None:
    """Before operation i of the first pass: index slot, then order row, then the order's neighbours."""
    if i + FAR < ops.shape[0]:
        op = ops[i + FAR]
        if op.op == Op.CANCEL or op.op == Op.REDUCE:
            touch(core.order_index, _first_slot(core.order_index, op.account, op.client_order_id))
    if i + NEAR < ops.shape[0]:
        op = ops[i + NEAR]
        if op.op == Op.CANCEL or op.op == Op.REDUCE:
            touch(core.orders.rows, _first_row(core.order_index, op.account, op.client_order_id))
    if i + CLOSE < ops.shape[0]:
        op = ops[i + CLOSE]
        if op.op == Op.CANCEL or op.op == Op.REDUCE:
            row = _first_row(core.order_index, op.account, op.client_order_id)
            if row != NONE:
                _touch_neighbours(core, core.orders.rows[row])


@inlined
def look_ahead_joining(core: Core, ops: np.ndarray, i: int) -> None:
    """Before operation i of the second pass: index slots, then balance rows and the price level."""
    if i + FAR < ops.shape[0]:
        op = ops[i + FAR]
        if op.op == Op.NEW and op.market < core.counters.rows[0].markets:
            market = core.markets.rows[op.market]
            touch(core.order_index, _first_slot(core.order_index, op.account, op.client_order_id))
            touch(core.balance_index, _first_slot(core.balance_index, op.account, market.base_asset))
            touch(core.balance_index, _first_slot(core.balance_index, op.account, market.quote_asset))
            if op.account < core.accounts.rows.shape[0]:
                touch(core.accounts.rows, op.account)
            if op.price >= 1 and op.price <= market.price_max:
                touch(core.levels.rows, find_level(market, op["flags"] & 1, op.price))
    if i + NEAR < ops.shape[0]:
        op = ops[i + NEAR]
        if op.op == Op.NEW and op.market < core.counters.rows[0].markets:
            market = core.markets.rows[op.market]
            touch(core.balances.rows, _first_row(core.balance_index, op.account, market.base_asset))
            touch(core.balances.rows, _first_row(core.balance_index, op.account, market.quote_asset))
            if op.account < core.counters.rows[0].accounts:
                touch(core.orders.rows, core.accounts.rows[op.account].first_order)
            if op.price >= 1 and op.price <= market.price_max:
                level_row = find_level(market, op["flags"] & 1, op.price)
                touch(core.orders.rows, core.levels.rows[level_row].tail - 1)


@inlined
def _first_slot(index: np.ndarray, a: int, b: int) -> int:
    return hash_pair(index, a, b) & slot_mask(index)


@inlined
def _first_row(index: np.ndarray, a: int, b: int) -> int:
    """The row in the home slot of a pair, or NONE: nearly always the row that a lookup finds."""
    return (index[_first_slot(index, a, b)] & _LOW_32) - 1


@inlined
def _touch_neighbours(core: Core, order: np.record) -> None:
    """What taking an order off the book will write besides the order itself."""
    touch(core.orders.rows, order.prev)
    touch(core.orders.rows, order.next)
    touch(core.orders.rows, order.prev_own)
    touch(core.orders.rows, order.next_own)
    touch(core.balances.rows, order.quote_row if order.side == Side.BUY else order.base_row)
    touch(core.levels.rows, find_level(core.markets.rows[order.market], order.side, order.price))
