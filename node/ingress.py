"""The client port: TLS 1.3, bounded frames, many requests under way on one connection.

Each connection has a reader and a writer. What a client has under way is bounded in bytes and number: beyond
it the connection is not read, so a client that sends too fast waits, and nobody else does. Whoever
sends what no client would send, or too slowly, or does not read its answers, loses the connection.
"""

import ssl
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from consensus.primitives.crypto import DIGEST_SIZE
from consensus.primitives.errors import InputError, LedgerError, ProtocolError
from engine.records import Code
from node.admission import Admission, decode_envelope
from node.config import AdmissionSettings
from node.desk import Desk, to_refusal
from node.doors import Door, Visitor, address_of
from node.limits import Bucket
from node.network import Address
from node.queries import check_size, find_query, read_detail
from node.services import Services
from node.sockets import keep_alive
from node.telemetry import Log, Metrics
from node.wills import Will, Wills, check_will
from node.wire import (
    NO_REQUEST,
    REQUEST_BYTES_MAX,
    VERSION,
    FrameReader,
    Refused,
    Request,
    decode_request,
    encode_error,
    encode_result,
    take_params,
)

READ_BYTES = 1 << 16
WRITE_BYTES_MAX = 1 << 18  # joined into one write
GREETING_SECONDS = 10.0  # for the handshake and hello
FRAME_SECONDS = 10.0  # for the rest of a frame, once it began
WRITE_SECONDS = 30.0  # for a client to take one write, and for one that waits for room to get an answer
ALIVE_SECONDS = 60  # a client that vanished is noticed by then
GOODBYE_SECONDS = 1.0  # for a client that is cut off to hear why
UNREAD_BYTES_MAX = 4 << 20  # answers waiting for one client; beyond it the connection is not read
REPLY_BYTES_MAX = 32 << 20  # beyond that, by what was under way, the connection is closed
REPLIES_BYTES_MAX = 256 << 20  # answers waiting for all clients; beyond it the one goes for whom most wait
REQUESTS_MAX = 4096  # under way on one connection; beyond it the connection is not read
QUERIES_MAX = 8  # under way on one connection; beyond it the connection is not read
QUERY_BYTES = 64 << 10  # what a query counts, beside envelopes, towards `client_queue_bytes`
STRIKES_MAX = 16  # bad requests a connection may make at once, and one a second
EXTRA_CONNECTIONS_MAX = 32  # beyond the limit, are at least told so
STRANGERS_MAX = 128  # connections that have not said hello; beyond it the longest silent ones go
STRANGERS_PER_ADDRESS_MAX = 64
GREETING_BYTES_MAX = 64 << 10  # of a frame before hello was answered

# UNKNOWN_KEY and NOT_AUTHORISED are none: this node may lag behind the block that grants the key.
_STRIKES = frozenset(
    {
        Code.BAD_SIGNATURE.name,
        Code.BAD_EVIDENCE.name,
        Code.MALFORMED.name,
        Code.WRONG_CHAIN.name,
        Refused.UNKNOWN_METHOD.value,
        Refused.BAD_PARAMS.value,
    }
)
_CLOSED = (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError)
Stream = trio.SSLStream[trio.SocketStream]


