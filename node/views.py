"""What a node tells about its state when asked: small frozen views, and how they are read.

A view is this node's word, not a proof: `node.receipts` is what can be checked. Views travel as
arrays of their fields, in order.
"""

from dataclasses import dataclass

import numpy as np

from consensus.evidence import encode_evidence
from consensus.primitives.codec import Codec
from engine.layout import NONE, OrderFlag
from engine.machine import Machine
from engine.state import unpack_name
from engine.validators.convictions import read_evidence
from node.position_views import ContractView, MarginView, PositionView
from node.price_views import BreakerView, FeedView
from node.services import NodeStatus, TransferStatus

ORDERS_SHOWN_MAX = 10_000
_ORDER_COLUMNS = ("market", "side", "client_order_id", "price", "leaves", "filled")
CONVICTIONS_SHOWN_MAX = 10_000


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
    epoch: int = 0
    boundary: int = 0
    wedged: bool = False
    votes: bool = True


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
    """A resting order. `side` is `engine.records.Side`, `hidden` what it has open beside `leaves`."""

    market: int
    side: int
    client_order_id: int
    price: int
    leaves: int
    filled: int
    hidden: int = 0


@dataclass(frozen=True)
class KeyView:
    """What the ledger knows of a session key: its highest used nonce, and envelopes accepted."""

    nonce_highest: int
    envelopes: int


@dataclass(frozen=True)
class KeySpanView:
    """A consensus key, and the epochs in which its validator signs with it; None: no end is known."""

    key: bytes
    first_epoch: int
    last_epoch: int | None


@dataclass(frozen=True)
class ValidatorView:
    """A validator. `status` is `engine.layout.ValidatorStatus`. `certificate` (X.509, DER) and addresses are
    empty for founders that never moved: the network file has them."""

    id: int
    status: int
    certificate: bytes
    peer: str
    client: str
    first_epoch: int
    last_epoch: int | None
    convictions: int
    keys: tuple[KeySpanView, ...]


@dataclass(frozen=True)
class MembershipView:
    """The present epoch, and what changes next. `change` is `engine.layout.ChangeKind`; what it says
    about `validator`, `newcomer` and `boundary` is 0 while nothing is pending."""

    height: int
    epoch: int
    first_seq: int
    change: int
    validator: int
    newcomer: int
    boundary: int
    wedged_at: int
    exclusion_rule: int


@dataclass(frozen=True)
class ConvictionView:
    """Evidence on the ledger: since block `height`, and the whole proof (`consensus.evidence`)."""

    id: int
    height: int
    proof: bytes


VIEWS = Codec(
    StatusView,
    AssetView,
    MarketView,
    AccountView,
    BalanceView,
    OrderView,
    KeyView,
    KeySpanView,
    ValidatorView,
    MembershipView,
    ConvictionView,
    FeedView,
    BreakerView,
    ContractView,
    PositionView,
    MarginView,
)


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
        hides = int(order["flags"]) & OrderFlag.HAS_TERMS
        hidden = int(state.terms.data["hidden"][row]) if hides else 0
        views.append(OrderView(*[*_ints(order, _ORDER_COLUMNS), hidden]))
        row = int(order["next_own"])
    return views


def view_key(machine: Machine, public_key: bytes) -> KeyView | None:
    """What the ledger knows of a key, or None if it never heard of it."""
    row = machine.state.key_rows.get(public_key)
    if row is None:
        return None
    return KeyView(*_ints(machine.state.keys.data[row], ("nonce_highest", "envelopes")))


def view_validators(machine: Machine) -> list[ValidatorView]:
    """Every validator that is, was or will be, by id."""
    state = machine.state
    spans: dict[int, list[KeySpanView]] = {}
    for row in state.validator_keys.data[: state.used(state.validator_keys)]:
        span = KeySpanView(row["public_key"].tobytes(), int(row["first_epoch"]), _end(int(row["last_epoch"])))
        spans.setdefault(int(row["validator"]), []).append(span)
    return [
        ValidatorView(
            validator,
            int(row["status"]),
            row["certificate"].tobytes()[: int(row["certificate_bytes"])],
            _text(row["peer_address"]),
            _text(row["client_address"]),
            int(row["first_epoch"]),
            _end(int(row["last_epoch"])),
            int(row["convictions"]),
            tuple(spans[validator]),
        )
        for validator, row in enumerate(state.validators.data[: state.used(state.validators)])
    ]


def view_membership(machine: Machine) -> MembershipView:
    """The present epoch, and what changes next."""
    count, change = machine.state.count, machine.state.change.data[0]
    return MembershipView(
        height=machine.height,
        epoch=count["epoch"],
        first_seq=count["epoch_first"],
        change=int(change["kind"]),
        validator=int(change["validator"]),
        newcomer=int(change["newcomer"]),
        boundary=int(change["boundary"]),
        wedged_at=count["wedged_at"],
        exclusion_rule=count["exclusion_rule"],
    )


def view_convictions(machine: Machine) -> list[ConvictionView]:
    """Convictions, the oldest first; at most `CONVICTIONS_SHOWN_MAX`."""
    state = machine.state
    return [
        ConvictionView(
            row, int(state.evidence.data[row]["height"]), encode_evidence(read_evidence(state, row))
        )
        for row in range(min(state.used(state.evidence), CONVICTIONS_SHOWN_MAX))
    ]


def _end(epoch: int) -> int | None:
    return None if epoch == NONE else epoch


def _text(value: np.ndarray) -> str:
    return value.tobytes().rstrip(b"\0").decode("ascii")


_ASSET_FIELDS = ("decimals", "issuer", "deposited", "withdrawn")
_MARKET_FIELDS = tuple(MarketView.__dataclass_fields__)[2:]


def _view_market(row: int, market: np.void) -> MarketView:
    values = dict(zip(_MARKET_FIELDS, _ints(market, _MARKET_FIELDS), strict=True))
    if values["best_ask"] > values["price_max"]:
        values["best_ask"] = 0
    return MarketView(id=row, name=unpack_name(market["name"]), **values)


def _ints(record: np.void, names: tuple[str, ...]) -> list[int]:
    return [int(record[name]) for name in names]
