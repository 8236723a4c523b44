"""What a node tells about prices and breakers; views like those of `node.views`."""

from dataclasses import dataclass

import numpy as np

from engine.machine import Machine
from engine.records import EVERY_MARKET
from engine.state import unpack_name


@dataclass(frozen=True)
class FeedView:
    """A feed of the oracle. `status` is `engine.layout.PriceStatus`; `value` and `confidence` count
    10^-decimals, and are those of `value_epoch`. 0: none yet."""

    id: int
    name: str
    decimals: int
    epoch_ms: int
    reporters: int
    status: int
    value: int
    confidence: int
    value_epoch: int


@dataclass(frozen=True)
class BreakerView:
    """A market's prices and its breaker. Prices are ticks, 0: none. `state` is a `BreakerState`,
    `halt_reason` an `engine.layout.HaltReason`, `trip` the number of its last trip by command.

    The one whose market is EVERY_MARKET is about all together: `halt_reason` and `trip` count."""

    market: int
    name: str
    status: int
    price_status: int
    index_price: int
    mark_price: int
    band_low: int
    band_high: int
    halt_reason: int
    reopen_ms: int
    state: int
    level: int
    trip: int


_FEED_FIELDS = tuple(FeedView.__dataclass_fields__)[2:]
_MARKET_FIELDS = tuple(BreakerView.__dataclass_fields__)[2:10]
_BREAKER_FIELDS = ("state", "level", "trip")


def view_feeds(machine: Machine) -> list[FeedView]:
    """All feeds, by id."""
    table = machine.state.table("feeds")
    return [
        FeedView(row, unpack_name(feed["name"]), *_ints(feed, _FEED_FIELDS))
        for row, feed in enumerate(table.data[: machine.state.used(table)])
    ]


def view_breakers(machine: Machine) -> list[BreakerView]:
    """Every market's, by id; then that of all together."""
    state = machine.state
    table, rules = state.table("breakers"), state.table("breaker_rules")
    used = state.used(table)
    views = []
    for row, market in enumerate(state.markets.data[: state.used(state.markets)]):
        own = _ints(table.data[row], _BREAKER_FIELDS) if row < used else [0, 0, 0]
        views.append(BreakerView(row, unpack_name(market["name"]), *_ints(market, _MARKET_FIELDS), *own))
    trip = int(rules.data["trip"][0]) if state.used(rules) else 0
    views.append(BreakerView(EVERY_MARKET, "", 0, 0, 0, 0, 0, 0, state.count["halt_reason"], 0, 0, 0, trip))
    return views


def _ints(record: np.void, names: tuple[str, ...]) -> list[int]:
    return [int(record[name]) for name in names]
