"""Journal lines that commands and end-of-block passes add, in the order in which things happen."""

import numpy as np

from engine.records import JOURNAL, Kind
from engine.tables.table import kernel_view


class Events:
    """A growing array of JOURNAL lines. Every byte of a line is written or zero."""

    def __init__(self) -> None:
        self._buffer = np.zeros(0, dtype=JOURNAL)
        self._used = 0

    @property
    def lines(self) -> np.ndarray:
        """(n,) JOURNAL: what was added so far."""
        return self._buffer[: self._used]

    def add(self, kind: Kind, **fields: int) -> None:
        """Add one line; fields that are not named are 0."""
        self.room(1)
        line = self._buffer[self._used]
        line["kind"] = kind
        for name, value in fields.items():
            line[name] = value
        self._used += 1

    def room(self, count: int) -> np.ndarray:
        """The next `count` lines as kernels take them, all zero. Call `took` when some are written."""
        needed = self._used + count
        if needed > self._buffer.shape[0]:
            longer = np.zeros(max(64, needed, 2 * self._buffer.shape[0]), dtype=JOURNAL)
            longer[: self._used] = self.lines
            self._buffer = longer
        self._buffer[self._used : needed].view(np.uint8)[:] = 0
        return kernel_view(self._buffer[self._used : needed])

    def took(self, count: int) -> None:
        """The first `count` lines that `room` gave are written."""
        self._used += count

    def append_to(self, journal: np.ndarray) -> np.ndarray:
        """`journal` with these lines behind its own."""
        return np.concatenate((journal, self.lines)) if self._used else journal
