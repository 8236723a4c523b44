"""Replicas that lie. Each strategy wraps an otherwise correct core and bends what it sends.

A Byzantine replica holds its own key only; it may sign anything with it, send different things to
different peers, repeat what it saw, and claim votes of others it cannot sign. What its core does
to itself is its own affair: an exception inside merely silences it.

Twins (Bano et al., OPODIS 2021): two correct cores under one key, each talking to its own half of
the cluster, produce most known attacks without anybody having to think of them.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from consensus.certificates import compute_proposals
from consensus.messages import (
    Attest,
    BatchPayload,
    Block,
    Commit,
    CommitCert,
    Complain,
    FetchBatches,
    FetchBlocks,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
)
from consensus.primitives.crypto import SIGNATURE_SIZE, Signer
from consensus.proofs import CheckpointCert, Vote, signing_digest
from consensus.quorum import ReplicaSet
from consensus.simulator.mutation import mutate
from consensus.simulator.node import SendMessage, SimNode
from consensus.simulator.scheduler import Scheduler

MEMORY_MAX = 256  # messages a replaying replica remembers
FORGE_RATE = 0.1
MUTATE_RATE = 0.2
REPLAY_RATE = 0.2
FLOOD_RATE = 0.05
FLOOD_SIZE = 20


class Liar:
    """The outgoing side of a Byzantine replica: by default, it passes everything on unchanged."""

    def __init__(
        self, node_id: int, replicas: ReplicaSet, signer: Signer, rng: Random, send: SendMessage
    ) -> None:
        self.id = node_id
        self.replicas = replicas
        self.rng = rng
        self._signer = signer
        self._network_send = send

    def send(self, sender: int, to: int, message: Message) -> None:
        """The core wants `message` sent to `to`."""
        self.put(to, message)

    def heard(self, message: Message) -> None:
        """The core is about to receive `message`."""

    def put(self, to: int, message: Message) -> None:
        """Really send."""
        self._network_send(self.id, to, message)

    def sign(self, kind: str, view: int, seq: int, body: bytes) -> bytes:
        """Sign a vote with the replica's own key."""
        return self._signer.sign(
            signing_digest(self.replicas.chain_id, self.replicas.epoch, kind, view, seq, body)
        )

    def resign(self, message: Message) -> Message:
        """Give a bent message a valid signature, if it is one that this replica signs."""
        match message:
            case PrePrepare(view, block, _) if self.replicas.primary(view) == self.id:
                return replace(message, signature=self.sign("pre-prepare", view, block.seq, block.digest))
            case Prepare(view, seq, name, replica, _) if replica == self.id:
                return replace(message, signature=self.sign("prepare", view, seq, name))
            case Commit(view, seq, name, replica, _) if replica == self.id:
                return replace(message, signature=self.sign("commit", view, seq, name))
            case Attest() if message.replica == self.id:
                kind = "checkpoint" if message.state else "attest"
                return replace(message, signature=self.sign(kind, 0, message.seq, message.result_digest))
            case Complain(view, replica, _) if replica == self.id:
                return replace(message, signature=self.sign("complain", view, 0, b""))
            case ViewChange() if message.replica == self.id:
                return replace(
                    message, signature=self.sign("view-change", message.view, 0, message.body_digest)
                )
            case NewView() if message.replica == self.id:
                return replace(message, signature=self.sign("new-view", message.view, 0, message.body_digest))
            case _:
                return message


class Silent(Liar):
    """Hears everything, says nothing."""

    def send(self, sender: int, to: int, message: Message) -> None:
        return


class Withholding(Liar):
    """Proposes, but gives payloads to few, and votes only now and then."""

    def send(self, sender: int, to: int, message: Message) -> None:
        if isinstance(message, BatchPayload) and to % 2 == 0:
            return
        if isinstance(message, Prepare | Commit | Complain) and self.rng.random() < 0.5:
            return
        self.put(to, message)


