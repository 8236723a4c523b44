"""Lies about anything: bent, repeated, outdated, invented and forged messages, and help that misleads."""

from collections import deque
from dataclasses import replace

from consensus.messages import (
    FETCH_MAX,
    Attest,
    BatchPayload,
    Block,
    Chunk,
    Commit,
    CommitCert,
    Complain,
    Epochs,
    FetchBatches,
    FetchBlocks,
    Manifest,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
)
from consensus.primitives.crypto import PUBLIC_KEY_SIZE, SIGNATURE_SIZE
from consensus.proofs import CheckpointCert, Epoch, EpochProof, Member, Vote
from consensus.quorum import epoch_of
from consensus.simulator.app import make_payload
from consensus.simulator.liar import Identity, Liar
from consensus.simulator.lies import other_block
from consensus.simulator.mutation import mutate

MEMORY_MAX = 256  # messages a replaying replica remembers
FORGE_RATE = 0.1
MUTATE_RATE = 0.2
REPLAY_RATE = 0.2
FLOOD_RATE = 0.05
FLOOD_SIZE = 20
MISLEAD_RATE = 0.5
STALE_RATE = 0.5


class Mutating(Liar):
    """Changes a field here and there, and signs the result again where it can (ByzzFuzz, OOPSLA 2023)."""

    def send(self, source: int, to: int, message: Message) -> None:
        if self.rng.random() < MUTATE_RATE:
            bent = mutate(message, self.rng)
            message = self.resign(bent) if self.rng.random() < 0.7 else bent
        self.put(to, message)


class Replaying(Liar):
    """Repeats old messages, its own and others', to anybody."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)
        self._memory: list[Message] = []

    def heard(self, message: Message) -> None:
        if len(self._memory) < MEMORY_MAX:
            self._memory.append(message)
        elif self.rng.random() < 0.1:
            self._memory[self.rng.randrange(MEMORY_MAX)] = message

    def send(self, source: int, to: int, message: Message) -> None:
        self.heard(message)
        self.put(to, message)
        if self.rng.random() < REPLAY_RATE:
            self.put(to, self._memory[self.rng.randrange(len(self._memory))])


class Outdated(Liar):
    """Shows old proofs for new ones: the first certificates and new views it ever saw, and its own past."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)
        self._first: dict[type, deque[Message]] = {}

    def heard(self, message: Message) -> None:
        if isinstance(message, CheckpointCert | CommitCert | NewView | ViewChange):
            kept = self._first.setdefault(type(message), deque(maxlen=4))
            if len(kept) < 4 or self.rng.random() < 0.02:
                kept.append(message)

    def send(self, source: int, to: int, message: Message) -> None:
        self.heard(message)
        if self.rng.random() < STALE_RATE:
            message = self._older(message)
        self.put(to, message)

    def _older(self, message: Message) -> Message:
        checkpoints = self._first.get(CheckpointCert)
        old = checkpoints[0] if checkpoints else None
        stable = old if isinstance(old, CheckpointCert) else None
        match message:
            case Status():
                return replace(message, committed=message.committed // 2, stable=stable)
            case ViewChange(replica=replica) if replica == self.id:
                low = stable.seq if stable else 0
                reach = tuple(cert for cert in message.prepared if cert.proposal.block.seq > low)
                return self.resign(replace(message, stable=stable, prepared=reach[: self.rng.randint(0, 4)]))
            case CheckpointCert() | CommitCert() | NewView():
                return self.rng.choice(self._first.get(type(message), deque([message])))
            case _:
                return message


class Misleading(Liar):
    """Offers help that is none: wrong blocks, wrong payloads, and a height and view that it never reached."""

    def send(self, source: int, to: int, message: Message) -> None:
        if self.rng.random() < MISLEAD_RATE:
            message = self._wrong(message)
        self.put(to, message)

    def _wrong(self, message: Message) -> Message:
        match message:
            case CommitCert(view, block, commits):
                if self.rng.random() < 0.5:
                    return CommitCert(view, other_block(block), commits)
                return CommitCert(view, replace(block, seq=block.seq + 1), commits)
            case BatchPayload(payload):
                return BatchPayload(payload[:-1] + bytes([payload[-1] ^ 1]))
            case Status(view, active, committed, stable, asks):
                far = self.rng.choice((1, 8, 10_000))
                return Status(view + far * self.rng.randrange(2), active, committed + far, stable, asks)
            case CheckpointCert():
                return replace(message, seq=message.seq * 2)
            case Manifest(data=data) | Chunk(data=data) if data:
                return replace(message, data=data[:-1] + bytes([data[-1] ^ 1]))
            case FetchBlocks(first):
                return FetchBlocks(1, min(first + 900, FETCH_MAX))
            case _:
                return message


class Forging(Liar):
    """Claims votes and certificates of others, with signatures that it cannot make."""

    def send(self, source: int, to: int, message: Message) -> None:
        self.put(to, message)
        if self.rng.random() < FORGE_RATE:
            for forged in self._forge(message):
                self.put(to, forged)

    def _forge(self, message: Message) -> list[Message]:
        match message:
            case PrePrepare(view, block, _) | CommitCert(view, block, _):
                other = other_block(block)
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
            case Status(view=view, stable=stable) if stable is not None:
                return [self._forge_epoch(epoch_of(view) + 1, stable)]
            case Complain(view):
                return [Complain(view, i, self._noise()) for i in self._all()]
            case ViewChange():
                return [replace(message, replica=i, signature=self._noise()) for i in self._all()]
            case _:
                return []

    def _forge_epoch(self, number: int, stable: CheckpointCert) -> Message:
        """Validators of its own choice from the last checkpoint on, with votes that nobody gave."""
        members = tuple(Member(i, self.rng.randbytes(PUBLIC_KEY_SIZE)) for i in self._all())
        epoch = Epoch(number, stable.seq + 1, members)
        votes = tuple(Vote(vote.replica, self._noise()) for vote in stable.votes)
        cert = replace(stable, state=replace(stable.state, epoch=epoch.digest), votes=votes)
        return Epochs((EpochProof(epoch, cert),))

    def _all(self) -> tuple[int, ...]:
        return self.replicas.ids

    def _noise(self) -> bytes:
        return self.rng.randbytes(SIGNATURE_SIZE)


class Flooding(Liar):
    """Signs votes for every place and view it can think of, to fill what others keep for later."""

    def send(self, source: int, to: int, message: Message) -> None:
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
                    BatchPayload(make_payload(self.rng.randrange(1 << 40, 1 << 41), 1)),
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
