"""Compile every kernel before joining: a node that compiles in its first block looks like a dead one.

A scratch ledger runs one block of orders, is stored and restored. Compiled code is cached on disk, so
this takes a minute the first time after an upgrade and about a second from then on.
"""

import time
from collections.abc import Callable

from consensus.primitives.crypto import Ed25519Signer
from engine import commands
from engine.batch import encode_batch
from engine.commands import EXPIRY_NEVER
from engine.envelope import encode_commands, encode_orders, orders_array
from engine.genesis import VENUE_ACCOUNT, Capacity, Genesis
from engine.machine import Machine
from engine.records import Op, Side

SLOW_SECONDS = 3.0
_CHAIN = bytes(32)
_SCRATCH_SEED = bytes(32)  # signs for a ledger that exists only here


def warm_kernels(report: Callable[[str], None] = lambda line: None) -> float:
    """Run a block on a scratch ledger; returns the seconds it took. Blocks: call it in a thread."""
    started = time.perf_counter()
    report("loading the engine's kernels (compiling them takes up to a minute, once after each upgrade)")
    signer = Ed25519Signer(_SCRATCH_SEED)
    genesis = Genesis(_CHAIN, (signer.public_key,), Capacity(accounts=64, orders=4096, levels=8192))
    machine = Machine(genesis)
    venue = VENUE_ACCOUNT
    listing = [
        commands.RegisterAsset("A", 0, venue),
        commands.RegisterAsset("B", 0, venue),
        commands.ListMarket("A/B", 0, 1, 1, 1, 1000, 1000, 0, 1, 1),
        commands.Deposit(venue, 0, 1000),
        commands.Deposit(venue, 1, 1000),
    ]
    orders = [
        (Op.NEW, Side.BUY, 0, venue, 1, 10, 2),
        (Op.NEW, Side.SELL, 0, venue, 2, 10, 1),
        (Op.REDUCE, 0, 0, venue, 1, 0, 1),
        (Op.CANCEL, 0, 0, venue, 1, 0, 0),
    ]
    batch = encode_batch(
        [
            encode_commands(signer, _CHAIN, venue, 1, EXPIRY_NEVER, commands.encode(listing)),
            encode_orders(signer, _CHAIN, venue, 2, EXPIRY_NEVER, orders_array(orders)),
        ]
    )
    machine.apply(1, bytes(32), 1, [batch], None)
    Machine.restore(genesis, machine.snapshot(), machine.state_root())
    seconds = time.perf_counter() - started
    if seconds > SLOW_SECONDS:
        report(f"kernels compiled in {seconds:.0f} s")
    return seconds
