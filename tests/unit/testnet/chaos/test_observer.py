"""When all nodes count as level, and that who halted is remembered."""

from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from consensus.primitives.errors import LedgerError
from testnet.chaos.observer import Observer

pytestmark = pytest.mark.trio


class Heights:
    """Four nodes whose heights a test sets; None: no answer."""

    count = 4

    def __init__(self, *heights: int | None) -> None:
        self.heights = list(heights)
        self.halted = [""] * 4

    async def statuses(self, nodes: list[int]) -> dict[int, SimpleNamespace | None]:
        await trio.lowlevel.checkpoint()
        return {node: self._status(node) for node in nodes}

    def _status(self, node: int) -> SimpleNamespace | None:
        height = self.heights[node]
        return None if height is None else SimpleNamespace(executed=height, halted=self.halted[node])


async def wait_level(nodes: Heights, change=None) -> float:
    observer = Observer(nodes)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(observer.run)
        if change is not None:
            nursery.start_soon(change)
        began = trio.current_time()
        await observer.wait_level(10.0)
        nursery.cancel_scope.cancel()
    return trio.current_time() - began


async def test_equal_nodes_are_level_at_once(autojump_clock: MockClock):
    assert await wait_level(Heights(7, 7, 7, 7)) < 0.3


async def test_a_node_behind_is_waited_for(autojump_clock: MockClock):
    nodes = Heights(7, 7, 3, 7)

    async def catch_up() -> None:
        await trio.sleep(2.0)
        nodes.heights[2] = 7

    assert 2.0 <= await wait_level(nodes, catch_up) < 2.3


async def test_nodes_are_level_under_load_if_each_follows_within_a_poll(autojump_clock: MockClock):
    nodes = Heights(7, 7, 7, 7)

    async def grow() -> None:
        while True:
            await trio.sleep(0.01)
            nodes.heights = [height + 1 for height in nodes.heights if height is not None]

    assert await wait_level(nodes, grow) < 0.3


@pytest.mark.parametrize("silent_or_halted", [None, "full"])
async def test_a_node_that_does_not_answer_or_halted_is_not_level(autojump_clock, silent_or_halted):
    nodes = Heights(7, 7, None, 7) if silent_or_halted is None else Heights(7, 7, 7, 7)
    nodes.halted[2] = silent_or_halted or ""
    with pytest.raises(BaseExceptionGroup) as caught:
        await wait_level(nodes)
    assert caught.value.subgroup(LedgerError) is not None


async def test_who_halted_is_remembered_after_it_returned(autojump_clock: MockClock):
    nodes = Heights(7, 7, 7, 7)
    nodes.halted[2] = "the disk is full"
    observer = Observer(nodes)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(observer.run)
        await trio.sleep(0.2)
        nodes.halted[2] = ""
        await trio.sleep(0.2)
        nursery.cancel_scope.cancel()
    assert observer.halted == {2: "the disk is full"}
