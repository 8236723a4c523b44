"""Committed blocks through the engine: in order, in a worker thread, while the loop goes on.

    Execute ─▶ queue ─▶ apply (thread) ─▶ Executed to the loop
                            ├─▶ history writer (thread, many blocks at a time)
                            └─▶ pages of a snapshot ─ checkpoint stable ─▶ snapshot writer (thread)

Queries run between two blocks, under the same lock. One of them at a time waits for it, so that a
block waits for one query at most, however many are asked.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import trio

from consensus.effects import Executed
from consensus.messages import Attest, Block
from consensus.primitives.errors import StorageError, ensure
from consensus.proofs import CheckpointCert, Epoch, StateSummary
from engine.journal import BlockResult
from engine.machine import Machine
from node.history import History
from node.ledger import Ledger
from node.pool import PayloadPool
from node.records import history_block
from node.services import VerdictCache
from node.snapshots import SnapshotMeta, Snapshots
from node.telemetry import Log, Metrics

T = TypeVar("T")
BLOCKS_MAX = 4096  # committed blocks waiting; the protocol's window keeps it far below
HISTORY_MAX = 512  # executed blocks waiting to be written; then execution waits
SNAPSHOTS_MAX = 4  # taken and not yet written; more than one only where epochs begin in quick succession
HISTORY_PAUSE_SECONDS = 0.05  # between writes of the history: many blocks share one transaction
HEAL_IT = "run `kontor heal` on this home to have the state fetched"
IN_PLACE_BYTES = 40 << 10  # of payloads: some 1200 order operations, about a millisecond of work
Pages = list[tuple[int, int, bytes]]


@dataclass(frozen=True)
class ExecutedBlock:
    """A block and what came of it. `state` is None unless it is a checkpoint."""

    block: Block
    result: BlockResult
    state: StateSummary | None
    epoch: Epoch | None
    boundary: int = 0

    @property
    def event(self) -> Executed:
        """What the replica is told."""
        root = self.result.journal_root
        return Executed(self.block.seq, self.block.digest, root, self.state, self.epoch, self.boundary)


@dataclass(frozen=True)
class _Snapshot:
    """Pages that are to replace older ones on disk, once their checkpoint is stable."""

    meta: SnapshotMeta
    pages: Pages
    life: int
    is_stable: bool = False


@dataclass(frozen=True)
class _Work:
    """What one trip to the worker thread brings back."""

    executed: ExecutedBlock
    pages: Pages | None


class _Mark:
    """A height that grows, and that tasks can wait for."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._grew = trio.Event()

    def raise_to(self, height: int) -> None:
        if height > self._height:
            self._height = height
            self._grew.set()
            self._grew = trio.Event()

    def covers(self, height: int) -> bool:
        return self._height >= height

    async def wait_for(self, height: int) -> None:
        while self._height < height:
            await self._grew.wait()


