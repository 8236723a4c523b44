"""User-space wires: a TCP proxy for each pair of validators, with each direction under control.

Needs no privileges and runs anywhere. TCP loses no bytes, so a cut holds them: they arrive when the wire
heals, or never if the connection ends first, as with a real network that drops packets and a sender
that repeats them. What a proxy cannot show is a kernel that gives a connection up; `namespaces` can.

Buffers are bounded: a direction that is held or slow stops reading its sender after `PENDING_CHUNKS`
chunks, and the sender's own queue limit takes over.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from node.network import Address

CHUNK_BYTES = 16 << 10
PENDING_CHUNKS = 256  # of one direction of one connection, under way: 4 MiB
CONNECTIONS_MAX = 8  # of one wire at a time; validators keep one
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@dataclass
class Direction:
    """How bytes flow from one validator to another, for all connections of their wire."""

    delay_s: float = 0.0
    jitter_s: float = 0.0  # up to so much more, at random; order is kept
    bytes_per_second: float = 0.0  # 0: no limit
    _open: trio.Event = field(default_factory=trio.Event)
    _free_at: float = 0.0  # when the next byte may leave, under a limit

    def __post_init__(self) -> None:
        self._open.set()

    @property
    def is_held(self) -> bool:
        """Whether nothing passes."""
        return not self._open.is_set()

    def hold(self) -> None:
        """Let nothing pass until `release`."""
        if not self.is_held:
            self._open = trio.Event()

    def release(self) -> None:
        """Let everything pass that was held, and what follows."""
        self._open.set()

    async def wait_open(self) -> None:
        """Return while bytes may pass."""
        while self.is_held:
            await self._open.wait()

    async def wait_turn(self, size: int) -> None:
        """Return when `size` more bytes may pass: not held, and within the limit."""
        await self.wait_open()
        if self.bytes_per_second:
            self._free_at = max(self._free_at, trio.current_time()) + size / self.bytes_per_second
            await trio.sleep_until(self._free_at)
            await self.wait_open()

    def arrival(self, rng: random.Random) -> float:
        """When a byte that leaves now arrives."""
        if not self.delay_s and not self.jitter_s:
            return 0.0
        return trio.current_time() + self.delay_s + rng.uniform(0.0, self.jitter_s)


class Wire:
    """Between two validators; the one with the lower id dials us, and we dial the other."""

    def __init__(self, listener: trio.SocketListener, seed: int) -> None:
        self.there = Direction()  # from the one who dials
        self.back = Direction()
        self.target: Address | None = None  # where the other listens; unknown at first
        self.connections = 0
        self._listener = listener
        self._rng = random.Random(seed)
        self._scopes: list[trio.CancelScope] = []

    @property
    def address(self) -> Address:
        """Where the one who dials finds us."""
        host, port = self._listener.socket.getsockname()[:2]
        return Address(host, port)

    def reset(self) -> None:
        """End all connections; whatever they held is lost."""
        for scope in self._scopes:
            scope.cancel()

    async def run(self) -> None:
        """Carry connections until cancelled."""
        await trio.serve_listeners(self._serve, [self._listener])

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self.connections >= CONNECTIONS_MAX:
            await trio.aclose_forcefully(stream)
            return
        self.connections += 1
        scope = trio.CancelScope()
        self._scopes.append(scope)
        try:
            with scope:
                await self._connect_and_carry(stream)
        finally:
            self._scopes.remove(scope)
            self.connections -= 1
            await trio.aclose_forcefully(stream)

    async def _connect_and_carry(self, dialler: trio.SocketStream) -> None:
        # A connection needs both directions to come about.
        await self.there.wait_open()
        await self.back.wait_open()
        if self.target is None:
            return
        try:
            other = await trio.open_tcp_stream(self.target.host, self.target.port)
        except OSError:
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, dialler, other, self.there, nursery.cancel_scope)
                nursery.start_soon(self._carry, other, dialler, self.back, nursery.cancel_scope)
        finally:
            await trio.aclose_forcefully(other)

    async def _carry(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        direction: Direction,
        both: trio.CancelScope,
    ) -> None:
        """Bytes of one direction, until either end closes; then the whole connection ends."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](PENDING_CHUNKS)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, source, send, direction)
                await _write(receive, sink, direction)
        except* _BROKEN:
            pass
        both.cancel()

    async def _read(
        self,
        source: trio.SocketStream,
        send: trio.MemorySendChannel[tuple[float, bytes]],
        direction: Direction,
    ) -> None:
        arrives = 0.0
        async with send:
            while data := await source.receive_some(CHUNK_BYTES):
                arrives = max(arrives, direction.arrival(self._rng))
                await send.send((arrives, bytes(data)))


async def _write(
    receive: trio.MemoryReceiveChannel[tuple[float, bytes]], sink: trio.SocketStream, direction: Direction
) -> None:
    async for arrives, data in receive:
        await trio.sleep_until(arrives)
        await direction.wait_turn(len(data))
        await sink.send_all(data)


class ProxyWires:
    """All wires of one network of `nodes` validators. Implements `wires.Wires`."""

    def __init__(self, wires: dict[tuple[int, int], Wire]) -> None:
        self._wires = wires

    def routes(self, node: int) -> tuple[str, ...]:
        """`peers.routes` of a validator: it dials the proxies."""
        return tuple(
            f"{high}={wire.address}" for (low, high), wire in sorted(self._wires.items()) if low == node
        )

    def lead_to(self, addresses: list[Address]) -> None:
        """Say where the validators listen."""
        for (_, high), wire in self._wires.items():
            wire.target = addresses[high]

    def hold(self, source: int, target: int) -> None:
        """Nothing that `source` sends reaches `target`."""
        self._direction(source, target).hold()

    def release(self, source: int, target: int) -> None:
        """Undo `hold`."""
        self._direction(source, target).release()

    def shape(self, source: int, target: int, delay_ms: int, jitter_ms: int, kib_per_second: int) -> None:
        """Delay and limit what `source` sends to `target`; zeros undo it."""
        direction = self._direction(source, target)
        direction.delay_s, direction.jitter_s = delay_ms / 1000, jitter_ms / 1000
        direction.bytes_per_second = kib_per_second * 1024.0

    def reset(self, one: int, other: int) -> None:
        """End the connections of a pair."""
        self._wires[min(one, other), max(one, other)].reset()

    def _direction(self, source: int, target: int) -> Direction:
        wire = self._wires[min(source, target), max(source, target)]
        return wire.there if source < target else wire.back


@asynccontextmanager
async def open_proxies(nodes: int, host: str = "127.0.0.1") -> AsyncIterator[ProxyWires]:
    """Proxies for every pair; they listen at once, and carry nothing before `lead_to`."""
    async with trio.open_nursery() as nursery:
        wires: dict[tuple[int, int], Wire] = {}
        for low in range(nodes):
            for high in range(low + 1, nodes):
                (listener,) = await trio.open_tcp_listeners(0, host=host)
                wire = wires[low, high] = Wire(listener, seed=low * nodes + high)
                nursery.start_soon(wire.run)
        yield ProxyWires(wires)
        nursery.cancel_scope.cancel()
