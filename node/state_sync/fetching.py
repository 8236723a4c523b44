"""Fetching a state: what arrives is checked and staged in a thread, in order; then the machine is made."""

import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from consensus.effects import (
    CheckManifest,
    ChunkRefused,
    ChunkStaged,
    Event,
    InstallState,
    ManifestChecked,
    ManifestRefused,
    StageChunk,
    StateInstalled,
)
from consensus.primitives.errors import InvariantViolation, ProtocolError
from engine.genesis import Genesis
from engine.machine import Machine
from node.services import TransferStatus
from node.state_sync.staging import Staging
from node.telemetry import Log, Metrics

CHUNKS_AT_ONCE = 32

T = TypeVar("T")
Work = CheckManifest | StageChunk | InstallState


class StateFetcher:
    """The node's side of a transfer. `pause` keeps blocks from being executed, and returns once none is."""

    def __init__(
        self,
        genesis: Genesis,
        staging: Staging,
        put: Callable[[Event], None],
        pause: Callable[[], Awaitable[None]],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._genesis = genesis
        self._staging = staging
        self._put = put
        self._pause = pause
        self._thread = trio.CapacityLimiter(1)
        self._metrics = metrics
        self._log = log
        self._work: deque[Work] = deque()
        self._filled = trio.Event()
        self._machine: Machine | None = None
        self._bytes = 0
        self._since = 0.0
        self.seconds = 0.0  # of the last transfer, from its first manifest to the machine

    def add(self, work: Work) -> None:
        """Queue what the replica asks for; it has only few chunks under way."""
        self._work.append(work)
        self._filled.set()

    def take_machine(self) -> Machine:
        """The machine of the state that was installed; its directory is closed."""
        machine, self._machine = self._machine, None
        if machine is None:
            raise InvariantViolation("no state is installed")
        self._bytes = 0
        return machine

    def status(self, height: int, chunks: int, staged: int) -> TransferStatus:
        """How far the transfer is."""
        seconds = time.monotonic() - self._since if self._bytes else 0.0
        rate = int(self._bytes / seconds) if seconds > 0 else 0
        return TransferStatus(height, chunks, staged, self._bytes, rate)

    async def run(self) -> None:
        """Work until cancelled. Raises `StorageError` if the disk fails."""
        try:
            while True:
                await self._filled.wait()
                match self._work[0]:
                    case CheckManifest() as work:
                        self._work.popleft()
                        await self._check(work)
                    case StageChunk():
                        await self._stage(self._take_chunks())
                    case InstallState() as work:
                        self._work.popleft()
                        await self._install(work)
                if not self._work:
                    self._filled = trio.Event()
        finally:
            self._staging.close()

    def _take_chunks(self) -> list[StageChunk]:
        """The chunks that wait in front: one trip to the thread, one transaction."""
        items: list[StageChunk] = []
        while self._work and len(items) < CHUNKS_AT_ONCE:
            work = self._work[0]
            if not isinstance(work, StageChunk):
                break
            self._work.popleft()
            if work.seq == self._staging.height:
                items.append(work)
        return items

    async def _check(self, work: CheckManifest) -> None:
        if not self._bytes:
            self._since = time.monotonic()
        try:
            chunks, have = await self._in_thread(lambda: self._staging.aim(work.cert, work.data))
        except ProtocolError as error:
            self._log.warning("manifest refused", peer=work.sender, height=work.cert.seq, error=str(error))
            self._put(ManifestRefused(work.sender, work.cert.seq))
            return
        self._bytes += len(work.data)
        self._log.info("state to fetch", height=work.cert.seq, chunks=chunks, staged=len(have))
        self._put(ManifestChecked(work.sender, work.cert.seq, chunks, have))

    async def _stage(self, items: list[StageChunk]) -> None:
        chunks = [(item.index, item.data) for item in items]
        verdicts = await self._in_thread(lambda: self._staging.keep(chunks))
        for item, is_good in zip(items, verdicts, strict=True):
            if is_good:
                self._bytes += len(item.data)
                self._metrics.transfer_bytes.inc(len(item.data))
                self._put(ChunkStaged(item.sender, item.seq, item.index))
            else:
                self._log.warning("chunk refused", peer=item.sender, height=item.seq, chunk=item.index)
                self._put(ChunkRefused(item.sender, item.seq, item.index))

    async def _install(self, work: InstallState) -> None:
        await self._pause()
        seed = secrets.randbits(62)
        machine = await self._in_thread(lambda: self._staging.finish(self._genesis, work.cert, seed))
        self._machine = machine
        self.seconds = time.monotonic() - self._since
        self._metrics.transfer_seconds.observe(self.seconds)
        self._log.info(
            "state fetched", height=work.cert.seq, bytes=self._bytes, seconds=round(self.seconds, 3)
        )
        self._put(StateInstalled(work.cert.seq, machine.epoch()))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._thread)
