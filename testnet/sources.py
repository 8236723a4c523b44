"""Where a load's orders come from: a recorded flow, or the endless synthetic one.

A source speaks of its own accounts and markets, numbered from 0; `Venue` says which ledger ids they
have. It hands out chunks, each the content of one envelope.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from testnet.flows import Flow, FlowAsset, FlowMarket, segments
from testnet.synthetic import SHAPES, FlowShape, SyntheticFlow

BASES = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOT", "LTC", "XMR")
QUOTE = FlowAsset("USD", 2)
BASE_DECIMALS = 3  # a lot is a thousandth
QTY_MAX = 1_000_000
FUNDS_EACH = 10**13  # base units of every asset for every account: nobody runs dry
MAKER_FEE_E6, TAKER_FEE_E6 = 100, 500


@dataclass(frozen=True)
class World:
    """What must exist on the ledger before a source's orders make sense."""

    name: str
    assets: tuple[FlowAsset, ...]
    markets: tuple[FlowMarket, ...]
    funding: np.ndarray  # int64 (accounts, assets)


@dataclass(frozen=True)
class Places:
    """Ledger ids of a world's markets and accounts, in the world's order."""

    markets: np.ndarray
    accounts: np.ndarray


class Source(Protocol):
    """Orders for one load."""

    world: World
    is_ordered: bool  # one envelope after the other
    desks: int  # how many keys share the accounts: account i belongs to desk i mod desks

    fills_expected: int | None  # by a replay of everything

    def warm(self) -> None:
        """Whatever is slow the first time; called in a thread before the load."""
        ...

    def chunks(self, places: Places, desk: int, size: int) -> Iterator[np.ndarray]:
        """ORDER_OP arrays of at most `size` operations, with ledger ids, for one desk."""
        ...


class RecordedSource:
    """A flow from a file, in its order, by one desk."""

    is_ordered = True
    desks = 1

    def __init__(self, flow: Flow, limit: int | None = None) -> None:
        self.flow = flow
        self.is_ordered = flow.is_ordered
        self._limit = limit
        is_whole = limit is None or limit >= len(flow.ops)
        self.fills_expected = flow.fills_expected if is_whole else None
        self.world = World(flow.name, flow.assets, flow.markets, flow.funding)

    def warm(self) -> None:
        """Nothing to do."""

    def chunks(self, places: Places, desk: int, size: int) -> Iterator[np.ndarray]:
        """Chunks never reach over a fence."""
        for start, stop in segments(self.flow, self._limit):
            for first in range(start, stop, size):
                ops = self.flow.ops[first : min(stop, first + size)].copy()
                ops["account"] = places.accounts[ops["account"]]
                ops["market"] = places.markets[ops["market"]]
                yield ops


class SyntheticSource:
    """The seeded flow, shared by `desks` keys; each has accounts of its own and sees its own book."""

    is_ordered = False
    fills_expected: int | None = None

    def __init__(
        self,
        desks: int,
        seed: int = 1,
        limit: int | None = None,
        shape: FlowShape = SHAPES["demo"],
        first_order_id: int = 1,
    ) -> None:
        """`limit` operations in all, including those that fill the book first; endless if None."""
        self.desks = desks
        self.shape = shape
        self._seed = seed
        self._limits = _split(limit, desks)
        self._first_order_id = first_order_id
        assets = (QUOTE, *(FlowAsset(_base(market), BASE_DECIMALS) for market in range(shape.markets)))
        self.world = World(
            name="synthetic",
            assets=assets,
            markets=tuple(_market(market, shape.price_max) for market in range(shape.markets)),
            funding=np.full((shape.accounts, len(assets)), FUNDS_EACH, np.int64),
        )

    def warm(self) -> None:
        """Compile the generator."""
        flow = SyntheticFlow(replace(self.shape, resting=16, accounts=16), self._seed)
        flow.fill_book()
        flow.take(64)

    def chunks(self, places: Places, desk: int, size: int) -> Iterator[np.ndarray]:
        """First the resting orders, then the flow."""
        flow = SyntheticFlow(
            replace(self.shape, resting=max(1, self.shape.resting // self.desks)),
            self._seed + desk,
            accounts=places.accounts[desk :: self.desks],
            markets=places.markets,
            first_order_id=self._first_order_id,
        )
        left = self._limits[desk]
        resting = flow.fill_book()
        for first in range(0, len(resting), size):
            ops = resting[first : first + size][:left]
            left = None if left is None else left - len(ops)
            if len(ops):
                yield ops
        while left is None or left > 0:
            count = size if left is None else min(size, left)
            left = None if left is None else left - count
            yield flow.take(count)


def session_order_id() -> int:
    """A first order id above those of every earlier session on the same ledger."""
    return time.time_ns() // 1000


def _split(limit: int | None, desks: int) -> list[int | None]:
    if limit is None:
        return [None] * desks
    return [limit // desks + (desk < limit % desks) for desk in range(desks)]


def _base(market: int) -> str:
    return BASES[market] if market < len(BASES) else f"COIN{market}"


def _market(number: int, price_max: int) -> FlowMarket:
    return FlowMarket(
        name=f"{_base(number)}-{QUOTE.name}",
        base=number + 1,
        quote=0,
        base_per_lot=1,
        quote_per_lot_tick=1,
        price_max=price_max,
        qty_max=QTY_MAX,
        maker_fee_e6=MAKER_FEE_E6,
        taker_fee_e6=TAKER_FEE_E6,
    )
