"""A handful of replicas on one table: messages in order, timers by hand, disks that never fail.

The simulator is for weather; this is for scenes: each test says who hears what.
"""

from collections import deque
from collections.abc import Callable, Mapping

from consensus.effects import (
    BatchReady,
    Blame,
    Broadcast,
    CancelTimer,
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
    StoreBatches,
    StoreBlock,
    TimerFired,
)
from consensus.messages import CODEC, BatchPayload, Block, CommitCert, Message
from consensus.primitives.crypto import Verifier, digest
from consensus.replica import Replica, ReplicaConfig
from consensus.signing import VoteSigner
from tests.helpers.votes import TIME_MS, Voters, name_of

CONFIG = ReplicaConfig(window=8, checkpoint_interval=4)
DURABLE = (Persist, Erase, StoreBatches, StoreBlock)

Rule = Callable[[int, int, Message], bool]


class Seat:
    """One replica, its disk, and what it did."""

    def __init__(self, replica_id: int) -> None:
        self.id = replica_id
        self.votes: dict[bytes, bytes] = {}
        self.blocks: dict[int, CommitCert] = {}
        self.batches: set[bytes] = set()
        self.pool: set[bytes] = set()
        self.timers: dict[str, int] = {}
        self.executed: list[Block] = []
        self.results: list[Executed] = []
        self.effects: list[Effect] = []
        self.up = False
        self.replica: Replica

    def blames(self) -> list[tuple[int, str]]:
        return [(e.replica, e.reason) for e in self.effects if isinstance(e, Blame)]

    def of(self, kind: type) -> list[Effect]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def said(self, kind: type) -> list[Message]:
        """Messages of one kind it sent or broadcast, in order."""
        sent = [effect.message for effect in self.effects if isinstance(effect, Send | Broadcast)]
        return [message for message in sent if isinstance(message, kind)]


