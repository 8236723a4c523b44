"""Which micro-batches this replica holds, which wait for a proposal, and which it lacks.

Payloads never come here: a batch is a digest, a size, and when it came.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from consensus.effects import BatchReady
from consensus.messages import BATCHES_PER_BLOCK_MAX, Block

SETTLED_MAX = 16_384  # delivered batches remembered, so that a late copy is not proposed again


@dataclass(frozen=True, slots=True)
class Held:
    """A batch held and not yet delivered."""

    origin: int
    orders: int
    size: int
    since_us: int


@dataclass(slots=True)
class Wanted:
    """A batch that a proposal or committed block lists and this replica lacks."""

    source: int  # who said it exists: asked first
    blocks: list[bytes] = field(default_factory=list)
    asked_us: int | None = None
    attempts: int = 0


@dataclass(slots=True)
class Lacking:
    """A block that lacks `count` payloads."""

    seq: int
    count: int


class Batches:
    """Micro-batches by digest.

    held       everything not yet delivered, in order of arrival
    pending    held, and in no proposal of this view: what a primary proposes next, in that order
    waiting    pending, by origin
    wanted     lacking
    """

    def __init__(self, origin_max: int) -> None:
        self.held: dict[bytes, Held] = {}
        self.pending: dict[bytes, None] = {}
        self.waiting: dict[int, dict[bytes, None]] = {}
        self.wanted: dict[bytes, Wanted] = {}
        self._origin_max = origin_max
        self._counts: dict[int, int] = {}  # held, by origin
        self._assigned: set[bytes] = set()  # looked up, never iterated
        self._stored: set[bytes] = set()
        self._settled: dict[bytes, None] = {}
        self._lacking: dict[bytes, Lacking] = {}

    def has(self, digest: bytes) -> bool:
        """Whether the payload is at hand."""
        return digest in self.held or digest in self._settled or digest in self._stored

    def add(self, ready: BatchReady, now_us: int) -> list[int]:
        """Hold a batch; return the seqs of blocks that lacked only this one.

        A batch beyond `origin_max` of its origin is ignored unless a block lists it: no origin can take
        the room of another.
        """
        digest = ready.digest
        is_wanted = digest in self.wanted
        if (
            digest in self.held
            or digest in self._settled
            or (self._counts.get(ready.origin, 0) >= self._origin_max and not is_wanted)
        ):
            return []
        self.held[digest] = Held(ready.origin, ready.orders, ready.size, now_us)
        self._counts[ready.origin] = self._counts.get(ready.origin, 0) + 1
        if digest not in self._assigned:
            self._await(digest)
        return self._arrived(digest) if is_wanted else []

    def _await(self, digest: bytes) -> None:
        self.pending[digest] = None
        self.waiting.setdefault(self.held[digest].origin, {})[digest] = None

    def _take(self, digest: bytes) -> None:
        """It waits no more; call this while it is still held."""
        if digest in self.held:
            self.pending.pop(digest, None)
            self.waiting.get(self.held[digest].origin, {}).pop(digest, None)

    def _arrived(self, digest: bytes) -> list[int]:
        completed = []
        for name in self.wanted.pop(digest).blocks:
            lacking = self._lacking[name]
            lacking.count -= 1
            if lacking.count == 0:
                del self._lacking[name]
                completed.append(lacking.seq)
        return completed

    def want(self, block: Block, source: int) -> bool:
        """Whether every payload of `block` is at hand; those that are not become wanted."""
        if block.digest in self._lacking:
            return False
        missing = [digest for digest in block.batches if not self.has(digest)]
        if not missing:
            return True
        self._lacking[block.digest] = Lacking(block.seq, len(missing))
        for digest in missing:
            if digest not in self.wanted:
                self.wanted[digest] = Wanted(source)
            self.wanted[digest].blocks.append(block.digest)
        return False

    def note_stored(self, block: Block) -> None:
        """After a restart: the payloads of a block this replica voted for are durable."""
        self._stored.update(block.batches)

    def assign(self, block: Block) -> None:
        """The batches of `block` have a place: propose them nowhere else in this view."""
        for digest in block.batches:
            self._take(digest)
        self._assigned.update(block.batches)

    def is_settled(self, digest: bytes) -> bool:
        """Whether a block with this batch was delivered, as far back as that is remembered."""
        return digest in self._settled

    def choose(self, names: Iterable[bytes], orders_max: int, bytes_max: int) -> tuple[bytes, ...]:
        """The first of the held batches `names` that fit one block together; a single one always fits."""
        chosen: list[bytes] = []
        orders = size = 0
        for digest in names:
            batch = self.held[digest]
            orders += batch.orders
            size += batch.size
            if chosen and (orders > orders_max or size > bytes_max):
                break
            chosen.append(digest)
            if len(chosen) == BATCHES_PER_BLOCK_MAX:
                break
        return tuple(chosen)

    def fits(self, block: Block, orders_max: int, bytes_max: int) -> bool:
        """Whether a block keeps the limits. Batches that are no longer held were delivered: they count 0."""
        held = [self.held[digest] for digest in block.batches if digest in self.held]
        orders = sum(batch.orders for batch in held)
        size = sum(batch.size for batch in held)
        return len(block.batches) == 1 or (orders <= orders_max and size <= bytes_max)

    def settle(self, block: Block) -> None:
        """`block` goes to execution: its batches are done."""
        for digest in block.batches:
            self._take(digest)
            held = self.held.pop(digest, None)
            if held is not None:
                self._counts[held.origin] -= 1
            self._settled[digest] = None
        self._assigned.difference_update(block.batches)
        self._stored.difference_update(block.batches)
        while len(self._settled) > SETTLED_MAX:
            del self._settled[next(iter(self._settled))]

    def restart(self, blocks: Sequence[Block]) -> tuple[bytes, ...]:
        """Forget everything held that none of `blocks` lists, and what is wanted; return what was held."""
        listed = {digest for block in blocks for digest in block.batches}
        forgotten = tuple(digest for digest in self.held if digest not in listed)
        for digest in forgotten:
            self._counts[self.held.pop(digest).origin] -= 1
        self.start_view()
        for block in blocks:
            self.assign(block)
        return forgotten

    def start_view(self) -> None:
        """No proposal of earlier views counts any more: everything held is pending, nothing wanted."""
        self._assigned.clear()
        self.wanted.clear()
        self._lacking.clear()
        self.pending.clear()
        self.waiting.clear()
        for digest in self.held:
            self._await(digest)
