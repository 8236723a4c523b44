"""A listed market and funded traders on a memory network, and envelopes signed for it."""

from collections.abc import Sequence
from typing import Any

from consensus.primitives.crypto import Signer
from engine.batch import encode_batch
from engine.commands import Deposit, ListMarket, OpenAccount, RegisterAsset, encode
from engine.envelope import encode_commands, encode_orders, orders_array
from tests.helpers.memory_network import MemoryLedger
from tests.helpers.venue import signer

NEVER = 2**62
PRICE_MAX, QTY_MAX, PER_LOT_TICK, NOTIONAL_MIN = 10_000, 2**40, 2**20, 10 * 2**20
TRADERS = tuple(signer(f"trader {number}") for number in (1, 2))  # accounts 1 and 2


class Trading:
    """Signs for a network; nonces count up per key."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.ledger = ledger
        self.chain_id = ledger.network.chain_id
        self._nonces: dict[bytes, int] = {}
        self.admin(
            RegisterAsset("BTC", 8, 0),
            RegisterAsset("USD", 2, 0),
            ListMarket("BTC-USD", 0, 1, 10**4, PER_LOT_TICK, PRICE_MAX, QTY_MAX, NOTIONAL_MIN, 100, 200),
            *[OpenAccount(key.public_key) for key in TRADERS],
            *[Deposit(account, asset, 10**15) for account in (1, 2) for asset in (0, 1)],
        )

    def admin(self, *commands: tuple[Any, ...]) -> None:
        """Execute venue commands at once."""
        admin = self.ledger.admin
        payload = encode(commands)
        envelope = encode_commands(admin, self.chain_id, 0, self.nonce(admin), NEVER, payload)
        self.ledger.submit(encode_batch([envelope]))

    def nonce(self, key: Signer) -> int:
        """The next nonce of a key."""
        self._nonces[key.public_key] = self._nonces.get(key.public_key, 0) + 1
        return self._nonces[key.public_key]

    def orders(
        self,
        orders: Sequence[tuple[int, ...]],
        by: Signer = TRADERS[0],
        account: int = 1,
        nonce: int | None = None,
        chain_id: bytes | None = None,
        expiry_ms: int = NEVER,
    ) -> bytes:
        """An envelope of orders."""
        number = self.nonce(by) if nonce is None else nonce
        array = orders_array(orders)
        return encode_orders(by, chain_id or self.chain_id, account, number, expiry_ms, array)
