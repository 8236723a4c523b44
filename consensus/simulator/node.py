"""One simulated node: inbox, turns, one durable commit per turn, timers, executor, crash and restart.

A turn takes everything in the inbox through `Replica.step`, commits what must be durable with the
disk's delay, and only then lets out messages, timers and blocks to execute. Events that arrive
meanwhile wait for the next turn. A crash may fall before the commit, after it, or amid the sends.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from consensus.durable import VoteLog
from consensus.effects import (
    BatchReady,
    Blame,
    Broadcast,
    CancelTimer,
    Connected,
    Diverged,
    Effect,
    Erase,
    Event,
    Execute,
    Executed,
    Persist,
    Received,
    Send,
    SendBatches,
    SendBlocks,
    SetTimer,
    Stable,
    StoreBatches,
    StoreBlock,
    TimerFired,
)
from consensus.messages import BatchPayload, Block, FetchBatches, Message, batch_digest
from consensus.replica import Replica
from consensus.simulator.app import ChainApp
from consensus.simulator.disk import Disk
from consensus.simulator.scheduler import Scheduler

EPOCH_US = 1_795_000_000 * 1_000_000  # the virtual clock's zero, as a date
INBOX_MAX = 8192
POOL_MAX = 4096
PAYLOAD_MAX = 1024
PAYLOAD_MAGIC = b"sim1"
EXECUTE_QUEUE_MAX = 512

DURABLE = frozenset((Persist, Erase, StoreBatches, StoreBlock))


def make_payload(number: int, orders: int) -> bytes:
    """A well-formed micro-batch: magic, how many orders it stands for, and what makes it unique."""
    return PAYLOAD_MAGIC + bytes([orders]) + number.to_bytes(8, "little")


def is_well_formed(payload: bytes) -> bool:
    """What a node's admission would say of a micro-batch from a peer."""
    return len(payload) <= PAYLOAD_MAX and payload.startswith(PAYLOAD_MAGIC) and len(payload) == 13


class Observer(Protocol):
    """Who watches every step of an honest node; raises when a rule is broken."""

    def on_turn(self, node: "SimNode", effects: Sequence[Effect]) -> None: ...

    def on_durable(self, node: "SimNode", effects: Sequence[Effect]) -> None: ...

    def on_send(self, node: "SimNode", message: Message) -> None: ...

    def on_execute(self, node: "SimNode", block: Block, journal_root: bytes) -> None: ...

    def on_restart(self, node: "SimNode") -> None: ...


@dataclass(frozen=True)
class Timing:
    """Speeds of one node, µs; `clock_skew_us` may be negative."""

    commit_us: int
    execute_us: int
    clock_skew_us: int


MakeReplica = Callable[["SimNode"], Replica]
SendMessage = Callable[[int, int, Message], None]


@dataclass(frozen=True)
class Site:
    """What a node is built from. `peers` are the ids a broadcast reaches, in order."""

    node_id: int
    peers: tuple[int, ...]
    scheduler: Scheduler
    rng: Random
    timing: Timing
    checkpoint_interval: int
    make_replica: MakeReplica


