"""`itch50`: NASDAQ TotalView-ITCH 5.0, length-prefixed binary messages.

An added order is post-only, since the feed shows only what rests. An execution is played by an IOC
order from the other side at the resting order's price; partial cancels reduce; a replace cancels and
enters anew, under a new id, as the venue does. Trades against hidden orders (P) touch no shown
order and are skipped, and so is what names an order from before the recording.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from consensus.primitives.errors import InputError
from engine.records import Op, Side, TimeInForce
from testnet.flows import FlowAsset, FlowMarket
from testnet.importers.base import BAD_RECORDING, Step, World, open_recording

PRICE_DECIMALS = 4
QTY_MAX = 1 << 32
TAKER_KEYS = 1 << 64  # order references have 64 bits; those of takers lie above
SIDES = {b"B": Side.BUY, b"S": Side.SELL}

# Bytes of each message type, ITCH 5.0 specification, sections 1.1 to 1.8.
SIZES = dict(
    zip(
        (bytes([kind]) for kind in b"SRHYLVWKJhAFECXDUPQBINO"),
        (12, 39, 25, 20, 26, 35, 12, 28, 35, 21, 36, 40, 31, 36, 23, 19, 35, 44, 40, 19, 50, 20, 48),
        strict=True,
    )
)

_HEAD = struct.Struct(">cHH6s")  # type, locate, tracking number, nanoseconds since midnight
_DIRECTORY = struct.Struct(">8s")
_ADD = struct.Struct(">Qc I 8s I")
_EXECUTED = struct.Struct(">QI")
_REPLACE = struct.Struct(">QQII")
_REFERENCE = struct.Struct(">Q")


@dataclass
class _Shown:
    """An order as the feed shows it. `price` is in ten-thousandths of a dollar."""

    locate: int
    side: Side
    price: int
    shares: int


def read(path: Path, trades: Path | None) -> tuple[World, list[Step]]:
    """Read the messages at `path`; trades are in it."""
    if trades is not None:
        raise InputError(BAD_RECORDING, "itch50 holds its trades itself: leave out --trades")
    feed = _Feed()
    for message in _messages(path):
        try:
            feed.take(message)
        except (struct.error, KeyError) as error:
            raise InputError(
                BAD_RECORDING, f"{path}: message {message[:1]!r} is malformed: {error!r}"
            ) from error
    return feed.finish(path.name)


class _Feed:
    """Turns messages into steps, with raw prices until the tick is known."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, Step]] = []  # with the stock's locate code
        self._stocks: dict[int, str] = {}  # in order of their directory messages
        self._shown: dict[int, _Shown] = {}
        self._takers = 0

    def take(self, message: bytes) -> None:
        kind, locate, _, _ = _HEAD.unpack_from(message)
        at = _HEAD.size
        if kind == b"R":
            self._stocks[locate] = _DIRECTORY.unpack_from(message, at)[0].decode("ascii", "replace").strip()
        elif kind in (b"A", b"F"):
            reference, side, shares, _, price = _ADD.unpack_from(message, at)
            self._add(reference, _Shown(locate, SIDES[side], price, shares))
        elif kind in (b"E", b"C"):
            self._execute(*_EXECUTED.unpack_from(message, at))
        elif kind == b"X":
            self._reduce(*_EXECUTED.unpack_from(message, at))
        elif kind == b"D":
            self._delete(_REFERENCE.unpack_from(message, at)[0])
        elif kind == b"U":
            self._replace(*_REPLACE.unpack_from(message, at))

    def finish(self, name: str) -> tuple[World, list[Step]]:
        """Give prices their tick: the largest amount that divides them all."""
        prices = [step.price for _, step in self._steps if step.price]
        tick = math.gcd(*prices) or 1
        positions = {locate: position for position, locate in enumerate(self._stocks)}
        steps = [
            Step(step.op, step.key, positions[locate], step.side, step.tif, step.price // tick, step.qty)
            for locate, step in self._steps
        ]
        price_max = max(prices, default=tick) // tick + 1
        stocks = tuple(self._stocks.values())
        world = World(
            name="itch50",
            source=f"NASDAQ ITCH 5.0, {name}",
            assets=(FlowAsset("USD", PRICE_DECIMALS), *(FlowAsset(stock, 0) for stock in stocks)),
            markets=tuple(
                FlowMarket(f"{stock}-USD", position + 1, 0, 1, tick, price_max, QTY_MAX)
                for position, stock in enumerate(stocks)
            ),
        )
        return world, steps

    def _add(self, reference: int, order: _Shown) -> None:
        self._shown[reference] = order
        self._enter(reference, order.locate, order.side, TimeInForce.POST_ONLY, order.price, order.shares)

    def _execute(self, reference: int, shares: int) -> None:
        order = self._shown.get(reference)
        if order is None:
            return
        self._takers += 1
        key = TAKER_KEYS + self._takers
        self._enter(key, order.locate, Side(1 - order.side), TimeInForce.IOC, order.price, shares)
        self._shrink(reference, shares)

    def _reduce(self, reference: int, shares: int) -> None:
        if reference in self._shown:
            self._append(reference, Op.REDUCE, shares)
            self._shrink(reference, shares)

    def _delete(self, reference: int) -> None:
        if reference in self._shown:
            self._append(reference, Op.CANCEL, 0)
            del self._shown[reference]

    def _replace(self, reference: int, successor: int, shares: int, price: int) -> None:
        order = self._shown.get(reference)
        if order is not None:
            self._delete(reference)
            self._add(successor, _Shown(order.locate, order.side, price, shares))

    def _shrink(self, reference: int, shares: int) -> None:
        order = self._shown[reference]
        order.shares -= shares
        if order.shares <= 0:
            del self._shown[reference]

    def _append(self, reference: int, op: Op, qty: int) -> None:
        order = self._shown[reference]
        self._steps.append((order.locate, Step(op, reference, side=order.side, price=order.price, qty=qty)))

    def _enter(self, key: int, locate: int, side: Side, tif: TimeInForce, price: int, qty: int) -> None:
        if locate not in self._stocks:
            raise KeyError(f"stock {locate} has no directory message")
        self._steps.append((locate, Step(Op.NEW, key, side=side, tif=tif, price=price, qty=qty)))


def _messages(path: Path) -> Iterator[bytes]:
    """Messages one by one. Their length is given by their type; some writers leave the prefix zero."""
    with open_recording(path) as file:
        while prefix := file.read(3):
            announced, kind = int.from_bytes(prefix[:2], "big"), prefix[2:]
            size = SIZES.get(kind)
            if size is None or announced not in (0, size):
                raise InputError(BAD_RECORDING, f"{path}: a message of {announced} bytes and type {kind!r}")
            rest = file.read(size - 1)
            if len(rest) != size - 1:
                raise InputError(BAD_RECORDING, f"{path} ends inside a message")
            yield kind + rest