class Executor:
    """Owns the machine. `on_executed` is called in the event loop, in order of height, and before it
    `on_early`, if a block ran before it is durable."""

    def __init__(
        self,
        machine: Machine,
        checkpoint_interval: int,
        snapshot_seconds: int,
        ledger: Ledger,
        snapshots: Snapshots,
        history: History,
        pool: PayloadPool,
        verdicts: VerdictCache,
        on_early: Callable[[ExecutedBlock], None],
        on_executed: Callable[[ExecutedBlock], None],
        on_snapshot: Callable[[CheckpointCert | None], None],
        checkpoint_time_ms: int,
        snapshot_epoch: int,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._machine = machine
        self._interval = checkpoint_interval
        self._snapshot_seconds = snapshot_seconds
        self._ledger = ledger
        self._snapshots = snapshots
        self._history = history
        self._pool = pool
        self._verdicts = verdicts
        self._on_early = on_early
        self._on_executed = on_executed
        self._on_snapshot = on_snapshot
        self._checkpoint_time_ms = checkpoint_time_ms  # of the last checkpoint
        self._metrics = metrics
        self._log = log
        self._lock = trio.Lock()  # held while anything reads or writes the machine
        self._asking = trio.Lock()  # held by the query that runs or waits for `_lock`
        self._thread = trio.CapacityLimiter(1)
        self._writers = trio.CapacityLimiter(2)
        self._turn = trio.Lock()  # held from a block's start until its result is told
        self._running = trio.Event()  # not set: a state is being installed, no block may start
        self._running.set()
        self._life = 0  # grows whenever another machine is to come
        self._blocks_in, self._blocks = trio.open_memory_channel[tuple[int, Block | int]](BLOCKS_MAX)
        self._history_in, self._history_out = trio.open_memory_channel[
            ExecutedBlock | tuple[int, tuple[Attest, ...]]
        ](2 * HISTORY_MAX)
        self._snapshot_in, self._snapshot_out = trio.open_memory_channel[_Snapshot](2 * SNAPSHOTS_MAX)
        self._taken: list[_Snapshot] = []  # and not yet written, ascending
        self._snapshot_epoch = snapshot_epoch  # that of the newest taken, or -1
        self._durable = _Mark(machine.height)  # committed blocks in the ledger
        self._written = _Mark(machine.height)  # executed blocks in the history

    def submit(self, block: Block) -> None:
        """Queue a committed block; its payloads are held or stored. It may run before its certificate is
        durable, but nothing comes out before `set_durable`."""
        self._blocks_in.send_nowait((self._life, block))

    def submit_stored(self, last: int) -> None:
        """Queue every block up to `last` that did not run yet. The ledger holds them: they are read one by
        one when their turn comes, however many they are."""
        self._blocks_in.send_nowait((self._life, last))
        self._durable.raise_to(last)

    def set_durable(self, height: int) -> None:
        """Blocks up to `height` are in the ledger."""
        self._durable.raise_to(height)

    def keep_proof(self, height: int, attests: tuple[Attest, ...]) -> None:
        """Queue attestations for the history; they are left out if it lags far behind."""
        try:
            self._history_in.send_nowait((height, attests))
        except trio.WouldBlock:
            self._log.debug("proof not kept", height=height)

    def on_stable(self, height: int, find: Callable[[int], CheckpointCert | None]) -> None:
        """The checkpoint at `height` is stable and this node's own: a snapshot up to there may be written.
        `find` gives the certificate of a checkpoint, if it is known."""
        for place, snapshot in enumerate(self._taken):
            if snapshot.is_stable or snapshot.meta.height > height:
                continue
            cert = find(snapshot.meta.height)
            votes = cert.votes if cert is not None and cert.state == snapshot.meta.state else ()
            stable = replace(snapshot, meta=replace(snapshot.meta, votes=votes), is_stable=True)
            self._taken[place] = stable
            self._snapshot_in.send_nowait(stable)

    async def pause(self) -> None:
        """Let no block start until `go_on`; drop those that wait, and return when none runs."""
        self._running = trio.Event()
        self._life += 1
        self._taken.clear()
        async with self._turn:
            return

    async def go_on(self, machine: Machine) -> None:
        """Run the blocks submitted since `pause`, on a machine whose state was fetched from others."""
        async with self._lock:
            self._machine = machine
        self._checkpoint_time_ms = machine.time_ms
        self._snapshot_epoch = machine.state.count["epoch"]
        self._durable.raise_to(machine.height)
        self._written.raise_to(machine.height)
        self._running.set()

    async def query(self, read: Callable[[Machine], T]) -> T:
        """Run `read` in a thread between two blocks."""
        async with self._asking, self._lock:
            return await trio.to_thread.run_sync(read, self._machine, limiter=self._thread)

    async def run(self) -> None:
        """Execute until cancelled. Raises `StorageError` if a disk fails."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_history)
            nursery.start_soon(self._write_snapshots)
            async for life, item in self._blocks:
                if isinstance(item, Block):
                    await self._take_turn(life, item)
                else:
                    await self._execute_stored(life, item)

    async def _take_turn(self, life: int, block: Block) -> None:
        await self._running.wait()
        async with self._turn:
            if life == self._life:
                await self._execute(block)

    async def _execute_stored(self, life: int, last: int) -> None:
        await self._running.wait()
        for height in range(self._machine.height + 1, last + 1):
            if life != self._life:
                return
            cert = await trio.to_thread.run_sync(self._ledger.block, height)
            if cert is None:
                raise StorageError(f"{self._ledger.path} lacks the committed block {height}: {HEAL_IT}")
            await self._take_turn(life, cert.block)

    async def _execute(self, block: Block) -> None:
        payloads = [self._pool.get(name) for name in block.batches]
        started = time.perf_counter()
        work = await self._run(block, payloads)
        self._metrics.execute_seconds.observe(time.perf_counter() - started)
        if not self._durable.covers(block.seq):
            self._on_early(work.executed)
        await self._durable.wait_for(block.seq)
        self._pool.done(block.batches)
        state = work.executed.state
        if work.pages is not None and state is not None:
            # Before the result is told: it may be what makes the checkpoint stable.
            result = work.executed.result
            meta = SnapshotMeta(block.seq, block.digest, result.journal_root, state)
            self._taken.append(_Snapshot(meta, work.pages, self._life))
        self._on_executed(work.executed)
        await self._history_in.send(work.executed)

    async def _run(self, block: Block, payloads: Sequence[bytes | None]) -> _Work:
        """Apply a block in the worker thread, a small one in place: it is over before a thread starts."""
        size = sum(IN_PLACE_BYTES if item is None else len(item) for item in payloads)
        is_small = size < IN_PLACE_BYTES and block.seq % self._interval != 0
        async with self._lock:
            if is_small:
                return self._apply(block, payloads)
            return await trio.to_thread.run_sync(self._apply, block, payloads, limiter=self._thread)

    def _apply(self, block: Block, payloads: Sequence[bytes | None]) -> _Work:
        """One block, and the pages of a snapshot if one is due."""
        executed = apply_block(self._machine, block, payloads, self._ledger, self._verdicts, self._interval)
        is_due = executed.state is not None and self._is_snapshot_due()
        return _Work(executed, self._machine.take_pages() if is_due else None)

    def _is_snapshot_due(self) -> bool:
        """At the first checkpoint whose block time lies in a new interval: alike on every node, so that a
        state can be fetched from many at once. A node that is still writing the one before leaves it out.
        And at the checkpoint that begins an epoch, so that it can be proved where its members are, though no
        other block may follow for long."""
        before, now = self._checkpoint_time_ms, self._machine.time_ms
        self._checkpoint_time_ms = now
        epoch = self._machine.state.count["epoch"]
        is_due = is_new_interval(before, now, self._snapshot_seconds) and not self._taken
        begins = epoch != self._snapshot_epoch and len(self._taken) < SNAPSHOTS_MAX
        if is_due or begins:
            self._snapshot_epoch = epoch
        return is_due or begins

    async def _write_history(self) -> None:
        async for first in self._history_out:
            items = [first]
            while len(items) < HISTORY_MAX:
                try:
                    items.append(self._history_out.receive_nowait())
                except trio.WouldBlock:
                    break
            await trio.to_thread.run_sync(_write_items, self._history, items, limiter=self._writers)
            heights = [item.block.seq for item in items if isinstance(item, ExecutedBlock)]
            self._written.raise_to(max(heights, default=0))
            await trio.sleep(HISTORY_PAUSE_SECONDS)

    async def _write_snapshots(self) -> None:
        async for snapshot in self._snapshot_out:
            await self._write_snapshot(snapshot)
            if snapshot in self._taken:
                self._taken.remove(snapshot)

    async def _write_snapshot(self, snapshot: _Snapshot) -> None:
        meta, pages = snapshot.meta, snapshot.pages
        # A snapshot ahead of the history would make a restart replay everything for the history's sake.
        await self._written.wait_for(meta.height)
        started = time.perf_counter()

        def write() -> bool:
            return self._snapshots.write(meta, pages, lambda: snapshot.life == self._life)

        if not await trio.to_thread.run_sync(write, limiter=self._writers):
            return
        seconds = time.perf_counter() - started
        self._metrics.snapshot_seconds.observe(seconds)
        self._log.info("snapshot written", height=meta.height, pages=len(pages), seconds=round(seconds, 3))
        self._on_snapshot(meta.cert)


def is_new_interval(before_ms: int, now_ms: int, seconds: int) -> bool:
    """Whether a snapshot is due at a checkpoint at `now_ms` after one at `before_ms` (block times).

    `seconds`: the interval; 0: at every checkpoint.
    """
    return seconds == 0 or now_ms // (1000 * seconds) != before_ms // (1000 * seconds)


def apply_block(
    machine: Machine,
    block: Block,
    payloads: Sequence[bytes | None],
    ledger: Ledger,
    verdicts: VerdictCache | None,
    checkpoint_interval: int,
) -> ExecutedBlock:
    """Apply one block; payloads that are None come from the ledger."""
    batches = [
        _stored(ledger, name) if payload is None else payload
        for name, payload in zip(block.batches, payloads, strict=True)
    ]
    ensure(machine.height + 1 == block.seq, f"block {block.seq} after height {machine.height}")
    result = machine.apply(block.seq, block.digest, block.time_ms, batches, verdicts)
    if block.seq % checkpoint_interval != 0:
        return ExecutedBlock(block, result, None, None, machine.boundary())
    return ExecutedBlock(block, result, machine.summary(), machine.epoch(), machine.boundary())


def _stored(ledger: Ledger, name: bytes) -> bytes:
    payload = ledger.batch(name)
    if payload is None:
        raise StorageError(f"{ledger.path} lacks payload {name.hex()[:16]} of a committed block: {HEAL_IT}")
    return payload


def _write_items(history: History, items: Sequence[ExecutedBlock | tuple[int, tuple[Attest, ...]]]) -> None:
    blocks = [history_block(item.result) for item in items if isinstance(item, ExecutedBlock)]
    proofs = [item for item in items if not isinstance(item, ExecutedBlock)]
    history.write(blocks, proofs)
