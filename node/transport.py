"""Links between validators: TLS 1.3, mutually authenticated, one connection for each pair.

The validator with the lower id dials. Both then say hello (versions of protocol and state, chain, id),
and frames flow both ways. Who is a peer, where it is and what certificate it shows follows the ledger
(`node.validators`): those who vote or will vote; whoever left is dropped a checkpoint later.

Sending never waits: frames queue per peer, and everything queued leaves in one write, since a write
costs far more than a message. A queue that overflows closes its link: the protocol tolerates loss, and
a peer that is too slow must not hold our memory. Parts of a state have a short queue of their own, and
go when nothing else waits. Whatever is wrong on a link closes that link, is counted, and touches no other.
"""

import random
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgpack
import trio

from consensus.primitives.errors import ProtocolError
from node.config import Home, PeerSettings, parse_routes
from node.doors import Door, address_of
from node.network import Address, Network
from node.sockets import keep_alive, repeat_often
from node.telemetry import Log, Metrics
from node.tls import peer_context, peer_id
from node.validators import Endpoint, Validators
from node.versions import WrongVersion, own_versions
from node.wire import FrameReader, frame

HELLO_BYTES_MAX = 256
WRITE_BYTES = 256 << 10  # frames are joined up to this size for one write
BULK_BYTES_MAX = 2 << 20  # parts of a state waiting for one peer; then whoever sends more waits
AWAY_BYTES_MAX = 1 << 20  # newest frames kept for a peer that is not connected
HANDSHAKES_MAX = 64  # accepted connections of strangers that have not said hello yet
HANDSHAKES_PER_ADDRESS_MAX = 16
READ_BYTES = 64 << 10
KEEP_ALIVE_SECONDS = 10  # a vanished peer is noticed by then
REPEAT_MS = 1000  # how soon a link carries on once a broken network works again
CONNECT_SECONDS = 3  # then a new attempt: the pauses of one that gets no answer double

# What a broken, closed or garbled TLS stream raises.
_LINK_ERRORS = (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError)

Deliver = Callable[[int, list[bytes]], Awaitable[None]]
OnConnect = Callable[[int], None]


