"""Socket options that links share."""

import socket

import trio

PROBES = 3  # unanswered ones that end a connection


def keep_alive(stream: trio.SocketStream, seconds: int) -> None:
    """Notice a vanished other end within some `seconds`, without messages of our own."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": max(1, seconds // 2),
        "TCP_KEEPINTVL": -(-seconds // (2 * PROBES)),
        "TCP_KEEPCNT": PROBES,
        "TCP_USER_TIMEOUT": seconds * 1000,
    }
    for name, value in options.items():
        option = getattr(socket, name, None)  # absent on some platforms
        if option is not None:
            stream.setsockopt(socket.IPPROTO_TCP, option, value)
