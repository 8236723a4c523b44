"""`binance-l2`: Binance depth diffs, trades and one REST snapshot, as `<receive ns> <json>` lines.

A level-by-level feed knows no orders, so each price level is played by one post-only order that grows
(replace) and shrinks (reduce) as the feed says, and each trade by an IOC order of its taker. What
a trade took from a level is not taken again when the diff reports it. Best bid/offer frames are skipped:
the diffs contain them.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from consensus.primitives.errors import InputError
from engine.records import Op, Side, TimeInForce
from testnet.book_model import BookModel
from testnet.flows import FlowAsset, FlowMarket
from testnet.importers.base import BAD_RECORDING, Step, World, open_recording, to_units

TICK_DECIMALS = 1
LOT_DECIMALS = 3
PRICE_MAX = 1 << 22  # ticks of 0.10 USDT; levels beyond it are refused
QTY_MAX = 10**10


def read(path: Path, trades: Path | None) -> tuple[World, list[Step]]:
    """Read the capture at `path`; trades are in it."""
    if trades is not None:
        raise InputError(BAD_RECORDING, "binance-l2 holds its trades itself: leave out --trades")
    feed = _Feed()
    for frame in _frames(path):
        feed.take(frame)
    world = World(
        name="binance-l2",
        source=f"Binance USD-M depth and trades, {path.name}",
        assets=(FlowAsset("BTC", 3), FlowAsset("USDT", 4)),
        # One lot is 0.001 BTC and one tick 0.1 USDT, so a lot at one tick is worth 0.0001 USDT.
        markets=(FlowMarket("BTC-USDT", 0, 1, 1, 1, PRICE_MAX, QTY_MAX),),
    )
    return world, feed.steps


class _Feed:
    """Turns frames into steps; follows the book that the steps make."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._book = BookModel(PRICE_MAX, QTY_MAX)
        self._levels: dict[tuple[Side, int], int] = {}  # the key of the order that plays a level
        self._next_key = 0
        self._update: int | None = None  # id of the last one applied; None before the snapshot
        self._early: list[dict[str, Any]] = []  # diffs that came before the snapshot

    def take(self, frame: dict[str, Any]) -> None:
        try:
            if "lastUpdateId" in frame:
                self._apply_levels(frame["bids"], frame["asks"])
                self._update = frame["lastUpdateId"]
                for diff in self._early:
                    self._take_diff(diff)
                return
            data = frame["data"]
            if data["e"] == "depthUpdate":
                self._take_diff(data)
            elif data["e"] == "trade" and self._update is not None:
                self._take_trade(data)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(BAD_RECORDING, f"not a Binance frame ({error!r}): {str(frame)[:80]}") from error

    def _take_diff(self, data: dict[str, Any]) -> None:
        """Apply a diff. Those the snapshot contains are skipped; later ones must follow without a gap."""
        if self._update is None:
            self._early.append(data)
            return
        if data["u"] <= self._update:
            return
        if data["pu"] > self._update:
            raise InputError(BAD_RECORDING, f"depth updates {self._update + 1}..{data['pu']} are missing")
        self._apply_levels(data["b"], data["a"])
        self._update = data["u"]

    def _apply_levels(self, bids: list[list[str]], asks: list[list[str]]) -> None:
        """Shrink first, then grow, so that a book that moves as a whole never crosses itself."""
        changes = [
            (side, to_units(price, TICK_DECIMALS), to_units(qty, LOT_DECIMALS))
            for side, levels in ((Side.BUY, bids), (Side.SELL, asks))
            for price, qty in levels
        ]
        growth = [change for change in changes if not self._shrink(*change)]
        for change in growth:
            self._grow(*change)

    def _shrink(self, side: Side, price: int, qty: int) -> bool:
        """Lower a level to `qty`; say whether nothing is left to do."""
        key = self._levels.get((side, price))
        order = self._book.orders.get(key) if key is not None else None
        if order is None or order.leaves <= qty:
            return qty == 0 or (order is not None and order.leaves == qty)
        if qty == 0:
            self._add(Step(Op.CANCEL, order.key, side=side, price=price))
        else:
            self._add(Step(Op.REDUCE, order.key, side=side, price=price, qty=order.leaves - qty))
        return True

    def _grow(self, side: Side, price: int, qty: int) -> None:
        key = self._levels.get((side, price))
        if key is not None and key in self._book.orders:
            self._add(Step(Op.REPLACE, key, side=side, price=price, qty=qty))
            return
        self._levels[side, price] = self._next_key
        self._enter(side, TimeInForce.POST_ONLY, price, qty)

    def _take_trade(self, data: dict[str, Any]) -> None:
        side = Side.SELL if data["m"] else Side.BUY  # m: the buyer was the maker
        price, qty = to_units(data["p"], TICK_DECIMALS), to_units(data["q"], LOT_DECIMALS)
        self._enter(side, TimeInForce.IOC, price, qty)

    def _enter(self, side: Side, tif: TimeInForce, price: int, qty: int) -> None:
        self._add(Step(Op.NEW, self._next_key, side=side, tif=tif, price=price, qty=qty))
        self._next_key += 1

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self._book.apply(step.op, step.key, step.side, step.tif, step.price, step.qty)


def _frames(path: Path) -> Iterator[dict[str, Any]]:
    with open_recording(path) as file:
        for number, line in enumerate(file, 1):
            _, _, text = line.partition(b" ")
            try:
                frame = json.loads(text)
            except ValueError as error:
                raise InputError(BAD_RECORDING, f"{path}, line {number}: not `<ns> <json>`") from error
            if not isinstance(frame, dict):
                raise InputError(BAD_RECORDING, f"{path}, line {number}: not a JSON object")
            yield frame
