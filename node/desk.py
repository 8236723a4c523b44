"""The desk: who waits for which envelope, and the answer each of them gets.

Several requests may wait for one envelope, on several connections. Answers come from proven blocks,
or from admission when an envelope goes no further. Receipts are built in one task, a few at a time,
so that a large block does not hold up the loop.
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import trio

from consensus.primitives.errors import InputError, LedgerError
from engine.envelope import Envelope
from engine.records import Code
from node.receipts import RECEIPTS, build_receipt
from node.services import ProvenBlock, Services
from node.telemetry import Metrics
from node.wire import Detail, Refused, encode_error, encode_result

RECEIPTS_A_TURN = 32
TRY_AGAIN_SECONDS = 2.0  # an envelope sent again so much later goes through admission again


class Asker(Protocol):
    """One end of a client connection."""

    def reply(self, request_id: int, framed: bytes, error: str = "") -> None:
        """Send a frame that answers `request_id`; `error` is its code, or empty."""


@dataclass(frozen=True, slots=True)
class _Waiter:
    asker: Asker
    request_id: int
    detail: Detail


@dataclass(slots=True)
class _Waiting:
    since_s: float
    waiters: list[_Waiter]


@dataclass(frozen=True, slots=True)
class _Lookup:
    """An envelope that was executed before, to be answered from the history."""

    digest: bytes
    height: int
    record_index: int


class Desk:
    """Pairs envelopes with those who wait for them. One task runs `run`."""

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._services = services
        self._metrics = metrics
        self._waiting: dict[bytes, _Waiting] = {}
        self._work: deque[ProvenBlock | _Lookup] = deque()
        self._has_work = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, envelope: Envelope, asker: Asker, request_id: int, detail: Detail) -> bool:
        """Wait for an envelope. True: it is new here, or was sent long ago, so submit it."""
        now_s = trio.current_time()
        entry = self._waiting.get(envelope.digest)
        is_due = entry is None or now_s - entry.since_s > TRY_AGAIN_SECONDS
        if entry is None:
            entry = self._waiting[envelope.digest] = _Waiting(now_s, [])
        if is_due:
            entry.since_s = now_s
        entry.waiters.append(_Waiter(asker, request_id, detail))
        return is_due

    def leave(self, asker: Asker, digests: list[bytes]) -> None:
        """The connection of `asker` closed: forget what it waits for."""
        for envelope_digest in digests:
            entry = self._waiting.get(envelope_digest)
            if entry is not None:
                entry.waiters = [waiter for waiter in entry.waiters if waiter.asker is not asker]
                if not entry.waiters:
                    del self._waiting[envelope_digest]

    async def receipt(self, envelope_digest: bytes, detail: Detail, asker: Asker, request_id: int) -> None:
        """Answer with the receipt of an envelope: at once, or when it is proven if it is under way."""
        entry = self._waiting.get(envelope_digest)
        if entry is not None:
            entry.waiters.append(_Waiter(asker, request_id, detail))
            return
        found = await self._services.find_envelope(envelope_digest)
        if found is None:
            message = "this node executed no such envelope: ask others, or send it again before it expires"
            raise InputError(Refused.NOT_FOUND, message)
        waiter = _Waiter(asker, request_id, detail)
        self._answer(waiter, await self._load(found[0]), found[1])

    # -- what admission says ---------------------------------------------------------------------

    def refuse(self, envelope_digest: bytes, error: InputError) -> None:
        """The envelope goes no further: tell everybody who waits for it."""
        entry = self._waiting.pop(envelope_digest, None)
        for waiter in entry.waiters if entry else ():
            _refuse(waiter, error)

    def executed_before(self, envelope_digest: bytes, height: int, record_index: int) -> None:
        """Another copy was executed: answer with its receipt."""
        self._put(_Lookup(envelope_digest, height, record_index))

    # -- what the protocol says ------------------------------------------------------------------

    def on_proven_block(self, block: ProvenBlock) -> None:
        """Answer those who wait for an envelope in `block`, soon."""
        self._put(block)

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._has_work.wait()
            work = self._work.popleft()
            if not self._work:
                self._has_work = trio.Event()
            if isinstance(work, ProvenBlock):
                await self._answer_block(work)
            else:
                await self._answer_lookup(work)

    def _put(self, work: ProvenBlock | _Lookup) -> None:
        self._work.append(work)
        self._has_work.set()

    async def _answer_block(self, block: ProvenBlock) -> None:
        codes = block.result.journal["code"]
        built = 0
        for envelope_digest, record_index, *_ in block.result.envelopes:
            if envelope_digest not in self._waiting:
                continue
            if codes[record_index] != Code.OK:
                await self._answer_refused_copy(envelope_digest, block.height, record_index)
                continue
            entry = self._waiting.pop(envelope_digest)
            self._metrics.reply_seconds.observe(trio.current_time() - entry.since_s)
            for waiter in entry.waiters:
                self._answer(waiter, block, record_index)
                built += 1
                if built % RECEIPTS_A_TURN == 0:
                    await trio.lowlevel.checkpoint()

    async def _answer_refused_copy(self, envelope_digest: bytes, height: int, record_index: int) -> None:
        """A refused copy is no news to somebody whose envelope was executed a moment ago."""
        try:
            place = await self._services.find_envelope(envelope_digest) or (height, record_index)
        except (LedgerError, OSError) as error:
            self.refuse(envelope_digest, to_refusal(error))
            return
        await self._answer_lookup(_Lookup(envelope_digest, *place))

    async def _answer_lookup(self, lookup: _Lookup) -> None:
        entry = self._waiting.pop(lookup.digest, None)
        if entry is None:
            return
        try:
            block = await self._load(lookup.height)
        except (LedgerError, OSError) as error:
            for waiter in entry.waiters:
                _refuse(waiter, to_refusal(error))
            return
        for waiter in entry.waiters:
            self._answer(waiter, block, lookup.record_index)

    async def _load(self, height: int) -> ProvenBlock:
        block = await self._services.load_block(height)
        if block is None:
            raise InputError(
                Refused.NOT_PROVEN,
                f"block {height} is executed here, but f+1 attestations are not held: ask another node",
            )
        return block

    def _answer(self, waiter: _Waiter, block: ProvenBlock, record_index: int) -> None:
        receipt = build_receipt(block, record_index, waiter.detail)
        waiter.asker.reply(waiter.request_id, encode_result(waiter.request_id, RECEIPTS.to_fields(receipt)))


def to_refusal(error: LedgerError | OSError) -> InputError:
    """What a client is told when its request failed. Why a disk failed is for the operator's log."""
    if isinstance(error, InputError):
        return error
    return InputError(Refused.HALTED, "this node cannot read what it stored: use another node")


def _refuse(waiter: _Waiter, error: InputError) -> None:
    framed = encode_error(waiter.request_id, error.code, error.message)
    waiter.asker.reply(waiter.request_id, framed, error.code)
