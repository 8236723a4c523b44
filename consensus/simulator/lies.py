"""Lies about order and views: what a primary proposes, what a voter says, what a new view starts with."""

from dataclasses import replace

from consensus.certificates import compute_proposals
from consensus.messages import (
    BatchPayload,
    Block,
    Commit,
    Complain,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    ViewChange,
)
from consensus.simulator.liar import Identity, Liar

SUBJECTS = (PrePrepare, Prepare, Commit, Complain, ViewChange, NewView, BatchPayload)


class Silent(Liar):
    """Hears everything, says nothing."""

    def send(self, source: int, to: int, message: Message) -> None:
        return


class Selective(Liar):
    """Falls silent towards some, or about some things, and changes its mind now and then."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)
        self._shunned: set[int] = set()
        self._unsaid: set[type] = set()
        self._patience = 0

    def send(self, source: int, to: int, message: Message) -> None:
        if self._patience == 0:
            self._choose()
        self._patience -= 1
        if to not in self._shunned and type(message) not in self._unsaid:
            self.put(to, message)

    def _choose(self) -> None:
        self._patience = self.rng.randint(10, 300)
        self._shunned = {peer for peer in self.replicas.ids if self.rng.random() < 0.3}
        self._unsaid = {kind for kind in SUBJECTS if self.rng.random() < 0.2}


class Withholding(Liar):
    """Proposes, but gives payloads to few, and votes only now and then."""

    def send(self, source: int, to: int, message: Message) -> None:
        if isinstance(message, BatchPayload) and to % 2 == 0:
            return
        if isinstance(message, Prepare | Commit | Complain) and self.rng.random() < 0.5:
            return
        self.put(to, message)


class Bending(Liar):
    """As primary, proposes a bent block to those who are targets, and votes for it towards them."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)
        self._bent: dict[bytes, Block] = {}

    def is_target(self, to: int) -> bool:
        """Whether `to` is told the bent block."""
        return True

    def bend(self, block: Block) -> Block:
        """The block to propose instead."""
        return block

    def send(self, source: int, to: int, message: Message) -> None:
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
        return other_block(block)


class Repeating(Bending):
    """Proposes batches again that were committed long ago, so that somebody may have forgotten them."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)
        self._old: dict[bytes, None] = {}

    def heard(self, message: Message) -> None:
        if isinstance(message, PrePrepare):
            self._old.update(dict.fromkeys(message.block.batches))

    def bend(self, block: Block) -> Block:
        old = [name for name in self._old if name not in block.batches]
        self._old.update(dict.fromkeys(block.batches))
        if old and self.rng.random() < 0.5:
            return replace(block, batches=(self.rng.choice(old),))  # a lone batch needs no receive times
        count = min(len(old), self.rng.randint(0, 2))
        return replace(block, batches=block.batches + tuple(self.rng.sample(old, count)))


class Amnesiac(Liar):
    """Leaves out of its view changes what it prepared, and out of its new views what others prepared."""

    def send(self, source: int, to: int, message: Message) -> None:
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

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)
        self._changes: dict[int, ViewChange] = {}
        self._other: dict[int, NewView] = {}

    def heard(self, message: Message) -> None:
        if isinstance(message, ViewChange):
            self._changes[message.replica] = message

    def send(self, source: int, to: int, message: Message) -> None:
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


def other_block(block: Block) -> Block:
    """A block that differs from `block` as little as can be."""
    return replace(block, time_ms=block.time_ms + 1)
