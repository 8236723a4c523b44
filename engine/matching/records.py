"""Writing journal lines from inside compiled code: every field, every time, so no byte is left to chance."""

import numpy as np

from engine.compiled import inlined
from engine.records import AUCTION_FILL, Kind, Side


@inlined
def write_result(
    line: np.record, op: np.record, code: int, side: int, price: int, qty: int, left: int
) -> None:
    """RESULT of one operation: `qty` lots filled or taken off, `left` lots open afterwards."""
    line.kind = Kind.RESULT
    line.code = code
    line.side = side
    line["flags"] = op["flags"]
    line.market = op.market
    line.op = op.op
    line.account = op.account
    line.counter_account = 0
    line.client_order_id = op.client_order_id
    line.counter_order_id = 0
    line.price = price
    line.qty = qty
    line.fee = 0
    line.detail = left


@inlined
def write_fill(
    line: np.record, taker: np.record, side: int, maker: np.record, qty: int, fee: int, maker_fee: int
) -> None:
    """FILL of `qty` lots at the maker's price. `taker` is the operation that came in."""
    line.kind = Kind.FILL
    line.code = 0
    line.side = side
    line["flags"] = 0
    line.market = maker.market
    line.op = taker.op
    line.account = taker.account
    line.counter_account = maker.account
    line.client_order_id = taker.client_order_id
    line.counter_order_id = maker.client_order_id
    line.price = maker.price
    line.qty = qty
    line.fee = fee
    line.detail = maker_fee


@inlined
def write_cancelled(
    line: np.record, cause: np.record, code: int, order: np.record, qty: int, left: int
) -> None:
    """CANCELLED: operation `cause` takes `qty` lots of a resting order off the book; `left` stay open."""
    line.kind = Kind.CANCELLED
    line.code = code
    line.side = order.side
    line["flags"] = 0
    line.market = order.market
    line.op = cause.op
    line.account = order.account
    line.counter_account = cause.account
    line.client_order_id = order.client_order_id
    line.counter_order_id = cause.client_order_id
    line.price = order.price
    line.qty = qty
    line.fee = 0
    line.detail = left


@inlined
def write_removed(line: np.record, code: int, order: np.record, qty: int, left: int) -> None:
    """CANCELLED: a rule, no operation, takes `qty` lots of a resting order off the book; `left` stay open."""
    line.kind = Kind.CANCELLED
    line.code = code
    line.side = order.side
    line["flags"] = 0
    line.market = order.market
    line.op = 0
    line.account = order.account
    line.counter_account = order.account
    line.client_order_id = order.client_order_id
    line.counter_order_id = order.client_order_id
    line.price = order.price
    line.qty = qty
    line.fee = 0
    line.detail = left


@inlined
def write_triggered(
    line: np.record, op: np.record, side: int, trigger: int, code: int, filled: int, left: int
) -> None:
    """TRIGGERED: the order that waited enters as `op`, of which `filled` lots trade and `left` rest."""
    write_result(line, op, code, side, op.price, filled, left)
    line.kind = Kind.TRIGGERED
    line.counter_account = op.account
    line.counter_order_id = trigger


@inlined
def write_cross(
    line: np.record, buy: np.record, sell: np.record, price: int, qty: int, buy_fee: int, sell_fee: int
) -> None:
    """FILL of two resting orders at an auction's price: the buyer stands where a taker would."""
    line.kind = Kind.FILL
    line.code = 0
    line.side = Side.BUY
    line["flags"] = AUCTION_FILL
    line.market = buy.market
    line.op = 0
    line.account = buy.account
    line.counter_account = sell.account
    line.client_order_id = buy.client_order_id
    line.counter_order_id = sell.client_order_id
    line.price = price
    line.qty = qty
    line.fee = buy_fee
    line.detail = sell_fee
