"""Receive times: nobody's batch is put behind one that came later to everybody."""

from consensus.messages import Ack, Block
from consensus.simulator.checks.violations import fail
from consensus.simulator.node import SimNode


class Order:
    """When honest replicas say that each batch came to them."""

    def __init__(self) -> None:
        self._times: dict[bytes, tuple[int, int]] = {}  # earliest and latest that honest replicas signed

    def on_ack(self, message: Ack) -> None:
        """Remember when honest replicas say that a batch came to them."""
        for item in message.items:
            first, last = self._times.get(item.batch, (item.time_us, item.time_us))
            self._times[item.batch] = min(first, item.time_us), max(last, item.time_us)

    def check(self, node: SimNode, block: Block) -> None:
        """What every honest replica received later is never listed first."""
        latest = 0
        for name in block.batches:
            first, last = self._times.get(name, (0, 0))
            if 0 < last < latest:
                fail(node, f"block {block.seq} lists a batch before one that came earlier to everybody")
            latest = max(latest, first)
