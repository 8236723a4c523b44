"""One TLS connection from a client to one node, with many requests under way.

The node's certificate is pinned to the network file or the ledger, so no name service and no authority is
trusted. Where only an address is known, anybody may answer: such a link serves to ask for proofs alone.
"""

import ssl
from collections.abc import Callable
from typing import Any

import trio

from consensus.primitives.errors import InputError, ProtocolError
from node.client.errors import LinkLost
from node.network import Network, Validator
from node.tls import client_context
from node.wire import (
    NO_REQUEST,
    REPLY_BYTES_MAX,
    VERSION,
    FrameReader,
    Reply,
    Request,
    decode_reply,
    encode_request,
)

READ_BYTES = 1 << 16
CONNECT_SECONDS = 5.0
_CLOSED = (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError)
OnReply = Callable[[Reply | None], None]


def name_of(node_id: int) -> str:
    """What messages call a node."""
    return f"node {node_id}" if node_id >= 0 else "a node"


async def open_link(network: Network, validator: Validator, nursery: trio.Nursery) -> "Link":
    """Connect, check the certificate, say hello. Raises `LinkLost`, or `InputError` if the node refuses us.

    The link works in `nursery` until it is closed or lost.
    """
    stream: trio.SSLStream[trio.SocketStream] | None = None
    try:
        with trio.fail_after(CONNECT_SECONDS):
            address = validator.client_address
            tcp = await trio.open_tcp_stream(address.host, address.port)
            context = client_context(validator.tls_certificate)
            stream = trio.SSLStream(tcp, context, https_compatible=True)
            await stream.do_handshake()
            shown = stream.getpeercert(binary_form=True)
            if validator.tls_certificate and shown != validator.tls_certificate:
                raise LinkLost(f"node {validator.id} shows another certificate than it must have")
            link = Link(stream, validator.id)
            nursery.start_soon(link.run)
            await link.call("hello", [VERSION, network.chain_id])
            return link
    except BaseException as error:  # also if we are cancelled: nobody else knows of the stream
        if stream is not None:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
        if not isinstance(error, (*_CLOSED, trio.TooSlowError)):
            raise
        raise LinkLost(
            f"{name_of(validator.id)} at {validator.client_address}: {_describe(error)}"
        ) from error


class Link:
    """Pairs requests with replies. `run` must be running."""

    def __init__(self, stream: "trio.SSLStream[trio.SocketStream]", node_id: int) -> None:
        self.node_id = node_id
        self.is_open = True
        self._stream = stream
        self._next_id = NO_REQUEST
        self._pending: dict[int, OnReply] = {}
        self._outbox: list[bytes] = []
        self._has_output = trio.Event()
        self._goodbye: tuple[str, str] | None = None
        self._why = "the node closed the connection"

    async def run(self) -> None:
        """Read and write until the connection ends, then fail what is under way."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read()
                nursery.cancel_scope.cancel()
        except* (*_CLOSED, ProtocolError) as group:
            if self._goodbye is None:
                self._why = _describe(group.exceptions[0])
        finally:
            self.is_open = False
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)
            pending, self._pending = self._pending, {}
            for on_reply in pending.values():
                on_reply(None)

    def close(self) -> None:
        """Give the connection up."""
        self.is_open = False
        self._outbox.clear()
        self._has_output.set()

    def post(self, method: str, params: list[Any], on_reply: OnReply) -> int:
        """Send a request; `on_reply` gets the reply, or None if the connection ends first."""
        if not self.is_open:
            raise LinkLost(f"node {self.node_id}: {self._why}")
        self._next_id += 1
        self._pending[self._next_id] = on_reply
        self._outbox.append(encode_request(Request(self._next_id, method, params)))
        self._has_output.set()
        return self._next_id

    async def call(self, method: str, params: list[Any]) -> Any:
        """Send a request and return its result. Raises `InputError` if the node refuses, else `LinkLost`."""
        answered = trio.Event()
        replies: list[Reply | None] = []

        def on_reply(reply: Reply | None) -> None:
            replies.append(reply)
            answered.set()

        request_id = self.post(method, params, on_reply)
        try:
            await answered.wait()
        finally:
            self._pending.pop(request_id, None)
        reply = replies[0]
        if reply is None and self._goodbye is not None and method == "hello":
            raise InputError(*self._goodbye)
        if reply is None:
            raise LinkLost(f"node {self.node_id}: {self._why}")
        if reply.error is not None:
            raise InputError(*reply.error)
        return reply.result

    async def _read(self) -> None:
        reader = FrameReader(REPLY_BYTES_MAX)
        while self.is_open:
            data = await self._stream.receive_some(READ_BYTES)
            if not data:
                return
            for body in reader.feed(data):
                self._on_reply(decode_reply(body))

    def _on_reply(self, reply: Reply) -> None:
        if reply.id == NO_REQUEST and reply.error is not None:
            self._goodbye = reply.error  # why the node is about to close
            self._why = ": ".join(reply.error)
            return
        on_reply = self._pending.pop(reply.id, None)
        if on_reply is not None:  # else the caller gave up
            on_reply(reply)

    async def _write(self) -> None:
        while True:
            await self._has_output.wait()
            self._has_output = trio.Event()
            if not self.is_open:
                raise trio.ClosedResourceError("closed by this client")
            joined = b"".join(self._outbox)
            self._outbox.clear()
            await self._stream.send_all(joined)


def _describe(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return _describe(error.exceptions[0])
    if isinstance(error, trio.TooSlowError):
        return f"no answer within {CONNECT_SECONDS:.0f} s"
    cause = error.__cause__ or error
    return str(cause) or type(cause).__name__