class Group:
    """n replicas. `drops(sender, to, message)` says what gets lost; `liars` compute other roots."""

    def __init__(self, n: int = 4, config: ReplicaConfig = CONFIG, voters: Voters | None = None) -> None:
        self.voters = voters or Voters(n, config.window, config.checkpoint_interval)
        self.config = config
        self.now_us = TIME_MS * 1000
        self.seats = [Seat(replica_id) for replica_id in range(n)]
        self.liars: set[int] = set()
        self.drops: Rule = lambda sender, to, message: False
        self._queue: deque[tuple[int, Event]] = deque()
        for seat in self.seats:
            self.start(seat.id)
        self.run()

    def __getitem__(self, replica_id: int) -> Replica:
        return self.seats[replica_id].replica

    def signer(self, replica_id: int) -> VoteSigner:
        return self.voters.keyring.signers[replica_id]

    def verifier(self) -> Verifier:
        return self.voters.keyring

    # Life

    def start(self, replica_id: int, durable: Mapping[bytes, bytes] | None = None) -> None:
        """Boot from disk, as a node does after a crash."""
        seat = self.seats[replica_id]
        committed = max(seat.blocks, default=0)
        seat.pool, seat.timers, seat.up = set(seat.batches), {}, True
        seat.executed = [seat.blocks[seq].block for seq in range(1, committed + 1)]
        seat.results = [self._run(replica_id, block) for block in seat.executed]
        seat.replica = Replica(
            replica_id,
            self.voters.replicas,
            [self.signer(replica_id)],
            self.verifier(),
            self.config,
            dict(seat.votes) if durable is None else durable,
            committed,
            committed,
            seat.results,
        )
        self._carry_out(seat, seat.replica.start(self.now_us))
        listed = {name for cert in seat.blocks.values() for name in cert.block.batches}
        for name in sorted(seat.batches - listed):
            self.feed(replica_id, BatchReady(name, 1, 100, replica_id))

    def crash(self, replica_id: int) -> None:
        """Everything that is not on disk is gone; messages under way to it, too."""
        self.seats[replica_id].up = False
        self._queue = deque(item for item in self._queue if item[0] != replica_id)

    # Events

    def submit(self, *numbers: int, to: tuple[int, ...] | None = None) -> None:
        """Batches reach the given replicas, or all."""
        for number in numbers:
            for seat in self.seats:
                if to is None or seat.id in to:
                    seat.pool.add(name_of(number))
                    self._queue.append((seat.id, BatchReady(name_of(number), 1, 100, 0)))

    def hold(self, to: int, *numbers: int) -> None:
        """Batches reach one replica, at once."""
        for number in numbers:
            self.seats[to].pool.add(name_of(number))
            self.feed(to, BatchReady(name_of(number), 1, 100, to))

    def deliver(self, to: int, message: Message, sender: int | None = None) -> None:
        """`message` arrives at `to` from `sender`, by default from the replica it names."""
        origin = getattr(message, "replica", (to + 1) % len(self.seats)) if sender is None else sender
        self.feed(to, Received(origin, message))

    def feed(self, to: int, event: Event) -> None:
        """One event for one replica, at once; what it sends waits for `run`."""
        seat = self.seats[to]
        self._carry_out(seat, seat.replica.step(event, self.now_us))

    def run(self) -> None:
        """Deliver until nothing is under way."""
        for _ in range(200_000):
            if not self._queue:
                return
            to, event = self._queue.popleft()
            if self.seats[to].up:
                self.feed(to, event)
        raise AssertionError("the replicas never stop talking")

    def wait(self, duration_us: int) -> None:
        """Let time pass: timers fire in order, and every message arrives at once."""
        end = self.now_us + duration_us
        self.run()
        while True:
            due = [(at, s.id, name) for s in self.seats if s.up for name, at in s.timers.items() if at <= end]
            if not due:
                break
            at, replica_id, name = min(due)
            self.now_us = max(self.now_us, at)
            del self.seats[replica_id].timers[name]
            self.feed(replica_id, TimerFired(name))
            self.run()
        self.now_us = end

    # Effects

    def _carry_out(self, seat: Seat, effects: list[Effect]) -> None:
        """First all that must be durable, then the rest, as every node does."""
        seat.effects += effects
        for effect in effects:
            if isinstance(effect, DURABLE):
                self._make_durable(seat, effect)
        for effect in effects:
            self._carry_out_one(seat, effect)

    def _make_durable(self, seat: Seat, effect: Effect) -> None:
        match effect:
            case Persist(key, value):
                seat.votes[key] = value
            case Erase(key):
                seat.votes.pop(key, None)
            case StoreBatches(digests):
                assert set(digests) <= seat.pool | seat.batches, "stores a batch that it does not hold"
                seat.batches.update(digests)
            case StoreBlock(cert):
                assert cert.block.seq == max(seat.blocks, default=0) + 1, "stores out of order"
                assert set(cert.block.batches) <= seat.batches, "stores a block without its payloads"
                seat.blocks[cert.block.seq] = cert

    def _carry_out_one(self, seat: Seat, effect: Effect) -> None:
        match effect:
            case Broadcast(message):
                for other in self.seats:
                    if other.id != seat.id:
                        self._post(seat.id, other.id, message)
            case Send(to, message):
                self._post(seat.id, to, message)
            case SendBatches(to, digests):
                for name in digests:
                    if name in seat.pool and not self.drops(seat.id, to, BatchPayload(name)):
                        self.seats[to].pool.add(name)
                        self._queue.append((to, BatchReady(name, 1, 100, seat.id)))
            case SendBlocks(to, first, last):
                for seq in range(first, last + 1):
                    self._post(seat.id, to, seat.blocks[seq])
            case Execute(block):
                seat.executed.append(block)
                seat.results.append(self._run(seat.id, block))
                self._queue.append((seat.id, seat.results[-1]))
            case SetTimer(name, 0):  # "when this turn is durable": the next turn is now
                self.feed(seat.id, TimerFired(name))
            case SetTimer(name, delay_us):
                seat.timers[name] = self.now_us + delay_us
            case CancelTimer(name):
                seat.timers.pop(name, None)
            case _:
                pass

    def _post(self, sender: int, to: int, message: Message) -> None:
        assert CODEC.decode(CODEC.encode(message)) == message
        if not self.drops(sender, to, message):
            self._queue.append((to, Received(sender, message)))

    def _run(self, replica_id: int, block: Block) -> Executed:
        salt = b"wrong" if replica_id in self.liars else b""
        root = digest("test.root", block.digest, salt)
        is_checkpoint = block.seq % self.config.checkpoint_interval == 0
        state = self.voters.summarise(digest("test.state", root)) if is_checkpoint else None
        return Executed(block.seq, block.digest, root, state)

    # What tests ask

    def isolate(self, *replica_ids: int) -> None:
        """Cut replicas off from everybody."""
        self.drops = lambda sender, to, message: sender in replica_ids or to in replica_ids

    def heal(self) -> None:
        self.drops = lambda sender, to, message: False

    def heights(self) -> list[int]:
        return [len(seat.executed) for seat in self.seats]

    def views(self) -> list[int]:
        return [seat.replica.view for seat in self.seats]

    def check_agreement(self) -> None:
        """One history: what two replicas executed is equal as far as both came."""
        longest = max((seat.executed for seat in self.seats), key=len)
        for seat in self.seats:
            assert seat.executed == longest[: len(seat.executed)]
            assert [block.seq for block in seat.executed] == list(range(1, len(seat.executed) + 1))
