"""Micro-batches that peers send: decoded, every signature checked in threads, then pooled.

Each peer has its own bounded queue and its own task, so a peer that sends slow work slows itself
only, and votes of the same peer do not wait behind its payloads.
"""

from collections.abc import Callable
from functools import partial

import trio

from consensus.effects import BatchReady
from consensus.evidence import check_evidence, decode_evidence
from consensus.messages import batch_digest
from consensus.primitives.crypto import Verifier
from consensus.primitives.errors import ProtocolError, SignatureError
from engine.batch import decode_batch, split_batch
from engine.envelope import Envelope, EnvelopeKind
from node.pool import PayloadPool
from node.services import VerdictCache
from node.signatures import count_operations
from node.validators import Membership, Validators

QUEUE_MAX = 64  # payloads of one peer waiting to be checked; then its link is not read
INLINE_MAX = 2  # so few signatures cost less than a change of threads


class ForeignChain(ProtocolError):
    """An envelope was signed for another chain."""


OnReady = Callable[[BatchReady], None]
OnFault = Callable[[int, str], None]


class PayloadIntake:
    """Takes payloads from peers; reports `BatchReady` for what is valid and held."""

    def __init__(
        self,
        chain_id: bytes,
        membership: Membership,
        pool: PayloadPool,
        verdicts: VerdictCache,
        verifier: Verifier,
        threads: trio.CapacityLimiter,
        on_ready: OnReady,
        on_fault: OnFault,
    ) -> None:
        self._chain_id = chain_id
        self._membership = membership
        self._pool = pool
        self._verdicts = verdicts
        self._verifier = verifier
        self._threads = threads
        self._on_ready = on_ready
        self._on_fault = on_fault
        self._queues: dict[int, trio.MemorySendChannel[bytes]] = {}
        self._started = trio.Event()
        self._nursery: trio.Nursery

    async def put(self, peer: int, payload: bytes) -> None:
        """Queue a payload of a peer; waits while its queue is full."""
        await self._started.wait()
        queue = self._queues.get(peer)
        if queue is None:  # its first one; validators that ever had a link are few
            queue, receive = trio.open_memory_channel[bytes](QUEUE_MAX)
            self._queues[peer] = queue
            self._nursery.start_soon(self._work, peer, receive)
        await queue.send(payload)

    async def run(self) -> None:
        """Check payloads until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._started.set()
            await trio.sleep_forever()

    async def _work(self, peer: int, payloads: trio.MemoryReceiveChannel[bytes]) -> None:
        async for payload in payloads:
            try:
                await self._take(peer, payload)
            except SignatureError:
                self._on_fault(peer, "batch_signature")
            except ForeignChain:
                self._on_fault(peer, "batch_chain")
            except ProtocolError:
                self._on_fault(peer, "batch_malformed")

    async def _take(self, peer: int, payload: bytes) -> None:
        name = batch_digest(payload)
        if self._pool.is_known(name):
            return
        if not self._pool.has_room(name, len(payload), peer):
            self._on_fault(peer, "pool_full")
            return
        check = partial(
            check_batch,
            payload,
            self._chain_id,
            self._verdicts,
            self._verifier,
            self._membership.current,
        )
        if len(split_batch(payload)) <= INLINE_MAX:
            operations = check()
        else:
            operations = await trio.to_thread.run_sync(check, limiter=self._threads)
        if self._pool.add(name, payload, peer):
            self._on_ready(BatchReady(name, operations, len(payload), peer))


def check_batch(
    payload: bytes, chain_id: bytes, verdicts: VerdictCache, verifier: Verifier, validators: Validators
) -> int:
    """Check form, chain and signatures of a micro-batch; return how many operations it holds.

    Raises `ProtocolError` or `SignatureError`. Valid signatures go into `verdicts`.
    """
    operations = 0
    envelopes = decode_batch(payload)
    for envelope in envelopes:
        if envelope.chain_id != chain_id:
            raise ForeignChain(f"envelope {envelope.digest.hex()[:16]} belongs to another chain")
        if envelope.kind == EnvelopeKind.EVIDENCE and len(envelopes) > 1:
            raise ProtocolError("evidence travels alone: it may cost its readers two signatures a block")
        if not verdicts.get(envelope.digest):
            _check_signatures(envelope, verdicts, verifier, validators)
        operations += count_operations(envelope)
    return operations


def _check_signatures(
    envelope: Envelope, verdicts: VerdictCache, verifier: Verifier, validators: Validators
) -> None:
    if envelope.kind == EnvelopeKind.EVIDENCE:
        evidence = decode_evidence(bytes(envelope.payload))
        if evidence.epoch > validators.epoch.number:
            return  # we are behind; whoever executes it knows that epoch
        check_evidence(envelope.chain_id, validators.key_of, verifier, evidence)
    else:
        envelope.verify(verifier)
    verdicts.add(envelope.digest)
