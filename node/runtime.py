"""The node: one loop that turns events into durable votes, and then into messages.

    links ──▶ inbox ──▶ Replica.step for each event ──▶ one transaction (thread, fsync) ──▶ sends, executes
                               └ votes are signed  ──▶ the signer's record (thread, sync) ─┘

One turn takes everything that waits, so the heavier the load, the more events share one fsync and
one write per link. Nothing of a turn leaves before its transaction is durable, and no
signature before the signer's record has it; both are written side by side. An attestation alone,
which needs no transaction, waits for its record off the loop, unless the block ran while the ledger
was being written: then the record was written at the same time. If the disk, the state
or the protocol turns out to be broken, the node halts: it votes no more, and still answers queries.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeGuard, TypeVar

import trio

from consensus.effects import (
    BatchReady,
    Blame,
    Broadcast,
    CancelTimer,
    CheckManifest,
    Diverged,
    Effect,
    Event,
    Execute,
    ForgetBatches,
    InstallState,
    Received,
    Send,
    SendBatches,
    SendBlocks,
    SendChunks,
    SendManifest,
    SetTimer,
    SnapshotTaken,
    Stable,
    StageChunk,
    TimerFired,
)
from consensus.messages import (
    CODEC,
    Attest,
    BatchPayload,
    Chunk,
    CommitCert,
    Epochs,
    FetchBatches,
    Manifest,
    Message,
    NewView,
    PrePrepare,
    ViewChange,
    batch_digest,
)
from consensus.primitives.errors import InputError, InvariantViolation, LedgerError, StorageError
from consensus.proofs import CheckpointCert, EpochProof
from consensus.quorum import epoch_of, round_of
from consensus.replica import Replica
from consensus.signing import SignatureRefused
from engine.machine import Machine
from node import faults
from node.answers import Answers
from node.config import Home
from node.dumps import dump_path, write_dump
from node.durable import durable_part
from node.executor import ExecutedBlock, Executor
from node.history import History
from node.inbox import Inbox
from node.introduction import Introduction
from node.ledger import Ledger, Turn
from node.limits import Buckets
from node.network import Network
from node.payloads import PayloadIntake
from node.pool import PayloadPool
from node.recent import RecentBlocks
from node.reports import Reports
from node.services import (
    BalanceAnswer,
    NodeStatus,
    ProvenBlock,
    TransferStatus,
    ValidatorsAnswer,
    VerdictCache,
    describe_wedge,
)
from node.signer.opening import NodeSigner
from node.signer.remote import RemoteSigner
from node.signer.ring import KeyRing
from node.snapshots import Snapshots
from node.state_proofs import StateProver
from node.state_sync.fetching import StateFetcher
from node.state_sync.serving import StateServer
from node.state_sync.swap import swap_directories
from node.telemetry import Log, Metrics
from node.timers import Timers
from node.transport import Transport
from node.validators import Membership
from node.votes import ProofCollector, RememberingVerifier, check_ahead
from node.wire import Refused, frame

T = TypeVar("T")
IN_PLACE_SECONDS = 0.0008  # a commit faster than this is not worth a change of threads
IN_PLACE_BYTES = 64 << 10
VIEW_MESSAGES_PER_SECOND = 10  # view changes and new views of one peer that are looked into
VIEW_MESSAGES_BURST = 40
CERTIFICATES = (CommitCert, CheckpointCert, ViewChange, NewView, Epochs)


@dataclass
class Parts:
    """What a node is made of; `node.start` makes and closes them."""

    home: Home
    network: Network
    replica_id: int
    replica: Replica
    signer: NodeSigner
    ledger: Ledger
    executor: Executor
    recent: RecentBlocks
    pool: PayloadPool
    intake: PayloadIntake
    transport: Transport
    answers: Answers
    inbox: Inbox
    snapshots: Snapshots
    history: History
    server: StateServer
    prover: StateProver
    fetcher: StateFetcher
    proofs: ProofCollector
    membership: Membership
    introduction: Introduction
    reports: Reports
    verifier: RememberingVerifier
    threads: trio.CapacityLimiter
    dump_bytes_max: int
    verdicts: VerdictCache
    metrics: Metrics
    log: Log


class Node:
    """A running validator. Implements `node.services.Services`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._replica = parts.replica
        self._inbox = parts.inbox
        self._timers = Timers()
        self._view_budgets = Buckets(VIEW_MESSAGES_PER_SECOND, VIEW_MESSAGES_BURST)
        self._disk = trio.CapacityLimiter(1)
        self._key_files = trio.CapacityLimiter(1)
        self._nursery: trio.Nursery
        self._disk_seconds = 0.0  # of a small transaction, smoothed
        self._view = 0
        self._wedged = 0  # the block at which the chain stood at the last turn
        self._syncs = False  # a state transfer was under way at the last turn
        parts.signer.on_refused = self._on_signature_refused
        self._halted = ""
        self._held: list[Broadcast | Send] = []  # attestations whose signatures are not durable yet

    # What the front uses

    @property
    def network(self) -> Network:
        return self._parts.network

    @property
    def replica_id(self) -> int:
        return self._parts.replica_id

    @property
    def verdicts(self) -> VerdictCache:
        return self._parts.verdicts

    def now_ms(self) -> int:
        """The node's clock, in milliseconds since the Unix epoch."""
        return self._now_us() // 1000

    def submit_batch(self, payload: bytes, orders: int) -> None:
        """Disseminate an own micro-batch and have it ordered. Raises `InputError`."""
        if self._halted:
            raise InputError(Refused.HALTED, f"this node no longer votes ({self._halted}): use another node")
        self._refuse_while_syncing()
        if self._replica.wedged:
            raise InputError(
                Refused.WEDGED,
                f"the network was stopped at block {self._replica.committed} for an upgrade:"
                " try again once its operators have resumed it",
            )
        name = batch_digest(payload)
        pool = self._parts.pool
        if pool.is_known(name):
            return
        if not pool.add(name, payload, self.replica_id):
            raise InputError(
                Refused.OVERLOADED,
                f"{pool.used(self.replica_id)} bytes of this node wait to be ordered: try again later",
            )
        self._broadcast(BatchPayload(payload))
        self._inbox.put(BatchReady(name, orders, len(payload), self.replica_id))

    def on_proven_block(self, callback: Callable[[ProvenBlock], None]) -> None:
        """Call `callback` with every proven block."""
        self._parts.recent.callbacks.append(callback)

    async def query(self, read: Callable[[Machine], T]) -> T:
        """Run `read` in a worker thread between two blocks."""
        self._refuse_while_syncing()
        with self._logging_failures():
            return await self._parts.executor.query(read)

    async def find_envelope(self, envelope_digest: bytes) -> tuple[int, int] | None:
        """(height, index of its ENVELOPE record) of an executed envelope."""
        with self._logging_failures():
            return await self._parts.recent.find_envelope(envelope_digest)

    async def load_block(self, height: int) -> ProvenBlock | None:
        """An executed and proven block, or None."""
        with self._logging_failures():
            return await self._parts.recent.load_block(height)

    async def prove_balance(self, account: int, asset: int) -> BalanceAnswer:
        """What the newest durable snapshot says of a balance. Rows never move: the present state knows
        which one it is."""
        row = await self.query(lambda machine: machine.state.balance_row(account, asset))
        return await self._prove(partial(self._parts.prover.prove_balance, row))

    async def prove_validators(self) -> ValidatorsAnswer:
        """How the newest epoch's members are reached, as the newest durable snapshot says."""
        self._refuse_while_syncing()
        return await self._prove(partial(self._parts.prover.prove_validators, self._replica.replicas.ids))

    async def _prove(self, read: Callable[[], T]) -> T:
        with self._logging_failures():
            # Where states are read for peers, too: none is replaced meanwhile.
            return await trio.to_thread.run_sync(read, limiter=self._parts.server.thread)

    def _refuse_while_syncing(self) -> None:
        """A state of long ago is worse than no answer."""
        if self._replica is not None and self._replica.transfer is not None:
            raise InputError(Refused.SYNCING, "this node is fetching its state from others: use another node")

    def transfer(self) -> TransferStatus | None:
        """How far the fetching of a state is, if one is under way."""
        progress = self._replica.transfer
        if progress is None:
            return None
        return self._parts.fetcher.status(progress.seq, progress.chunks, progress.staged)

    def epoch_proofs(self) -> Sequence[EpochProof]:
        """Every change of validators since genesis."""
        return self._replica.epoch_proofs

    def checkpoint(self) -> CheckpointCert | None:
        """The certificate of the newest stable checkpoint."""
        return self._replica.certificate(self._replica.stable_seq)

    def status(self) -> NodeStatus:
        """Where this node stands now."""
        recent, parts = self._parts.recent, self._parts
        return NodeStatus(
            replica=self.replica_id,
            view=round_of(self._replica.view),
            committed=self._replica.committed,
            executed=recent.height,
            proven=parts.proofs.proven,
            time_ms=recent.time_ms,
            journal_root=recent.journal_root,
            state_root_height=recent.state_root_height,
            state_root=recent.state_root,
            peers_connected=len(parts.transport.connected),
            halted=self._halted,
            orders=recent.orders,
            fills=recent.fills,
            rejected=recent.rejected,
            view_changes=round_of(self._replica.view),
            transfer=self.transfer(),
            epoch=self._replica.replicas.epoch,
            boundary=self._replica.boundary,
            wedged=self._replica.wedged,
            votes=self._replica.may_vote,
        )

    # What links and the executor call

    async def deliver(self, peer: int, frames: list[bytes]) -> None:
        """Take what a peer sent. Raises `ProtocolError` on garbage, which closes the link."""
        messages: list[Message] = [CODEC.decode(body) for body in frames]
        messages = [message for message in messages if self._is_affordable(peer, message)]
        await self._check_ahead(messages)
        for message in messages:
            if isinstance(message, BatchPayload):
                await self._parts.intake.put(peer, message.payload)
            elif isinstance(message, Manifest | Chunk) and not self._replica.expects(peer, message):
                self._parts.metrics.transfer_dropped.inc()
            else:
                await self._inbox.put_received(Received(peer, message))

    def _is_affordable(self, peer: int, message: Message) -> bool:
        """Whether a peer may cost us the check of one more view change or new view: honest ones send few,
        and repeat what was dropped. Whoever floods with them pays with those of its own."""
        if not isinstance(message, ViewChange | NewView):
            return True
        if self._view_budgets.take(b"%d" % peer, 1, trio.current_time()):
            return True
        self.on_peer_fault(peer, "view_flood")
        return False

    async def _check_ahead(self, messages: list[Message]) -> None:
        """Certificates hold many signatures: compute them off the loop. A single vote is cheaper in it."""
        heavy = [message for message in messages if is_heavy(message)]
        if heavy:
            parts, authority = self._parts, self._replica.authority
            await trio.to_thread.run_sync(
                check_ahead, authority, parts.verifier, heavy, limiter=parts.threads
            )

    def on_early(self, executed: ExecutedBlock) -> None:
        """A block ran while the ledger is still writing it: let the signer write down at the same time what
        will be attested of it. Checkpoints wait for a transaction of their own anyway."""
        signer = self._parts.signer
        if executed.state is None and isinstance(signer, KeyRing) and not self._halted:
            self._replica.foresee(executed.event)
            signer.begin()

    def on_executed(self, executed: ExecutedBlock) -> None:
        """Our executor finished a block."""
        block, result = executed.block, executed.result
        self._parts.recent.add(executed)
        self._inbox.put(executed.event)
        self._parts.proofs.on_executed(block, result, executed.state)
        if executed.state is not None:
            self._nursery.start_soon(self._look_at_validators)

    async def _look_at_validators(self) -> None:
        """A checkpoint may have brought others, or other ways to reach them."""
        membership = self._parts.membership
        membership.update(await self._parts.executor.query(membership.read))
        ring = self._parts.signer
        if isinstance(ring, KeyRing):
            spans = membership.current.spans.get(self.replica_id, ())
            if {span.key for span in spans} - {signer.public_key for signer in ring.signers}:
                await self._open_keys(ring)

    async def _open_keys(self, ring: KeyRing) -> None:
        """The ledger names a key of ours that was not there when this node started."""
        try:
            found = await trio.to_thread.run_sync(ring.open_more, limiter=self._key_files)
        except LedgerError as error:
            self._parts.log.warning("a key of this node cannot be opened", error=str(error))
            return
        for signer in found:
            self._replica.add_signer(signer)
            self._parts.log.info("one more key", key=signer.public_key.hex())

    def on_proven(self, block: ProvenBlock) -> None:
        """f+1 replicas attest a block that we executed."""
        self._parts.executor.keep_proof(block.height, block.attestations)
        self._parts.recent.prove(block)

    def on_peer_fault(self, peer: int, kind: str) -> None:
        """A peer's payload is not what it must be."""
        self._parts.metrics.peer_faults.labels(kind).inc()
        self._parts.log.warning("bad payload", peer=peer, kind=kind)

    # The loop

    async def run(self, ready: list[BatchReady]) -> None:
        """Take part in the protocol until cancelled; `ready` are the stored payloads it must know of."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._run_guarded, self._parts.executor.run)
            self._nursery.start_soon(self._run_guarded, self._parts.fetcher.run)
            self._nursery.start_soon(self._parts.server.run)
            self._nursery.start_soon(self._parts.intake.run)
            self._nursery.start_soon(self._parts.reports.run, self)
            self._nursery.start_soon(self._parts.introduction.run)
            if isinstance(self._parts.signer, RemoteSigner):
                self._nursery.start_soon(self._watch_signer, self._parts.signer)
            effects = self._replica.start(self._now_us())
            if self._replica.transfer is None:
                await self._submit_stored(self._replica.executed)
            await self._carry_out(effects)
            if self._replica.diverged and not self._halted:
                self.halt("its state differs from that of f+1 validators: run `kontor heal` on its home")
            for event in ready:
                self._inbox.put(event)
            while True:
                with trio.move_on_at(self._timers.next_deadline()):
                    await self._inbox.wait()
                await self._turn()

    async def _turn(self) -> None:
        events: list[Event] = [TimerFired(name) for name in self._timers.take_due()]
        events += self._inbox.take()
        if self._halted:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._carry_out(self._step(events))
        except (StorageError, InvariantViolation, OSError) as error:
            self.halt(str(error))

    def _step(self, events: list[Event]) -> list[Effect]:
        started = time.perf_counter()
        now_us = self._now_us()
        effects: list[Effect] = []
        pool = self._parts.pool
        for event in events:
            if isinstance(event, BatchReady) and pool.is_gone(event.digest):
                continue
            caused = self._replica.step(event, now_us)
            for effect in caused:
                if isinstance(effect, ForgetBatches):
                    pool.done(effect.digests)  # at once: see there
            effects += caused
            if isinstance(event, Received) and isinstance(event.message, Attest):
                self._parts.proofs.on_attest(event.sender, event.message)
        metrics = self._parts.metrics
        metrics.turns.inc()
        metrics.step_seconds.observe(time.perf_counter() - started)
        if self._replica.view != self._view:
            self._note_view()
        if self._replica.wedged != bool(self._wedged):
            self._note_wedge()
        if self._replica.transfer is not None or self._syncs:
            self._note_transfer()
        return effects

    async def _carry_out(self, effects: list[Effect]) -> None:
        """First everything durable in one transaction, then the rest in the order given.

        Blocks start to run meanwhile: what comes of them is held back until they are durable.
        """
        turn = durable_part(effects, self._parts.pool)
        if turn.swap:
            await self._submit_stored(turn.swap)
        blocks = [effect.block for effect in effects if isinstance(effect, Execute)]
        for block in blocks:
            self._parts.executor.submit(block)
        signer = self._parts.signer
        if turn:
            signer.begin()
            await self._commit(turn)
        elif signer.is_urgent:
            signer.begin()
            await trio.to_thread.run_sync(signer.finish, limiter=self._disk)
        if turn.swap:
            await self._swap(turn.swap)
        if blocks:
            self._parts.executor.set_durable(blocks[-1].seq)
        for effect in effects:
            if self._must_wait(effect):
                self._hold(effect)
            else:
                self._release(effect)

    async def _commit(self, turn: Turn) -> None:
        """Make a turn durable: in place if the disk has lately been faster than a change of threads."""
        ledger, signer, started = self._parts.ledger, self._parts.signer, time.perf_counter()
        if self._disk_seconds < IN_PLACE_SECONDS and turn.size_bytes < IN_PLACE_BYTES:
            seconds = _commit_timed(ledger, signer, turn)
        else:
            seconds = await trio.to_thread.run_sync(_commit_timed, ledger, signer, turn, limiter=self._disk)
        if turn.size_bytes < IN_PLACE_BYTES:
            self._disk_seconds += (seconds - self._disk_seconds) / 8
        self._parts.metrics.commit_seconds.observe(time.perf_counter() - started)

    def _must_wait(self, effect: Effect) -> TypeGuard[Broadcast | Send]:
        """Whether it is an attestation of ours that a crash could still make us forget."""
        is_attest = isinstance(effect, Broadcast | Send) and isinstance(effect.message, Attest)
        return is_attest and not self._parts.signer.is_settled

    def _hold(self, effect: Broadcast | Send) -> None:
        self._held.append(effect)
        if len(self._held) == 1:
            self._nursery.start_soon(self._release_held)

    async def _release_held(self) -> None:
        """Write down what was attested, however much comes meanwhile, and let it out."""
        try:
            while self._held and not self._halted:
                count = len(self._held)
                self._parts.signer.begin()
                await trio.to_thread.run_sync(self._parts.signer.finish)
                held, self._held = self._held[:count], self._held[count:]
                for effect in held:
                    self._release(effect)
        except (StorageError, OSError) as error:
            self.halt(str(error))

    def _release(self, effect: Effect) -> None:
        match effect:
            case Broadcast(message):
                if isinstance(message, Attest):
                    self._parts.proofs.on_attest(self.replica_id, message)
                self._want(message)
                self._broadcast(message)
            case Send(to, message):
                self._want(message)
                self._parts.transport.send(to, frame(CODEC.encode(message)))
            case SetTimer(name, delay_us):
                self._timers.set(name, delay_us)
            case CancelTimer(name):
                self._timers.cancel(name)
            case SendBatches(to, digests):
                self._start_answer(lambda: self._parts.answers.send_batches(to, digests))
            case SendBlocks(to, first, last):
                self._start_answer(lambda: self._parts.answers.send_blocks(to, first, last))
            case SendManifest() | SendChunks():
                self._parts.server.request(effect)
            case CheckManifest() | StageChunk() | InstallState():
                self._parts.fetcher.add(effect)
            case Stable(seq):
                self._parts.executor.on_stable(seq, self._replica.certificate)
                # A view being entered may start from an older checkpoint than the newest.
                if self._replica.active:
                    self._parts.signer.raise_floor(self._replica.view, seq)
            case Blame():
                self._blame(effect)
            case Diverged():
                self._diverge(effect)

    def _start_answer(self, answer: Callable[[], Awaitable[None]]) -> None:
        """Answer a peer from the ledger: whoever cannot read it must not vote either."""

        async def guarded() -> None:
            try:
                await answer()
            except (LedgerError, OSError) as error:
                self.halt(str(error))

        self._nursery.start_soon(guarded)

    def _want(self, message: Message) -> None:
        if isinstance(message, FetchBatches):
            self._parts.pool.want(message.digests)

    def _broadcast(self, message: Message) -> None:
        self._parts.transport.broadcast(frame(CODEC.encode(message)))

    # State transfer

    def on_snapshot(self, cert: CheckpointCert | None) -> None:
        """A snapshot replaced the one before on disk; it can be proven to others if there is `cert`."""
        self._inbox.put(SnapshotTaken(cert))

    async def _submit_stored(self, height: int) -> None:
        """Blocks above `height` that were committed here before run, once the state there is in place."""
        last = await trio.to_thread.run_sync(self._parts.ledger.committed_after, height)
        if last > height:
            self._parts.executor.submit_stored(last)

    async def _swap(self, height: int) -> None:
        """The turn that said so is durable: put the fetched state in place, and go on from it."""
        parts = self._parts
        machine = parts.fetcher.take_machine()

        def swap() -> None:
            parts.server.unpin()
            parts.snapshots.take_over(lambda: swap_directories(parts.home.data))
            parts.history.begin(max(height, parts.history.base()))
            parts.ledger.finish_swap()

        await trio.to_thread.run_sync(swap, limiter=parts.server.thread)
        parts.recent.start_at(machine)
        parts.proofs.start_above(height)
        await parts.executor.go_on(machine)
        self._nursery.start_soon(self._look_at_validators)
        parts.log.info("state installed", height=height)

    def _note_transfer(self) -> None:
        """Show how far a transfer is."""
        status, metrics = self.transfer(), self._parts.metrics
        if (status is not None) != self._syncs:
            self._syncs = status is not None
            metrics.transfer_active.set(self._syncs)
            self._parts.log.info("state transfer begins" if self._syncs else "state transfer is over")
        if status is not None:
            metrics.transfer_chunks.set(status.chunks)
            metrics.transfer_staged.set(status.staged)

    # Trouble

    async def _run_guarded(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except* (LedgerError, OSError) as group:
            self.halt("; ".join(str(error) for error in group.exceptions))

    async def _watch_signer(self, signer: RemoteSigner) -> None:
        """Without its signer a node cannot vote: it says so at once, not with the next block."""
        self.halt(await signer.watch())

    def _on_signature_refused(self, error: SignatureRefused) -> None:
        self._parts.metrics.signer_refusals.labels(error.code).inc()
        self._parts.log.warning("signature refused", reason=str(error))

    def halt(self, reason: str) -> None:
        """Vote no more. Queries go on, so that an operator can look."""
        self._halted = reason
        self._parts.metrics.halted.set(1)
        self._parts.log.error("node halted", reason=reason)

    def _diverge(self, effect: Diverged) -> None:
        """f+1 others computed another result: stop before we spread ours, and keep what explains it."""
        path = dump_path(self._parts.home.data, effect.seq)
        self.halt(
            f"block {effect.seq} gave another result than f+1 validators attest; see {path},"
            " then run `kontor heal` on this home"
        )
        self._nursery.start_soon(self._dump, effect, path)

    async def _dump(self, effect: Diverged, path: Path) -> None:
        parts = self._parts

        def write() -> None:
            bytes_max = parts.dump_bytes_max
            network_file = parts.home.network
            write_dump(parts.home.data, network_file, effect, parts.ledger, parts.snapshots, bytes_max)

        with self._keeping(path):
            await trio.to_thread.run_sync(write)
            parts.log.error("state dumped", path=str(path))

    def _blame(self, effect: Blame) -> None:
        """Count it; two contradicting signed messages are kept, since they convict their signer anywhere."""
        self._parts.metrics.blamed.labels(str(effect.replica), effect.reason).inc()
        self._parts.log.warning("replica blamed", replica=effect.replica, reason=effect.reason)
        if effect.evidence:
            self._parts.reports.add(effect.replica, effect.evidence)

    @contextmanager
    def _keeping(self, path: Path) -> Iterator[None]:
        """Evidence that cannot be written is lost, and nothing else."""
        try:
            yield
        except (LedgerError, OSError) as error:
            self._parts.log.error("evidence not kept", path=str(path), error=str(error))

    @contextmanager
    def _logging_failures(self) -> Iterator[None]:
        """A client's question that a disk cannot answer fails alone; the operator reads why."""
        try:
            yield
        except (StorageError, InvariantViolation, OSError) as error:
            self._parts.log.error("query failed", error=str(error))
            raise

    def _note_view(self) -> None:
        self._view = self._replica.view
        self._parts.metrics.view.set(round_of(self._view))
        self._parts.metrics.view_changes.inc()
        self._parts.log.info(
            "view", epoch=epoch_of(self._view), view=round_of(self._view), primary=self._replica.primary
        )

    def _note_wedge(self) -> None:
        self._wedged = self._replica.boundary if self._replica.wedged else 0
        if self._wedged:
            self._parts.log.warning("wedged", height=self._wedged, what=describe_wedge(self._wedged))

    def _now_us(self) -> int:
        """Microseconds since the Unix epoch, as the system's clock says now. It follows that clock back, too:
        a node whose clock was an hour ahead for a moment must not stay an hour ahead, where no proposal
        of others is in time for it and none of its own for others. Block times rise all the same."""
        return faults.clock_ns() // 1000


def is_heavy(message: Message) -> bool:
    """Whether a message holds so many signatures that a worker thread should check them."""
    return isinstance(message, CERTIFICATES) or (isinstance(message, PrePrepare) and bool(message.acks))


def _commit_timed(ledger: Ledger, signer: NodeSigner, turn: Turn) -> float:
    """Commit while the signer's own thread writes its record; return how long that took, in seconds."""
    started = time.perf_counter()
    ledger.commit(turn)
    signer.finish()
    return time.perf_counter() - started