class Bending(Liar):
    """As primary, proposes a bent block to those who are targets, and votes for it towards them."""

    def __init__(
        self, node_id: int, replicas: ReplicaSet, signer: Signer, rng: Random, send: SendMessage
    ) -> None:
        super().__init__(node_id, replicas, signer, rng, send)
        self._bent: dict[bytes, Block] = {}

    def is_target(self, to: int) -> bool:
        """Whether `to` is told the bent block."""
        return True

    def bend(self, block: Block) -> Block:
        """The block to propose instead."""
        return block

    def send(self, sender: int, to: int, message: Message) -> None:
        if self.is_target(to):
            match message:
                case PrePrepare(view, block, _) if self.replicas.primary(view) == self.id and block.batches:
                    bent = self._bent.get(block.digest)
                    if bent is None:
                        bent = self._bent[block.digest] = self.bend(block)
                    message = self.resign(replace(message, block=bent))
                case Prepare(_, _, name, replica, _) | Commit(_, _, name, replica, _) if replica == self.id:
                    bent = self._bent.get(name)
                    message = self.resign(replace(message, digest=bent.digest)) if bent else message
                case _:
                    pass
        self.put(to, message)


class Equivocating(Bending):
    """Tells one half of the cluster of one block, the other half of another, and votes for both."""

    def is_target(self, to: int) -> bool:
        return to % 2 == 1

    def bend(self, block: Block) -> Block:
        return _other_block(block)


class Repeating(Bending):
    """Proposes batches again that were committed long ago, so that somebody may have forgotten them."""

    def __init__(
        self, node_id: int, replicas: ReplicaSet, signer: Signer, rng: Random, send: SendMessage
    ) -> None:
        super().__init__(node_id, replicas, signer, rng, send)
        self._old: dict[bytes, None] = {}

    def heard(self, message: Message) -> None:
        if isinstance(message, PrePrepare):
            self._old.update(dict.fromkeys(message.block.batches))

    def bend(self, block: Block) -> Block:
        old = [name for name in self._old if name not in block.batches]
        self._old.update(dict.fromkeys(block.batches))
        count = min(len(old), self.rng.randint(0, 2))
        return replace(block, batches=block.batches + tuple(self.rng.sample(old, count)))


class Mutating(Liar):
    """Changes a field here and there, and signs the result again where it can (ByzzFuzz, OOPSLA 2023)."""

    def send(self, sender: int, to: int, message: Message) -> None:
        if self.rng.random() < MUTATE_RATE:
            bent = mutate(message, self.rng)
            message = self.resign(bent) if self.rng.random() < 0.7 else bent
        self.put(to, message)


class Replaying(Liar):
    """Repeats old messages, its own and others', to anybody."""

    def __init__(
        self, node_id: int, replicas: ReplicaSet, signer: Signer, rng: Random, send: SendMessage
    ) -> None:
        super().__init__(node_id, replicas, signer, rng, send)
        self._memory: list[Message] = []

    def heard(self, message: Message) -> None:
        if len(self._memory) < MEMORY_MAX:
            self._memory.append(message)
        elif self.rng.random() < 0.1:
            self._memory[self.rng.randrange(MEMORY_MAX)] = message

    def send(self, sender: int, to: int, message: Message) -> None:
        self.heard(message)
        self.put(to, message)
        if self.rng.random() < REPLAY_RATE:
            self.put(to, self._memory[self.rng.randrange(len(self._memory))])


