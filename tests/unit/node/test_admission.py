"""Admission: what is refused at the door and why, and how envelopes become micro-batches."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from consensus.certificates import PREPARE
from consensus.evidence import Evidence, Signed, encode_evidence
from consensus.primitives.crypto import Signer, digest
from consensus.primitives.errors import InputError, StorageError
from consensus.proofs import signing_digest
from engine.batch import decode_batch, encode_batch
from engine.commands import Deposit, GrantKey, OpenAccount, RegisterAsset, encode
from engine.envelope import (
    HEADER_SIZE,
    Envelope,
    EnvelopeKind,
    decode,
    encode_commands,
    encode_orders,
    orders_array,
    wrap_evidence,
)
from engine.layout import NONCE_WINDOW, Scope
from node.admission import ENVELOPE_COST, EVIDENCE_BURST, SENT_AT_ONCE_MAX, Admission, decode_envelope
from node.client import orders
from node.config import AdmissionSettings
from node.setup import NetworkHomes, create_network
from node.warm import warm_kernels
from tests.helpers.memory_network import MemoryLedger, MemoryNode
from tests.helpers.venue import signer

pytestmark = pytest.mark.trio
TRADER = signer("trader")
SECONDS_MAX = 20


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> NetworkHomes:
    warm_kernels()
    return create_network(tmp_path_factory.mktemp("net") / "net", 1)


class _Door:
    """A running admission and what it answered."""

    def __init__(self, homes: NetworkHomes, settings: AdmissionSettings) -> None:
        self.ledger = MemoryLedger(homes)
        self.node = MemoryNode(self.ledger, 0)
        self.ledger.nodes.append(self.node)
        self.refused: dict[bytes, InputError] = {}
        self.found: dict[bytes, tuple[int, int]] = {}
        self._answered = trio.Event()
        self.time_s = 0.0
        self.admission = Admission(self.node, settings, self, clock_s=lambda: self.time_s)
        self.node.on_proven_block(self.admission.on_proven_block)
        self._nonce = 0
        setup = [RegisterAsset("USD", 2, 0), OpenAccount(TRADER.public_key), Deposit(1, 0, 1000)]
        self.ledger.submit(encode_batch([self.commands(*setup)]))

    def refuse(self, envelope_digest: bytes, error: InputError) -> None:
        self.refused[envelope_digest] = error
        self._answered.set()

    def executed_before(self, envelope_digest: bytes, height: int, record_index: int) -> None:
        self.found[envelope_digest] = (height, record_index)
        self._answered.set()

    def commands(self, *items: tuple[Any, ...]) -> bytes:
        self._nonce += 1
        chain_id = self.ledger.network.chain_id
        return encode_commands(self.ledger.admin, chain_id, 0, self._nonce, 2**62, encode(items))

    def envelope(
        self,
        nonce: int,
        by: Signer = TRADER,
        account: int = 1,
        chain_id: bytes | None = None,
        expiry_ms: int = 2**62,
        count: int = 1,
    ) -> bytes:
        array = orders_array([orders.cancel(0, account, number) for number in range(count)])
        return encode_orders(by, chain_id or self.ledger.network.chain_id, account, nonce, expiry_ms, array)

    def submit(self, data: bytes) -> Envelope:
        envelope = decode_envelope(data)
        self.admission.submit(data, envelope)
        return envelope

    async def answer(self, data: bytes) -> InputError | tuple[int, int]:
        """Submit, and wait for what admission says about it."""
        name = self.submit(data).digest
        while name not in self.refused and name not in self.found:
            self._answered = trio.Event()
            await self._answered.wait()
        return self.refused.get(name) or self.found[name]

    def sent(self) -> list[list[int]]:
        """Nonces in each micro-batch sent."""
        return [[item.nonce for item in decode_batch(payload)] for payload, _ in self.node.batches]


@pytest.fixture
def open_door(homes: NetworkHomes) -> Callable[..., Any]:
    @asynccontextmanager
    async def opened(**settings: int) -> AsyncIterator[_Door]:
        door = _Door(homes, AdmissionSettings(**settings))
        with trio.fail_after(SECONDS_MAX):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(door.admission.run)
                yield door
                nursery.cancel_scope.cancel()

    return opened


def _code(door: _Door, data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        door.submit(data)
    return caught.value.code


async def test_a_lone_envelope_goes_at_once_as_a_micro_batch_of_its_own(open_door):
    async with open_door(batch_ms=1000) as door:
        door.ledger.hold = True
        for nonce in range(1, SENT_AT_ONCE_MAX + 1):
            door.submit(door.envelope(nonce))
            await door.node.wait_asked()
        assert door.sent() == [[nonce] for nonce in range(1, SENT_AT_ONCE_MAX + 1)]
        assert [operations for _, operations in door.node.batches] == [1] * SENT_AT_ONCE_MAX


async def _load(door: _Door) -> int:
    """Have so many micro-batches under way that the next envelopes are gathered."""
    door.ledger.hold = True
    for nonce in range(1, SENT_AT_ONCE_MAX + 1):
        door.submit(door.envelope(nonce))
        await door.node.wait_asked()
    return SENT_AT_ONCE_MAX


async def test_under_load_envelopes_are_gathered_in_order_until_blocks_are_proven(open_door):
    async with open_door(batch_ms=1000) as door:
        sent = await _load(door)
        for nonce in range(10, 20):
            door.submit(door.envelope(nonce))
        await _settle(door)
        assert len(door.node.batches) == sent
        door.ledger.run_block()
        await door.node.wait_asked()
        assert door.sent()[sent:] == [list(range(10, 20))]


async def _settle(door: _Door) -> None:
    """Until everything submitted so far is gathered: admission answers in order."""
    await door.answer(door.envelope(99, by=signer("stranger")))


async def test_gathered_envelopes_go_after_batch_ms_even_if_nothing_is_proven(open_door):
    async with open_door(batch_ms=1) as door:
        sent = await _load(door)
        door.submit(door.envelope(10))
        await door.node.wait_asked()
        assert door.sent()[sent:] == [[10]]


async def test_a_full_micro_batch_goes_at_once_and_none_exceeds_its_size(open_door):
    async with open_door(batch_ms=1000, batch_bytes=4096) as door:
        sent = await _load(door)
        for nonce in range(10, 15):
            door.submit(door.envelope(nonce, count=30))
        await _settle(door)
        assert door.sent()[sent:] == [[10, 11, 12]]
        assert all(len(payload) <= 4096 for payload, _ in door.node.batches)
        assert door.node.batches[-1][1] == 90


async def test_an_envelope_larger_than_a_micro_batch_goes_alone(open_door):
    async with open_door(batch_bytes=1024) as door:
        door.submit(door.envelope(1, count=4096))
        await door.node.wait_asked()
        assert door.sent() == [[1]]


async def test_pushback_of_the_protocol_keeps_envelopes_and_fills_the_queue(open_door):
    async with open_door(batch_ms=0, queue_bytes=1 << 20, batch_bytes=1024) as door:
        door.node.refusal = InputError("OVERLOADED", "wait")
        nonces = []
        while True:
            data = door.envelope(len(nonces) + 1, count=1000)
            try:
                door.submit(data)
            except InputError as error:
                assert error.code == "QUEUE_FULL" and "send it again later" in error.message
                break
            nonces.append(len(nonces) + 1)
        assert len(nonces) == (1 << 20) // len(data)
        await door.node.wait_asked()
        door.node.refusal = None
        while len(door.sent()) < len(nonces):
            await door.node.wait_asked()
        assert door.sent() == [[nonce] for nonce in nonces]
        assert not door.refused


async def test_a_halted_node_refuses_what_it_holds(open_door):
    async with open_door() as door:
        door.node.refusal = InputError("HALTED", "this node no longer votes")
        error = await door.answer(door.envelope(1))
        assert error.code == "HALTED"
        door.node.refusal = None
        door.submit(door.envelope(2))
        await door.node.wait_asked()
        assert door.sent() == [[2]]


async def test_what_is_no_envelope_is_malformed(open_door):
    async with open_door() as door:
        good = door.envelope(1)
        for data in (b"", b"x" * 100, good[:-8], good + bytes(8), bytes(len(good)), good[:HEADER_SIZE]):
            assert _code(door, data) == "MALFORMED"


async def test_an_envelope_of_another_chain_or_past_its_time_is_refused_at_once(open_door):
    async with open_door() as door:
        assert _code(door, door.envelope(1, chain_id=digest("elsewhere"))) == "WRONG_CHAIN"
        assert _code(door, door.envelope(1, expiry_ms=door.ledger.now_ms)) == "ENVELOPE_EXPIRED"
        door.submit(door.envelope(1, expiry_ms=door.ledger.now_ms + 1))


async def test_a_bad_signature_is_refused_and_not_remembered(open_door):
    async with open_door() as door:
        good = door.envelope(1)
        bent = good[:100] + bytes([good[100] ^ 1]) + good[101:]
        changed = good[:-1] + bytes([good[-1] ^ 1])
        for data in (bent, changed):
            error = await door.answer(data)
            assert error.code == "BAD_SIGNATURE"
            assert door.node.verdicts.get(decode(data).digest) is None
        name = door.submit(good).digest
        await door.node.wait_asked()
        assert door.node.verdicts.get(name) is True


async def test_keys_and_grants_are_checked_against_the_state(open_door):
    async with open_door() as door:
        assert (await door.answer(door.envelope(1, by=signer("stranger")))).code == "UNKNOWN_KEY"
        assert (await door.answer(door.envelope(1, account=0))).code == "NOT_AUTHORISED"
        guest = signer("guest")
        grant = GrantKey(0, guest.public_key, int(Scope.TRADE), door.ledger.now_ms + 10)
        door.ledger.submit(encode_batch([door.commands(grant)]))
        door.ledger.now_ms += 10
        assert (await door.answer(door.envelope(1, by=guest, account=0))).code == "KEY_EXPIRED"


async def test_used_nonces_are_refused_but_a_repeated_envelope_finds_its_receipt(open_door):
    async with open_door() as door:
        first = door.envelope(5000)
        door.submit(first)
        await door.node.wait_asked()
        height = door.ledger.machine.height
        assert await door.answer(first) == (height, 0)
        assert (await door.answer(door.envelope(5000, count=2))).code == "NONCE_USED"
        assert (await door.answer(door.envelope(5000 - NONCE_WINDOW))).code == "NONCE_TOO_OLD"
        door.submit(door.envelope(5000 - NONCE_WINDOW + 1))
        await door.node.wait_asked()
        assert door.ledger.machine.height == height + 1


async def test_a_history_that_cannot_be_read_refuses_the_request_only(open_door, monkeypatch):
    async with open_door() as door:

        async def failing(_: bytes) -> None:
            raise StorageError("disk")

        door.submit(door.envelope(5000))
        await door.node.wait_asked()
        monkeypatch.setattr(door.node, "find_envelope", failing)
        assert (await door.answer(door.envelope(5000, count=2))).code == "HALTED"


async def test_commands_that_are_not_canonical_are_malformed(open_door):
    async with open_door() as door:
        payload = encode([Deposit(1, 0, 5)]).replace(b"\x05", b"\xcc\x05")
        data = encode_commands(door.ledger.admin, door.ledger.network.chain_id, 0, 77, 2**62, payload)
        error = await door.answer(data)
        assert error.code == "MALFORMED" and "canonical" in error.message


async def test_a_key_that_sends_too_much_is_slowed_down_and_others_are_not(open_door):
    async with open_door(key_operations_per_second=10 * (ENVELOPE_COST + 1)) as door:
        for nonce in range(1, 21):  # a burst of two seconds
            door.submit(door.envelope(nonce))
        assert _code(door, door.envelope(21)) == "RATE_LIMITED"
        door.submit(door.envelope(1, by=signer("other")))
        door.time_s += 0.1
        door.submit(door.envelope(21))


async def test_what_is_refused_at_the_door_changes_no_state(open_door):
    async with open_door() as door:
        before = door.ledger.machine.height, door.ledger.machine.state_root()
        await door.answer(door.envelope(1, by=signer("stranger")))
        await door.answer(door.envelope(1, account=0))
        assert _code(door, door.envelope(1, chain_id=digest("elsewhere"))) == "WRONG_CHAIN"
        assert door.node.batches == []
        assert (door.ledger.machine.height, door.ledger.machine.full_state_root()) == before


def _evidence(door: _Door, seq: int, by: int = 0) -> bytes:
    """Two prepares of validator 0, as if `by` had signed them."""
    chain_id = door.ledger.network.chain_id
    key = door.ledger.signers[0] if by == 0 else TRADER
    halves = [
        Signed(body, key.sign(signing_digest(chain_id, 0, PREPARE, 0, seq, body)))
        for body in (b"a" * 32, b"b" * 32)
    ]
    return wrap_evidence(chain_id, encode_evidence(Evidence(0, 0, PREPARE, 0, seq, *halves)))


async def test_evidence_needs_no_account_and_travels_alone(open_door):
    async with open_door() as door:
        door.ledger.hold = True
        for nonce in range(1, SENT_AT_ONCE_MAX + 1):
            door.submit(door.envelope(nonce))
            await door.node.wait_asked()
        data = [door.envelope(50), _evidence(door, 7), door.envelope(51)]
        for item in data:
            door.submit(item)
        door.ledger.hold = False
        door.ledger.run_block()
        while len(door.node.batches) < SENT_AT_ONCE_MAX + 3:
            await door.node.wait_asked()
        sent = [decode_batch(payload)[0].kind for payload, _ in door.node.batches[SENT_AT_ONCE_MAX:]]
        assert sent == [EnvelopeKind.ORDERS, EnvelopeKind.EVIDENCE, EnvelopeKind.ORDERS]


async def test_evidence_that_convicts_nobody_anew_goes_no_further(open_door):
    async with open_door() as door:
        door.submit(_evidence(door, 7))
        await door.node.wait_asked()
        found = await door.answer(_evidence(door, 7))
        assert not isinstance(found, InputError)  # whoever brought it before gets the receipt
        forged = await door.answer(_evidence(door, 8, by=1))
        assert isinstance(forged, InputError) and forged.code == "BAD_EVIDENCE"


async def test_all_who_bring_evidence_share_one_allowance(open_door):
    async with open_door() as door:
        for seq in range(1, EVIDENCE_BURST + 1):
            door.submit(_evidence(door, seq, by=1))
        assert _code(door, _evidence(door, 1000)) == "RATE_LIMITED"
        door.submit(door.envelope(1))  # others are not held up
        door.time_s += 1
        door.submit(_evidence(door, 1000))