class SimNode:
    """Runs one replica at its site; sends by `send`, watched by `observer` if it is honest."""

    def __init__(self, site: Site, send: SendMessage, observer: Observer | None) -> None:
        self.id = site.node_id
        self.peers = site.peers
        self.timing = site.timing
        self.disk = Disk()
        self.up = False
        self.incarnation = 0
        self.counters: dict[str, int] = {}
        self._past_counters: dict[str, int] = {}
        self.observer = observer
        self._scheduler = site.scheduler
        self._rng = site.rng
        self._interval = site.checkpoint_interval
        self._make_replica = site.make_replica
        self._send = send
        self._reset_memory()

    def _reset_memory(self) -> None:
        self.app = ChainApp(self._interval, self.id)
        self.pool: dict[bytes, bytes] = {}
        self.wanted: set[bytes] = set()  # asked for by the replica; looked up, never iterated
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
        return EPOCH_US + self._scheduler.now_us + self.timing.clock_skew_us

    # Life and death

    def start(self) -> None:
        """Boot from what is durable: replay committed blocks, then start the replica."""
        self._reset_memory()
        self.incarnation += 1
        self.up = True
        self._replay()
        self.replica = self._make_replica(self)
        if self.observer:
            self.observer.on_restart(self)
        effects = list(self.replica.start(self.now_us))
        for name, payload in self.disk.batches.items():
            if name not in self.disk.listed:
                self._inbox.append(_batch_ready(name, payload, self.id))
        for seq in range(self.app.height + 1, self.disk.committed + 1):
            self._to_execute.append(self.disk.blocks[seq].block)
        self._execute_next()
        self._commit(effects)

    def _replay(self) -> None:
        """Run stored blocks again: up to the stable checkpoint at least, the rest now or by the executor."""
        stable = VoteLog(lambda effect: None, self.disk.votes).low
        last = self.disk.committed
        if self._rng.random() < 0.5:
            last = self._rng.randint(min(stable, last), last)
        self.replayed = []
        for seq in range(1, last + 1):
            block = self.disk.blocks[seq].block
            result = self.app.apply(block, [self.disk.batches[name] for name in block.batches])
            if seq >= stable:
                self.replayed.append(result)

    def crash(self) -> None:
        """Lose what is not durable; a commit under way is drawn to be lost, kept, or partly sent."""
        if not self.up:
            return
        turn = self._turn
        if turn is not None and self._rng.random() < 0.5:
            self._note("crash.after_commit")
            self._make_durable(turn)
            messages = [effect for effect in turn if isinstance(effect, Send | Broadcast)]
            for effect in messages[: self._rng.randint(0, len(messages))]:
                self._transmit(effect)
        elif turn is not None:
            self._note("crash.before_commit")
        else:
            self._note("crash.between_turns")
        self._past_counters = self.all_replica_counters()
        self.up = False
        self.incarnation += 1
        self._reset_memory()

    def all_replica_counters(self) -> dict[str, int]:
        """What the replica counted, over all its lives."""
        total = dict(self._past_counters)
        if self.up:
            for name, value in self.replica.counters.items():
                total[name] = total.get(name, 0) + value
        return total

    def doom(self, kill: Callable[[], None]) -> None:
        """Call `kill` during the next durable commit: the moment that matters most."""
        self._doom = kill

    def pause(self, duration_us: int) -> None:
        """Do nothing for a while; messages pile up."""
        self._paused_until = max(self._paused_until, self._scheduler.now_us + duration_us)

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
            self._send(self.id, peer, BatchPayload(payload))

    def _hold(self, payload: bytes, origin: int) -> None:
        if not is_well_formed(payload):
            self._note("payload_refused")
            return
        name = batch_digest(payload)
        if name in self.disk.listed and name not in self.wanted:
            self._note("batch_of_stored_block")
            return
        self.wanted.discard(name)
        if name not in self.pool and name not in self.disk.batches:
            if len(self.pool) >= POOL_MAX:
                self._note("pool_full")
                return
            self.pool[name] = payload
        self._enqueue(_batch_ready(name, payload, origin))

    def _enqueue(self, event: Event) -> None:
        if len(self._inbox) >= INBOX_MAX:
            self._note("inbox_full")
            return
        self._inbox.append(event)
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
            effects += step(event, now_us)
        if self.observer:
            self.observer.on_turn(self, effects)
        self._commit(effects)

    def _commit(self, effects: list[Effect]) -> None:
        if not DURABLE.isdisjoint(map(type, effects)):
            self._turn = effects
            delay = int(self.timing.commit_us * (0.5 + self._rng.random()))
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
        self.disk.apply(effects, self.pool)
        if self.observer:
            self.observer.on_durable(self, effects)

    def _release(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._carry_out(effect)
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
            case SetTimer(name, delay_us):
                self._set_timer(name, delay_us)
            case CancelTimer(name):
                self._timers.pop(name, None)
            case Stable(seq):
                self._drop_from_pool(seq)
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
            self._send(self.id, effect.to, message)
        else:
            for peer in self.peers:
                self._send(self.id, peer, message)

    def _send_batches(self, to: int, digests: tuple[bytes, ...]) -> None:
        for name in digests:
            payload = self.pool.get(name) or self.disk.batches.get(name)
            if payload is not None:
                self._send(self.id, to, BatchPayload(payload))

    def _send_blocks(self, to: int, first: int, last: int) -> None:
        self._note("blocks_served")
        for seq in range(first, last + 1):
            if seq in self.disk.blocks:
                self._send(self.id, to, self.disk.blocks[seq])

    def _drop_from_pool(self, stable: int) -> None:
        self._note("stable")
        for name in [name for name in self.pool if name in self.disk.batches]:
            del self.pool[name]

    # Timers

    def _set_timer(self, name: str, delay_us: int) -> None:
        self._timer_count += 1
        self._timers[name] = self._timer_count
        self._scheduler.after(delay_us, self._fire, self.incarnation, name, self._timer_count)

    def _fire(self, incarnation: int, name: str, token: int) -> None:
        if incarnation == self.incarnation and self._timers.get(name) == token:
            del self._timers[name]
            self._enqueue(TimerFired(name))

    # Executor

    def _execute_next(self) -> None:
        if self._to_execute and not self._executing:
            self._executing = True
            delay = int(self.timing.execute_us * (0.5 + self._rng.random()))
            self._scheduler.after(delay, self._execute, self.incarnation)

    def _execute(self, incarnation: int) -> None:
        if incarnation != self.incarnation:
            return
        self._executing = False
        block = self._to_execute.popleft()
        payloads = [self.pool.get(name) or self.disk.batches[name] for name in block.batches]
        result = self.app.apply(block, payloads)
        if self.observer:
            self.observer.on_execute(self, block, result.journal_root)
        self._enqueue(result)
        self._execute_next()

    def _note(self, what: str) -> None:
        name = f"node.{what}"
        self.counters[name] = self.counters.get(name, 0) + 1


def _batch_ready(name: bytes, payload: bytes, origin: int) -> BatchReady:
    return BatchReady(name, payload[len(PAYLOAD_MAGIC)], len(payload), origin)