async def serve_clients(
    services: Services,
    context: ssl.SSLContext,
    listen: Address,
    settings: AdmissionSettings,
    metrics: Metrics,
    log: Log,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run admission, the desk and the client port until cancelled. Reports its listeners when it listens."""
    port = ClientPort(services, context, settings, metrics, log)
    await port.run(listen, task_status=task_status)


class ClientPort:
    """Accepts clients and answers their requests."""

    def __init__(
        self,
        services: Services,
        context: ssl.SSLContext,
        settings: AdmissionSettings,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self.services = services
        self.settings = settings
        self.metrics = metrics
        self.desk = Desk(services, metrics)
        self.admission = Admission(services, settings, self.desk)
        self._context = context
        self._log = log
        self._connections = 0
        self._open: dict[_Connection, None] = {}
        self.unread_bytes = 0  # answers that wait for clients
        metrics.watch_held("client_answers", lambda: self.unread_bytes)
        self._by_address: dict[str, int] = {}
        self.door = Door(STRANGERS_MAX, STRANGERS_PER_ADDRESS_MAX)
        self.wills = Wills(self.admission.submit, lambda code: metrics.client_errors.labels(code).inc())
        services.on_proven_block(self.admission.on_proven_block)
        services.on_proven_block(self.desk.on_proven_block)

    async def run(
        self,
        listen: Address,
        task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.admission.run)
            nursery.start_soon(self.desk.run)
            nursery.start_soon(self.wills.run)
            await trio.serve_tcp(self._accept, listen.port, host=listen.host, task_status=task_status)

    def count_unread(self, change: int) -> None:
        """Answers began or ceased to wait; `change` in bytes."""
        self.unread_bytes += change
        if self.unread_bytes > REPLIES_BYTES_MAX:
            slowest = max(self._open, key=lambda connection: connection.unread_bytes)
            slowest.cut(f"{slowest.unread_bytes} bytes of answers wait for you, and for nobody more")

    def count_fault(self, fault: InputError) -> None:
        """A client broke a rule and loses its connection."""
        self.metrics.client_errors.labels(fault.code).inc()
        self._log.info("client connection closed", code=fault.code, why=fault.message)

    def count_defect(self, error: BaseException) -> None:
        """Serving a client failed in a way nobody foresaw: the connection closes, and the log has it all."""
        self.metrics.client_errors.labels(Refused.INTERNAL).inc()
        self._log.error("client connection failed", error="".join(traceback.format_exception(error)))

    async def _accept(self, stream: trio.SocketStream) -> None:
        limit = self.settings.client_connections
        if self._connections >= limit + EXTRA_CONNECTIONS_MAX:
            self.metrics.client_errors.labels(Refused.TOO_MANY_CONNECTIONS).inc()
            await trio.aclose_forcefully(stream)
            return
        try:
            keep_alive(stream, ALIVE_SECONDS)
        except OSError:  # it left already
            await trio.aclose_forcefully(stream)
            return
        address = address_of(stream)
        used = self._by_address.get(address, 0)
        is_extra = self._connections >= limit or used >= self.settings.client_connections_per_address
        if used >= self.settings.client_connections_per_address + EXTRA_CONNECTIONS_MAX:
            self.metrics.client_errors.labels(Refused.TOO_MANY_CONNECTIONS).inc()
            await trio.aclose_forcefully(stream)
            return
        self._connections += 1
        self._by_address[address] = used + 1
        self.metrics.clients.set(self._connections)
        tls: Stream = trio.SSLStream(stream, self._context, server_side=True, https_compatible=True)
        visitor = self.door.enter(address)
        connection = _Connection(self, tls, visitor)
        self._open[connection] = None
        try:
            with visitor.scope:
                await connection.run(is_extra)
            if visitor.scope.cancelled_caught:
                self.metrics.client_errors.labels(Refused.TOO_SLOW).inc()
        finally:
            self.door.leave(visitor)
            self._connections -= 1
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
            self.metrics.clients.set(self._connections)
            connection.stop_writing()
            if connection.will is not None:
                self.wills.execute(connection.will)
            del self._open[connection]
            self.desk.leave(connection, list(connection.waiting.values()))
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(tls)


class _Fault(Exception):
    """The connection must close; `error` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.error = InputError(code, message)


@dataclass(eq=False)
class _Connection:
    """One client. `waiting` maps ids of submits under way to envelope digests."""

    port: ClientPort
    tls: Stream
    visitor: Visitor
    waiting: dict[int, bytes] = field(default_factory=dict)
    fault: InputError | None = None
    will: Will | None = None  # to be submitted when the connection ends

    def __post_init__(self) -> None:
        now_s = trio.current_time()
        self._strikes = Bucket(1.0, STRIKES_MAX, STRIKES_MAX, now_s)
        self._sizes: dict[int, int] = {}  # bytes each request under way counts
        self._size = 0
        self._queries = 0  # being looked up
        self._outbox: list[bytes] = []
        self.unread_bytes = 0
        self._writing = trio.CancelScope()
        self._has_output = trio.Event()
        self._has_room = trio.Event()
        self._greeted = False
        self._reader = FrameReader(GREETING_BYTES_MAX)

    async def run(self, is_extra: bool) -> None:
        """Serve until the client leaves or breaks a rule, which is then in `fault`."""
        try:
            await self._serve(is_extra)
        except* _Fault as group:
            self.fault = _first(group).error
            self.port.count_fault(self.fault)
            await self._say_goodbye(self.fault)
        except* _CLOSED:
            pass  # the client left
        except* Exception as group:
            # A defect of ours, which one client's input has found: it must not end the node for all.
            self.port.count_defect(group)

    def reply(self, request_id: int, framed: bytes, error: str = "") -> None:
        """Queue the answer to a request; it is no longer under way."""
        self._size -= self._sizes.pop(request_id, 0)
        self.waiting.pop(request_id, None)
        if error:
            self.port.metrics.client_errors.labels(error).inc()
            if error in _STRIKES and not self._strikes.take(1, trio.current_time()):
                self.fault = InputError(Refused.MISBEHAVED, f"too many requests like the last ({error})")
        if not self._writing.cancel_called:
            self._put_output(framed)
        self._has_room.set()

    def _put_output(self, framed: bytes) -> None:
        self._outbox.append(framed)
        self.unread_bytes += len(framed)
        self._has_output.set()
        self.port.count_unread(len(framed))
        if self.unread_bytes > REPLY_BYTES_MAX:
            self.cut(f"more than {REPLY_BYTES_MAX} bytes of answers are not read")

    def cut(self, why: str) -> None:
        """Close the connection of a client that does not read, and forget what it has not read."""
        self.fault = InputError(Refused.TOO_SLOW, why)
        self.stop_writing()

    def stop_writing(self) -> None:
        """Forget the answers that wait, and those to come."""
        self._writing.cancel()
        dropped, self.unread_bytes = self.unread_bytes, 0
        self._outbox.clear()
        self.port.count_unread(-dropped)

    async def _serve(self, is_extra: bool) -> None:
        with trio.move_on_after(GREETING_SECONDS) as scope:
            await self.tls.do_handshake()
        if scope.cancelled_caught:
            raise _Fault(Refused.TOO_SLOW, f"no TLS handshake within {GREETING_SECONDS:.0f} s")
        if is_extra:
            raise _Fault(
                Refused.TOO_MANY_CONNECTIONS,
                f"{self.port.settings.client_connections} clients are connected, or"
                f" {self.port.settings.client_connections_per_address} from your address: use another node",
            )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_until_cut)
            try:
                await self._read(nursery)
            except _Fault as fault:
                # The writer ends the connection, once it has said what it was about to say.
                self.fault = fault.error
                self._has_output.set()
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()

    # -- reading --------------------------------------------------------------------------------

    async def _read(self, nursery: trio.Nursery) -> None:
        deadline_s = trio.current_time() + GREETING_SECONDS
        while True:
            with trio.move_on_at(deadline_s) as scope:
                data = await self.tls.receive_some(READ_BYTES)
            if scope.cancelled_caught:
                deadline_s = self._on_silence()
                continue
            if not data:
                return
            was_empty = self._reader.is_empty
            try:
                frames = self._reader.feed(data)
            except ProtocolError as error:
                raise _Fault(Refused.BAD_FRAME, str(error)) from error
            for body in frames:
                self._on_frame(body, nursery)
                await self._wait_for_room()
            if not self._greeted:
                continue
            if self._reader.is_empty:
                deadline_s = trio.current_time() + self.port.settings.client_idle_seconds
            elif was_empty or frames:
                deadline_s = trio.current_time() + FRAME_SECONDS

    def _on_silence(self) -> float:
        """The read deadline passed: return the next one, or end the connection."""
        if not self._greeted:
            raise _Fault(Refused.TOO_SLOW, f"no hello within {GREETING_SECONDS:.0f} s")
        if not self._reader.is_empty:
            raise _Fault(Refused.TOO_SLOW, f"a request was not finished within {FRAME_SECONDS:.0f} s")
        if not self._sizes:
            idle = self.port.settings.client_idle_seconds
            raise _Fault(Refused.TOO_SLOW, f"nothing was asked for {idle} s: connect again when needed")
        return trio.current_time() + self.port.settings.client_idle_seconds

    def _on_frame(self, body: bytes, nursery: trio.Nursery) -> None:
        try:
            request = decode_request(body)
        except ProtocolError as error:
            raise _Fault(Refused.BAD_FRAME, str(error)) from error
        if not self._greeted:
            self._on_hello(request)
            return
        if request.id in self._sizes:
            raise _Fault(
                Refused.BAD_FRAME,
                f"request {request.id} is still under way: every request needs an id of its own",
            )
        self._sizes[request.id] = 0
        try:
            if request.method == "submit":
                self._on_submit(request)
            elif request.method == "will":
                self._on_will(request)
            else:
                self._on_query(request, nursery)
        except InputError as error:
            self.reply(request.id, encode_error(request.id, error.code, error.message), error.code)
        if self.fault is not None:
            raise _Fault(self.fault.code, self.fault.message)

    def _on_hello(self, request: Request) -> None:
        if request.method != "hello":
            raise _Fault(Refused.HELLO_FIRST, "the first request is hello(version, chain_id)")
        try:
            version, chain_id = take_params(request, int, bytes)
        except InputError as error:
            raise _Fault(error.code, error.message) from error
        network = self.port.services.network
        if version != VERSION:
            raise _Fault(Refused.WRONG_VERSION, f"this node speaks version {VERSION}, not {version}: upgrade")
        if chain_id != network.chain_id:
            raise _Fault(
                Code.WRONG_CHAIN.name,
                f"this is chain {network.chain_id.hex()[:16]}, not {chain_id.hex()[:16]}:"
                " use this network's network.toml",
            )
        self._greeted = True
        self._reader.size_max = REQUEST_BYTES_MAX
        self.port.door.leave(self.visitor)
        services = self.port.services
        hello = [VERSION, network.chain_id, services.replica_id, services.now_ms()]
        self.reply(request.id, encode_result(request.id, hello))

    def _on_submit(self, request: Request) -> None:
        data, detail = take_params(request, bytes, str)
        envelope = decode_envelope(data)
        self._count(request.id, len(data))
        self.waiting[request.id] = envelope.digest
        if self.port.desk.join(envelope, self, request.id, read_detail(detail)):
            try:
                self.port.admission.submit(data, envelope)
            except InputError as error:
                self.port.desk.refuse(envelope.digest, error)

    def _on_will(self, request: Request) -> None:
        (data,) = take_params(request, bytes)
        will = None
        if data:
            will = (data, decode_envelope(data))
            check_will(*will, self.port.services.network.chain_id)
        self.will = will
        self.reply(request.id, encode_result(request.id, None))

    def _on_query(self, request: Request, nursery: trio.Nursery) -> None:
        self._count(request.id, QUERY_BYTES)
        if request.method == "receipt":
            digest, detail = take_params(request, bytes, str)
            check_size("an envelope digest", digest, DIGEST_SIZE)
            self.waiting[request.id] = digest
            level = read_detail(detail)

            async def answer() -> None:
                await self.port.desk.receipt(digest, level, self, request.id)
        else:
            read = find_query(request)

            async def answer() -> None:
                self.reply(request.id, encode_result(request.id, await read(self.port.services)))

        self._queries += 1
        nursery.start_soon(self._answer_query, request.id, answer)

    async def _answer_query(self, request_id: int, answer: Callable[[], Awaitable[None]]) -> None:
        try:
            await answer()
        except (LedgerError, OSError) as error:
            refusal = to_refusal(error)
            self.reply(request_id, encode_error(request_id, refusal.code, refusal.message), refusal.code)
        finally:
            self._queries -= 1
            self._has_room.set()

    def _count(self, request_id: int, size: int) -> None:
        self._sizes[request_id] = size
        self._size += size

    async def _wait_for_room(self) -> None:
        limit = self.port.settings.client_queue_bytes
        while (
            self._size > limit
            or len(self._sizes) > REQUESTS_MAX
            or self._queries >= QUERIES_MAX
            or self.unread_bytes > UNREAD_BYTES_MAX
        ):
            self._has_room = trio.Event()
            with trio.move_on_after(WRITE_SECONDS) as scope:
                await self._has_room.wait()
            if scope.cancelled_caught:
                raise _Fault(
                    Refused.TOO_SLOW,
                    f"{len(self._sizes)} requests are under way, and none was answered within"
                    f" {WRITE_SECONDS:.0f} s: connect again, or use another node",
                )

    # -- writing --------------------------------------------------------------------------------

    async def _write_until_cut(self) -> None:
        with self._writing:
            await self._write()
        if self.fault is not None:  # only `cut` ends the scope
            raise _Fault(self.fault.code, self.fault.message)

    async def _write(self) -> None:
        while True:
            await self._has_output.wait()
            output = self._take_output()
            self._has_room.set()
            with trio.move_on_after(WRITE_SECONDS) as scope:
                await self.tls.send_all(output)
            if scope.cancelled_caught:
                raise _Fault(Refused.TOO_SLOW, f"answers were not read within {WRITE_SECONDS:.0f} s")
            if self.fault is not None and not self._outbox:
                raise _Fault(self.fault.code, self.fault.message)

    def _take_output(self) -> bytes:
        count = size = 0
        for framed in self._outbox:
            if count and size + len(framed) > WRITE_BYTES_MAX:
                break
            count += 1
            size += len(framed)
        joined = b"".join(self._outbox[:count])
        del self._outbox[:count]
        self.unread_bytes -= size
        self.port.count_unread(-size)
        if not self._outbox:
            self._has_output = trio.Event()
        return joined

    async def _say_goodbye(self, error: InputError) -> None:
        """Tell a client that still listens why it is cut off."""
        with trio.move_on_after(GOODBYE_SECONDS):
            try:
                await self.tls.send_all(encode_error(NO_REQUEST, error.code, error.message))
                await self.tls.transport_stream.send_eof()
                # Closing with unread input would reset the connection, and the client might lose our word.
                drained = 0
                while drained < REQUEST_BYTES_MAX:
                    data = await self.tls.transport_stream.receive_some(READ_BYTES)
                    if not data:
                        return
                    drained += len(data)
            except (*_CLOSED, trio.BusyResourceError):
                return


def _first(group: BaseExceptionGroup[_Fault]) -> _Fault:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
