"""Envelopes and micro-batches: round trips, and every malformed byte refused."""

import struct

import numpy as np
import pytest

from consensus.primitives.crypto import Ed25519Verifier
from consensus.primitives.errors import ProtocolError, SignatureError
from engine import commands
from engine.batch import BATCH_BYTES_MAX, BATCH_ENVELOPES_MAX, decode_batch, encode_batch
from engine.envelope import (
    ENVELOPE_ORDERS_MAX,
    HEADER_SIZE,
    EnvelopeKind,
    decode,
    encode_commands,
    encode_orders,
    orders_array,
)
from engine.records import ORDER_OP
from tests.helpers.venue import CHAIN_ID, NEVER, new, signer

KEY = signer("alice")


def order_envelope(count: int = 3, nonce: int = 1) -> bytes:
    orders = orders_array([new(0, 1, n, 0, 100, 5) for n in range(count)])
    return encode_orders(KEY, CHAIN_ID, 1, nonce, NEVER, orders)


def command_envelope() -> bytes:
    return encode_commands(KEY, CHAIN_ID, 1, 1, NEVER, commands.encode([commands.Deposit(1, 2, 3)]))


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def test_orders_come_back_as_an_array_over_the_same_bytes():
    data = order_envelope()
    envelope = decode(data)
    assert envelope.kind == EnvelopeKind.ORDERS
    assert (envelope.account, envelope.nonce, envelope.expiry_ms) == (1, 1, NEVER)
    assert envelope.chain_id == CHAIN_ID and envelope.public_key == KEY.public_key
    orders = envelope.orders()
    assert orders["client_order_id"].tolist() == [0, 1, 2]
    assert np.shares_memory(orders, np.frombuffer(data, dtype=np.uint8))
    envelope.verify(Ed25519Verifier())


def test_commands_come_back_without_their_padding():
    envelope = decode(command_envelope())
    assert envelope.kind == EnvelopeKind.COMMANDS
    assert commands.decode(envelope.payload) == [["deposit", 1, 2, 3]]


@pytest.mark.parametrize("at", [8, 40, 72, 80, 88, 96, HEADER_SIZE + 24])
def test_every_part_is_under_the_signature_and_in_the_name(at):
    data = order_envelope()
    changed = decode(patched(data, at, bytes([data[at] ^ 1])))
    assert changed.digest != decode(data).digest
    with pytest.raises(SignatureError):
        changed.verify(Ed25519Verifier())
    assert not changed.is_signed(Ed25519Verifier())


@pytest.mark.parametrize(
    "mangle",
    [
        lambda data: b"",
        lambda data: data[:HEADER_SIZE],
        lambda data: data[:-8],
        lambda data: data + bytes(8),
        lambda data: data + b"\0",
        lambda data: patched(data, 0, b"XNT1"),
        lambda data: patched(data, 4, b"\x03\x00"),
        lambda data: patched(data, 6, b"\x01\x00"),
        lambda data: patched(data, 76, struct.pack("<I", 95)),
        lambda data: patched(data, 76, struct.pack("<I", 2**32 - 1)),
        lambda data: patched(data, 80, struct.pack("<Q", 2**63)),
        lambda data: patched(data, 88, struct.pack("<Q", 2**64 - 1)),
        lambda data: data + bytes(1 << 20),
    ],
    ids=[
        "empty",
        "header only",
        "cut short",
        "longer than announced",
        "odd length",
        "wrong magic",
        "unknown kind",
        "reserved bits",
        "half an order",
        "payload longer than the envelope",
        "nonce above int63",
        "expiry above int63",
        "too long",
    ],
)
def test_malformed_envelopes_are_refused(mangle):
    with pytest.raises(ProtocolError):
        decode(mangle(order_envelope()))


def test_padding_must_be_zero():
    data = command_envelope()
    assert len(decode(data).payload) % 8
    with pytest.raises(ProtocolError, match="padding"):
        decode(patched(data, len(data) - 1, b"\x01"))


def test_too_many_orders_do_not_fit():
    with pytest.raises(ValueError, match=str(ENVELOPE_ORDERS_MAX)):
        order_envelope(ENVELOPE_ORDERS_MAX + 1)
    assert decode(order_envelope(ENVELOPE_ORDERS_MAX)).orders().shape == (ENVELOPE_ORDERS_MAX,)


def test_numbers_out_of_range_are_refused_before_signing():
    orders = np.zeros(1, dtype=ORDER_OP)
    for account, nonce, expiry in ((2**32, 1, 1), (1, 2**63, 1), (1, -1, 1), (1, 1, 2**63)):
        with pytest.raises(ValueError, match="range"):
            encode_orders(KEY, CHAIN_ID, account, nonce, expiry, orders)


def test_a_batch_carries_envelopes_of_any_size_in_order():
    envelopes = [order_envelope(1, 1), command_envelope(), order_envelope(50, 2)]
    assert [e.digest for e in decode_batch(encode_batch(envelopes))] == [decode(e).digest for e in envelopes]


@pytest.mark.parametrize(
    "mangle",
    [
        lambda data: b"",
        lambda data: data[:4],
        lambda data: patched(data, 0, b"KNBX"),
        lambda data: patched(data, 4, struct.pack("<I", 0)),
        lambda data: patched(data, 4, struct.pack("<I", 3)),
        lambda data: patched(data, 4, struct.pack("<I", 1)),
        lambda data: patched(data, 4, struct.pack("<I", BATCH_ENVELOPES_MAX + 1)),
        lambda data: patched(data, 8, struct.pack("<I", 2**31)),
        lambda data: patched(data, 8, struct.pack("<I", 17)),
        lambda data: patched(data, 12, b"\x01"),
        lambda data: data + bytes(8),
        lambda data: data[:-8],
        lambda data: data + bytes(BATCH_BYTES_MAX),
    ],
    ids=[
        "empty",
        "shorter than its head",
        "wrong magic",
        "no envelopes",
        "fewer envelopes than announced",
        "more envelopes than announced",
        "too many envelopes",
        "envelope longer than the batch",
        "envelope not in steps of 8",
        "reserved bits",
        "bytes behind the end",
        "cut short",
        "too long",
    ],
)
def test_malformed_batches_are_refused(mangle):
    with pytest.raises(ProtocolError):
        decode_batch(mangle(encode_batch([order_envelope(), order_envelope(1, 2)])))


def test_batches_beyond_their_limits_are_not_made():
    with pytest.raises(ValueError, match="envelopes"):
        encode_batch([])
    with pytest.raises(ValueError, match="bytes"):
        encode_batch([bytes(BATCH_BYTES_MAX)])
