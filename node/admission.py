"""Admission: what clients send, checked and gathered into micro-batches.

    submit ─decode, chain, expiry, rate─▶ queue ─signature ∥ key and nonce─▶ gather ─▶ one micro-batch

Envelopes keep the order in which they came. A lone envelope is sent at once; only when several own
micro-batches are under way are more gathered, for a few milliseconds or until a batch is full.
The check of key and nonce is advice from the current state: it keeps replays and strangers out of
the blocks. The ledger decides again, alike on every replica.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import trio

from consensus.primitives.crypto import Ed25519Verifier, Verifier
from consensus.primitives.errors import InputError, LedgerError, ProtocolError
from engine import commands
from engine.accounts.envelopes import check_envelope
from engine.batch import BATCH_BYTES_MAX, BATCH_ENVELOPES_MAX, HEAD_SIZE, encode_batch
from engine.envelope import Envelope, EnvelopeKind, decode
from engine.layout import NONCE_WINDOW
from engine.machine import Machine
from engine.records import Code
from engine.validators import convictions
from node.config import AdmissionSettings
from node.desk import to_refusal
from node.limits import Bucket, Buckets
from node.services import ProvenBlock, Services, VerdictCache
from node.signatures import check_signatures, count_operations
from node.wire import Refused

GROUP_ENVELOPES_MAX = 256  # checked together: one trip to a worker thread
GROUP_BYTES_MAX = 512 << 10
SENT_AT_ONCE_MAX = 4  # own micro-batches under way below which nothing is gathered
UNDER_WAY_SECONDS = 5.0  # after which a micro-batch that was never proven counts no more
ENVELOPE_COST = 100  # order operations that cost as much as one signature check
RATE_BURST_SECONDS = 2
EVIDENCE_PER_SECOND = 4  # of all clients together: twice as many signatures
EVIDENCE_BURST = 64
RETRY_SECONDS = 0.05  # pause after the protocol pushed back, unless a block is proven earlier


class Answers(Protocol):
    """Who is told what became of a submitted envelope, before any block says it."""

    def refuse(self, envelope_digest: bytes, error: InputError) -> None:
        """It goes no further."""

    def executed_before(self, envelope_digest: bytes, height: int, record_index: int) -> None:
        """Another copy of it was executed: its receipt is there."""


class Admission:
    """The way of envelopes from the client port to the protocol. One task runs `run`."""

    def __init__(
        self,
        services: Services,
        settings: AdmissionSettings,
        answers: Answers,
        verifier: Verifier | None = None,
        clock_s: Callable[[], float] = trio.current_time,
    ) -> None:
        self._services = services
        self._settings = settings
        self._answers = answers
        self._verifier = verifier or Ed25519Verifier()
        self._clock_s = clock_s
        self._chain_id = services.network.chain_id
        rate = settings.key_operations_per_second
        self._rates = Buckets(rate, rate * RATE_BURST_SECONDS)
        self._evidence_rate = Bucket(EVIDENCE_PER_SECOND, EVIDENCE_BURST, EVIDENCE_BURST, clock_s())
        self._queue: deque[tuple[bytes, Envelope]] = deque()
        self._queue_bytes = 0
        self._arrived = trio.Event()
        self._gathered = _Gathered(settings.batch_bytes)
        # digest of the first envelope of each own micro-batch -> when it was sent
        self._under_way: dict[bytes, float] = {}
        self._wake_sender = trio.Event()

    def submit(self, data: bytes, envelope: Envelope) -> None:
        """Take one envelope (`data` decoded) from a client. Raises `InputError`; later refusals go to
        `Answers`."""
        now_ms = self._services.now_ms()
        if envelope.chain_id != self._chain_id:
            raise InputError(
                Code.WRONG_CHAIN.name,
                f"the envelope is for chain {envelope.chain_id.hex()[:16]}, this is"
                f" {self._chain_id.hex()[:16]}: use this network's network.toml",
            )
        if envelope.kind != EnvelopeKind.EVIDENCE and envelope.expiry_ms <= now_ms:
            raise InputError(
                Code.ENVELOPE_EXPIRED.name,
                f"the envelope expired {now_ms - envelope.expiry_ms} ms ago: sign it anew, check the clock",
            )
        if self._queue_bytes + self._gathered.size + len(data) > self._settings.queue_bytes:
            raise InputError(
                Refused.QUEUE_FULL,
                f"{self._settings.queue_bytes} bytes of envelopes wait already: send it again later",
            )
        if envelope.kind == EnvelopeKind.EVIDENCE:
            self._take_evidence()
        cost = count_operations(envelope) + ENVELOPE_COST
        if not self._rates.take(envelope.public_key, cost, self._clock_s()):
            raise InputError(
                Refused.RATE_LIMITED,
                f"the key sent more than {self._settings.key_operations_per_second} operations a second"
                f" (an envelope counts {ENVELOPE_COST} and one for each operation): slow down",
            )
        self._queue.append((data, envelope))
        self._queue_bytes += len(data)
        self._arrived.set()

    def _take_evidence(self) -> None:
        """Nobody signs for evidence, so all who bring it share one allowance. Raises `InputError`."""
        if not self._evidence_rate.take(1, self._clock_s()):
            raise InputError(
                Refused.RATE_LIMITED,
                f"this node takes evidence {EVIDENCE_PER_SECOND} times a second: send it again later",
            )

    def on_proven_block(self, block: ProvenBlock) -> None:
        """Note which own micro-batches are through."""
        for envelope_digest, *_ in block.result.envelopes:
            self._under_way.pop(envelope_digest, None)
        oldest_s = self._clock_s() - UNDER_WAY_SECONDS
        while self._under_way and next(iter(self._under_way.values())) < oldest_s:
            del self._under_way[next(iter(self._under_way))]
        self._wake_sender.set()

    async def run(self) -> None:
        """Check and send what was submitted, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._check_groups)
            nursery.start_soon(self._send_gathered)

    # -- checking -------------------------------------------------------------------------------

    async def _check_groups(self) -> None:
        while True:
            await self._arrived.wait()
            group = self._take_group()
            await self._check(group)
            await self._gathered.wait_for_room()

    async def _check(self, group: list[tuple[bytes, Envelope]]) -> None:
        envelopes = [envelope for _, envelope in group]
        faults: list[InputError | None] = []

        async def check() -> None:
            faults.extend(
                await trio.to_thread.run_sync(find_faults, envelopes, self._services.verdicts, self._verifier)
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(check)
            advice = await self._services.query(
                partial(
                    advise,
                    envelopes=envelopes,
                    chain_id=self._chain_id,
                    now_ms=self._services.now_ms(),
                    verifier=self._verifier,
                )
            )
        for (data, envelope), fault, code in zip(group, faults, advice, strict=True):
            self._queue_bytes -= len(data)
            if fault is not None:
                self._answers.refuse(envelope.digest, fault)
            elif code is not Code.OK:
                await self._refuse_or_find(envelope, code)
            else:
                self._gathered.add(data, envelope)
        self._send_if_due()

    def _take_group(self) -> list[tuple[bytes, Envelope]]:
        group: list[tuple[bytes, Envelope]] = []
        size = 0
        while self._queue and len(group) < GROUP_ENVELOPES_MAX and size < GROUP_BYTES_MAX:
            item = self._queue.popleft()
            size += len(item[0])
            group.append(item)
        if not self._queue:
            self._arrived = trio.Event()
        return group

    async def _refuse_or_find(self, envelope: Envelope, code: Code) -> None:
        # A client that heard nothing sends the same envelope again; it gets the receipt it missed.
        place = None
        if code in (Code.NONCE_USED, Code.NONCE_TOO_OLD, Code.ALREADY_REPORTED):
            try:
                place = await self._services.find_envelope(envelope.digest)
            except (LedgerError, OSError) as error:
                self._answers.refuse(envelope.digest, to_refusal(error))
                return
        if place is None:
            self._refuse(envelope, code)
        else:
            self._answers.executed_before(envelope.digest, *place)

    def _refuse(self, envelope: Envelope, code: Code) -> None:
        message = _REMEDIES.get(code, "the ledger would refuse this envelope")
        self._answers.refuse(envelope.digest, InputError(code.name, message))

    # -- sending --------------------------------------------------------------------------------

    async def _send_gathered(self) -> None:
        """Send what `_send_if_due` left: after `batch_ms`, or when an own micro-batch is through."""
        while True:
            await self._gathered.wait_for_some()
            self._wake_sender = trio.Event()
            with trio.move_on_after(self._settings.batch_ms / 1000):
                await self._wake_sender.wait()
            while self._gathered.count and self._send_one():
                await trio.lowlevel.checkpoint()
            if self._gathered.count:
                with trio.move_on_after(RETRY_SECONDS):
                    await self._wake_sender.wait()

    def _send_if_due(self) -> None:
        while self._gathered.is_full or (self._gathered.count and len(self._under_way) < SENT_AT_ONCE_MAX):
            if not self._send_one():
                return

    def _send_one(self) -> bool:
        """Send one micro-batch. False: the protocol pushes back, and nothing was taken."""
        batch = self._gathered.peek()
        payload = encode_batch([data for data, _ in batch])
        try:
            self._services.submit_batch(payload, sum(count_operations(envelope) for _, envelope in batch))
        except InputError as error:
            if error.code == Refused.OVERLOADED:
                return False
            for _, envelope in batch:
                self._answers.refuse(envelope.digest, error)
        else:
            self._under_way[batch[0][1].digest] = self._clock_s()
        self._gathered.drop(len(batch))
        return True


class _Gathered:
    """Checked envelopes that wait for their micro-batch."""

    def __init__(self, batch_bytes: int) -> None:
        self._batch_bytes = min(batch_bytes, BATCH_BYTES_MAX)
        self._items: deque[tuple[bytes, Envelope]] = deque()
        self.size = 0  # bytes
        self._some = trio.Event()
        self._room = trio.Event()

    @property
    def count(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        """Whether a whole micro-batch waits."""
        return self.size >= self._batch_bytes or len(self._items) >= BATCH_ENVELOPES_MAX

    def add(self, data: bytes, envelope: Envelope) -> None:
        self._items.append((data, envelope))
        self.size += len(data)
        self._some.set()

    def peek(self) -> list[tuple[bytes, Envelope]]:
        """What goes into the next micro-batch: one envelope at least, then as many as fit."""
        batch: list[tuple[bytes, Envelope]] = []
        size = HEAD_SIZE
        for item in self._items:
            size += HEAD_SIZE + len(item[0])
            # Evidence travels alone; see `node.payloads`.
            if batch and EnvelopeKind.EVIDENCE in (batch[0][1].kind, item[1].kind):
                break
            if batch and (size > self._batch_bytes or len(batch) == BATCH_ENVELOPES_MAX):
                break
            batch.append(item)
        return batch

    def drop(self, count: int) -> None:
        """Forget the first `count`."""
        for _ in range(count):
            data, _envelope = self._items.popleft()
            self.size -= len(data)
        if not self._items:
            self._some = trio.Event()
        self._room.set()

    async def wait_for_some(self) -> None:
        await self._some.wait()

    async def wait_for_room(self) -> None:
        """Until less than two micro-batches wait: what comes after stays in the bounded queue."""
        while self.size >= 2 * self._batch_bytes:
            self._room = trio.Event()
            await self._room.wait()


def decode_envelope(data: bytes) -> Envelope:
    """The envelope in `data`, its signature unchecked. Raises `InputError` MALFORMED."""
    try:
        return decode(data)
    except ProtocolError as error:
        raise InputError(Code.MALFORMED.name, str(error)) from error


def find_faults(
    envelopes: Sequence[Envelope], verdicts: VerdictCache, verifier: Verifier
) -> list[InputError | None]:
    """What is wrong with each envelope, whatever the state. Runs in a worker thread."""
    signed = check_signatures(envelopes, verdicts, verifier)  # of evidence, `advise` checks them
    return [_find_fault(item, is_signed) for item, is_signed in zip(envelopes, signed, strict=True)]


def _find_fault(envelope: Envelope, is_signed: bool) -> InputError | None:
    if not is_signed:
        return InputError(
            Code.BAD_SIGNATURE.name,
            f"key {envelope.public_key.hex()[:16]} did not sign this envelope as it was sent",
        )
    if envelope.kind == EnvelopeKind.COMMANDS:
        try:
            commands.decode(envelope.payload)
        except ProtocolError as error:
            return InputError(Code.MALFORMED.name, str(error))
    return None


def advise(
    machine: Machine, envelopes: Sequence[Envelope], chain_id: bytes, now_ms: int, verifier: Verifier
) -> list[Code]:
    """What the ledger would say about each envelope as things stand, were its signature good.

    Evidence is checked in full: which key must have signed, only the state can tell.
    """
    return [
        convictions.check(machine.state, item, chain_id, None, verifier)
        if item.kind == EnvelopeKind.EVIDENCE
        else check_envelope(machine.state, item, chain_id, now_ms, True, verifier)
        for item in envelopes
    ]


_REMEDIES = {
    Code.UNKNOWN_KEY: "no account has granted this key anything: have it granted, or use another key",
    Code.NOT_AUTHORISED: "the envelope's account has granted this key nothing: name an account that has",
    Code.KEY_EXPIRED: "the account's grant to this key has expired: have it granted anew",
    Code.NONCE_USED: "the key used this nonce for another envelope: use a higher one",
    Code.BAD_EVIDENCE: "it convicts nobody: the named validator did not sign both, or not in that epoch",
    Code.ALREADY_REPORTED: "the ledger has a conviction for this place: nothing more is needed",
    Code.LIMIT_REACHED: "the ledger has convicted this validator often enough: nothing more is needed",
    Code.NONCE_TOO_OLD: f"the key is more than {NONCE_WINDOW} nonces further: use a higher one",
}
