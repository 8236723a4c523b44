"""Serving the newest snapshot to peers: bounded in states, in bytes under way, and in time.

A read transaction is pinned while a state is being served, so that the next snapshot does not change
it under the reader; it is let go when nobody has asked for a while. Everything is read and hashed in
one thread. Each peer has a short queue and a pace of its own, and uses one state: the one it asked for
last. The newest is always served; if need be, that which the fewest peers use is let go of for it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from consensus.effects import SendChunks, SendManifest
from consensus.messages import CODEC, Chunk, Manifest, Message
from consensus.primitives.errors import LedgerError
from engine.tables.manifest import Shape
from node.snapshots import PinnedSnapshot, Snapshots
from node.telemetry import Log, Metrics
from node.transport import Transport
from node.wire import frame

QUEUE_MAX = 64  # requests of one peer that wait; more are dropped, and it asks again
PINS_MAX = 2  # states served at a time
PIN_SECONDS = 30.0  # without a request
PIN_SECONDS_MAX = 900.0  # in all: pages that a pin holds cannot be used again on disk
SWEEP_SECONDS = 5.0

Request = SendManifest | SendChunks


@dataclass
class _Pin:
    snapshot: PinnedSnapshot
    since: float
    used: float


class StateServer:
    """Answers requests for manifests and chunks. `thread` runs everything that touches the disk."""

    def __init__(
        self,
        snapshots: Snapshots,
        shapes: Sequence[Shape],
        transport: Transport,
        bytes_per_second: int,
        on_trouble: Callable[[str], None],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self.thread = trio.CapacityLimiter(1)
        self._snapshots = snapshots
        self._shapes = shapes
        self._transport = transport
        self._bytes_per_second = bytes_per_second
        self._on_trouble = on_trouble
        self._metrics = metrics
        self._log = log
        self._pins: dict[int, _Pin] = {}
        self._uses: dict[int, int] = {}  # peer -> the state it asked for last
        self._queues: dict[int, trio.MemorySendChannel[Request]] = {}
        self._nursery: trio.Nursery | None = None

    def request(self, request: Request) -> None:
        """Answer a peer, soon; what its queue has no room for is dropped."""
        if self._nursery is None:
            return
        queue = self._queues.get(request.to)
        if queue is None:
            queue, receive = trio.open_memory_channel[Request](QUEUE_MAX)
            self._queues[request.to] = queue
            self._nursery.start_soon(self._serve, receive)
        try:
            queue.send_nowait(request)
        except trio.WouldBlock:
            self._metrics.transfer_dropped.inc()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                while True:
                    await trio.sleep(SWEEP_SECONDS)
                    if self._pins:
                        await trio.to_thread.run_sync(self._sweep, limiter=self.thread)
        finally:
            self._nursery = None
            self.unpin()

    async def _serve(self, requests: trio.MemoryReceiveChannel[Request]) -> None:
        """One peer: one answer after the other, at its pace."""
        async for request in requests:
            try:
                await self._answer(request)
            except (LedgerError, OSError) as error:
                # Whoever cannot read its state must not vote on it either.
                self._on_trouble(str(error))
                return

    async def _answer(self, request: Request) -> None:
        if isinstance(request, SendManifest):
            data = await trio.to_thread.run_sync(self._manifest, request.to, request.seq, limiter=self.thread)
            await self._send(request.to, Manifest(request.seq, data))
            return
        for index in request.indexes:
            data = await trio.to_thread.run_sync(
                self._chunk, request.to, request.seq, index, limiter=self.thread
            )
            if not await self._send(request.to, Chunk(request.seq, index, data)) or not data:
                return

    async def _send(self, to: int, message: Message) -> bool:
        framed = frame(CODEC.encode(message))
        sent = await self._transport.send_bulk(to, framed)
        if sent:
            self._metrics.transfer_served_bytes.inc(len(framed))
            await trio.sleep(len(framed) / self._bytes_per_second)
        return sent

    # In the thread

    def unpin(self) -> None:
        """Let go of every state; requests for them are answered with "not any more" from then on."""
        for seq in list(self._pins):
            self._drop(seq)

    def _manifest(self, peer: int, seq: int) -> bytes:
        pin = self._pin(peer, seq)
        return pin.manifest(self._shapes) if pin else b""

    def _chunk(self, peer: int, seq: int, index: int) -> bytes:
        pin = self._pin(peer, seq)
        return pin.chunk(self._shapes, index) if pin else b""

    def _pin(self, peer: int, seq: int) -> PinnedSnapshot | None:
        """The state at `seq` for `peer`, if it is the newest snapshot or pinned."""
        now = time.monotonic()
        known = self._pins.get(seq)
        if known is not None:
            known.used = now
            self._uses[peer] = seq
            return known.snapshot
        self._sweep()
        snapshot = self._snapshots.pin(seq)
        if snapshot is None:
            return None
        self._uses[peer] = seq
        if len(self._pins) >= PINS_MAX:
            users = list(self._uses.values())
            self._drop(min(self._pins, key=lambda pinned: (users.count(pinned), pinned)))
        self._pins[seq] = _Pin(snapshot, now, now)
        self._log.info("serving a state", height=seq)
        return snapshot

    def _drop(self, seq: int) -> None:
        self._pins.pop(seq).snapshot.close()
        self._uses = {peer: used for peer, used in self._uses.items() if used != seq}

    def _sweep(self) -> None:
        now = time.monotonic()
        for seq, pin in list(self._pins.items()):
            if now - pin.used > PIN_SECONDS or now - pin.since > PIN_SECONDS_MAX:
                self._drop(seq)
