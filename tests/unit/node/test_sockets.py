"""Options of links between validators, as the system took them."""

import socket

import pytest
import trio

from node.sockets import TCP_RTO_MAX_MS, keep_alive, repeat_often

pytestmark = pytest.mark.trio


async def test_a_link_repeats_at_least_every_second_where_the_system_can() -> None:
    """And where it cannot, the link goes on without."""
    with trio.socket.socket() as sock:
        stream = _stream(sock)
        repeat_often(stream, 1000)
        try:
            assert stream.socket.getsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS) == 1000
        except OSError:
            pytest.skip("this system has no limit on the pauses between repeats")


async def test_a_vanished_peer_ends_a_link_within_its_seconds() -> None:
    with trio.socket.socket() as sock:
        stream = _stream(sock)
        keep_alive(stream, 10)
        assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


def _stream(sock: trio.socket.SocketType) -> trio.SocketStream:
    """A stream over a socket that is not connected: only its options matter."""
    stream = trio.SocketStream.__new__(trio.SocketStream)
    stream.socket = sock
    return stream