class Forging(Liar):
    """Claims votes and certificates of others, with signatures that it cannot make."""

    def send(self, sender: int, to: int, message: Message) -> None:
        self.put(to, message)
        if self.rng.random() < FORGE_RATE:
            for forged in self._forge(message):
                self.put(to, forged)

    def _forge(self, message: Message) -> list[Message]:
        match message:
            case PrePrepare(view, block, _) | CommitCert(view, block, _):
                other = _other_block(block)
                votes = tuple(Vote(i, self._noise()) for i in self.replicas.ids)
                stolen: list[Message] = [
                    Commit(view, block.seq, other.digest, i, self._noise()) for i in self._all()
                ]
                return [PrePrepare(view, other, self._noise()), CommitCert(view, other, votes), *stolen]
            case Prepare(view, seq, name, _, _) | Commit(view, seq, name, _, _):
                return [Commit(view, seq + 1, name, i, self._noise()) for i in self._all()]
            case Attest(seq, block_digest, journal_root, state):
                votes = tuple(Vote(i, self._noise()) for i in self.replicas.ids)
                other_state = replace(state, root=self.rng.randbytes(32)) if state else None
                fakes: list[Message] = [
                    Attest(seq, block_digest, self.rng.randbytes(32), other_state, i, self._noise())
                    for i in self._all()
                ]
                if other_state:
                    fakes.append(CheckpointCert(seq, block_digest, journal_root, other_state, votes))
                return fakes
            case Complain(view):
                return [Complain(view, i, self._noise()) for i in self._all()]
            case ViewChange():
                return [replace(message, replica=i, signature=self._noise()) for i in self._all()]
            case _:
                return []

    def _all(self) -> tuple[int, ...]:
        return self.replicas.ids

    def _noise(self) -> bytes:
        return self.rng.randbytes(SIGNATURE_SIZE)


class Amnesiac(Liar):
    """Leaves out of its view changes what it prepared, and out of its new views what others prepared."""

    def send(self, sender: int, to: int, message: Message) -> None:
        match message:
            case ViewChange(replica=replica) if replica == self.id:
                message = self.resign(replace(message, prepared=()))
            case NewView(replica=replica, proposals=proposals) if replica == self.id and proposals:
                message = self.resign(replace(message, proposals=self._emptied(proposals)))
            case _:
                pass
        self.put(to, message)

    def _emptied(self, proposals: tuple[PrePrepare, ...]) -> tuple[PrePrepare, ...]:
        emptied = [self.resign(replace(p, block=Block.null(p.block.seq))) for p in proposals]
        return tuple(p for p in emptied if isinstance(p, PrePrepare))


class Splitting(Liar):
    """Starts a view in two valid ways: each half sees other view changes, so perhaps other blocks."""

    def __init__(
        self, node_id: int, replicas: ReplicaSet, signer: Signer, rng: Random, send: SendMessage
    ) -> None:
        super().__init__(node_id, replicas, signer, rng, send)
        self._changes: dict[int, ViewChange] = {}
        self._other: dict[int, NewView] = {}

    def heard(self, message: Message) -> None:
        if isinstance(message, ViewChange):
            self._changes[message.replica] = message

    def send(self, sender: int, to: int, message: Message) -> None:
        if isinstance(message, NewView) and message.replica == self.id and to % 2:
            if message.view not in self._other:
                self._other[message.view] = self._start_otherwise(message)
            message = self._other[message.view]
        self.put(to, message)

    def _start_otherwise(self, message: NewView) -> NewView:
        """Own view change without what it prepared, and the last n−f of all rather than the first."""
        changes = {change.replica: change for change in message.view_changes}
        changes |= {i: change for i, change in self._changes.items() if change.view == message.view}
        own = changes.get(self.id)
        if own is not None:
            bare = self.resign(replace(own, prepared=()))
            changes[self.id] = bare if isinstance(bare, ViewChange) else own
        chosen = tuple(changes[i] for i in sorted(changes)[-self.replicas.collect :])
        _, blocks = compute_proposals(chosen)
        proposals = tuple(
            PrePrepare(message.view, block, self.sign("pre-prepare", message.view, block.seq, block.digest))
            for block in blocks
        )
        other = self.resign(replace(message, view_changes=chosen, proposals=proposals))
        return other if isinstance(other, NewView) else message


