"""Clients that each ask one node only, and write down what they saw.

A probe transfers between accounts that all probes share, one transfer after the other, and now and then
reads the balances. It knows one node: what that node cannot have ordered, the probe must not be told.
After each outcome that stayed unknown it goes on with a new transfer; `settle` asks all nodes about
the unknown ones in the end.
"""

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from consensus.primitives.crypto import Ed25519Signer, Signer
from consensus.primitives.errors import InputError, LedgerError
from engine import commands as ledger
from engine.envelope import decode, encode_commands
from engine.records import Code
from node.client import Client, ClientError, OutcomeUnknown, Refused, Rejected, open_client
from node.client.errors import LinkLost
from node.client.nodes import Nodes
from node.keys import new_seed
from node.network import Network
from node.receipts import Outcome
from node.views import VIEWS, BalanceView, StatusView
from node.wire import Detail
from testnet.chaos.history import Operation, Reading
from testnet.chaos.transfers import TransferModel, TransferRequest
from testnet.sources import QUOTE

ACCOUNTS = 4
FUNDS_EACH = 1_000  # small, so that some transfers are refused
AMOUNT_MAX = 400
TIMEOUT_SECONDS = 1.5  # then an outcome counts as unknown, and the next transfer begins
PAUSE_SECONDS = 0.04  # between two transfers of a probe
READ_EVERY = 5  # transfers
READ_SECONDS = 1.0
EXPIRY_SECONDS = 600.0
SETTLE_SECONDS = 20.0


@dataclass
class Pending:
    """One transfer as it goes on; becomes an `Operation`."""

    probe: int
    request: TransferRequest
    envelope_digest: bytes
    invoked_s: float
    returned_s: float = float("inf")
    place: tuple[int, int] | None = None
    answer: Code | None = None
    had_no_effect: bool = False  # proven, or refused before it was ordered

    def learn(self, outcome: Outcome) -> None:
        """Its fate is proven."""
        self.returned_s = time.monotonic()
        self.place = (outcome.height, outcome.line)
        lines = outcome.results
        self.answer = Code(int(lines["code"][0])) if lines is not None and len(lines) else outcome.code


@dataclass
class Record:
    """All that the probes saw."""

    model: TransferModel
    asset: int
    pending: list[Pending] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    inexact: int = 0  # readings that a block came between; not judged
    errors: list[tuple[float, int, str]] = field(default_factory=list)  # when, at which node, what kind

    def operations(self) -> list[Operation]:
        """The history, without what surely had no effect."""
        return [
            Operation(
                f"probe {item.probe}", item.request, item.invoked_s, item.returned_s, item.place, item.answer
            )
            for item in self.pending
            if not item.had_no_effect
        ]

    def answered(self) -> list[Pending]:
        """Transfers with a proven place."""
        return [item for item in self.pending if item.place is not None]

    def unknown(self) -> list[Pending]:
        """Transfers that may have taken effect or not."""
        return [item for item in self.pending if item.place is None and not item.had_no_effect]


class OneNode(Nodes):
    """Requests go to one node, whatever becomes of it; who the validators are, all are asked."""

    def __init__(self, network: Network, nursery: trio.Nursery, node: int) -> None:
        super().__init__(network, nursery, node)
        self._node = node

    def order(self) -> list[int]:
        """That node."""
        return [self._node]


