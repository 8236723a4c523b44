"""What nodes say of themselves, asked all the time: when they are level again, who halted and why.

Nothing here decides whether a scenario passed, except that a node which must halt has to say so.
"""

from collections.abc import Iterable

import trio

from consensus.primitives.errors import LedgerError
from node.views import StatusView
from testnet.launcher import Launcher

POLL_SECONDS = 0.05


class Observer:
    """The newest status of each node, and every reason why one halted."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self.latest: dict[int, StatusView] = {}
        self.halted: dict[int, str] = {}

    async def run(self) -> None:
        """Ask until cancelled; a node that does not answer delays nobody else."""
        async with trio.open_nursery() as nursery:
            for node in range(self._launcher.count):
                nursery.start_soon(self._watch, node)

    async def wait_halted(self, nodes: Iterable[int]) -> None:
        """Return once each of `nodes` has said that it halted."""
        wanted = set(nodes)
        while not wanted <= set(self.halted):
            await trio.sleep(POLL_SECONDS)

    async def wait_level(self, seconds: float) -> None:
        """Return once every node has executed what any node had executed one poll earlier.

        The head moves on under load: a node counts as level when it is no further behind than a poll.
        Raises `LedgerError` after `seconds`.
        """
        self.latest.clear()
        head: int | None = None
        with trio.move_on_after(seconds):
            while True:
                heights = [status.executed for status in self.latest.values() if not status.halted]
                if len(heights) == self._launcher.count:
                    if head is not None and min(heights) >= head:
                        return
                    head = max(heights)
                await trio.sleep(POLL_SECONDS)
        heights_by_node = {node: status.executed for node, status in sorted(self.latest.items())}
        raise LedgerError(f"not all nodes were level {seconds:.0f} s after the last fault: {heights_by_node}")

    async def _watch(self, node: int) -> None:
        while True:
            status = (await self._launcher.statuses([node]))[node]
            if status is not None:
                self.latest[node] = status
                if status.halted:
                    self.halted[node] = status.halted
            await trio.sleep(POLL_SECONDS)
