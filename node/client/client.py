"""The client: sign, send, and believe only what a receipt proves.

    async with open_client("network.toml", "trader.seed", account=7) as client:
        placed = await client.place("BTC-USD", "buy", price="42000.5", qty="0.25")
        print(placed.client_order_id, placed.filled, placed.open, placed.outcome.height)

Prices are in quote per base, quantities in base, amounts in whole assets: strings, Decimals or ints,
exact or refused. Whoever needs speed signs numpy arrays of orders in ticks and lots (`submit_orders`).
Views (`status`, `balances`, …) are the word of the node that answers; outcomes are proofs, and so is
what `prove_balance` returns.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import trio

from consensus.light import LightClient
from consensus.primitives.crypto import Signer
from consensus.primitives.errors import InputError, ProtocolError
from consensus.proofs import Epoch, EpochProof
from engine import commands as ledger
from engine.commands import EXPIRY_NEVER
from engine.envelope import Envelope, decode, encode_commands, encode_orders, orders_array
from engine.layout import SCOPES_ALL
from engine.records import Code
from node import position_views, price_views, views
from node.client import orders as ops
from node.client.balances import prove_balance
from node.client.epochs import Follower
from node.client.errors import LinkLost, NotConnected, Refused, Rejected, UnitError
from node.client.farewell import LIFE_SECONDS, Farewell
from node.client.link import name_of
from node.client.nodes import Nodes
from node.client.submit import ATTEMPT_SECONDS, Submitter
from node.client.units import Listing, Number, base_units, whole_amount
from node.keys import load_signer
from node.network import Network, Validator, load_network, parse_address
from node.receipts import RECEIPTS, Outcome
from node.wire import Detail

V = TypeVar("V")
ENVELOPE_SECONDS = 60.0  # how long a signed envelope may wait to be executed
TIMEOUT_SECONDS = 30.0
FAREWELL_OPERATIONS = 16  # each cancels at most a thousand orders


@dataclass(frozen=True)
class Placed:
    """A new order that the ledger accepted. Quantities are in base."""

    client_order_id: int
    filled: Decimal  # at once
    open: Decimal  # resting on the book now
    outcome: Outcome


@dataclass(frozen=True)
class Balance:
    """What an account has of one asset, as one node says."""

    asset: str
    available: Decimal
    held: Decimal


@dataclass(frozen=True)
class ProvenBalance:
    """What an account had of one asset at the checkpoint of block `height`, as a quorum signed."""

    height: int
    asset: str
    available: Decimal
    held: Decimal


@asynccontextmanager
async def open_client(
    network: Network | Path | str,
    key: Signer | Path | str,
    account: int = 0,
    prefer: int | None = None,
    trusted: Epoch | None = None,
    peers: Sequence[str] = (),
) -> AsyncIterator["Client"]:
    """A client of the network in the file `network`, signing with the seed in the file `key`.

    `account` is whom it acts for. `prefer` is the node it asks first; by default the key decides, so
    that clients spread over the nodes. Nothing is connected until it is needed. `trusted` is an epoch known
    to be good, say what `sync_epochs` returned last time; by default that of genesis. `peers` are client
    addresses (host:port) of more nodes, say what `addresses` was last time: where few of the file's
    validators are left, one of these leads to those who are there now. They need not be trusted.
    """
    net = network if isinstance(network, Network) else load_network(Path(network))
    signer = load_signer(Path(key)) if isinstance(key, Path | str) else key
    first = signer.public_key[0] if prefer is None else prefer
    async with trio.open_nursery() as nursery:
        hints = [parse_address(text, "peers") for text in peers]
        yield Client(net, signer, account, Nodes(net, nursery, first, hints), trusted)
        nursery.cancel_scope.cancel()


class Client:
    """One session key of one account. Safe to use from many tasks of one trio run.

    Give each client its own key: nonces start at the clock's microseconds and count up from there, and
    clients that share a key overtake one another, which costs them a second attempt now and then.
    """

    def __init__(
        self, network: Network, signer: Signer, account: int, nodes: Nodes, trusted: Epoch | None = None
    ) -> None:
        self.network = network
        self.account = account
        self.timeout_s = TIMEOUT_SECONDS
        self._signer = signer
        self._nodes = nodes
        self._follower = Follower(nodes, trusted=trusted)
        self._submitter = Submitter(nodes, self._follower)
        self._nonce = time.time_ns() // 1000
        self._listing: Listing | None = None
        self._farewell: Farewell | None = None
        self._seen_height = 0  # of the newest outcome: nodes behind it have not seen what we did

    @property
    def public_key(self) -> bytes:
        """The session key that signs."""
        return self._signer.public_key

    @property
    def nodes(self) -> list[int]:
        """Ids of the present validators that can be reached, in the order in which they are asked."""
        return self._nodes.order()

    @property
    def addresses(self) -> list[str]:
        """Where present validators are reached, as far as is known: `peers` for the next client."""
        return [str(item.client_address) for item in self._nodes.reached()]

    @property
    def reached(self) -> list[Validator]:
        """The present validators that it is known how to reach."""
        return self._nodes.reached()

    @property
    def epoch(self) -> Epoch:
        """The newest epoch known."""
        return self._follower.light.epoch

    @property
    def weak_quorum(self) -> int:
        """Validators of whom one at least is honest (f+1), in the newest epoch known."""
        return self._follower.weak_quorum

    # -- orders ----------------------------------------------------------------------------------

    async def place(
        self,
        market: str | int,
        side: str,
        price: Number,
        qty: Number,
        tif: str = "GTC",
        client_order_id: int | None = None,
        self_trade: str = "CANCEL_TAKER",
        reduce_only: bool = False,
    ) -> Placed:
        """Place one order and return once it is proven executed.

        `side` is buy or sell; `tif` GTC, IOC, FOK, POST_ONLY, or MARKET with `price` as protection.
        `reduce_only` is for perpetual markets: it never adds to a position.
        Raises `Rejected` with the ledger's code (INSUFFICIENT_FUNDS, WOULD_CROSS, …).
        """
        view = await self._market(market)
        listing = await self.listing()
        order_id = self._next_nonce() if client_order_id is None else client_order_id
        order = ops.new(
            view.id,
            self.account,
            order_id,
            ops.read_side(side),
            listing.ticks(view, price),
            listing.lots(view, qty),
            ops.read_tif(tif),
            ops.read_self_trade(self_trade),
            reduce_only,
        )
        line, outcome = await self._submit_one(order, "the order")
        filled, left = int(line["qty"]), int(line["detail"])
        return Placed(order_id, listing.qty(view, filled), listing.qty(view, left), outcome)

    async def cancel(self, market: str | int, client_order_id: int) -> Outcome:
        """Take an order off the book. Raises `Rejected` UNKNOWN_ORDER if it does not rest there."""
        view = await self._market(market)
        _, outcome = await self._submit_one(ops.cancel(view.id, self.account, client_order_id), "the cancel")
        return outcome

    async def cancel_all(self, market: str | int | None = None) -> Outcome:
        """Take all orders of the account off one market's book, or off every book.

        The ledger bounds the work of one operation, so a large account takes several; the outcome is
        the last one's.
        """
        if market is None:
            order = ops.cancel_all(self.account)
        else:
            order = ops.cancel_all(self.account, (await self._market(market)).id)
        while True:
            try:
                return (await self._submit_one(order, "the cancel"))[1]
            except Rejected as rejected:
                if rejected.code != Code.WORK_LIMIT:
                    raise

    async def submit_orders(self, array: np.ndarray, detail: Detail = Detail.RESULTS) -> Outcome:
        """Have up to 4096 operations executed under one signature: `array` is (n,) `ORDER_OP`.

        The outcome holds a line per operation, in order: `code`, `qty` (lots filled at once), `detail`
        (lots left open). Operations are accepted or refused one by one; none raises.
        """
        chain_id = self.network.chain_id
        return await self._sign_and_submit(
            lambda nonce: encode_orders(self._signer, chain_id, self.account, nonce, _expiry_ms(), array),
            detail,
        )

    async def cancel_on_disconnect(self) -> None:
        """From now on all orders of the account are cancelled when the connection to our node ends, however
        it ends: that node holds our signed cancel. Returns when it does.

        Who dies together with that node is not covered; `engine.commands.CancelAllAfter` is.
        """
        if self._farewell is None:
            self._farewell = Farewell(self._nodes, self._sign_farewell, lambda: self._nonce)
            self._nodes.run_beside(self._farewell.run)
        await self._farewell.wait_left()

    async def stay_on_disconnect(self) -> None:
        """Take back `cancel_on_disconnect`."""
        farewell, self._farewell = self._farewell, None
        if farewell is not None:
            await farewell.stop()

    def _sign_farewell(self) -> tuple[bytes, int]:
        nonce, life_ms = self._next_nonce(), LIFE_SECONDS * 1000
        array = orders_array([ops.cancel_all(self.account)] * FAREWELL_OPERATIONS)
        expiry_ms = int(time.time() * 1000) + life_ms
        data = encode_orders(self._signer, self.network.chain_id, self.account, nonce, expiry_ms, array)
        return data, nonce

    # -- commands --------------------------------------------------------------------------------

    async def command(self, command: tuple[Any, ...]) -> np.void:
        """Have one `engine.commands` value executed; return its journal line (new ids are in `detail`).

        Raises `Rejected` with the ledger's code.
        """
        outcome = await self.commands([command])
        line = _only_line(outcome)
        if line["code"] != Code.OK:
            raise Rejected(Code(int(line["code"])), outcome, f"{ledger.name_of(type(command))}")
        return line

    async def commands(self, batch: Sequence[tuple[Any, ...]], detail: Detail = Detail.RESULTS) -> Outcome:
        """Have up to 4096 commands executed in order, each accepted or refused by itself."""
        chain_id, payload = self.network.chain_id, ledger.encode(batch)
        return await self._sign_and_submit(
            lambda nonce: encode_commands(self._signer, chain_id, self.account, nonce, _expiry_ms(), payload),
            detail,
        )

    async def open_account(self, root_key: bytes) -> int:
        """By the venue: open an account whose root key is `root_key`; return its id."""
        return int((await self.command(ledger.OpenAccount(root_key)))["detail"])

    async def grant_key(
        self, public_key: bytes, scopes: int = SCOPES_ALL, expiry_ms: int = EXPIRY_NEVER
    ) -> None:
        """Let another key act for this account; `scopes` are bits of `engine.layout.Scope`."""
        await self.command(ledger.GrantKey(self.account, public_key, scopes, expiry_ms))

    async def revoke_key(self, public_key: bytes) -> None:
        """Take from a key whatever it may do for this account."""
        await self.command(ledger.RevokeKey(self.account, public_key))

    async def deposit(self, account: int, asset: str | int, amount: Number) -> None:
        """By the asset's issuer or the venue: credit an account."""
        view = await self._asset(asset)
        await self.command(ledger.Deposit(account, view.id, base_units(view, amount)))

    async def withdraw(self, asset: str | int, amount: Number) -> None:
        """Take value out of the ledger from this account."""
        view = await self._asset(asset)
        await self.command(ledger.Withdraw(self.account, view.id, base_units(view, amount)))

    async def transfer(self, target: int, asset: str | int, amount: Number) -> None:
        """Send value from this account to another."""
        view = await self._asset(asset)
        await self.command(ledger.Transfer(self.account, target, view.id, base_units(view, amount)))

    # -- envelopes -------------------------------------------------------------------------------

    async def submit_envelope(
        self, data: bytes, detail: Detail = Detail.RESULTS, timeout_s: float | None = None
    ) -> Outcome:
        """Have a signed envelope executed at most once, over whichever nodes answer.

        Safe to repeat with the same bytes. Raises `Refused`, `Rejected`, `NotConnected`, or
        `OutcomeUnknown`: then ask `receipt` later.
        """
        envelope: Envelope = decode(data)
        outcome = await self._submitter.submit(data, envelope, detail, timeout_s or self.timeout_s)
        self._seen_height = max(self._seen_height, outcome.height)
        return outcome

    async def receipt(self, envelope_digest: bytes, detail: Detail = Detail.RESULTS) -> Outcome:
        """What became of an envelope, proven. Raises `NotFound` if f+1 nodes never executed it, and
        `Rejected` if the ledger refused it."""
        return await self._submitter.receipt(envelope_digest, detail, self.timeout_s)

    async def sync_epochs(self) -> Epoch:
        """Follow the changes of validators that a quorum of the newest knows of; return the newest epoch.

        Receipts bring this about by themselves, and again every few minutes. Keep the epoch, and open the
        next client with it: validators of an epoch long gone may have lost their keys since.
        """
        return await self._follower.sync(self.timeout_s)

    async def epoch_proofs(self, last: int) -> list[EpochProof]:
        """Every change of validators from genesis to epoch `last`, from the first node that proves them all:
        who keeps them follows the chain offline. Raises `NotConnected`."""
        replicas, why = self.network.replicas, "no node was tried"
        for node in self._nodes.everybody():
            light, proofs = LightClient(replicas.chain_id, replicas.record), list[EpochProof]()
            try:
                with trio.fail_after(self.timeout_s):
                    link = await self._nodes.link(node)
                    while light.epoch.number < last:
                        raw: Any = await link.call("epochs", [light.epoch.number + 1])
                        if type(raw) is not list or not raw:
                            raise ProtocolError(f"it knows of no epoch after {light.epoch.number}")
                        for fields in raw:
                            proof = RECEIPTS.from_fields(EpochProof, fields)
                            light.advance(proof)
                            proofs.append(proof)
                return proofs
            except (LinkLost, InputError, ProtocolError, trio.TooSlowError) as error:
                why = f"{name_of(node)}: {error}"
        raise NotConnected(f"epoch {last} was not proved: {why}")

    # -- views -----------------------------------------------------------------------------------

    async def status(self, node: int | None = None) -> views.StatusView:
        """Where a node stands; by default the one asked first."""
        raw = await self._query("status", [], node)
        return views.VIEWS.from_fields(views.StatusView, raw)

    async def balances(self, account: int | None = None) -> list[Balance]:
        """What an account has, by asset."""
        rows = await self._view_list(
            "balances", views.BalanceView, self.account if account is None else account
        )
        assets = [await self._asset(row.asset) for row in rows]
        return [
            Balance(asset.name, whole_amount(asset, row.available), whole_amount(asset, row.held))
            for asset, row in zip(assets, rows, strict=True)
        ]

    async def prove_balance(self, account: int, asset: str | int, since: int = 0) -> ProvenBalance:
        """What an account had of one asset at a recent checkpoint, proved.

        Checkpoints lag a few seconds behind; one at block `since` or later is waited for. Raises `NotFound`
        if f+1 nodes say that there is no such balance, `NotConnected` if nothing is proved in time.
        """
        view = await self._asset(asset)
        height, row = await prove_balance(
            self._nodes, self._follower, account, view.id, since, self.timeout_s
        )
        return ProvenBalance(
            height, view.name, whole_amount(view, row.available), whole_amount(view, row.held)
        )

    async def orders(self, account: int | None = None) -> list[views.OrderView]:
        """Resting orders of an account, newest first, in ticks and lots."""
        return await self._view_list("orders", views.OrderView, self.account if account is None else account)

    async def markets(self) -> list[views.MarketView]:
        """All markets with their best prices, in ticks."""
        return await self._view_list("markets", views.MarketView)

    async def key(self, public_key: bytes | None = None) -> views.KeyView:
        """What a node knows of a session key. Raises `Refused` NOT_FOUND if it never heard of it."""
        raw = await self._query("key", [self.public_key if public_key is None else public_key])
        return views.VIEWS.from_fields(views.KeyView, raw)

    async def validators(self, node: int | None = None) -> list[views.ValidatorView]:
        """Every validator that is, was or will be, as one node says."""
        return await self._view_list("validators", views.ValidatorView, node=node)

    async def membership(self, node: int | None = None) -> views.MembershipView:
        """The present epoch and the change that is pending, as one node says."""
        return views.VIEWS.from_fields(views.MembershipView, await self._query("membership", [], node))

    async def convictions(self, node: int | None = None) -> list[views.ConvictionView]:
        """Whom evidence convicted, each with its proof, as one node says."""
        return await self._view_list("convictions", views.ConvictionView, node=node)

    async def feeds(self) -> list[price_views.FeedView]:
        """The oracle's feeds, as one node says."""
        return await self._view_list("feeds", price_views.FeedView)

    async def breakers(self) -> list[price_views.BreakerView]:
        """Every market's prices and breaker, and that of all together, as one node says."""
        return await self._view_list("breakers", price_views.BreakerView)

    async def contracts(self) -> list[position_views.ContractView]:
        """Every perpetual market's terms, open interest and funding, as one node says."""
        return await self._view_list("contracts", position_views.ContractView)

    async def positions(self, account: int | None = None) -> list[position_views.PositionView]:
        """An account's positions, as one node says: lots, and base units of the quote asset."""
        chosen = self.account if account is None else account
        return await self._view_list("positions", position_views.PositionView, chosen)

    async def margin(self, account: int | None = None) -> list[position_views.MarginView]:
        """An account's equity and margins by settlement asset, in base units, as one node says."""
        chosen = self.account if account is None else account
        return await self._view_list("margin", position_views.MarginView, chosen)

    async def listing(self, refresh: bool = False) -> Listing:
        """Assets and markets as f+1 nodes tell them alike: one that lied about a tick could make us sign
        a wrong price. Kept until `refresh`, or until something is asked for that is not in it."""
        if self._listing is None or refresh:
            self._listing = await self._fetch_listing()
        return self._listing

    async def _market(self, name: str | int) -> views.MarketView:
        try:
            return (await self.listing()).market(name)
        except UnitError:
            return (await self.listing(refresh=True)).market(name)  # it may be new

    async def _asset(self, name: str | int) -> views.AssetView:
        try:
            return (await self.listing()).asset(name)
        except UnitError:
            return (await self.listing(refresh=True)).asset(name)

    async def _fetch_listing(self) -> Listing:
        told: dict[int, Listing] = {}
        last = "no node was tried"
        with trio.move_on_after(self.timeout_s):
            rotation = self._nodes.rotation()
            while True:
                node = await rotation.next()
                try:
                    if (await self.status(node)).executed < self._seen_height:
                        last = f"node {node} is behind"
                        continue
                    assets = await self._view_list("assets", views.AssetView, node=node)
                    markets = await self._view_list("markets", views.MarketView, node=node)
                except (NotConnected, Refused) as error:
                    last = str(error)
                    continue
                listing = Listing(tuple(map(_still_asset, assets)), tuple(map(_still_market, markets)))
                told[node] = listing
                if list(told.values()).count(listing) >= self._follower.weak_quorum:
                    return listing
        raise NotConnected(f"{self._follower.weak_quorum} nodes must tell the same markets; {last}")

    async def _view_list(self, method: str, cls: type[V], *params: Any, node: int | None = None) -> list[V]:
        raw = await self._query(method, list(params), node)
        return [views.VIEWS.from_fields(cls, row) for row in raw]

    async def _query(self, method: str, params: list[Any], node: int | None = None) -> Any:
        """Ask one node, or the first that answers."""
        last = "no node was tried"
        for node_id in self._nodes.order() if node is None else [node]:
            try:
                link = await self._nodes.link(node_id)
                with trio.fail_after(ATTEMPT_SECONDS):
                    return await link.call(method, params)
            except InputError as error:
                raise Refused(error.code, error.message) from error
            except LinkLost as error:
                last = str(error)
            except trio.TooSlowError:
                last = f"node {node_id} did not answer within {ATTEMPT_SECONDS} s"
        raise NotConnected(f"{method}: {last}")

    async def _sign_and_submit(self, sign: Callable[[int], bytes], detail: Detail) -> Outcome:
        """Sign with the next nonce and submit; once more, if another client with this key is ahead of us.

        Signing anew is safe only because f+1 nodes say that the nonce is spent and none of them knows of
        our envelope: so it was not executed, and never will be.
        """
        try:
            return await self.submit_envelope(sign(self._next_nonce()), detail)
        except Refused as error:
            if error.code not in (Code.NONCE_TOO_OLD.name, Code.NONCE_USED.name):
                raise
        self._nonce = max(self._nonce, time.time_ns() // 1000)
        return await self.submit_envelope(sign(self._next_nonce()), detail)

    async def _submit_one(self, order: ops.OrderTuple, what: str) -> tuple[np.void, Outcome]:
        outcome = await self.submit_orders(orders_array([order]))
        line = _only_line(outcome)
        if line["code"] != Code.OK:
            raise Rejected(Code(int(line["code"])), outcome, what)
        return line, outcome

    def _next_nonce(self) -> int:
        self._nonce += 1
        return self._nonce


def _only_line(outcome: Outcome) -> np.void:
    results = outcome.results
    if results is None or len(results) != 1:
        raise ValueError("the envelope did not hold one operation")
    return results[0]


def _expiry_ms() -> int:
    return int((time.time() + ENVELOPE_SECONDS) * 1000)


def _still_asset(view: views.AssetView) -> views.AssetView:
    return replace(view, deposited=0, withdrawn=0)


def _still_market(view: views.MarketView) -> views.MarketView:
    """A market without what every block may change, so that nodes at different heights agree."""
    return replace(view, status=0, best_bid=0, best_ask=0, open_orders=0)
