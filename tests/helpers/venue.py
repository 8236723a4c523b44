"""A venue in memory: a machine, keys by seed, and blocks built in one line."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from consensus.certificates import PREPARE
from consensus.evidence import Evidence, Signed, encode_evidence
from consensus.primitives.crypto import Ed25519Signer, Signer, Verifier, digest
from consensus.proofs import MEMBERS_MAX, Epoch, Member, signing_digest
from engine.batch import encode_batch
from engine.commands import Deposit, ListMarket, OpenAccount, RegisterAsset, encode
from engine.envelope import encode_commands, encode_orders, orders_array, wrap_evidence
from engine.genesis import Capacity, Genesis
from engine.journal import BlockResult
from engine.machine import Machine
from engine.records import Op, SelfTrade, Side, TimeInForce

CHAIN_ID = digest("tests.chain")
NEVER = 2**62
INTERVAL, WINDOW = 4, 8  # of checkpoints
START_MS = 1_700_000_000_000
SMALL = Capacity(
    accounts=4096,
    assets=64,
    balances=1 << 16,
    markets=64,
    levels=1 << 20,
    orders=1 << 16,
    keys=8192,
    grants=8192,
)


def signer(name: str) -> Ed25519Signer:
    """A key of its own for every name."""
    return Ed25519Signer(digest("tests.key", name.encode()))


def validator_key(number: int) -> Ed25519Signer:
    """The consensus keys of validators; those below their number are the founders'."""
    return signer(f"validator {number}")


def contradiction(replica: int, by: Signer, view: int, seq: int, epoch: int = 0) -> bytes:
    """An envelope with two prepares of one replica for one place, signed by `by`."""
    halves = []
    for body in sorted(digest("tests.body", bytes([n])) for n in range(2)):
        message = signing_digest(CHAIN_ID, epoch, PREPARE, view, seq, body)
        halves.append(Signed(body, by.sign(message)))
    evidence = Evidence(replica, epoch, PREPARE, view, seq, halves[0], halves[1])
    return wrap_evidence(CHAIN_ID, encode_evidence(evidence))


def flags(side: int = Side.BUY, tif: int = TimeInForce.GTC, stp: int = SelfTrade.CANCEL_TAKER) -> int:
    """The flags byte of an order operation."""
    return side | tif << 1 | stp << 4


def new(
    market: int,
    account: int,
    order_id: int,
    side: int,
    price: int,
    qty: int,
    tif: int = TimeInForce.GTC,
    stp: int = SelfTrade.CANCEL_TAKER,
) -> tuple[int, ...]:
    """A NEW operation."""
    return (Op.NEW, flags(side, tif, stp), market, account, order_id, price, qty)


def cancel(market: int, account: int, order_id: int) -> tuple[int, ...]:
    """A CANCEL operation."""
    return (Op.CANCEL, 0, market, account, order_id, 0, 0)


class Venue:
    """Machine, block height, and next nonces. Envelopes queue up until `block` applies them."""

    def __init__(
        self,
        capacity: Capacity = SMALL,
        verifier: Verifier | None = None,
        validators: int = 5,
        members_max: int = MEMBERS_MAX,
        plugins: tuple[str, ...] = (),
    ) -> None:
        self.admin = signer("admin")
        members = tuple(Member(row, validator_key(row).public_key) for row in range(validators))
        self.genesis = Genesis(
            CHAIN_ID,
            (self.admin.public_key,),
            capacity,
            Epoch(0, 1, members),
            INTERVAL,
            WINDOW,
            members_max,
            plugins,
        )
        self.machine = Machine(self.genesis, verifier)
        self.pending: list[bytes] = []
        self.applied: list[tuple[int, bytes, int, list[bytes]]] = []  # every block, for a replay
        self._nonces: dict[bytes, int] = {}

    def commands(self, *commands: tuple[Any, ...], by: Signer | None = None, account: int = 0) -> bytes:
        """Queue an envelope of commands; return its bytes."""
        by = by or self.admin
        envelope = encode_commands(by, CHAIN_ID, account, self.nonce(by), NEVER, encode(commands))
        self.pending.append(envelope)
        return envelope

    def orders(self, by: Signer, account: int, orders: Sequence[tuple[int, ...]] | np.ndarray) -> bytes:
        """Queue an envelope of orders; return its bytes."""
        array = orders if isinstance(orders, np.ndarray) else orders_array(orders)
        envelope = encode_orders(by, CHAIN_ID, account, self.nonce(by), NEVER, array)
        self.pending.append(envelope)
        return envelope

    def nonce(self, by: Signer) -> int:
        """The key's next nonce, from 1."""
        self._nonces[by.public_key] = self._nonces.get(by.public_key, 0) + 1
        return self._nonces[by.public_key]

    def block(self, *envelopes: bytes, time_ms: int | None = None) -> BlockResult:
        """Apply what is queued, or `envelopes`, as one micro-batch."""
        chosen = list(envelopes) or self.pending
        if not envelopes:
            self.pending = []
        height = self.machine.height + 1
        batches = [encode_batch(chosen)] if chosen else []
        block_digest = digest("tests.block", height.to_bytes(8, "little"), *batches)
        self.applied.append((height, block_digest, time_ms or START_MS + height, batches))
        return self.machine.apply(*self.applied[-1])

    def open_market(
        self, traders: int = 2, funds: int = 1_000_000_000, maker_fee_e6: int = 100, taker_fee_e6: int = 500
    ) -> list[Ed25519Signer]:
        """Assets 0 (BTC) and 1 (USD), market 0 between them, accounts 1..traders with funds of both."""
        keys = [signer(f"trader {number}") for number in range(1, traders + 1)]
        self.commands(
            RegisterAsset("BTC", 8, 0),
            RegisterAsset("USD", 6, 0),
            ListMarket("BTC/USD", 0, 1, 10, 1, 10_000, 1_000_000, 0, maker_fee_e6, taker_fee_e6),
            *[OpenAccount(key.public_key) for key in keys],
            *[Deposit(account, asset, funds) for account in range(1, traders + 1) for asset in (0, 1)],
        )
        assert self.block().counts.rejected == 0
        return keys
