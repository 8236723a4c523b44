"""The order loop, one operation at a time: the same kernel, called for parts of a block.

Operations run as `execute_orders` runs them in one call: first whatever leaves early, in listing order, then
everything else, in which TERMS and the order that they belong to are one step.
"""

from collections.abc import Callable, Iterator

import numpy as np

from engine.layout import Core
from engine.matching.admit import FILLS_PER_ORDER_MAX
from engine.matching.kernels import execute_orders
from engine.matching.progress import PROGRESS_LENGTH, Progress
from engine.records import JOURNAL, Code, Op
from engine.tables.table import kernel_view

_DONE_EARLY = 255
_LEAVING = (Op.CANCEL, Op.REDUCE, Op.CANCEL_ALL)

Before = Callable[[np.void], None]  # the operation that is about to run
After = Callable[[np.void, np.void, np.ndarray], None]  # the operation, its RESULT line, what it caused
IsWanted = Callable[[np.void], bool]


class Stepper:
    """Runs a block's operations and stops at those that `is_wanted` says yes to."""

    def __init__(self, core: Core, ops: np.ndarray, codes: np.ndarray) -> None:
        self._core = core
        self._ops = ops
        self._codes = codes
        self.results = np.zeros(ops.shape[0], dtype=JOURNAL)
        self._events = np.zeros(ops.shape[0] + FILLS_PER_ORDER_MAX, dtype=JOURNAL)
        self._used = 0

    @property
    def events(self) -> np.ndarray:
        """(n,) JOURNAL: what happened so far."""
        return self._events[: self._used]

    def run(self, is_wanted: IsWanted, before: Before, after: After) -> None:
        """Execute the whole block."""
        ops, codes = self._ops, self._codes
        for i in np.flatnonzero(np.isin(ops["op"], _LEAVING) & (codes == Code.OK)).tolist():
            wanted = is_wanted(ops[i])
            if wanted:
                before(ops[i])
            start, own = self._used, np.zeros(1, dtype=np.uint8)
            self._call(ops[i : i + 1], own, self.results[i : i + 1], 0, 0)
            if own[0] == _DONE_EARLY:
                codes[i] = _DONE_EARLY
            if wanted and (own[0] == _DONE_EARLY or self._used > start):
                after(ops[i], self.results[i], self._events[start : self._used])
        first = 0
        for i, end in _steps(ops):
            if codes[end - 1] == _DONE_EARLY or not is_wanted(ops[end - 1]):
                continue
            self._call_late(first, i)
            before(ops[end - 1])
            start, first = self._used, end
            self._call_late(i, end)
            after(ops[end - 1], self.results[end - 1], self._events[start : self._used])
        self._call_late(first, ops.shape[0])

    def _call_late(self, start: int, end: int) -> None:
        if start < end:
            self._call(self._ops[:end], self._codes[:end], self.results[:end], 1, start)

    def _call(self, ops: np.ndarray, codes: np.ndarray, results: np.ndarray, number: int, first: int) -> None:
        progress = np.zeros(PROGRESS_LENGTH, dtype=np.int64)
        progress[Progress.PASS], progress[Progress.NEXT_OP] = number, first
        progress[Progress.EVENTS] = self._used
        arrays = (kernel_view(ops), codes, kernel_view(results))
        while not execute_orders(self._core, *arrays, kernel_view(self._events), progress):
            used, needed = int(progress[Progress.EVENTS]), int(progress[Progress.EVENTS_NEEDED])
            longer = np.zeros(max(2 * self._events.shape[0], used + needed), dtype=JOURNAL)
            longer[:used] = self._events[:used]
            self._events = longer
        self._used = int(progress[Progress.EVENTS])


def _steps(ops: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of operations: TERMS together with what comes behind them."""
    start = 0
    for i, op in enumerate(ops["op"].tolist()):
        if op != Op.TERMS or i + 1 == ops.shape[0]:
            yield start, i + 1
            start = i + 1
