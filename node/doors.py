"""Connections that have not said yet who they are: bounded in all, and for each address.

Where there is no room, the oldest of those goes that crowd the most: honest ones say hello within
milliseconds, so silent ones make way for them, whatever address they share. Addresses named in advance
(those of validators) have a room of their own, which strangers cannot take.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import trio


@dataclass(eq=False)
class Visitor:
    """A connection at the door; `scope` is cancelled when it has to make way."""

    address: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Door:
    """Who waits, by address and in order of arrival. `known` addresses do not count as strangers'."""

    def __init__(self, total_max: int, address_max: int, known: Collection[str] = ()) -> None:
        self.known = frozenset(known)
        self._total_max = total_max
        self._address_max = address_max
        self._waiting: dict[str, dict[Visitor, None]] = {}

    def enter(self, address: str) -> Visitor:
        """Take a connection in; whoever has to make way for it is cancelled."""
        if len(self._waiting.get(address, ())) >= self._address_max:
            self._evict(address)
        elif address not in self.known:
            crowds = {name: len(waiting) for name, waiting in self._waiting.items() if name not in self.known}
            if sum(crowds.values()) >= self._total_max:
                self._evict(max(crowds, key=crowds.__getitem__))
        visitor = Visitor(address)
        self._waiting.setdefault(address, {})[visitor] = None
        return visitor

    def leave(self, visitor: Visitor) -> None:
        """It said who it is, or went away. Harmless if it left already."""
        waiting = self._waiting.get(visitor.address, {})
        if visitor in waiting:
            del waiting[visitor]
            if not waiting:
                del self._waiting[visitor.address]

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _evict(self, address: str) -> None:
        oldest = next(iter(self._waiting[address]))
        self.leave(oldest)
        oldest.scope.cancel()


def address_of(stream: trio.SocketStream) -> str:
    """The host at the other end; empty if it left already."""
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return ""
