"""One simulated node: inbox, turns, one durable commit per turn, timers, executor, crash and restart.

A turn takes everything in the inbox through `Replica.step`, commits what must be durable with the
disk's delay, and only then lets out messages, timers and blocks to execute. Events that arrive
meanwhile wait for the next turn. A crash may fall before the commit, after it, or amid the sends.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from consensus.durable import HEAL, VoteLog, plan_heal
from consensus.effects import (
    BatchReady,
    Blame,
    Broadcast,
    CancelTimer,
    CheckManifest,
    Connected,
    Diverged,
    Effect,
    Erase,
    Event,
    Execute,
    Executed,
    ForgetBatches,
    InstallState,
    Persist,
    Received,
    Send,
    SendBatches,
    SendBlocks,
    SendChunks,
    SendManifest,
    SetTimer,
    Stable,
    StageChunk,
    SwapState,
    TimerFired,
)
from consensus.messages import BatchPayload, Block, FetchBatches, Message, batch_digest
from consensus.primitives.errors import ensure
from consensus.signing import Floor, RecordingSigner, VoteRecord
from consensus.simulator.app import PAYLOAD_MAGIC, ChainApp, is_well_formed
from consensus.simulator.disk import DURABLE, DiskCorrupted
from consensus.simulator.site import EPOCH_US, Observer, SendMessage, Site
from consensus.simulator.snapshot import Snapshot
from consensus.simulator.sync import StateSync

INBOX_MAX = 8192
POOL_MAX = 4096
SLOWNESS = 20  # how many times longer everything takes on a node that is slow for a while

DURABLE_KINDS = frozenset(DURABLE)


class SimNode:
    """Runs one replica at its site; sends by `send`, watched by `observer` if it is honest.

    `broken` says why a node stopped by itself: it found a damaged record on its disk. The operator
    restarts it, or gives it an empty disk.
    """

    def __init__(self, site: Site, send: SendMessage, observer: Observer | None) -> None:
        self.id = site.node_id
        self.address = site.address
        self.peers = site.peers
        self.timing = site.timing
        self.disk = site.disk
        self.signer: RecordingSigner | None = None  # lives as long as the disk
        self.up = False
        self.broken = ""
        self.incarnation = 0
        self.counters: dict[str, int] = {}
        self._past_counters: dict[str, int] = {}
        self.observer = observer
        self._site = site
        self._scheduler = site.scheduler
        self._rng = site.rng
        self._send = send
        self._clock_jump_us = 0
        self._slow_until = 0
        self._reset_memory()

    def _reset_memory(self) -> None:
        site = self._site
        self.app = ChainApp(site.checkpoint_interval, self.id, site.genesis, site.window)
        self.sync = StateSync(self, site.library, site.checkpoint_interval)
        self.pool: dict[bytes, bytes] = {}
        self.wanted: set[bytes] = set()  # asked for by the replica; looked up, never iterated
        self.gone: set[bytes] = set()  # let go of by the replica; looked up, never iterated
        self.votes: dict[bytes, bytes] = {}
        self.replayed: list[Executed] = []
        self._inbox: list[Event] = []
        self._turn_scheduled = False
        self._turn: list[Effect] | None = None
        self._timers: dict[str, int] = {}
        self._timer_count = 0
        self._to_execute: deque[Block] = deque()
        self._executing = False
        self._paused_until = 0
        self._doom: Callable[[], None] | None = None

    @property
    def now_us(self) -> int:
        """What this node's clock shows."""
        return EPOCH_US + self._scheduler.now_us + self.timing.clock_skew_us + self._clock_jump_us

    # Life and death

    def start(self) -> None:
        """Boot from what is durable: replay committed blocks, then start the replica."""
        self._reset_memory()
        self.incarnation += 1
        self.broken = ""
        try:
            self._boot()
        except DiskCorrupted as fault:
            self._break(fault)

    def _boot(self) -> None:
        completed = self.disk.recover()
        if completed and self.observer:
            self.observer.on_durable(self, completed)
        self.votes = self.disk.read_votes()
        self._replay()
        self.replica = self._site.make_replica(self)
        self.up = True
        if self.observer:
            self.observer.on_restart(self)
        effects = list(self.replica.start(self.now_us))
        for name, payload in self.disk.batches.items():
            if name not in self.disk.listed:
                self._inbox.append(_batch_ready(name, payload, self.id))
        if not self._heals:
            for seq in range(self.app.height + 1, self.disk.committed + 1):
                self._to_execute.append(self.disk.read_block(seq).block)
            self._execute_next()
        self._commit(effects)

    @property
    def _heals(self) -> bool:
        """Whether nothing may run before a state came from others."""
        return HEAL in self.votes

    def plan_heal(self) -> None:
        """While it is stopped: have the next start begin with state transfer."""
        completed = self.disk.recover()
        if completed and self.observer:
            self.observer.on_durable(self, completed)
        for key, value in plan_heal(self.disk.votes, self.disk.committed).items():
            self.disk.apply([Erase(key) if value is None else Persist(key, value)], {})

    def _replay(self) -> None:
        """Run stored blocks again: up to the stable checkpoint at least, the rest now or by the executor."""
        stable = VoteLog(lambda effect: None, self.votes).low
        last = self.disk.committed
        self.replayed = []
        if self._heals:
            return
        if self.disk.snapshot is not None:
            self._restore(self.disk.snapshot[1])
        base = self.app.height
        if self._rng.random() < 0.5:
            last = self._rng.randint(max(base, min(stable, last)), last)
        for seq in range(base + 1, last + 1):
            block = self.disk.read_block(seq).block
            result = self.app.apply(block, [self._payload(name) for name in block.batches])
            if seq >= stable:
                self.replayed.append(result)

    def _restore(self, snapshot: Snapshot) -> None:
        """Start from a checkpoint's state rather than from genesis; now and then, drop what led to it."""
        self.app.restore(snapshot)
        self.replayed.append(snapshot.result)
        if self._rng.random() < 0.5 and self.disk.oldest <= snapshot.height:
            self._note("prunes")
            self.disk.prune(snapshot.height)

    def _payload(self, name: bytes) -> bytes:
        payload = self.pool.get(name) or self.disk.read_batch(name)
        ensure(payload is not None, f"batch {name.hex()[:8]} of a committed block is not stored")
        return payload or b""

    def crash(self) -> None:
        """Lose what is not durable; a commit under way is drawn to be lost, torn, kept, or partly sent."""
        if not self.up:
            return
        turn = self._turn
        if turn is None:
            self._note("crash.between_turns")
        elif self._rng.random() < 0.4:
            self._note("crash.after_commit")
            self._make_durable(turn)
            messages = [effect for effect in turn if isinstance(effect, Send | Broadcast)]
            for effect in messages[: self._rng.randint(0, len(messages))]:
                self._transmit(effect)
        elif self._site.torn_rate:
            self._note("crash.amid_commit")
            self.disk.tear(turn, self.pool, self._site.torn_rate)
        else:
            self._note("crash.before_commit")
        self._lose_or_keep_signatures()
        self._die()

    def _die(self) -> None:
        self._past_counters = self.all_replica_counters()
        self.up = False
        self.incarnation += 1
        self._reset_memory()

    def _break(self, fault: DiskCorrupted) -> None:
        """Stop loudly: nothing leaves a node that cannot trust its own disk."""
        self._note("stopped_by_disk")
        self._die()
        self.broken = str(fault)
        self._site.on_broken(self)

    def wipe(self) -> None:
        """Replace the disk by an empty one; what this replica promised is forgotten."""
        self.crash()
        self._note("wipes")
        self.disk.wipe()
        if self.signer:
            self.signer.record = VoteRecord()
        if self.observer:
            self.observer.on_wipe(self)

    def _lose_or_keep_signatures(self) -> None:
        """The signer's record is flushed beside the turn: it may be ahead of what the crash left of it."""
        if self.signer is None:
            return
        fresh = self.signer.take_fresh()
        if self.incarnation % 3 == 0:
            for place, _ in fresh:
                self.signer.record.places.pop(place, None)
        elif fresh:
            self._note("crash.signed_ahead")

    def all_replica_counters(self) -> dict[str, int]:
        """What the replica counted, over all its lives."""
        total = dict(self._past_counters)
        if self.up:
            for name, value in self.replica.counters.items():
                total[name] = total.get(name, 0) + value
        return total

    # Nuisances

    def doom(self, kill: Callable[[], None]) -> None:
        """Call `kill` during the next durable commit: the moment that matters most."""
        self._doom = kill

    def pause(self, duration_us: int) -> None:
        """Do nothing for a while; messages pile up."""
        self._paused_until = max(self._paused_until, self._scheduler.now_us + duration_us)

    def slow(self, duration_us: int) -> None:
        """Commit and execute slowly for a while."""
        self._slow_until = max(self._slow_until, self._scheduler.now_us + duration_us)

    def jump_clock(self, leap_us: int) -> None:
        """From now on the clock is off by `leap_us` besides its skew."""
        self._clock_jump_us = leap_us

    def soothe(self) -> None:
        """An end to all of it; the skew that was there from the start stays."""
        self._clock_jump_us = self._slow_until = self._paused_until = 0
        self.timing = replace(self.timing, timer_late_rate=0.0)
        self.disk.faults = None
        self._doom = None
        self._schedule_turn()

    def _lasts(self, mean_us: int) -> int:
        slowness = SLOWNESS if self._slow_until > self._scheduler.now_us else 1
        return int(mean_us * slowness * (0.5 + self._rng.random()))

    # In

    def receive(self, sender: int, message: Message) -> None:
        """A message came over the link of `sender`."""
        if not self.up:
            return
        if isinstance(message, BatchPayload):
            self._hold(message.payload, sender)
        else:
            self._enqueue(Received(sender, message))

    def connected(self, peer: int) -> None:
        """The link to `peer` came up."""
        if self.up:
            self._enqueue(Connected(peer))

    def submit(self, payload: bytes) -> None:
        """A client hands over a micro-batch: keep it and pass it on to all."""
        if not self.up:
            return
        self._hold(payload, self.id)
        for peer in self.peers:
            self._send(self.address, peer, BatchPayload(payload))

    def _hold(self, payload: bytes, origin: int) -> None:
        if not is_well_formed(payload):
            self._note("payload_refused")
            return
        name = _batch_digest(payload)
        if (name in self.disk.listed or name in self.gone) and name not in self.wanted:
            self._note("batch_of_stored_block")
            return
        self.wanted.discard(name)
        if name not in self.pool and name not in self.disk.batches:
            if len(self.pool) >= POOL_MAX:
                self._note("pool_full")
                return
            self.pool[name] = payload
        self.gone.discard(name)
        self._enqueue(_batch_ready(name, payload, origin))

    def tell(self, event: Event) -> None:
        """Something happened on this node that its replica must know."""
        self._enqueue(event)

    def send(self, to: int, message: Message) -> None:
        """Send what the node serves by itself."""
        self._send(self.address, to, message)

    def _enqueue(self, event: Event) -> None:
        if len(self._inbox) >= INBOX_MAX:
            self._note("inbox_full")
            return
        self._inbox.append(event)
        if not self._turn_scheduled:
            self._schedule_turn()

    # Turns

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled and self._turn is None and self._inbox:
            self._turn_scheduled = True
            time_us = max(self._scheduler.now_us + 5 + int(self._rng.random() * 55), self._paused_until)
            self._scheduler.at(time_us, self._run_turn, self.incarnation)

    def _run_turn(self, incarnation: int) -> None:
        if incarnation != self.incarnation:
            return
        self._turn_scheduled = False
        if self._paused_until > self._scheduler.now_us:
            self._schedule_turn()
            return
        events, self._inbox = self._inbox, []
        now_us, step = self.now_us, self.replica.step
        effects: list[Effect] = []
        for event in events:
            if isinstance(event, BatchReady) and event.digest in self.gone:
                continue
            caused = step(event, now_us)
            for effect in caused:
                if isinstance(effect, ForgetBatches):
                    self._note("batches_forgotten")
                    self._forget(effect.digests)
            effects += caused
        if self.observer:
            self.observer.on_turn(self, effects)
        self._commit(effects)

    def _forget(self, digests: tuple[bytes, ...]) -> None:
        """Let go of payloads at once: what waits in the inbox of them is not news either."""
        for name in digests:
            self.pool.pop(name, None)
            self.wanted.discard(name)
            self.gone.add(name)

    def _commit(self, effects: list[Effect]) -> None:
        if not DURABLE_KINDS.isdisjoint(map(type, effects)):
            self._turn = effects
            delay = self._lasts(self.timing.commit_us)
            if self._doom:
                self._scheduler.after(self._rng.randint(0, delay), self._doom)
                self._doom = None
            self._scheduler.after(delay, self._committed, self.incarnation)
        else:
            self._release(effects)

    def _committed(self, incarnation: int) -> None:
        if incarnation != self.incarnation or self._turn is None:
            return
        effects, self._turn = self._turn, None
        self._make_durable(effects)
        self._release(effects)

    def _make_durable(self, effects: list[Effect]) -> None:
        stored = self.disk.committed
        self.disk.apply(effects, self.pool)
        if self.disk.snapshot and any(isinstance(effect, SwapState) for effect in effects):
            self._go_on_from(self.disk.snapshot[1], stored)
        if self.signer:
            self.signer.take_fresh()
        if self.observer:
            self.observer.on_durable(self, effects)

    def _go_on_from(self, snapshot: Snapshot, stored: int) -> None:
        """A fetched state took the place of our own: blocks above it run again, up to `stored`.

        What this turn delivers besides is to run after them, and comes as `Execute`, as ever.
        """
        self.app.restore(snapshot)
        for seq in range(snapshot.height + 1, stored + 1):
            self._note("stored_blocks_run")
            self._to_execute.append(self.disk.blocks[seq].block)
        self._execute_next()

    def _release(self, effects: list[Effect]) -> None:
        try:
            for effect in effects:
                self._carry_out(effect)
        except DiskCorrupted as fault:
            self._break(fault)
        self._schedule_turn()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send() | Broadcast():
                self._transmit(effect)
            case SendBatches(to, digests):
                self._send_batches(to, digests)
            case SendBlocks(to, first, last):
                self._send_blocks(to, first, last)
            case Execute(block):
                self._to_execute.append(block)
                self._execute_next()
            case SendManifest():
                self.sync.send_manifest(effect)
            case SendChunks():
                self.sync.send_chunks(effect)
            case CheckManifest():
                self.sync.check_manifest(effect)
            case StageChunk():
                self.sync.stage(effect)
            case InstallState():
                self._to_execute.clear()
                self.sync.install(effect)
            case SetTimer(name, delay_us):
                self._set_timer(name, delay_us)
            case CancelTimer(name):
                self._timers.pop(name, None)
            case Stable(seq):
                self._drop_from_pool(seq)
                self.sync.on_stable(seq)
                if self.signer and self.replica.active:
                    self.signer.record.raise_floor(Floor(self.replica.view, seq))
            case Blame(replica=_, reason=reason):
                self._note(f"blame.{reason}")
            case Diverged():
                self._note("diverged")

    # Out

    def _transmit(self, effect: Send | Broadcast) -> None:
        message = effect.message
        if isinstance(message, FetchBatches):
            self.wanted.update(message.digests)
        if self.observer:
            self.observer.on_send(self, message)
        if isinstance(effect, Send):
            self._send(self.address, effect.to, message)
        else:
            send, address = self._send, self.address
            for peer in self.peers:
                send(address, peer, message)

    def _send_batches(self, to: int, digests: tuple[bytes, ...]) -> None:
        for name in digests:
            payload = self.pool.get(name) or self.disk.read_batch(name)
            if payload is not None:
                self._send(self.address, to, BatchPayload(payload))

    def _send_blocks(self, to: int, first: int, last: int) -> None:
        self._note("blocks_served")
        for seq in range(first, last + 1):
            if seq in self.disk.blocks:
                self._send(self.address, to, self.disk.read_block(seq))

    def _drop_from_pool(self, stable: int) -> None:
        self._note("stable")
        for name in [name for name in self.pool if name in self.disk.batches]:
            del self.pool[name]

    # Timers

    def _set_timer(self, name: str, delay_us: int) -> None:
        self._timer_count += 1
        self._timers[name] = self._timer_count
        timing = self.timing
        if timing.timer_late_rate and self._rng.random() < timing.timer_late_rate:
            delay_us += int(self._rng.random() * timing.timer_late_us)
        self._scheduler.after(delay_us, self._fire, self.incarnation, name, self._timer_count)

    def _fire(self, incarnation: int, name: str, token: int) -> None:
        if incarnation == self.incarnation and self._timers.get(name) == token:
            del self._timers[name]
            self._enqueue(TimerFired(name))

    # Executor

    def _execute_next(self) -> None:
        if self._to_execute and not self._executing:
            self._executing = True
            self._scheduler.after(self._lasts(self.timing.execute_us), self._execute, self.incarnation)

    def _execute(self, incarnation: int) -> None:
        if incarnation != self.incarnation:
            return
        self._executing = False
        if not self._to_execute:
            return  # a whole state came instead
        block = self._to_execute.popleft()
        try:
            payloads = [self._payload(name) for name in block.batches]
        except DiskCorrupted as fault:
            self._break(fault)
            return
        result = self.app.apply(block, payloads)
        self.sync.on_executed(result)
        if self.observer:
            self.observer.on_execute(self, block, result)
        self._enqueue(result)
        self._execute_next()

    def _note(self, what: str) -> None:
        name = f"node.{what}"
        self.counters[name] = self.counters.get(name, 0) + 1


_batch_digest = lru_cache(maxsize=1024)(batch_digest)  # a batch comes to every node


def _batch_ready(name: bytes, payload: bytes, origin: int) -> BatchReady:
    return BatchReady(name, payload[len(PAYLOAD_MAGIC)], len(payload), origin)
