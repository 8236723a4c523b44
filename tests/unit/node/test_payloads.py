"""Micro-batches from peers: only what is whole and signed gets into the pool."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from consensus.effects import BatchReady
from consensus.messages import batch_digest
from consensus.primitives.crypto import Ed25519Verifier
from consensus.primitives.errors import SignatureError
from engine.batch import encode_batch
from engine.envelope import HEADER_SIZE, SIGNED_SIZE, decode, encode_orders, orders_array
from engine.records import Op
from node.payloads import PayloadIntake, check_batch
from node.pool import PayloadPool
from node.services import VerdictCache
from node.validators import Membership
from tests.helpers.venue import CHAIN_ID, NEVER, Venue, contradiction, signer, validator_key

NOWHERE: Any = SimpleNamespace(validators=())  # a network file without founders: nobody is reached here
MEMBERSHIP = Membership(Venue().machine, NOWHERE)
EVIDENCE = contradiction(2, validator_key(2), 0, 7)


def _envelope(nonce: int, orders: int = 3, chain_id: bytes = CHAIN_ID) -> bytes:
    items = orders_array([(Op.NEW, 0, 0, 0, number, 10, 1) for number in range(orders)])
    return encode_orders(signer("client"), chain_id, 0, nonce, NEVER, items)


def _with_bad_signature(envelope: bytes) -> bytes:
    return envelope[:SIGNED_SIZE] + bytes(64) + envelope[HEADER_SIZE:]


@dataclass
class _Intake:
    pool: PayloadPool
    intake: PayloadIntake
    ready: list[BatchReady]
    faults: list[tuple[int, str]]
    moved: trio.Event = field(default_factory=trio.Event)

    async def put(self, peer: int, payload: bytes) -> None:
        """Hand over a payload and wait until something came of it."""
        self.moved = trio.Event()
        await self.intake.put(peer, payload)
        await self.moved.wait()


@asynccontextmanager
async def _intake(quota: int = 1 << 20) -> AsyncIterator[_Intake]:
    pool, ready, faults = PayloadPool(quota), [], []

    def on_ready(event: BatchReady) -> None:
        ready.append(event)
        made.moved.set()

    def on_fault(peer: int, kind: str) -> None:
        faults.append((peer, kind))
        made.moved.set()

    intake = PayloadIntake(
        CHAIN_ID,
        MEMBERSHIP,
        pool,
        VerdictCache(),
        Ed25519Verifier(),
        trio.CapacityLimiter(2),
        on_ready,
        on_fault,
    )
    made = _Intake(pool, intake, ready, faults)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(intake.run)
            yield made
            nursery.cancel_scope.cancel()


@pytest.mark.trio
@pytest.mark.parametrize("count", [1, 20])
async def test_a_valid_batch_is_pooled_and_announced_with_its_size(count: int) -> None:
    payload = encode_batch([_envelope(nonce) for nonce in range(count)])
    async with _intake() as made:
        await made.put(1, payload)
    name = batch_digest(payload)
    assert made.ready == [BatchReady(name, 3 * count, len(payload), 1)]
    assert made.pool.get(name) == payload


@pytest.mark.trio
@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"", "batch_malformed"),
        (b"garbage", "batch_malformed"),
        (encode_batch([_envelope(1)])[:-8], "batch_malformed"),
        (encode_batch([_envelope(1)]) + bytes(8), "batch_malformed"),
        (encode_batch([_envelope(1), _with_bad_signature(_envelope(2))]), "batch_signature"),
        (encode_batch([_envelope(1), _envelope(2, chain_id=bytes(32))]), "batch_chain"),
        (encode_batch([contradiction(2, validator_key(3), 0, 7)]), "batch_signature"),
        (encode_batch([contradiction(9, validator_key(2), 0, 7)]), "batch_malformed"),
        (encode_batch([EVIDENCE, _envelope(1)]), "batch_malformed"),
        (encode_batch([EVIDENCE, EVIDENCE]), "batch_malformed"),
    ],
)
async def test_a_broken_batch_is_blamed_on_its_sender_and_not_kept(payload: bytes, kind: str) -> None:
    good = encode_batch([_envelope(7)])
    async with _intake() as made:
        await made.put(1, payload)
        assert made.faults == [(1, kind)]
        await made.put(2, good)
    assert [event.digest for event in made.ready] == [batch_digest(good)]
    assert made.pool.get(batch_digest(payload)) is None


@pytest.mark.trio
async def test_a_peer_beyond_its_quota_is_told_apart_from_the_others() -> None:
    first, second = (encode_batch([_envelope(nonce)]) for nonce in (1, 2))
    async with _intake(quota=len(first)) as made:
        await made.put(1, first)
        await made.put(1, second)
        assert made.faults == [(1, "pool_full")]
        await made.put(2, second)
    assert len(made.ready) == 2


def test_checked_signatures_are_remembered_for_execution() -> None:
    verdicts = VerdictCache()
    payload = encode_batch([_envelope(1), _envelope(2)])
    assert check_batch(payload, CHAIN_ID, verdicts, Ed25519Verifier(), MEMBERSHIP.current) == 6

    class _Never:
        def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
            raise SignatureError("checked a second time")

    assert check_batch(payload, CHAIN_ID, verdicts, _Never(), MEMBERSHIP.current) == 6


def test_evidence_is_checked_under_the_keys_of_its_epoch_and_remembered() -> None:
    verdicts = VerdictCache()
    check_batch(encode_batch([EVIDENCE]), CHAIN_ID, verdicts, Ed25519Verifier(), MEMBERSHIP.current)
    assert verdicts.get(decode(EVIDENCE).digest)


def test_evidence_of_an_epoch_to_come_is_left_to_execution() -> None:
    """A node that is behind must not refuse what the others order: it could never catch up."""
    verdicts = VerdictCache()
    later = contradiction(7, validator_key(50), 1 << 32, 7, epoch=1)
    check_batch(encode_batch([later]), CHAIN_ID, verdicts, Ed25519Verifier(), MEMBERSHIP.current)
    assert verdicts.get(decode(later).digest) is None
