"""Micro-batch payloads that are held until they are executed, by digest.

Each origin has its own quota, so a validator that floods fills only its own share: its further
payloads are dropped until earlier ones ran. It bounds bytes and count: the replica must take note of
whatever the pool holds, or that would never be ordered and never leave. What the protocol asked for by
digest is always taken, since only ordered blocks ask, and the window bounds those.
"""

from collections import OrderedDict
from dataclasses import dataclass

from node.remembered import Remembered

DONE_MAX = 16_384  # executed digests remembered, so that late copies are not taken again
COUNT_MAX = 8_192  # payloads of one origin; with `WANTED_MAX` below what the replica takes note of
WANTED_MAX = 16_384  # digests asked for and not yet here


@dataclass(slots=True)
class _Held:
    payload: bytes
    origin: int
    durable: bool = False


class PayloadPool:
    """Payloads in memory. Not thread-safe: only the event loop touches it."""

    def __init__(self, bytes_per_origin: int) -> None:
        self._quota = bytes_per_origin
        self._held: dict[bytes, _Held] = {}
        self._used: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._wanted: OrderedDict[bytes, None] = OrderedDict()
        self._done = Remembered(DONE_MAX)

    def add(self, name: bytes, payload: bytes, origin: int) -> bool:
        """Hold a payload whose digest is `name`. False: held or executed already, or no room."""
        if name in self._held or (name in self._done and name not in self._wanted):
            return False
        if not self.has_room(name, len(payload), origin):
            return False
        self._wanted.pop(name, None)
        self._held[name] = _Held(payload, origin)
        self._used[origin] = self._used.get(origin, 0) + len(payload)
        self._counts[origin] = self._counts.get(origin, 0) + 1
        return True

    def has_room(self, name: bytes, size: int, origin: int) -> bool:
        """Whether a payload of `size` bytes from `origin` would be taken."""
        return name in self._wanted or (
            self._used.get(origin, 0) + size <= self._quota and self._counts.get(origin, 0) < COUNT_MAX
        )

    def is_known(self, name: bytes) -> bool:
        """Whether a payload is held, or ran lately and is not asked for again."""
        return name in self._held or (name in self._done and name not in self._wanted)

    def is_gone(self, name: bytes) -> bool:
        """Whether a payload was let go of, and did not come again."""
        return name in self._done and name not in self._held

    def want(self, names: tuple[bytes, ...]) -> None:
        """Take these whenever they come, whatever the quota says."""
        for name in names:
            self._wanted[name] = None
            self._wanted.move_to_end(name)
        while len(self._wanted) > WANTED_MAX:
            self._wanted.popitem(last=False)

    def get(self, name: bytes) -> bytes | None:
        """The payload, if it is held."""
        held = self._held.get(name)
        return None if held is None else held.payload

    def take_volatile(self, names: tuple[bytes, ...]) -> dict[bytes, bytes]:
        """Of these payloads, those held but not stored yet; from now on they count as stored."""
        fresh: dict[bytes, bytes] = {}
        for name in names:
            held = self._held.get(name)
            if held is not None and not held.durable:
                held.durable = True
                fresh[name] = held.payload
        return fresh

    def done(self, names: tuple[bytes, ...]) -> None:
        """These ran: let go of their payloads, which the ledger holds."""
        for name in names:
            held = self._held.pop(name, None)
            if held is not None:
                self._used[held.origin] -= len(held.payload)
                self._counts[held.origin] -= 1
            self._wanted.pop(name, None)
            self._done.add(name)

    def used(self, origin: int) -> int:
        """Bytes held for one origin."""
        return self._used.get(origin, 0)

    @property
    def size_bytes(self) -> int:
        """Bytes held altogether."""
        return sum(self._used.values())
