"""What a node tells about its state when asked: small frozen views, and how they are read.

A view is this node's word, not a proof: `node.receipts` is what can be checked. Views travel as
arrays of their fields, in order.
"""

from dataclasses import dataclass

import numpy as np

from consensus.primitives.codec import Codec
from engine.layout import NONE
from engine.machine import Machine
from engine.state import unpack_name
from node.services import NodeStatus, TransferStatus

ORDERS_SHOWN_MAX = 10_000


@dataclass(frozen=True)
class StatusView:
    """Where a node stands; the fields are those of `node.services.NodeStatus`."""

    replica: int
    view: int
    committed: int
    executed: int
    proven: int
    time_ms: int
    journal_root: bytes
    state_root_height: int
    state_root: bytes
    peers_connected: int
    halted: str
    orders: int
    fills: int
    rejected: int
    view_changes: int
    transfer: TransferStatus | None = None


@dataclass(frozen=True)
class AssetView:
    """An asset. Amounts are base units: 10^decimals of them are one whole."""

    id: int
    name: str
    decimals: int
    issuer: int
    deposited: int
    withdrawn: int


@dataclass(frozen=True)
class MarketView:
    """A market. Prices are ticks, quantities lots; 0 means no bid or no ask."""

    id: int
    name: str
    base_asset: int
    quote_asset: int
    base_per_lot: int
    quote_per_lot_tick: int
    price_max: int
    qty_max: int
    notional_min: int
    maker_fee_e6: int
    taker_fee_e6: int
    status: int
    best_bid: int
    best_ask: int
    open_orders: int


@dataclass(frozen=True)
class AccountView:
    """An account and its root key."""

    id: int
    owner: bytes
    open_orders: int


@dataclass(frozen=True)
class BalanceView:
    """What an account has of one asset, in base units."""

    asset: int
    available: int
    held: int


@dataclass(frozen=True)
class OrderView:
    """A resting order. `side` is `engine.records.Side`."""

    market: int
    side: int
    client_order_id: int
    price: int
    leaves: int
    filled: int


@dataclass(frozen=True)
class KeyView:
    """What the ledger knows of a session key: its highest used nonce, and envelopes accepted."""

    nonce_highest: int
    envelopes: int


VIEWS = Codec(StatusView, AssetView, MarketView, AccountView, BalanceView, OrderView, KeyView)


def view_status(status: NodeStatus) -> StatusView:
    """The public part of a node's status."""
    return StatusView(**{name: getattr(status, name) for name in StatusView.__dataclass_fields__})


def view_assets(machine: Machine) -> list[AssetView]:
    """All assets, by id."""
    state = machine.state
    return [
        AssetView(row, unpack_name(asset["name"]), *_ints(asset, _ASSET_FIELDS))
        for row, asset in enumerate(state.assets.data[: state.used(state.assets)])
    ]


def view_markets(machine: Machine) -> list[MarketView]:
    """All markets, by id."""
    state = machine.state
    return [
        _view_market(row, market)
        for row, market in enumerate(state.markets.data[: state.used(state.markets)])
    ]


def view_account(machine: Machine, account: int) -> AccountView | None:
    """One account, or None."""
    state = machine.state
    if account >= state.used(state.accounts):
        return None
    return AccountView(account, state.owner(account), int(state.accounts.columns["open_orders"][account]))


def view_balances(machine: Machine, account: int) -> list[BalanceView]:
    """The account's balances, by asset id."""
    state = machine.state
    rows = [(asset, state.balance_row(account, asset)) for asset in range(state.used(state.assets))]
    balances = state.balances.columns
    return [
        BalanceView(asset, int(balances["available"][row]), int(balances["held"][row]))
        for asset, row in rows
        if row != NONE
    ]


def view_orders(machine: Machine, account: int) -> list[OrderView]:
    """The account's resting orders, newest first; at most `ORDERS_SHOWN_MAX`."""
    state = machine.state
    if account >= state.used(state.accounts):
        return []
    orders = state.orders.data
    row = int(state.accounts.columns["first_order"][account])
    views: list[OrderView] = []
    while row != NONE and len(views) < ORDERS_SHOWN_MAX:
        order = orders[row]
        views.append(OrderView(*_ints(order, tuple(OrderView.__dataclass_fields__))))
        row = int(order["next_own"])
    return views


def view_key(machine: Machine, public_key: bytes) -> KeyView | None:
    """What the ledger knows of a key, or None if it never heard of it."""
    row = machine.state.key_rows.get(public_key)
    if row is None:
        return None
    return KeyView(*_ints(machine.state.keys.data[row], ("nonce_highest", "envelopes")))


_ASSET_FIELDS = ("decimals", "issuer", "deposited", "withdrawn")
_MARKET_FIELDS = tuple(MarketView.__dataclass_fields__)[2:]


def _view_market(row: int, market: np.void) -> MarketView:
    values = dict(zip(_MARKET_FIELDS, _ints(market, _MARKET_FIELDS), strict=True))
    if values["best_ask"] > values["price_max"]:
        values["best_ask"] = 0
    return MarketView(id=row, name=unpack_name(market["name"]), **values)


def _ints(record: np.void, names: tuple[str, ...]) -> list[int]:
    return [int(record[name]) for name in names]
