"""A local network that begins in the middle of its life: with accounts and open orders, at a checkpoint.

The state is made by the real machine from real commands and orders, in this process, which takes seconds
where agreeing on them would take minutes. Every node then gets its pages, and a certificate that the
validators' own keys sign; their ledgers begin there, as that of a node which fetched its state does.
"""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from consensus.certificates import CHECKPOINT
from consensus.durable import STABLE
from consensus.messages import CODEC, Block
from consensus.primitives.crypto import Signer
from consensus.proofs import CheckpointCert, Vote, compute_result_digest, signing_digest
from engine.batch import encode_batch
from engine.commands import EXPIRY_NEVER, Deposit, ListMarket, OpenAccount, RegisterAsset, encode
from engine.envelope import encode_commands, encode_orders
from engine.genesis import VENUE_ACCOUNT
from engine.machine import Machine
from engine.records import ORDER_OP, Op, Side
from node.config import load_config
from node.keys import load_signer
from node.ledger import Ledger, Turn
from node.setup import NetworkHomes
from node.snapshots import SnapshotMeta, Snapshots
from node.state_sync.swap import STATE

MARKETS = 8
PRICE_MAX = 20_000
MID = PRICE_MAX // 2
FUNDS = 10**12
COMMANDS_PER_ENVELOPE = 4000
ORDERS_PER_ENVELOPE = 4000
ENVELOPES_PER_BLOCK = 25
PAST_MS = 60_000  # the state's block times lie a little before now
MIB = 1 << 20


@dataclass(frozen=True)
class Prepared:
    """What every node starts with."""

    height: int
    accounts: int
    orders: int
    pages: int
    build_s: float


class _AlreadyChecked:
    """Our own signatures need no check."""

    def get(self, envelope_digest: bytes, /) -> bool | None:
        return True


def prepare(homes: NetworkHomes, accounts: int, orders: int) -> Prepared:
    """Give every node of a network that has never run a state with so many accounts and open orders."""
    started = time.perf_counter()
    network = homes.network
    machine, block = _build(homes, accounts, orders)
    state = machine.summary()
    result = compute_result_digest(block.digest, machine.journal_root, state.digest)
    message = signing_digest(network.chain_id, 0, CHECKPOINT, 0, block.seq, result)
    votes = tuple(
        Vote(node, load_signer(homes.nodes[node].consensus_seed).sign(message))
        for node in range(network.replicas.quorum)
    )
    meta = SnapshotMeta(block.seq, block.digest, machine.journal_root, state, votes)
    pages = machine.snapshot()
    for node, home in enumerate(homes.nodes):
        sizes = load_config(home.config).ledger
        if node == 0:
            snapshots = Snapshots(home.data / STATE, sizes.state_mib * MIB)
            snapshots.write(meta, pages)
            snapshots.close()
        else:
            shutil.copytree(homes.nodes[0].data / STATE, home.data / STATE)
        ledger = Ledger(home.data / "ledger", network.chain_id, node, sizes.blocks_mib * MIB)
        stable = CheckpointCert(block.seq, block.digest, machine.journal_root, state, votes)
        ledger.commit(Turn(votes={STABLE: CODEC.encode(stable)}, base=block.seq, swap=block.seq))
        ledger.finish_swap()
        ledger.close()
    live = int(machine.state.count["orders_live"])
    return Prepared(block.seq, accounts, live, len(pages), time.perf_counter() - started)


def _build(homes: NetworkHomes, accounts: int, orders: int) -> tuple[Machine, Block]:
    """The machine at a checkpoint, and the block that led there."""
    network, admin = homes.network, load_signer(homes.admin_seed)
    machine = Machine(network.genesis)
    interval = network.rules.checkpoint_interval
    first_ms = int(time.time() * 1000) - PAST_MS
    waiting: list[bytes] = []
    block = Block(0, 0, ())

    def run() -> None:
        nonlocal block
        block = Block(machine.height + 1, first_ms + machine.height, ())
        batches = [encode_batch([envelope]) for envelope in waiting]
        machine.apply(block.seq, block.digest, block.time_ms, batches, _AlreadyChecked())
        waiting.clear()

    for envelope in _envelopes(admin, network.chain_id, accounts, orders):
        waiting.append(envelope)
        if len(waiting) == ENVELOPES_PER_BLOCK:
            run()
    run()
    while machine.height % interval:
        run()
    return machine, block


def _envelopes(admin: Signer, chain_id: bytes, accounts: int, orders: int) -> Iterator[bytes]:
    """Everything that makes the state, in order. Account i is in market i mod 8, and buys or sells there."""
    commands: list[tuple[object, ...]] = [
        RegisterAsset(f"PREP{number}", 0, VENUE_ACCOUNT) for number in range(MARKETS + 1)
    ]
    commands += [
        ListMarket(f"PREP{number + 1}/PREP0", number + 1, 0, 1, 1, PRICE_MAX, 1_000_000, 0, 100, 500)
        for number in range(MARKETS)
    ]
    commands += [OpenAccount(admin.public_key)] * accounts
    commands += [
        Deposit(account, 0 if _buys(account) else account % MARKETS + 1, FUNDS)
        for account in range(1, accounts + 1)
    ]
    nonce = 0
    for start in range(0, len(commands), COMMANDS_PER_ENVELOPE):
        nonce += 1
        payload = encode(commands[start : start + COMMANDS_PER_ENVELOPE])
        yield encode_commands(admin, chain_id, VENUE_ACCOUNT, nonce, EXPIRY_NEVER, payload)
    for start in range(0, orders, ORDERS_PER_ENVELOPE):
        nonce += 1
        numbers = np.arange(start, min(start + ORDERS_PER_ENVELOPE, orders))
        yield encode_orders(
            admin, chain_id, VENUE_ACCOUNT, nonce, EXPIRY_NEVER, _make_orders(numbers, accounts)
        )


def _make_orders(numbers: np.ndarray, accounts: int) -> np.ndarray:
    """Orders that rest: bids below the middle, asks above it."""
    ops = np.zeros(len(numbers), dtype=ORDER_OP)
    account = numbers % accounts + 1
    buys = account // MARKETS % 2 == 0
    distance = numbers // (2 * MARKETS) % (MID - 1) + 1
    ops["op"] = Op.NEW
    ops["flags"] = np.where(buys, Side.BUY, Side.SELL)
    ops["market"] = account % MARKETS
    ops["account"] = account
    ops["client_order_id"] = numbers + 1
    ops["price"] = np.where(buys, MID - distance, MID + distance)
    ops["qty"] = numbers % 100 + 1
    return ops


def _buys(account: int) -> bool:
    return account // MARKETS % 2 == 0
