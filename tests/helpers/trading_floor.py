"""A small funded floor for matching tests: accounts, assets and markets without envelopes or keys."""

from dataclasses import dataclass, field

import numpy as np

from engine.conditional.plugin import ConditionalPlugin
from engine.events import Events
from engine.genesis import VENUE_ACCOUNT, Capacity
from engine.layout import FEE_TIERS, NONE, MarketKind, OrderFlag
from engine.markets.states import MarketStatus
from engine.matching.kernels import run_orders
from engine.plugin import Context
from engine.records import ORDER_OP, STP_SHIFT, TIF_SHIFT, Op, Reference, SelfTrade, Side, TimeInForce
from engine.state import State
from engine.tables.table import TableSpec


@dataclass(frozen=True)
class MarketTerms:
    """What a listing says, with small defaults."""

    base_asset: int = 0
    quote_asset: int = 1
    base_per_lot: int = 10
    quote_per_lot_tick: int = 3
    price_max: int = 200
    qty_max: int = 1000
    notional_min: int = 0
    maker_fee_e6: int = 1000
    taker_fee_e6: int = 2500
    status: int = MarketStatus.OPEN
    kind: int = MarketKind.SPOT


@dataclass
class Floor:
    """State with `accounts` accounts (account 0 is the venue's), each funded with `funds` of every asset."""

    accounts: int = 4
    markets: tuple[MarketTerms, ...] = (MarketTerms(),)
    funds: int = 10**9
    specs: tuple[TableSpec, ...] = ()
    capacity: Capacity = field(default_factory=lambda: Capacity(levels=1 << 21, orders=1 << 16))

    def __post_init__(self) -> None:
        self.state = State(self.capacity, specs=self.specs)
        for account in range(self.accounts):
            self.state.add_account(account.to_bytes(32, "little"))
        self.assets = 1 + max(max(m.base_asset, m.quote_asset) for m in self.markets)
        for asset in range(self.assets):
            self.state.add_asset(f"A{asset}", 0, VENUE_ACCOUNT)
        for number, terms in enumerate(self.markets):
            self._list(number, terms)
        for account in range(1, self.accounts):
            for asset in range(self.assets):
                self.deposit(account, asset, self.funds)

    def _list(self, number: int, terms: MarketTerms) -> None:
        row = self.state.add_market(f"M{number}", terms.price_max + 1)
        columns = self.state.markets.columns
        for name in vars(terms):
            if name != "price_max":
                columns[name][row] = getattr(terms, name)
        columns["fee_base_row"][row] = self.state.add_balance(VENUE_ACCOUNT, terms.base_asset)
        columns["fee_quote_row"][row] = self.state.add_balance(VENUE_ACCOUNT, terms.quote_asset)

    def deposit(self, account: int, asset: int, amount: int) -> None:
        """Create `amount` for an account."""
        if amount:
            row = self.state.add_balance(account, asset)
            self.state.balances.columns["available"][row] += amount
            self.state.assets.columns["deposited"][asset] += amount

    def set_band(self, market: int, low: int, high: int) -> None:
        """Let trades happen at low..high ticks only; zeros: at any price."""
        self.state.markets.columns["band_low"][market] = low
        self.state.markets.columns["band_high"][market] = high

    def set_schedule(self, market: int, schedule: int, rates: list[tuple[int, int]]) -> None:
        """(maker, taker) rates of the first tiers in a schedule, and a market that has it."""
        self.state.reserve_fee_rates(schedule)
        first = schedule * FEE_TIERS
        for row, (maker, taker) in enumerate(rates, first):
            self.state.fee_rates.columns["maker_fee_e6"][row] = maker
            self.state.fee_rates.columns["taker_fee_e6"][row] = taker
        self.state.markets.columns["fee_schedule"][market] = schedule

    def set_tier(self, account: int, tier: int) -> None:
        """An account's fee tier."""
        self.state.accounts.columns["fee_tier"][account] = tier

    def execute(self, ops: np.ndarray, codes: list[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """One block of operations, all authorised unless `codes` says otherwise: (results, events)."""
        self.state.reserve_for_orders(len(ops))
        return run_orders(self.state.core(), ops, np.array(codes or [0] * len(ops), dtype=np.uint8))

    def balances(self) -> dict[tuple[int, int], tuple[int, int]]:
        """(account, asset) to (available, held), without rows that are all zero."""
        return balances_of(self.state)

    def waiting(self, market: int) -> list[tuple[int, ...]]:
        """Orders that wait: (side, reference, trigger, account, id, price, leaves, filled), by queue."""
        state, found = self.state, []
        price_max = int(state.markets.columns["price_max"][market])
        names = ("account", "client_order_id", "price", "leaves", "filled")
        for side, name in enumerate(("bid_start", "ask_start")):
            first = len(Reference) * int(state.markets.columns[name][market])
            for place in range(first, first + len(Reference) * (price_max + 1)):
                row = int(state.triggers.data["head"][place]) - 1
                while row != NONE:
                    order = state.orders.data[row]
                    where = divmod(place - first, price_max + 1)
                    found.append((side, *where, *(int(order[name]) for name in names)))
                    row = int(order["next"])
        return found

    def trigger(self, height: int = 0) -> np.ndarray:
        """The turn of conditional orders at the end of block `height`: its journal lines."""
        events = Events()
        ConditionalPlugin().on_block_end(self.state, Context(NONE, 0, height, events))
        return events.lines

    def book(self, market: int) -> list[tuple[int, ...]]:
        """Live orders by price, oldest first: (side, price, account, id, leaves, filled, hidden)."""
        return book_of(self.state, market)


def book_of(state: State, market: int) -> list[tuple[int, ...]]:
    """Live orders of a market by price, oldest first: (side, price, account, id, leaves, filled, hidden)."""
    found = []
    bids, asks, price_max = (
        int(state.markets.columns[name][market]) for name in ("bid_start", "ask_start", "price_max")
    )
    levels = state.levels.data["head"]
    heads = np.concatenate([levels[start : start + price_max + 1] for start in (bids, asks)])
    names = ("side", "price", "account", "client_order_id", "leaves", "filled")
    for place in np.flatnonzero(heads).tolist():
        row = int(heads[place]) - 1
        while row != NONE:
            order = state.orders.data[row]
            hides = order["flags"] & OrderFlag.HAS_TERMS
            hidden = int(state.terms.data["hidden"][row]) if hides else 0
            found.append((*(int(order[name]) for name in names), hidden))
            row = int(order["next"])
    return found


def balances_of(state: State) -> dict[tuple[int, int], tuple[int, int]]:
    """(account, asset) to (available, held), without rows that are all zero."""
    data = state.balances.data[: state.used(state.balances)]
    rows = zip(*(data[name].tolist() for name in ("account", "asset", "available", "held")), strict=True)
    return {(account, asset): (free, held) for account, asset, free, held in rows if free or held}


def make_ops(*ops: tuple) -> np.ndarray:
    """An ORDER_OP array from tuples (op, flags, market, account, client_order_id, price, qty)."""
    return np.array(list(ops), dtype=ORDER_OP)


def flags_of(side: Side, tif: TimeInForce = TimeInForce.GTC, mode: SelfTrade = SelfTrade.CANCEL_TAKER) -> int:
    """The flags byte of an order operation."""
    return int(side) | int(tif) << TIF_SHIFT | int(mode) << STP_SHIFT


def new(
    account: int,
    client_order_id: int,
    side: Side,
    price: int,
    qty: int,
    tif: TimeInForce = TimeInForce.GTC,
    mode: SelfTrade = SelfTrade.CANCEL_TAKER,
    market: int = 0,
) -> tuple:
    """NEW as a tuple for `make_ops`."""
    return (Op.NEW, flags_of(side, tif, mode), market, account, client_order_id, price, qty)


def cancel(account: int, client_order_id: int, market: int = 0) -> tuple:
    """CANCEL as a tuple for `make_ops`."""
    return (Op.CANCEL, 0, market, account, client_order_id, 0, 0)
