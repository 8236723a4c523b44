"""Socket options that links share."""

import socket
import sys

import trio

PROBES = 3  # unanswered ones that end a connection
TCP_RTO_MAX_MS = 44  # Linux 6.15 and later; Python has no name for it


def repeat_often(stream: trio.SocketStream, milliseconds: int) -> None:
    """Repeat what is not acknowledged at least so often (1000 or more), where the system can.

    By default the pauses double: after a cut of ten seconds nothing is sent for up to ten more.
    """
    if sys.platform == "linux":
        try:
            stream.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, milliseconds)
        except OSError:
            return  # an older kernel


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
