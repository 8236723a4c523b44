"""The newest executed blocks in memory, and the history behind them: what queries and receipts read."""

from collections import OrderedDict
from collections.abc import Callable

import trio

from consensus.primitives.errors import InputError
from engine.machine import Machine
from node.executor import ExecutedBlock
from node.history import History
from node.records import load_block
from node.services import ProvenBlock
from node.telemetry import Metrics
from node.wire import Refused

PROVEN_KEPT = 64  # blocks
PROVEN_BYTES_MAX = 32 << 20  # their journals; the newest stays, however long it is
ENVELOPES_KEPT = 32_768  # the history has older ones by then


class RecentBlocks:
    """Where execution stands, and finding what it did."""

    def __init__(self, machine: Machine, history: History, metrics: Metrics) -> None:
        self._history = history
        self._metrics = metrics
        self._proven: OrderedDict[int, ProvenBlock] = OrderedDict()
        self._proven_bytes = 0
        self._envelopes: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._refused: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
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
        if executed.state:
            self.state_root_height, self.state_root = result.height, executed.state.root
        for name, index, _, lines in result.envelopes:
            kept = self._envelopes if lines else self._refused
            kept.setdefault(name, (result.height, index))
            if len(kept) > ENVELOPES_KEPT:
                kept.popitem(last=False)
        self._count(executed)

    def start_at(self, machine: Machine) -> None:
        """The state was fetched from others: what this node did before is history."""
        self.height, self.time_ms, self.journal_root = machine.height, machine.time_ms, machine.journal_root
        self._metrics.height.set(self.height)

    def prove(self, block: ProvenBlock) -> None:
        """A block has its attestations: keep it for receipts, and tell who waits."""
        self._proven[block.height] = block
        self._proven_bytes += block.result.journal.nbytes
        while len(self._proven) > 1 and (
            len(self._proven) > PROVEN_KEPT or self._proven_bytes > PROVEN_BYTES_MAX
        ):
            _, oldest = self._proven.popitem(last=False)
            self._proven_bytes -= oldest.result.journal.nbytes
        for callback in self.callbacks:
            callback(block)

    async def find_envelope(self, envelope_digest: bytes) -> tuple[int, int] | None:
        """(height, record index) of an envelope's execution; if it was only ever refused, of that.

        A refused copy never hides an executed one: who asks wants to know what the envelope did.
        """
        place = self._envelopes.get(envelope_digest)
        if place is None:
            place = await trio.to_thread.run_sync(self._history.find_envelope, envelope_digest)
        if place is None:
            place = self._refused.get(envelope_digest)
        if place is None:
            place = await trio.to_thread.run_sync(self._history.find_refused, envelope_digest)
        return place

    async def load_block(self, height: int) -> ProvenBlock | None:
        """An executed and proven block. Raises `InputError` NOT_HELD if this node fetched a later state
        instead of running it."""
        block = self._proven.get(height)
        if block is None:
            block = await trio.to_thread.run_sync(load_block, self._history, height)
        base = self._history.base()
        if block is None and height <= base:
            raise InputError(
                Refused.NOT_HELD,
                f"this node holds blocks above {base}, since it fetched the state there: ask another node",
            )
        return block

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
