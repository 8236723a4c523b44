"""The newest executed blocks in memory, and the history behind them: what queries and receipts read."""

from collections import OrderedDict
from collections.abc import Callable

import trio

from engine.machine import Machine
from node.executor import ExecutedBlock
from node.history import History
from node.records import load_block
from node.services import ProvenBlock
from node.telemetry import Metrics

PROVEN_KEPT = 64  # blocks
ENVELOPES_KEPT = 65_536  # the history has older ones by then


class RecentBlocks:
    """Where execution stands, and finding what it did."""

    def __init__(self, machine: Machine, history: History, metrics: Metrics) -> None:
        self._history = history
        self._metrics = metrics
        self._proven: OrderedDict[int, ProvenBlock] = OrderedDict()
        self._envelopes: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self.callbacks: list[Callable[[ProvenBlock], None]] = []
        self.height = machine.height
        self.time_ms = machine.time_ms
        self.journal_root = machine.journal_root
        self.state_root_height = 0
        self.state_root = b""
        self.orders = self.fills = self.rejected = 0
        metrics.height.set(self.height)

    def add(self, executed: ExecutedBlock) -> None:
        """A block was executed."""
        result = executed.result
        self.height, self.time_ms, self.journal_root = result.height, result.time_ms, result.journal_root
        if executed.state_root:
            self.state_root_height, self.state_root = result.height, executed.state_root
        for name, index, *_ in result.envelopes:
            self._envelopes.setdefault(name, (result.height, index))
        while len(self._envelopes) > ENVELOPES_KEPT:
            self._envelopes.popitem(last=False)
        self._count(executed)

    def prove(self, block: ProvenBlock) -> None:
        """A block has its attestations: keep it for receipts, and tell who waits."""
        self._proven[block.height] = block
        while len(self._proven) > PROVEN_KEPT:
            self._proven.popitem(last=False)
        for callback in self.callbacks:
            callback(block)

    async def find_envelope(self, envelope_digest: bytes) -> tuple[int, int] | None:
        """(height, record index) of the first execution of an envelope."""
        place = self._envelopes.get(envelope_digest)
        if place is not None:
            return place
        return await trio.to_thread.run_sync(self._history.find_envelope, envelope_digest)

    async def load_block(self, height: int) -> ProvenBlock | None:
        """An executed and proven block."""
        block = self._proven.get(height)
        if block is not None:
            return block
        return await trio.to_thread.run_sync(load_block, self._history, height)

    def _count(self, executed: ExecutedBlock) -> None:
        counts = executed.result.counts
        self.orders += counts.orders
        self.fills += counts.fills
        self.rejected += counts.rejected
        self._metrics.height.set(self.height)
        self._metrics.blocks.inc()
        self._metrics.envelopes.inc(len(executed.result.envelopes))
        self._metrics.orders.inc(counts.orders)
        self._metrics.fills.inc(counts.fills)
        self._metrics.rejected.inc(counts.rejected)
