"""Events waiting for the loop: bounded for each peer, so that none starves another or the node itself."""

from collections import defaultdict, deque

import trio

from consensus.effects import Event, Received
from consensus.log import weigh

PEER_EVENTS_MAX = 4096  # messages of one peer that wait, by weight; then its link is not read
TURN_EVENTS_MAX = 2048  # events of one turn: bounds how long a turn takes


class Inbox:
    """Events in order of arrival, and a wake-up for the loop."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        # Of those validators that ever had a link here.
        self._waiting: defaultdict[int, int] = defaultdict(int)
        self._room: defaultdict[int, trio.Event] = defaultdict(trio.Event)
        self._filled = trio.Event()

    def put(self, event: Event) -> None:
        """Add an event of the node itself; these are few and bounded where they arise."""
        self._events.append(event)
        self._filled.set()

    async def put_received(self, event: Received) -> None:
        """Add a peer's message; waits while too many of that peer's are waiting."""
        while self._waiting[event.sender] >= PEER_EVENTS_MAX:
            self._room[event.sender] = trio.Event()
            await self._room[event.sender].wait()
        self._waiting[event.sender] += weigh(event.message)
        self.put(event)

    async def wait(self) -> None:
        """Return once there is an event."""
        while not self._events:
            self._filled = trio.Event()
            await self._filled.wait()

    def take(self) -> list[Event]:
        """Up to `TURN_EVENTS_MAX` events; empty if none wait."""
        taken = [self._events.popleft() for _ in range(min(len(self._events), TURN_EVENTS_MAX))]
        for event in taken:
            if isinstance(event, Received):
                self._waiting[event.sender] -= weigh(event.message)
                self._room[event.sender].set()
        return taken

    def __len__(self) -> int:
        return len(self._events)
