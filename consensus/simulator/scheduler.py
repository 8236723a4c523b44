"""Virtual time: a heap of callbacks, run one by one in the order of their time.

Two callbacks of the same microsecond run in the order they were scheduled, so a run depends on
its seed alone.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

SECOND_US = 1_000_000


class Scheduler:
    """Owns the virtual clock. `now_us` starts at 0 and only `run` moves it."""

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        self._order = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, time_us: int, callback: Callable[..., None], *args: Any) -> None:
        """Call `callback(*args)` at `time_us`, or now if that is past."""
        self._order += 1
        due_us = time_us if time_us > self.now_us else self.now_us
        heappush(self._heap, (due_us, self._order, callback, args))

    def after(self, delay_us: int, callback: Callable[..., None], *args: Any) -> None:
        """Call `callback(*args)` in `delay_us`."""
        self.at(self.now_us + delay_us, callback, *args)

    def run_until(self, time_us: int) -> None:
        """Run everything due up to and including `time_us`, then stand at that time."""
        heap = self._heap
        while heap and heap[0][0] <= time_us:
            self.now_us, _, callback, args = heappop(heap)
            self.events += 1
            callback(*args)
        self.now_us = max(self.now_us, time_us)

    def pending(self) -> int:
        """How many callbacks wait."""
        return len(self._heap)
