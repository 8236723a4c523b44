"""The same client for code that does not run under trio: every call blocks until it is done.

    with BlockingClient("network.toml", "trader.seed", account=7) as client:
        client.place("BTC-USD", "buy", price="42000.5", qty="0.25")

One background thread runs a trio loop; calls may come from any thread.
"""

import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import trio

from consensus.primitives.crypto import Signer
from consensus.proofs import Epoch
from engine.commands import EXPIRY_NEVER
from engine.layout import SCOPES_ALL
from node import position_views, views
from node.client.client import Balance, Client, Placed, ProvenBalance, open_client
from node.client.units import Listing, Number
from node.network import Network
from node.receipts import Outcome
from node.wire import Detail

R = TypeVar("R")


class BlockingClient:
    """`Client` for blocking code; see there for what each method does. Close it, or use `with`."""

    def __init__(
        self,
        network: Network | Path | str,
        key: Signer | Path | str,
        account: int = 0,
        prefer: int | None = None,
        trusted: Epoch | None = None,
        peers: Sequence[str] = (),
    ) -> None:
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._client: Client
        self._token: trio.lowlevel.TrioToken
        self._stop: trio.Event
        self._thread = threading.Thread(
            target=self._run,
            args=(network, key, account, prefer, trusted, tuple(peers)),
            name="kontor-client",
            daemon=True,
        )
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Close all connections and end the thread."""
        if self._thread.is_alive():
            trio.from_thread.run_sync(self._stop.set, trio_token=self._token)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def public_key(self) -> bytes:
        """The session key that signs."""
        return self._client.public_key

    @property
    def addresses(self) -> list[str]:
        """As `Client.addresses`."""
        return self._client.addresses

    def place(
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
        """Place one order and return once it is proven executed."""
        return self._call(
            lambda c: c.place(market, side, price, qty, tif, client_order_id, self_trade, reduce_only)
        )

    def cancel(self, market: str | int, client_order_id: int) -> Outcome:
        """Take an order off the book."""
        return self._call(lambda c: c.cancel(market, client_order_id))

    def cancel_all(self, market: str | int | None = None) -> Outcome:
        """Take all orders of the account off one market's book, or off every book."""
        return self._call(lambda c: c.cancel_all(market))

    def submit_orders(self, array: np.ndarray, detail: Detail = Detail.RESULTS) -> Outcome:
        """Have up to 4096 operations executed under one signature."""
        return self._call(lambda c: c.submit_orders(array, detail))

    def command(self, command: tuple[Any, ...]) -> np.void:
        """Have one command executed; return its journal line."""
        return self._call(lambda c: c.command(command))

    def commands(self, batch: Sequence[tuple[Any, ...]], detail: Detail = Detail.RESULTS) -> Outcome:
        """Have up to 4096 commands executed in order."""
        return self._call(lambda c: c.commands(batch, detail))

    def open_account(self, root_key: bytes) -> int:
        """By the venue: open an account; return its id."""
        return self._call(lambda c: c.open_account(root_key))

    def cancel_on_disconnect(self) -> None:
        """As `Client.cancel_on_disconnect`."""
        self._call(lambda c: c.cancel_on_disconnect())

    def stay_on_disconnect(self) -> None:
        """As `Client.stay_on_disconnect`."""
        self._call(lambda c: c.stay_on_disconnect())

    def grant_key(self, public_key: bytes, scopes: int = SCOPES_ALL, expiry_ms: int = EXPIRY_NEVER) -> None:
        """Let another key act for this account."""
        self._call(lambda c: c.grant_key(public_key, scopes, expiry_ms))

    def revoke_key(self, public_key: bytes) -> None:
        """Take from a key whatever it may do for this account."""
        self._call(lambda c: c.revoke_key(public_key))

    def deposit(self, account: int, asset: str | int, amount: Number) -> None:
        """By the asset's issuer or the venue: credit an account."""
        self._call(lambda c: c.deposit(account, asset, amount))

    def withdraw(self, asset: str | int, amount: Number) -> None:
        """Take value out of the ledger from this account."""
        self._call(lambda c: c.withdraw(asset, amount))

    def transfer(self, target: int, asset: str | int, amount: Number) -> None:
        """Send value from this account to another."""
        self._call(lambda c: c.transfer(target, asset, amount))

    def submit_envelope(self, data: bytes, detail: Detail = Detail.RESULTS) -> Outcome:
        """Have a signed envelope executed at most once."""
        return self._call(lambda c: c.submit_envelope(data, detail))

    def receipt(self, envelope_digest: bytes, detail: Detail = Detail.RESULTS) -> Outcome:
        """What became of an envelope, proven."""
        return self._call(lambda c: c.receipt(envelope_digest, detail))

    def sync_epochs(self) -> Epoch:
        """As `Client.sync_epochs`."""
        return self._call(lambda client: client.sync_epochs())

    def status(self, node: int | None = None) -> views.StatusView:
        """Where a node stands."""
        return self._call(lambda c: c.status(node))

    def balances(self, account: int | None = None) -> list[Balance]:
        """What an account has, by asset."""
        return self._call(lambda c: c.balances(account))

    def contracts(self) -> list[position_views.ContractView]:
        """Every perpetual market's terms, open interest and funding."""
        return self._call(lambda c: c.contracts())

    def positions(self, account: int | None = None) -> list[position_views.PositionView]:
        """An account's positions."""
        return self._call(lambda c: c.positions(account))

    def margin(self, account: int | None = None) -> list[position_views.MarginView]:
        """An account's equity and margins by settlement asset."""
        return self._call(lambda c: c.margin(account))

    def prove_balance(self, account: int, asset: str | int, since: int = 0) -> ProvenBalance:
        """What an account had of one asset at a recent checkpoint, proved."""
        return self._call(lambda c: c.prove_balance(account, asset, since))

    def orders(self, account: int | None = None) -> list[views.OrderView]:
        """Resting orders of an account, newest first."""
        return self._call(lambda c: c.orders(account))

    def markets(self) -> list[views.MarketView]:
        """All markets with their best prices."""
        return self._call(lambda c: c.markets())

    def key(self, public_key: bytes | None = None) -> views.KeyView:
        """What a node knows of a session key."""
        return self._call(lambda c: c.key(public_key))

    def listing(self, refresh: bool = False) -> Listing:
        """Assets and markets as f+1 nodes tell them alike."""
        return self._call(lambda c: c.listing(refresh))

    def _call(self, make: Callable[[Client], Awaitable[R]]) -> R:
        async def run() -> R:
            return await make(self._client)

        return trio.from_thread.run(run, trio_token=self._token)

    def _run(
        self,
        network: Network | Path | str,
        key: Signer | Path | str,
        account: int,
        prefer: int | None,
        trusted: Epoch | None,
        peers: Sequence[str],
    ) -> None:
        async def main() -> None:
            async with open_client(network, key, account, prefer, trusted, peers) as client:
                self._client = client
                self._token = trio.lowlevel.current_trio_token()
                self._stop = trio.Event()
                self._ready.set()
                await self._stop.wait()

        try:
            trio.run(main)
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()
