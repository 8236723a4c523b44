"""A slow, plain price-time book: what an imported flow is expected to do, and what it costs.

One market, unlimited funds, no self-trades (see `testnet.accounts`). It exists so that importers
can say how many fills a faithful replay gives, and where a replay must be fenced. The engine never
uses it.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from engine.records import Op, Side, TimeInForce


@dataclass
class Resting:
    """An open order. `key` is the importer's name for it."""

    key: int
    side: Side
    price: int
    leaves: int


@dataclass
class Outcome:
    """What one operation did."""

    accepted: bool = False  # found its order, or was not refused
    refused_by: int | None = None  # post-only: the key of the first order in its way
    fills: list[tuple[int, int, int]] = field(default_factory=list)  # (maker key, price, qty)
    rests: bool = False


class BookModel:
    """Bids and asks by price; each level is a dict of orders in arrival order."""

    def __init__(self, price_max: int, qty_max: int) -> None:
        self._price_max = price_max
        self._qty_max = qty_max
        self.orders: dict[int, Resting] = {}
        self._levels: tuple[dict[int, dict[int, Resting]], ...] = ({}, {})
        self._prices: tuple[list[int], ...] = ([], [])  # ascending

    def apply(self, op: int, key: int, side: Side, tif: TimeInForce, price: int, qty: int) -> Outcome:
        """Run one operation. `qty` of REDUCE is what to take away, of REPLACE the new open quantity."""
        if op == Op.NEW:
            return self._enter(key, side, tif, price, qty)
        order = self.orders.get(key)
        if order is None:
            return Outcome()
        if op == Op.CANCEL:
            self._remove(order)
        elif op == Op.REDUCE:
            order.leaves -= qty
            if order.leaves <= 0:
                self._remove(order)
        elif not self._is_valid(price, qty):
            return Outcome()
        else:
            self._remove(order)
            return self._enter(key, order.side, TimeInForce.GTC, price, qty)
        return Outcome(accepted=True)

    def best(self, side: Side) -> int | None:
        """Best price of a side, or None."""
        prices = self._prices[side]
        if not prices:
            return None
        return prices[-1] if side == Side.BUY else prices[0]

    def crossing(self, side: Side, price: int) -> Iterator[Resting]:
        """Resting orders that an order of `side` at `price` would meet: best first, oldest first."""
        other = Side(1 - side)
        prices = self._prices[other]
        if side == Side.BUY:
            crossed: Iterable[int] = islice(prices, bisect_left(prices, price + 1))
        else:
            crossed = islice(reversed(prices), len(prices) - bisect_left(prices, price))
        for level in crossed:
            yield from self._levels[other][level].values()

    def _enter(self, key: int, side: Side, tif: TimeInForce, price: int, qty: int) -> Outcome:
        if not self._is_valid(price, qty) or key in self.orders:
            return Outcome()
        outcome = Outcome(accepted=True)
        if tif == TimeInForce.POST_ONLY:
            blocker = next(self.crossing(side, price), None)
            if blocker is not None:
                return Outcome(refused_by=blocker.key)
        left = self._take(side, price, qty, outcome)
        if left and tif in (TimeInForce.GTC, TimeInForce.POST_ONLY):
            self._rest(Resting(key, side, price, left))
            outcome.rests = True
        return outcome

    def _is_valid(self, price: int, qty: int) -> bool:
        return 0 < price <= self._price_max and 0 < qty <= self._qty_max

    def _take(self, side: Side, price: int, qty: int, outcome: Outcome) -> int:
        other = Side(1 - side)
        while qty:
            best = self.best(other)
            if best is None or not _crosses(side, price, best):
                break
            maker = next(iter(self._levels[other][best].values()))
            traded = min(qty, maker.leaves)
            outcome.fills.append((maker.key, best, traded))
            qty -= traded
            maker.leaves -= traded
            if not maker.leaves:
                self._remove(maker)
        return qty

    def _rest(self, order: Resting) -> None:
        level = self._levels[order.side].get(order.price)
        if level is None:
            level = self._levels[order.side][order.price] = {}
            insort(self._prices[order.side], order.price)
        level[order.key] = order
        self.orders[order.key] = order

    def _remove(self, order: Resting) -> None:
        del self.orders[order.key]
        level = self._levels[order.side][order.price]
        del level[order.key]
        if not level:
            del self._levels[order.side][order.price]
            prices = self._prices[order.side]
            del prices[bisect_left(prices, order.price)]


def _crosses(side: Side, price: int, best: int) -> bool:
    return price >= best if side == Side.BUY else price <= best