class Flooding(Liar):
    """Signs votes for every place and view it can think of, to fill what others keep for later."""

    def send(self, sender: int, to: int, message: Message) -> None:
        self.put(to, message)
        if self.rng.random() < FLOOD_RATE:
            for _ in range(FLOOD_SIZE):
                self.put(to, self._invent(message))

    def _invent(self, message: Message) -> Message:
        view, seq = self._place(message)
        later, ahead = view + self.rng.choice((0, 0, 1, 2, 1000)), seq + self.rng.randint(0, 300)
        name, root = self.rng.randbytes(32), self.rng.randbytes(32)
        empty = b""
        return self.resign(
            self.rng.choice(
                (
                    Prepare(later, ahead, name, self.id, empty),
                    Commit(later, ahead, name, self.id, empty),
                    PrePrepare(later, Block(ahead, 1, (name,)), empty),
                    Attest(ahead, name, root, None, self.id, empty),
                    Complain(later, self.id, empty),
                    ViewChange(later + 1, None, (), (), self.id, empty),
                    Status(later, True, ahead, None, True),
                    FetchBlocks(max(1, seq), seq + 100),
                    FetchBatches((name,)),
                )
            )
        )

    def _place(self, message: Message) -> tuple[int, int]:
        match message:
            case PrePrepare(view, block, _):
                return view, block.seq
            case Prepare(view, seq) | Commit(view, seq):
                return view, seq
            case Status(view, _, committed):
                return view, committed
            case _:
                return 0, 0


class ByzantineNode(SimNode):
    """A node with a lying mouth. Its own mistakes only silence it."""

    liar: Liar

    def receive(self, sender: int, message: Message) -> None:
        self.liar.heard(message)
        super().receive(sender, message)

    def _run_turn(self, incarnation: int) -> None:
        try:
            super()._run_turn(incarnation)
        except Exception:
            self._note("byzantine_core_failed")
            self.crash()

    def _execute(self, incarnation: int) -> None:
        try:
            super()._execute(incarnation)
        except Exception:
            self._note("byzantine_core_failed")
            self.crash()


class TwinsNode:
    """One identity, two correct cores; each hears and reaches only its side, redrawn now and then."""

    def __init__(self, node_id: int, n: int, scheduler: Scheduler, rng: Random, gap_us: int) -> None:
        self.id = node_id
        self.cores: list[ByzantineNode] = []
        self._peers = [peer for peer in range(n) if peer != node_id]
        self._scheduler = scheduler
        self._rng = rng
        self._gap_us = gap_us
        self._side: dict[int, int] = {}
        self._redraw()

    def _redraw(self) -> None:
        self._side = {peer: self._rng.randint(0, 1) for peer in self._peers}
        self._scheduler.after(int(self._gap_us * (0.5 + self._rng.random())), self._redraw)

    def filter(self, core: int, send: SendMessage) -> SendMessage:
        """What core number `core` may use to send."""

        def put(sender: int, to: int, message: Message) -> None:
            if self._side.get(to) == core:
                send(sender, to, message)

        return put

    @property
    def up(self) -> bool:
        return any(core.up for core in self.cores)

    def start(self) -> None:
        for core in self.cores:
            if not core.up:
                core.start()

    def crash(self) -> None:
        for core in self.cores:
            core.crash()

    def doom(self, kill: Callable[[], None]) -> None:
        self.cores[0].doom(kill)

    def pause(self, duration_us: int) -> None:
        for core in self.cores:
            core.pause(duration_us)

    def connected(self, peer: int) -> None:
        self.cores[self._side.get(peer, 0)].connected(peer)

    def submit(self, payload: bytes) -> None:
        for core in self.cores:
            core.submit(payload)

    def receive(self, sender: int, message: Message) -> None:
        self.cores[self._side.get(sender, 0)].receive(sender, message)


MakeLiar = Callable[[int, ReplicaSet, Signer, Random, SendMessage], Liar]

LIARS: dict[str, MakeLiar] = {
    "silent": Silent,
    "equivocate": Equivocating,
    "repeat": Repeating,
    "flood": Flooding,
    "mutate": Mutating,
    "replay": Replaying,
    "forge": Forging,
    "withhold": Withholding,
    "amnesia": Amnesiac,
    "split": Splitting,
    "twins": Liar,
}


def _other_block(block: Block) -> Block:
    return replace(block, time_ms=block.time_ms + 1)
