"""A micro-batch: the envelopes of a few milliseconds, sent around once and then named by digest.

    "KNB1", count u32, then per envelope: length u32, zero u32, its bytes (a multiple of 8)

Every envelope starts at a multiple of 8, so orders inside are used in place.
"""

import struct
from collections.abc import Sequence

from consensus.primitives.errors import ProtocolError
from engine import envelope
from engine.envelope import Envelope

MAGIC = int.from_bytes(b"KNB1", "little")
BATCH_BYTES_MAX = 1 << 20
BATCH_ENVELOPES_MAX = 4096
HEAD_SIZE = 8  # of the batch, and of each envelope in it
_HEAD = struct.Struct("<II")


def encode_batch(envelopes: Sequence[bytes]) -> bytes:
    """The micro-batch of `envelopes`, in this order; raises ValueError where the limits are exceeded."""
    if not 1 <= len(envelopes) <= BATCH_ENVELOPES_MAX:
        raise ValueError(f"{len(envelopes)} envelopes in one batch; 1..{BATCH_ENVELOPES_MAX} fit")
    parts = [_HEAD.pack(MAGIC, len(envelopes))]
    for data in envelopes:
        parts += (_HEAD.pack(len(data), 0), data)
    batch = b"".join(parts)
    if len(batch) > BATCH_BYTES_MAX:
        raise ValueError(f"batch of {len(batch)} bytes; at most {BATCH_BYTES_MAX} fit")
    return batch


def decode_batch(payload: bytes) -> list[Envelope]:
    """The envelopes of a micro-batch, as views; raise `ProtocolError` unless every byte is as it must be."""
    return [envelope.decode(view) for view in split_batch(payload)]


def split_batch(payload: bytes) -> list[memoryview]:
    """The bytes of each envelope, not looked into; raise `ProtocolError` where the framing is wrong."""
    size = len(payload)
    if not HEAD_SIZE <= size <= BATCH_BYTES_MAX:
        raise ProtocolError(f"batch of {size} bytes; {HEAD_SIZE}..{BATCH_BYTES_MAX} are allowed")
    magic, count = _HEAD.unpack_from(payload)
    if magic != MAGIC or not 1 <= count <= BATCH_ENVELOPES_MAX:
        raise ProtocolError(f"batch does not start with KNB1 and a count of 1..{BATCH_ENVELOPES_MAX}")
    view = memoryview(payload)
    pieces: list[memoryview] = []
    at = HEAD_SIZE
    for _ in range(count):
        if at + HEAD_SIZE > size:
            raise ProtocolError(f"batch ends after {len(pieces)} of {count} envelopes")
        length, zero = _HEAD.unpack_from(payload, at)
        at += HEAD_SIZE
        if zero != 0 or length % 8 or length > size - at:
            raise ProtocolError(f"envelope {len(pieces)} of the batch has a malformed frame")
        pieces.append(view[at : at + length])
        at += length
    if at != size:
        raise ProtocolError(f"batch carries {size - at} bytes behind its last envelope")
    return pieces
