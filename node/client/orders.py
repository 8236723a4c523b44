"""Order operations for envelopes: one at a time, or as a numpy array of `engine.records.ORDER_OP`."""

from typing import TypeVar

from engine.records import EVERY_MARKET, REDUCE_ONLY, STP_SHIFT, TIF_SHIFT, Op, SelfTrade, Side, TimeInForce
from node.client.errors import UnitError

T = TypeVar("T")
OrderTuple = tuple[int, int, int, int, int, int, int]  # the fields of ORDER_OP


def new(
    market: int,
    account: int,
    client_order_id: int,
    side: Side,
    price: int,
    qty: int,
    tif: TimeInForce = TimeInForce.GTC,
    self_trade: SelfTrade = SelfTrade.CANCEL_TAKER,
    reduce_only: bool = False,
) -> OrderTuple:
    """A new order: price in ticks, qty in lots. For MARKET orders the price is the protection price."""
    flags = int(side) | int(tif) << TIF_SHIFT | int(self_trade) << STP_SHIFT
    if reduce_only:
        flags |= REDUCE_ONLY
    return (Op.NEW, flags, market, account, client_order_id, price, qty)


def cancel(market: int, account: int, client_order_id: int) -> OrderTuple:
    """Take a resting order off the book."""
    return (Op.CANCEL, 0, market, account, client_order_id, 0, 0)


def cancel_all(account: int, market: int = EVERY_MARKET) -> OrderTuple:
    """Take all resting orders of an account off one market's book, or off every book."""
    return (Op.CANCEL_ALL, 0, market, account, 0, 0, 0)


def reduce(market: int, account: int, client_order_id: int, qty: int) -> OrderTuple:
    """Take `qty` lots away from a resting order, which keeps its place in the queue."""
    return (Op.REDUCE, 0, market, account, client_order_id, 0, qty)


def replace(market: int, account: int, client_order_id: int, price: int, qty: int) -> OrderTuple:
    """Give a resting order a new price (ticks) and open quantity (lots); it goes to the back."""
    return (Op.REPLACE, 0, market, account, client_order_id, price, qty)


def read_side(text: str) -> Side:
    """`buy` or `sell`."""
    return _read(text, {"buy": Side.BUY, "sell": Side.SELL}, "side")


def read_tif(text: str) -> TimeInForce:
    """`GTC`, `IOC`, `FOK`, `POST_ONLY` or `MARKET`."""
    return _read(text.upper(), dict(TimeInForce.__members__), "tif")


def read_self_trade(text: str) -> SelfTrade:
    """`CANCEL_TAKER`, `CANCEL_MAKER`, `CANCEL_BOTH` or `DECREMENT`."""
    return _read(text.upper(), dict(SelfTrade.__members__), "self_trade")


def _read(text: str, known: dict[str, T], what: str) -> T:
    if text not in known:
        raise UnitError(f"{what} is {text!r}; use {', '.join(known)}")
    return known[text]
