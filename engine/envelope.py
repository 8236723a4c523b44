"""Signed client input: one header, one signature, then thousands of orders or a list of commands.

    offset  bytes
         0      4  magic "KNT1"
         4      2  kind: 1 order operations, 2 commands, 3 evidence
         6      2  zero
         8     32  chain id
        40     32  public key of the session key that signs
        72      4  account the key acts for first of all
        76      4  payload length
        80      8  nonce, below 2^63
        88      8  expiry, milliseconds since the epoch, below 2^63
        96     64  Ed25519 signature
       160         payload, padded with zero bytes to a multiple of 8

Evidence proves itself, whoever brings it: public key, account, nonce, expiry and signature are zero, and
its payload is what `consensus.evidence` encodes.

Little-endian. A payload of orders is an array of 32-byte records that is used in place. The
signature covers header and payload; the envelope's digest, its name, covers the signature too.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from consensus.evidence import EVIDENCE_BYTES_MAX
from consensus.primitives.crypto import SIGNATURE_SIZE, Signer, Verifier, digest
from consensus.primitives.errors import ProtocolError, SignatureError
from engine.records import ORDER_OP

MAGIC = int.from_bytes(b"KNT1", "little")
HEADER = struct.Struct("<IHH32s32sIIQQ64s")
HEADER_SIZE = HEADER.size
SIGNED_SIZE = HEADER_SIZE - SIGNATURE_SIZE  # the part of the header under the signature
ENVELOPE_ORDERS_MAX = 4096
COMMANDS_BYTES_MAX = 512 * 1024
INT63_MAX = 2**63 - 1
ENVELOPE_BYTES_MAX = HEADER_SIZE + COMMANDS_BYTES_MAX


class EnvelopeKind(IntEnum):
    """What the payload is."""

    ORDERS = 1
    COMMANDS = 2
    EVIDENCE = 3


class Envelope(NamedTuple):
    """One decoded envelope. `payload` is a view into the bytes it came from, without padding."""

    kind: int
    chain_id: bytes
    public_key: bytes
    account: int
    nonce: int
    expiry_ms: int
    signature: bytes
    payload: memoryview
    message: bytes  # what the signature is over
    digest: bytes  # the envelope's name

    def orders(self) -> np.ndarray:
        """The payload as an array of ORDER_OP, not copied."""
        return np.frombuffer(self.payload, dtype=ORDER_OP)

    def verify(self, verifier: Verifier) -> None:
        """Raise `SignatureError` unless the named key signed this."""
        verifier.verify(self.public_key, self.message, self.signature)

    def is_signed(self, verifier: Verifier) -> bool:
        """Whether the named key signed this; for callers to whom a bad signature is a result."""
        try:
            self.verify(verifier)
        except SignatureError:
            return False
        return True


def encode_orders(
    signer: Signer, chain_id: bytes, account: int, nonce: int, expiry_ms: int, orders: np.ndarray
) -> bytes:
    """A signed envelope of order operations (n,) ORDER_OP, 1..ENVELOPE_ORDERS_MAX of them."""
    if orders.dtype != ORDER_OP or orders.ndim != 1:
        raise ValueError(f"orders of dtype {orders.dtype}; make a one-dimensional array of ORDER_OP")
    if not 1 <= orders.shape[0] <= ENVELOPE_ORDERS_MAX:
        raise ValueError(f"{orders.shape[0]} orders in one envelope; 1..{ENVELOPE_ORDERS_MAX} fit")
    return _encode(signer, EnvelopeKind.ORDERS, chain_id, account, nonce, expiry_ms, orders.tobytes())


def encode_commands(
    signer: Signer, chain_id: bytes, account: int, nonce: int, expiry_ms: int, payload: bytes
) -> bytes:
    """A signed envelope of commands; `payload` comes from `commands.encode`."""
    if not 1 <= len(payload) <= COMMANDS_BYTES_MAX:
        raise ValueError(f"commands of {len(payload)} bytes; 1..{COMMANDS_BYTES_MAX} fit into one envelope")
    return _encode(signer, EnvelopeKind.COMMANDS, chain_id, account, nonce, expiry_ms, payload)


def wrap_evidence(chain_id: bytes, payload: bytes) -> bytes:
    """The one envelope of a piece of evidence; `payload` comes from `consensus.evidence`."""
    head = HEADER.pack(MAGIC, EnvelopeKind.EVIDENCE, 0, chain_id, b"", 0, len(payload), 0, 0, b"")
    return head + payload + bytes(-len(payload) % 8)


def decode(data: bytes | memoryview) -> Envelope:
    """The envelope that `data` is exactly; raise `ProtocolError` on anything else. Checks no signature."""
    size = len(data)
    if not HEADER_SIZE < size <= ENVELOPE_BYTES_MAX or size % 8:
        raise ProtocolError(
            f"envelope of {size} bytes; {HEADER_SIZE + 8}..{ENVELOPE_BYTES_MAX} in steps of 8 are allowed"
        )
    magic, kind, zero, chain_id, public_key, account, length, nonce, expiry_ms, signature = (
        HEADER.unpack_from(data)
    )
    if magic != MAGIC or zero != 0:
        raise ProtocolError("envelope does not start with KNT1, a kind and two zero bytes")
    if nonce > INT63_MAX or expiry_ms > INT63_MAX:
        raise ProtocolError(f"nonce {nonce} or expiry {expiry_ms} is above 2^63 - 1")
    if HEADER_SIZE + length + -length % 8 != size:
        raise ProtocolError(f"envelope of {size} bytes announces a payload of {length}")
    view = memoryview(data)
    payload = view[HEADER_SIZE : HEADER_SIZE + length]
    if kind == EnvelopeKind.ORDERS:
        if length % ORDER_OP.itemsize or length > ENVELOPE_ORDERS_MAX * ORDER_OP.itemsize:
            raise ProtocolError(
                f"{length} bytes of orders; up to {ENVELOPE_ORDERS_MAX} records of 32 are allowed"
            )
    elif kind == EnvelopeKind.EVIDENCE:
        if length > EVIDENCE_BYTES_MAX or any((account, nonce, expiry_ms, *public_key, *signature)):
            raise ProtocolError(f"evidence has up to {EVIDENCE_BYTES_MAX} bytes, and nobody's name or nonce")
    elif kind != EnvelopeKind.COMMANDS:
        raise ProtocolError(f"envelope kind {kind}; 1 (orders), 2 (commands) and 3 (evidence) are known")
    if any(view[HEADER_SIZE + length :]):
        raise ProtocolError("envelope's padding is not zero")
    message = _message(view[:SIGNED_SIZE], payload)
    return Envelope(
        kind,
        chain_id,
        public_key,
        account,
        nonce,
        expiry_ms,
        signature,
        payload,
        message,
        digest("kontor.envelope.name", message, signature),
    )


def orders_array(orders: Sequence[tuple[int, ...]]) -> np.ndarray:
    """ORDER_OP array from (op, flags, market, account, client_order_id, price, qty) tuples."""
    return np.array(list(orders), dtype=ORDER_OP)


def _encode(
    signer: Signer, kind: int, chain_id: bytes, account: int, nonce: int, expiry_ms: int, payload: bytes
) -> bytes:
    if not (0 <= nonce <= INT63_MAX and 0 <= expiry_ms <= INT63_MAX and 0 <= account < 2**32):
        raise ValueError(f"account {account}, nonce {nonce} or expiry {expiry_ms} is out of range")
    head = HEADER.pack(
        MAGIC, kind, 0, chain_id, signer.public_key, account, len(payload), nonce, expiry_ms, b""
    )
    signature = signer.sign(_message(head[:SIGNED_SIZE], payload))
    return head[:SIGNED_SIZE] + signature + payload + bytes(-len(payload) % 8)


def _message(head: bytes | memoryview, payload: bytes | memoryview) -> bytes:
    return digest("kontor.envelope", head, payload)
