"""A client that sends whatever bytes a test wants, over real TLS."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from node.network import Network
from node.tls import client_context
from node.wire import REPLY_BYTES_MAX, VERSION, FrameReader, Reply, Request, decode_reply, encode_request


class RawClient:
    """One connection; requests are answered in any order, so `ask` keeps replies to others."""

    def __init__(self, stream: "trio.SSLStream[trio.SocketStream]") -> None:
        self.stream = stream
        self._reader = FrameReader(REPLY_BYTES_MAX)
        self._replies: dict[int, Reply] = {}
        self._next_id = 0

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.stream.send_all(data)

    async def hello(self, network: Network) -> Reply:
        """Say hello as a client should."""
        return await self.ask("hello", VERSION, network.chain_id)

    async def post(self, method: str, *params: Any) -> int:
        """Send a request without waiting; returns its id."""
        self._next_id += 1
        await self.send(encode_request(Request(self._next_id, method, list(params))))
        return self._next_id

    async def ask(self, method: str, *params: Any) -> Reply:
        """Send a request and wait for its reply."""
        return await self.reply(await self.post(method, *params))

    async def refusal(self, method: str, *params: Any) -> str:
        """Code of the error that answers a request."""
        reply = await self.ask(method, *params)
        assert reply.error is not None, reply.result
        return reply.error[0]

    async def reply(self, request_id: int) -> Reply:
        """Wait for the reply to a request; 0 is the node's word before it closes the connection."""
        while request_id not in self._replies:
            data = await self.stream.receive_some(1 << 16)
            if not data:
                raise EOFError("the node closed the connection")
            for body in self._reader.feed(data):
                reply = decode_reply(body)
                self._replies[reply.id] = reply
        return self._replies.pop(request_id)

    async def goodbye(self) -> tuple[str, str]:
        """Wait until the node says why it closes, and closes."""
        reply = await self.reply(0)
        assert reply.error is not None
        try:
            while await self.stream.receive_some(1 << 16):
                pass
        except trio.BrokenResourceError:
            pass
        return reply.error


@asynccontextmanager
async def raw_client(network: Network, node: int = 0, greet: bool = True) -> AsyncIterator[RawClient]:
    """Connect to a node's client port; says hello unless told otherwise."""
    validator = network.validators[node]
    tcp = await trio.open_tcp_stream(validator.client_address.host, validator.client_address.port)
    stream = trio.SSLStream(tcp, client_context(validator.tls_certificate), https_compatible=True)
    await stream.do_handshake()
    client = RawClient(stream)
    try:
        if greet:
            assert (await client.hello(network)).error is None
        yield client
    finally:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)
