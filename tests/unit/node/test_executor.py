"""Queries share the machine with blocks, and never get in their way; stored blocks run, however many."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from consensus.messages import Block
from node import executor as executor_module
from node.executor import BLOCKS_MAX, SNAPSHOTS_MAX, Executor
from node.telemetry import Metrics

pytestmark = pytest.mark.trio


async def test_a_block_waits_for_one_query_however_many_are_asked(monkeypatch):
    unused: Any = None
    machine: Any = SimpleNamespace(height=0)
    executor = Executor(machine, 100, 60, *[unused] * 12)
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


async def test_stored_blocks_above_a_fetched_state_run_however_many(monkeypatch):
    ledger: Any = SimpleNamespace(block=lambda seq: SimpleNamespace(block=Block(seq, 1, ())))
    pool: Any = SimpleNamespace(done=lambda names: None)
    told: list[int] = []
    last, is_done = 100 + BLOCKS_MAX + 10, trio.Event()

    def on_executed(executed: Any) -> None:
        told.append(executed.block.seq)
        if told[-1] == last + 1:
            is_done.set()

    def apply(block: Block, payloads: object) -> Any:
        return SimpleNamespace(executed=SimpleNamespace(state=None, block=block), pages=None)

    old: Any = SimpleNamespace(height=0, time_ms=0)
    executor = _executor(old, ledger, pool, lambda executed: None, on_executed)
    monkeypatch.setattr(executor, "_apply", apply)
    monkeypatch.setattr(executor_module, "_write_items", lambda history, items: None)
    monkeypatch.setattr(executor_module, "ExecutedBlock", SimpleNamespace)
    monkeypatch.setattr(executor_module, "HISTORY_PAUSE_SECONDS", 0)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(executor.run)
            await executor.pause()
            executor.submit_stored(last)
            executor.submit(Block(last + 1, 1, ()))
            fetched: Any = SimpleNamespace(height=100, time_ms=0, state=SimpleNamespace(count={"epoch": 0}))
            await executor.go_on(fetched)
            executor.set_durable(last + 1)
            await is_done.wait()
            nursery.cancel_scope.cancel()
    assert told == list(range(101, last + 2))


async def test_a_snapshot_is_taken_where_an_epoch_begins_though_the_one_before_is_still_being_written():
    unused: Any = None
    state = SimpleNamespace(count={"epoch": 0})
    machine: Any = SimpleNamespace(height=0, time_ms=0, state=state)
    executor = Executor(machine, 4, 3600, *[unused] * 8, 0, 0, unused, unused)
    assert not executor._is_snapshot_due()
    for epoch in (1, 2):
        state.count["epoch"] = epoch
        assert executor._is_snapshot_due()
        executor._taken.append(unused)
        assert not executor._is_snapshot_due()
    executor._taken *= SNAPSHOTS_MAX
    state.count["epoch"] = 3
    assert not executor._is_snapshot_due()  # memory is bounded
    executor._taken.clear()
    assert executor._is_snapshot_due()  # and it is made up for


@pytest.mark.parametrize("is_durable", [False, True])
async def test_a_block_that_runs_before_it_is_durable_is_announced_and_told_only_then(
    monkeypatch, is_durable
):
    unused: Any = None
    pool: Any = SimpleNamespace(done=lambda names: None, get=lambda name: b"")
    machine: Any = SimpleNamespace(height=0, time_ms=0)
    told: list[str] = []
    executor = _executor(
        machine, unused, pool, lambda executed: told.append("early"), lambda executed: told.append("executed")
    )
    work = SimpleNamespace(executed=SimpleNamespace(state=None), pages=None)
    monkeypatch.setattr(executor, "_apply", lambda block, payloads: work)
    if is_durable:
        executor.set_durable(1)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(executor._execute, Block(1, 1, ()))
            await trio.testing.wait_all_tasks_blocked()
            assert told == (["executed"] if is_durable else ["early"])
            executor.set_durable(1)
    assert told == (["executed"] if is_durable else ["early", "executed"])


def _executor(machine: Any, ledger: Any, pool: Any, on_early: Any, on_executed: Any) -> Executor:
    unused: Any = None
    return Executor(
        machine, 1 << 30, 60, ledger, unused, unused, pool, unused,
        on_early, on_executed, unused, 0, 0, Metrics(), unused,
    )  # fmt: skip
