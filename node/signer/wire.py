"""The language between a node and its signer: frames of a few hundred bytes over a local socket.

    frame     length (2 bytes, big-endian), msgpack array
    hello     ["hello", format, chain id]                     -> ["ready", public key]
    bind      ["bind", ledger id, turns, view, low]           -> ["ready", public key]
    sign      ["sign", turn, kind, epoch, view, seq, body]    -> ["signed", signature] or
                                                                 ["refused", code, text]
    floor     ["floor", view, seq]                            -> ["ready", public key]
    trouble   what cannot be answered                         -> ["error", text], and the connection ends

Hello comes first, and nothing is signed before a ledger is bound. One request at a time. Everything
that comes in is checked against `SHAPES`, on both sides.
"""

import socket
from typing import Any

import msgpack

from consensus.primitives.errors import ProtocolError

FORMAT = 2
FRAME_MAX = 1024
TEXT_MAX = 400

SHAPES: dict[str, tuple[type, ...]] = {
    "hello": (int, bytes),
    "bind": (bytes, int, int, int),
    "sign": (int, str, int, int, int, bytes),
    "floor": (int, int),
    "ready": (bytes,),
    "signed": (bytes,),
    "refused": (str, str),
    "error": (str,),
}


def send(link: socket.socket, name: str, *values: object) -> None:
    """Send one message."""
    body = msgpack.packb([name, *values], use_bin_type=True)
    link.sendall(len(body).to_bytes(2, "big") + body)


def receive(link: socket.socket) -> tuple[str, tuple[Any, ...]] | None:
    """Receive one message; None if the other side closed. Raises `ProtocolError` on garbage."""
    head = _read(link, 2)
    if not head:
        return None
    length = int.from_bytes(head, "big")
    if not 0 < length <= FRAME_MAX:
        raise ProtocolError(f"a frame of {length} bytes; at most {FRAME_MAX} are sent")
    return _decode(_read(link, length))


def _read(link: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes, or none if the other side closed before the first."""
    content = b""
    while len(content) < size:
        piece = link.recv(size - len(content))
        if not piece:
            if content:
                raise ProtocolError("the connection ended amid a frame")
            return b""
        content += piece
    return content


def _decode(body: bytes) -> tuple[str, tuple[Any, ...]]:
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError(f"a frame is not msgpack ({error})") from error
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise ProtocolError("a message is an array that begins with its name")
    name, values = message[0], tuple(message[1:])
    if tuple(type(value) for value in values) != SHAPES.get(name):
        raise ProtocolError(f"a message {name[:32]!r} has other fields")
    return name, values