class Transport:
    """All links of one validator. `deliver(peer, frames)` is awaited for what arrives; while it waits,
    that peer's link is not read. `on_connect(peer)` is called when a link comes up."""

    def __init__(
        self,
        home: Home,
        network: Network,
        replica: int,
        validators: Validators,
        settings: PeerSettings,
        deliver: Deliver,
        on_connect: OnConnect,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._network = network
        self._replica = replica
        self._versions = own_versions()
        self._settings = settings
        self._routes = parse_routes(settings.routes)
        self._deliver = deliver
        self._on_connect = on_connect
        self._metrics = metrics
        self._log = log
        self._home = home
        self._outboxes: dict[int, _Outbox] = {}
        self._links: dict[int, _Link] = {}
        self._endpoints: dict[int, Endpoint] = {}
        self._dialling: dict[int, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._door = Door(HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX)
        self.follow(validators)

    @property
    def connected(self) -> list[int]:
        """Peers with a live link, in order."""
        return sorted(self._links)

    def follow(self, validators: Validators) -> None:
        """These are the validators now: let go of those who left, and look for those who are new or moved."""
        wanted = {peer: place for peer, place in validators.endpoints.items() if peer != self._replica}
        before, self._endpoints = self._endpoints, wanted
        self._door.known = frozenset(place.peer.host for place in wanted.values())
        for peer in before.keys() - wanted.keys():
            self._let_go(peer)
        certificates = {peer: place.certificate for peer, place in wanted.items()}
        if certificates != {peer: place.certificate for peer, place in before.items()} or not before:
            self._certificates = certificates
            self._server_context = peer_context(self._home, certificates.values(), server_side=True)
            self._client_context = peer_context(self._home, certificates.values(), server_side=False)
        self._frame_bytes_max = self._network.frame_bytes_max_of(len(validators.endpoints))
        for peer, place in wanted.items():
            if peer in self._links:
                self._links[peer].reader.size_max = self._frame_bytes_max
            if peer not in before:
                self._outboxes[peer] = _Outbox()
                self._start_dialling(peer)
            elif place != before[peer] and peer in self._links:
                self._links[peer].close()  # it is somewhere else now, or somebody else
        for peer, why in validators.unreachable.items():
            self._fault("unreadable_entry", peer, why)

    def _let_go(self, peer: int) -> None:
        if peer in self._dialling:
            self._dialling.pop(peer).cancel()
        if peer in self._links:
            self._links[peer].close()
        del self._outboxes[peer]
        self._log.info("peer left", peer=peer)

    def queued_bytes(self, peer: int) -> int:
        """Bytes that wait for a peer."""
        outbox = self._outboxes.get(peer)
        return outbox.size if outbox else 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for all peers."""
        return sum(outbox.size for outbox in self._outboxes.values())

    def send(self, peer: int, framed: bytes) -> None:
        """Queue one frame (with its length in front) for a peer; nothing is kept for one who left."""
        outbox = self._outboxes.get(peer)
        if outbox is None:
            return
        outbox.put(framed)
        if peer not in self._links:
            self._metrics.peer_drops.inc(outbox.trim(AWAY_BYTES_MAX))
        elif outbox.size > self._settings.queue_bytes + self._frame_bytes_max:
            self._fault("queue_full", peer, "the peer reads too slowly")
            self._links[peer].close()

    async def send_bulk(self, peer: int, framed: bytes) -> bool:
        """Send one frame once nothing more urgent waits for a peer; waits for room. False: it is away."""
        outbox = self._outboxes.get(peer)
        if outbox is None or not await outbox.wait_for_room() or peer not in self._links:
            return False
        outbox.put_bulk(framed)
        return True

    def broadcast(self, framed: bytes) -> None:
        """Queue one frame for every peer."""
        for peer in self._outboxes:
            self.send(peer, framed)

    async def run(
        self, listen: Address, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Accept and dial until cancelled; reports the port once it listens. Raises `OSError`."""
        listeners = await trio.open_tcp_listeners(listen.port, host=listen.host)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._accept, listeners)
            self._nursery = nursery
            for peer in self._outboxes:
                self._start_dialling(peer)
            task_status.started(listeners[0].socket.getsockname()[1])

    def _start_dialling(self, peer: int) -> None:
        if self._nursery is not None and peer > self._replica:
            scope = self._dialling[peer] = trio.CancelScope()
            self._nursery.start_soon(self._keep_dialling, peer, scope)

    async def _accept(self, stream: trio.SocketStream) -> None:
        visitor, peer = self._door.enter(address_of(stream)), None
        try:
            with visitor.scope:
                tls = trio.SSLStream(stream, self._server_context, server_side=True)
                peer = await self._greet(stream, tls, None)
        finally:
            self._door.leave(visitor)
        if visitor.scope.cancelled_caught:
            self._fault("too_many_handshakes")
            await trio.aclose_forcefully(stream)
        elif peer is not None:
            await self._serve(peer, tls)

    async def _keep_dialling(self, peer: int, scope: trio.CancelScope) -> None:
        """Until `scope` is cancelled, as it is when the peer is no validator any more."""
        pause = self._settings.reconnect_ms_min
        with scope:
            while True:
                if await self._dial(peer):
                    pause = self._settings.reconnect_ms_min
                # Jitter, so that restarted validators do not all dial in step.
                await trio.sleep(pause * random.uniform(0.5, 1.0) / 1000)
                pause = min(2 * pause, self._settings.reconnect_ms_max)

    async def _dial(self, peer: int) -> bool:
        """Connect and serve the link until it ends. False: it never said hello."""
        place = self._endpoints.get(peer)
        if place is None:  # it left before its task began
            return False
        address = self._routes.get(peer) or place.peer
        try:
            with trio.fail_after(min(CONNECT_SECONDS, self._settings.handshake_seconds)):
                stream = await trio.open_tcp_stream(address.host, address.port)
        except (OSError, trio.TooSlowError):
            return False
        tls = trio.SSLStream(stream, self._client_context)
        if await self._greet(stream, tls, peer) is None:
            return False
        await self._serve(peer, tls)
        return True

    async def _greet(
        self, stream: trio.SocketStream, tls: "trio.SSLStream[trio.SocketStream]", expected: int | None
    ) -> int | None:
        """Handshake and hellos; returns who is there, or None after closing the connection."""
        try:
            with trio.fail_after(self._settings.handshake_seconds):
                keep_alive(stream, KEEP_ALIVE_SECONDS)
                repeat_often(stream, REPEAT_MS)
                await tls.do_handshake()
                peer = peer_id(tls.getpeercert(binary_form=True), self._certificates)
                await tls.send_all(frame(self._hello()))
                await self._check_hello(tls, peer, expected)
                return peer
        except trio.TooSlowError:
            self._fault("handshake_timeout", expected)
        except WrongVersion as error:  # it is dialled on: it may be upgraded, or we
            self._fault("other_version", peer, str(error))
        except ProtocolError as error:
            self._fault("bad_hello", expected, str(error))
        except _LINK_ERRORS as error:
            self._fault("handshake_failed", expected, _describe(error))
        await trio.aclose_forcefully(tls)
        return None

    def _hello(self) -> bytes:
        chain_id = self._network.chain_id
        return msgpack.packb(["kontor-peer", *self._versions, chain_id, self._replica])

    async def _check_hello(
        self, tls: "trio.SSLStream[trio.SocketStream]", peer: int, expected: int | None
    ) -> None:
        body = await _read_hello(tls)
        try:
            name, version, *rest = msgpack.unpackb(body)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise ProtocolError("the hello does not decode") from error
        own = self._versions
        if name != "kontor-peer":
            raise ProtocolError("the hello is that of another protocol")
        if version != own.protocol:
            raise WrongVersion(
                f"peer speaks protocol {version!r}; we speak {own.protocol}: upgrade the older"
            )
        if len(rest) != 3:
            raise ProtocolError("the hello does not decode")
        layout, chain_id, replica = rest
        if layout != own.layout:
            raise WrongVersion(
                f"peer's state has layout {layout!r}, ours {own.layout}: run one version of Kontor"
            )
        if chain_id != self._network.chain_id:
            raise ProtocolError("peer belongs to another chain: compare both network.toml")
        if replica != peer or (expected is not None and peer != expected):
            raise ProtocolError(f"peer says it is {replica!r}, and its certificate is that of {peer}")
        if expected is None and peer > self._replica:
            raise ProtocolError(f"validator {peer} must wait for us to dial")

    async def _serve(self, peer: int, tls: "trio.SSLStream[trio.SocketStream]") -> None:
        """Run a greeted link until it ends."""
        outbox = self._outboxes.get(peer)
        if outbox is None:  # it left while it said hello
            await trio.aclose_forcefully(tls)
            return
        previous = self._links.get(peer)
        if previous is not None:  # the old connection is half-open, or the peer restarted
            previous.close()
        link = _Link(tls, outbox, FrameReader(self._frame_bytes_max))
        self._links[peer] = link
        outbox.open_bulk()
        self._metrics.peers.set(len(self._links))
        self._log.info("peer connected", peer=peer)
        self._on_connect(peer)
        try:
            await link.run(lambda frames: self._deliver(peer, frames), self._metrics)
        except ProtocolError as error:
            self._fault("bad_frame", peer, str(error))
        except _LINK_ERRORS as error:
            self._log.debug("link broke", peer=peer, error=_describe(error))
        finally:
            if self._links.get(peer) is link:
                del self._links[peer]
                outbox.close_bulk()
            self._metrics.peers.set(len(self._links))
            await trio.aclose_forcefully(tls)
            self._log.info("peer disconnected", peer=peer)

    def _fault(self, kind: str, peer: int | None = None, detail: str = "") -> None:
        self._metrics.peer_faults.labels(kind).inc()
        self._log.warning("peer link refused", kind=kind, peer=peer, detail=detail)


class _Outbox:
    """Frames waiting for one peer; survives reconnects. Parts of a state do not."""

    def __init__(self) -> None:
        self.size = 0
        self._frames: deque[bytes] = deque()
        self._filled = trio.Event()
        self._bulk: deque[bytes] = deque()
        self._bulk_size = 0
        self._is_open = False
        self._room = trio.Event()

    def put(self, framed: bytes) -> None:
        self._frames.append(framed)
        self.size += len(framed)
        self._filled.set()

    def trim(self, size_max: int) -> int:
        """Drop the oldest frames until at most `size_max` bytes are left; return how many."""
        dropped = 0
        while self.size > size_max:
            self.size -= len(self._frames.popleft())
            dropped += 1
        return dropped

    def put_bulk(self, framed: bytes) -> None:
        self._bulk.append(framed)
        self._bulk_size += len(framed)
        self._filled.set()

    async def wait_for_room(self) -> bool:
        """Wait until a part of a state may be queued. False: the peer is away."""
        while self._is_open and self._bulk_size >= BULK_BYTES_MAX:
            self._room = trio.Event()
            await self._room.wait()
        return self._is_open

    def open_bulk(self) -> None:
        """The link is up. What an older one still had to send is of no use any more."""
        self.close_bulk()
        self._is_open = True

    def close_bulk(self) -> None:
        """The link is down: whoever waits for room learns of it."""
        self._bulk.clear()
        self._bulk_size, self._is_open = 0, False
        self._room.set()

    async def take(self) -> tuple[bytes, int]:
        """Wait for frames; return some of them joined, and their number."""
        while not self._frames:
            if self._bulk:
                framed = self._bulk.popleft()
                self._bulk_size -= len(framed)
                self._room.set()
                return framed, 1
            self._filled = trio.Event()
            await self._filled.wait()
        chunk = [self._frames.popleft()]
        length = len(chunk[0])
        while self._frames and length + len(self._frames[0]) <= WRITE_BYTES:
            chunk.append(self._frames.popleft())
            length += len(chunk[-1])
        self.size -= length
        return (chunk[0] if len(chunk) == 1 else b"".join(chunk)), len(chunk)


@dataclass
class _Link:
    """One live connection."""

    tls: "trio.SSLStream[trio.SocketStream]"
    outbox: _Outbox
    reader: FrameReader

    def __post_init__(self) -> None:
        self._scope = trio.CancelScope()

    def close(self) -> None:
        """End `run`."""
        self._scope.cancel()

    async def run(self, deliver: Callable[[list[bytes]], Awaitable[None]], metrics: Metrics) -> None:
        """Read and write until the link ends."""
        errors: list[Exception] = []

        async def guarded(work: Callable[[], Awaitable[None]]) -> None:
            try:
                await work()
            except (ProtocolError, *_LINK_ERRORS) as error:
                errors.append(error)
            self._scope.cancel()

        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(guarded, lambda: self._read(deliver, metrics))
                nursery.start_soon(guarded, lambda: self._write(metrics))
        if errors:
            raise errors[0]

    async def _read(self, deliver: Callable[[list[bytes]], Awaitable[None]], metrics: Metrics) -> None:
        reader = self.reader
        received_bytes = metrics.peer_bytes.labels("received")
        received = metrics.peer_messages.labels("received")
        while True:
            data = await self.tls.receive_some(READ_BYTES)
            if not data:
                return
            received_bytes.inc(len(data))
            frames = reader.feed(data)
            if frames:
                received.inc(len(frames))
                await deliver(frames)

    async def _write(self, metrics: Metrics) -> None:
        sent_bytes = metrics.peer_bytes.labels("sent")
        sent = metrics.peer_messages.labels("sent")
        while True:
            data, count = await self.outbox.take()
            await self.tls.send_all(data)
            sent_bytes.inc(len(data))
            sent.inc(count)


async def _read_hello(tls: "trio.SSLStream[trio.SocketStream]") -> bytes:
    """Read exactly one small frame, and nothing behind it."""
    header = await _read_exactly(tls, 4)
    length = int.from_bytes(header, "little")
    if length > HELLO_BYTES_MAX:
        raise ProtocolError(f"hello of {length} bytes announced; at most {HELLO_BYTES_MAX} are allowed")
    return await _read_exactly(tls, length)


async def _read_exactly(tls: "trio.SSLStream[trio.SocketStream]", count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = await tls.receive_some(count - len(data))
        if not chunk:
            raise ProtocolError("the peer closed the connection before it said hello")
        data += chunk
    return data


def _describe(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"
