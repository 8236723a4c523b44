"""The smallest deterministic state machine: a hash chain over every micro-batch it has not seen yet.

It stands for the engine. Its journal root covers its predecessor; a batch that appears a second
time changes nothing, as an envelope's nonce sees to in the engine. Some batches change validators.
"""

from collections.abc import Sequence

from consensus.effects import Executed
from consensus.messages import Block
from consensus.primitives.crypto import PUBLIC_KEY_SIZE, ZERO_DIGEST, digest
from consensus.primitives.errors import ensure
from consensus.proofs import Epoch, Member, StateSummary
from consensus.simulator.snapshot import Snapshot

PAYLOAD_MAGIC = b"sim1"
CHANGE_MAGIC = b"simC"
_HEAD = len(PAYLOAD_MAGIC) + 1 + 8
_ENTRY = 8 + PUBLIC_KEY_SIZE
_SEAL = 16
REMOVED = bytes(PUBLIC_KEY_SIZE)
CHANGES_MAX = 16


def make_payload(number: int, orders: int) -> bytes:
    """A well-formed micro-batch: magic, how many orders it stands for, and what makes it unique."""
    return PAYLOAD_MAGIC + bytes([orders]) + number.to_bytes(8, "little")


def make_change(number: int, *changes: tuple[int, bytes]) -> bytes:
    """A micro-batch that schedules new validators: (id, key), or (id, REMOVED). None: a wedge."""
    entries = [replica.to_bytes(8, "little") + key for replica, key in changes]
    body = CHANGE_MAGIC + bytes([1]) + number.to_bytes(8, "little") + b"".join(entries)
    return body + _seal(body)


def is_well_formed(payload: bytes) -> bool:
    """What a node's admission would say of a micro-batch from a peer."""
    if payload.startswith(PAYLOAD_MAGIC):
        return len(payload) == _HEAD
    entries, rest = divmod(len(payload) - _HEAD - _SEAL, _ENTRY)
    is_change = payload.startswith(CHANGE_MAGIC) and 0 <= entries <= CHANGES_MAX and rest == 0
    return is_change and payload.endswith(_seal(payload[:-_SEAL]))


def _seal(body: bytes) -> bytes:
    """Stands for the venue's signature: a liar that changes a change has nothing that counts."""
    return digest("simulator.change", body)[:_SEAL]


class ChainApp:
    """State: height, block time, the chain's head, the validators, and the digests executed so far.

    `owner` is the node it runs on; no result may depend on it. A change scheduled at block s takes
    effect at the first checkpoint at or after s + `window`; while one is pending, others are refused.
    """

    def __init__(self, checkpoint_interval: int, owner: int = 0, epoch: Epoch | None = None, window: int = 0):
        self.owner = owner
        self.height = 0
        self.time_ms = 0
        self.journal_root = ZERO_DIGEST
        self.executed: dict[bytes, int] = {}
        self.repeats = 0
        self.epoch = epoch or Epoch(0, 1, (Member(0, bytes(PUBLIC_KEY_SIZE)),))
        self.boundary = 0
        self.ran: tuple[bytes, ...] = ()  # what the last block ran
        self._interval = checkpoint_interval
        self._window = window
        self._members = self.epoch.members  # from the boundary on
        self._used = {member.id for member in self._members}  # looked up, never iterated
        self._state = ZERO_DIGEST

    def apply(self, block: Block, payloads: Sequence[bytes]) -> Executed:
        """Run the next block; return what the replica is told."""
        ensure(block.seq == self.height + 1, f"block {block.seq} executed at height {self.height}")
        if 0 < self.boundary < block.seq:
            self.boundary = 0  # the chain was wedged, and goes on
        ran = []
        for name, payload in zip(block.batches, payloads, strict=True):
            if self.is_repeat(name):
                self.repeats += 1
                continue
            ran.append(name)
            self.executed[name] = block.seq
            self._state = digest("kontor.sim-state", self._state, payload)
            if payload.startswith(CHANGE_MAGIC):
                self._schedule(block.seq, payload)
        self.ran = tuple(ran)
        self.height = block.seq
        self.time_ms = max(self.time_ms, block.time_ms)
        self.journal_root = digest(
            "kontor.sim-journal",
            self.journal_root,
            block.digest,
            self.time_ms.to_bytes(8, "little"),
            self._state,
        )
        if self.height % self._interval:
            return Executed(block.seq, block.digest, self.journal_root, boundary=self.boundary)
        self._change()
        summary = StateSummary(self._state, (self._state,), self.epoch.digest, self.boundary)
        return Executed(block.seq, block.digest, self.journal_root, summary, self.epoch, self.boundary)

    def _schedule(self, seq: int, payload: bytes) -> None:
        """Note a change, unless one is pending or some of it cannot be."""
        if self.boundary:
            return
        keys = {member.id: member.key for member in self._members}
        for at in range(_HEAD, len(payload) - _SEAL, _ENTRY):
            replica, key = int.from_bytes(payload[at : at + 8], "little"), payload[at + 8 : at + _ENTRY]
            is_due = replica in keys or (key != REMOVED and replica not in self._used)
            if not is_due or keys.get(replica) == key:
                return  # a part of it was done or undone meanwhile: whoever wants the rest orders that
            if key == REMOVED:
                del keys[replica]
            else:
                keys[replica] = key
        if keys and len(set(keys.values())) == len(keys):
            self._members = tuple(Member(replica, key) for replica, key in sorted(keys.items()))
            self._used.update(keys)
            self.boundary = -(-(seq + self._window) // self._interval) * self._interval

    def _change(self) -> None:
        """At the boundary the next epoch starts; where it would have the same validators, the chain stops."""
        if self.height == self.boundary and self._members != self.epoch.members:
            self.epoch = Epoch(self.epoch.number + 1, self.height + 1, self._members)
            self.boundary = 0

    def take(self, result: Executed) -> Snapshot:
        """The state after the block of `result`, which is a checkpoint."""
        return Snapshot(
            self.height,
            self.time_ms,
            self.journal_root,
            self._state,
            tuple(self.executed.items()),
            self.epoch,
            self.boundary,
            self._members,
            frozenset(self._used),
            result,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from another node's state."""
        self.height, self.time_ms = snapshot.height, snapshot.time_ms
        self.journal_root, self._state = snapshot.journal_root, snapshot.state
        self.executed = dict(snapshot.executed)
        self.epoch, self.boundary = snapshot.epoch, snapshot.boundary
        self._members, self._used = snapshot.members, set(snapshot.used)

    def is_repeat(self, name: bytes) -> bool:
        """Whether a batch ran before, so that it must not run again."""
        return name in self.executed
