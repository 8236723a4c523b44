"""Queries share the machine with blocks, and never get in their way."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from consensus.messages import Block
from node.executor import Executor

pytestmark = pytest.mark.trio


async def test_a_block_waits_for_one_query_however_many_are_asked(monkeypatch):
    unused: Any = None
    machine: Any = SimpleNamespace(height=0)
    executor = Executor(machine, 100, 60, *[unused] * 10)
    order: list[str] = []
    started, go_on = trio.Event(), trio.lowlevel.current_trio_token()
    monkeypatch.setattr(executor, "_apply", lambda block, payloads: order.append("block"))

    def read(_: Any) -> None:
        if not order:
            trio.from_thread.run_sync(started.set, trio_token=go_on)
            trio.from_thread.run(trio.testing.wait_all_tasks_blocked, 0.02, trio_token=go_on)
        order.append("query")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(executor.query, read)
            await started.wait()
            await trio.testing.wait_all_tasks_blocked()
            await executor._run(Block(1, 0, ()), [])
    assert order.index("block") <= 1
    assert order.count("query") == 50
