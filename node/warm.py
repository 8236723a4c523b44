"""Compile every kernel before joining: a node that compiles in its first block looks like a dead one.

A scratch ledger runs one block of orders, is stored and restored. Compiled code is cached on disk, so
this takes some 40 s of one core the first time after an upgrade, and about a second from then on. Of the
processes of one user that start together one compiles, and the others wait for what it leaves.
"""

import fcntl
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numba

import engine
from consensus.primitives.crypto import Ed25519Signer
from engine import commands
from engine.batch import encode_batch
from engine.commands import EXPIRY_NEVER
from engine.envelope import encode_commands, encode_orders, orders_array
from engine.genesis import VENUE_ACCOUNT, Capacity, Genesis
from engine.machine import Machine
from engine.perpetuals.commands import (
    AddCollateral,
    ListPerpetual,
    RemoveCollateral,
    SetIsolation,
    SetMarginMode,
)
from engine.records import Op, Reference, Side, Term
from node.position_views import view_margin, view_positions

Report = Callable[[str], None]
SLOW_SECONDS = 3.0
TELL_SECONDS = 10.0  # between two reports while it lasts
WAIT_SECONDS_MAX = 900.0  # for another process that compiles; then this one does it, too
POLL_SECONDS = 0.2
_CHAIN = bytes(32)
_SCRATCH_SEED = bytes(32)  # signs for a ledger that exists only here


def warm_kernels(report: Report = lambda line: None) -> float:
    """Run a block on a scratch ledger; returns the seconds it took. Blocks: call it in a thread."""
    started = time.perf_counter()
    report("loading the engine's kernels")
    with _told(started, report), _alone_if_new():
        _run_scratch_ledger()
    seconds = time.perf_counter() - started
    if seconds > SLOW_SECONDS:
        report(f"kernels are ready after {seconds:.0f} s")
    return seconds


def _run_scratch_ledger() -> None:
    """Every kernel a block needs, once."""
    signer = Ed25519Signer(_SCRATCH_SEED)
    genesis = Genesis(_CHAIN, (signer.public_key,), Capacity(accounts=64, orders=4096, levels=8192))
    machine = Machine(genesis)
    venue = VENUE_ACCOUNT
    listing = [
        commands.RegisterAsset("A", 0, venue),
        commands.RegisterAsset("B", 0, venue),
        commands.ListMarket("A/B", 0, 1, 1, 1, 1000, 1000, 0, 1, 1),
        ListPerpetual("A-PERP", 0, 1, *(1,) * 2, 10, 10, 0, 1, 1, *(1,) * 4, 10, 10, 60_000, 0, 0, 0),
        commands.Deposit(venue, 0, 1000),
        commands.Deposit(venue, 1, 1000),
        commands.OpenAccount(signer.public_key),
        commands.Deposit(venue + 1, 0, 1000),
        SetIsolation(venue, 1, 1),
        AddCollateral(venue, 1, 2),
        RemoveCollateral(venue, 1, 1),
        SetMarginMode(venue, 1),
        commands.Withdraw(venue, 1, 1),
    ]
    orders = [
        (Op.NEW, Side.BUY, 0, venue, 1, 10, 2),
        (Op.NEW, Side.SELL, 0, venue, 2, 10, 1),
        (Op.REDUCE, 0, 0, venue, 1, 0, 1),
        (Op.NEW, Side.SELL, 0, venue + 1, 1, 10, 1),
        (Op.TERMS, Term.STOP, 0, venue + 1, 2, 10, Reference.LAST),
        (Op.NEW, Side.SELL, 0, venue + 1, 2, 10, 1),
        (Op.CANCEL, 0, 0, venue, 1, 0, 0),
        (Op.NEW, Side.BUY, 1, venue, 3, 10, 1),
    ]
    batch = encode_batch(
        [
            encode_commands(signer, _CHAIN, venue, 1, EXPIRY_NEVER, commands.encode(listing)),
            encode_orders(signer, _CHAIN, venue, 2, EXPIRY_NEVER, orders_array(orders)),
        ]
    )
    machine.apply(1, bytes(32), 1, [batch], None)
    view_positions(machine, venue)  # views ask kernels too
    view_margin(machine, venue)
    Machine.restore(genesis, machine.snapshot(), machine.state_root())


@contextmanager
def _told(started: float, report: Report) -> Iterator[None]:
    """Report every few seconds that it lasts, until it is done."""
    done = threading.Event()

    def tell() -> None:
        why = ": once after each upgrade, some 40 s of a free core, minutes on a busy machine"
        while not done.wait(TELL_SECONDS):
            report(f"compiling the engine's kernels, for {time.perf_counter() - started:.0f} s now{why}")
            why = ""

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


@contextmanager
def _alone_if_new() -> Iterator[None]:
    """Alone among this user's processes, unless one compiled the same kernels before; that is noted then.

    A note that is wrong, since the cache was removed, costs several processes the same work, as does a file
    that cannot be used.
    """
    stamp = _stamp()
    try:
        handle = os.open(_lock_path(), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        yield
        return
    try:
        is_new = os.fstat(handle).st_uid == os.getuid() and os.pread(handle, len(stamp), 0) != stamp
        if not is_new or not _lock(handle):
            yield
            return
        yield
        os.pwrite(handle, stamp, 0)
    finally:
        os.close(handle)  # closing drops the lock


def _lock(handle: int) -> bool:
    """Wait for the lock; False: not to be had."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(POLL_SECONDS)
        except OSError:
            return False
        else:
            return True
    return False


def _lock_path() -> Path:
    """One file for each user and installation."""
    place = sha256(str(_engine()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"kontor-kernels-{os.getuid()}-{place}"


def _stamp() -> bytes:
    """Changes with whatever compiled code depends on: sources, compiler, interpreter, machine, cache."""
    sources = [(str(path), path.stat().st_mtime_ns) for path in sorted(_engine().rglob("*.py"))]
    cache = str(numba.config.CACHE_DIR)
    parts = (sources, numba.__version__, platform.python_version(), platform.machine(), cache)
    return sha256(repr(parts).encode()).hexdigest().encode()


def _engine() -> Path:
    return Path(engine.__file__).parent