class Probe:
    """One client of one node."""

    def __init__(self, node: int, network: Network, signer: Signer, record: Record, nodes: Nodes) -> None:
        self._node = node
        self._signer = signer
        self._record = record
        self._nodes = nodes
        self._client = Client(network, signer, 0, nodes)
        self._chain_id = network.chain_id
        self._nonce = time.time_ns() // 1000
        self._rng = random.Random(node)

    async def run(self) -> None:
        """Transfer and read until cancelled."""
        number = 0
        while True:
            number += 1
            await self._transfer()
            if number % READ_EVERY == 0:
                await self._read()
            await trio.sleep(PAUSE_SECONDS)

    async def _transfer(self) -> None:
        source, target = self._rng.sample(self._record.model.accounts, 2)
        request = TransferRequest(source, target, self._rng.randint(1, AMOUNT_MAX))
        data = self._sign(request)
        item = Pending(self._node, request, decode(data).digest, time.monotonic())
        self._record.pending.append(item)
        try:
            item.learn(await self._client.submit_envelope(data, Detail.RESULTS, TIMEOUT_SECONDS))
        except Rejected:
            item.had_no_effect = True
            self._note("Rejected")
        except Refused as error:
            # One node's word, and it may have passed the envelope on: unknown, until all are asked.
            self._note(f"Refused {error.code}")
        except ClientError as error:
            item.had_no_effect = not isinstance(error, OutcomeUnknown)  # else nothing was sent
            self._note(type(error).__name__)

    def _sign(self, request: TransferRequest) -> bytes:
        self._nonce += 1
        expiry_ms = int((time.time() + EXPIRY_SECONDS) * 1000)
        payload = ledger.encode(
            [ledger.Transfer(request.source, request.target, self._record.asset, request.amount)]
        )
        return encode_commands(self._signer, self._chain_id, request.source, self._nonce, expiry_ms, payload)

    async def _read(self) -> None:
        """Balances at one height: executed before they were asked for, and none committed since. A node may
        show what it executed a moment before it says so, and a block in between spoils the reading."""
        with trio.move_on_after(READ_SECONDS):
            try:
                before = (await self._status()).executed
                balances = {account: await self._balance(account) for account in self._record.model.accounts}
                after = (await self._status()).committed
            except (LinkLost, InputError) as error:
                self._note(f"reading: {type(error).__name__}")
                return
            if before != after:
                self._record.inexact += 1
                return
            self._record.readings.append(Reading(f"probe {self._node}", after, time.monotonic(), balances))

    async def _status(self) -> StatusView:
        link = await self._nodes.link(self._node)
        return VIEWS.from_fields(StatusView, await link.call("status", []))

    async def _balance(self, account: int) -> int:
        link = await self._nodes.link(self._node)
        rows = [VIEWS.from_fields(BalanceView, row) for row in await link.call("balances", [account])]
        return next((row.available for row in rows if row.asset == self._record.asset), 0)

    def _note(self, kind: str) -> None:
        self._record.errors.append((time.monotonic(), self._node, kind))


@asynccontextmanager
async def open_probes(network: Network, venue: Client) -> AsyncIterator[tuple[Record, list[Probe]]]:
    """Open and fund the shared accounts; one probe for each node. They do nothing before `run`."""
    signers = [Ed25519Signer(new_seed()) for _ in network.validators]
    asset = (await venue.listing()).asset(QUOTE.name).id
    accounts = await _open_accounts(venue, asset, signers)
    record = Record(TransferModel(tuple(accounts), FUNDS_EACH), asset)
    async with trio.open_nursery() as nursery:
        yield (
            record,
            [
                Probe(node, network, signer, record, OneNode(network, nursery, node))
                for node, signer in enumerate(signers)
            ],
        )
        nursery.cancel_scope.cancel()


async def settle(network: Network, record: Record) -> None:
    """Ask all nodes what became of the unknown transfers."""
    async with open_client(network, Ed25519Signer(new_seed())) as client:
        with trio.move_on_after(SETTLE_SECONDS):
            for item in record.unknown():
                try:
                    item.learn(await client.receipt(item.envelope_digest))
                except Rejected:
                    item.had_no_effect = True
                except LedgerError:
                    continue  # it stays unknown: at most once, then


async def _open_accounts(venue: Client, asset: int, signers: Sequence[Signer]) -> list[int]:
    """Accounts that every probe may transfer from."""
    keys = [signer.public_key for signer in signers]
    accounts = [await venue.open_account(keys[number % len(keys)]) for number in range(ACCOUNTS)]
    for number, account in enumerate(accounts):
        await venue.command(ledger.Deposit(account, asset, FUNDS_EACH))
        owner = number % len(keys)
        async with open_client(venue.network, signers[owner], account) as client:
            for other, key in enumerate(keys):
                if other != owner:
                    await client.grant_key(key)
    return accounts
