"""Real nodes that lack a state fetch it from the others, and end byte-equal with them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from consensus.primitives.errors import InputError
from engine.records import Op, Side
from node.config import Config
from node.network import Rules
from node.state_sync import swap
from node.wire import Refused
from testnet.audit import audit_home
from testnet.run import agree
from tests.helpers.dying_node import CRASHES, make_dying
from tests.helpers.local_cluster import Crashed, LocalCluster, local_cluster, quick

pytestmark = pytest.mark.trio
OFTEN = Rules(window=16, checkpoint_interval=4, snapshot_seconds=0)


def eager(config: Config) -> Config:
    """Fetch the state as soon as a few blocks are missing."""
    config = quick(config)
    return replace(config, consensus=replace(config.consensus, transfer_gap=8, transfer_timeout_ms=1000))


async def trade(cluster: LocalCluster, blocks: int, start: int, to: int = 0) -> None:
    for number in range(start, start + blocks):
        base = 1000 * number
        orders = [(Op.NEW, Side.SELL, 0, 1, base + i, 100 + i, 4) for i in range(20)]
        orders += [(Op.NEW, Side.BUY, 0, 0, base + 100 + i, 100 + i, 2) for i in range(20)]
        await cluster.submit(cluster.orders(*orders), to=to)


@asynccontextmanager
async def trading(cluster: LocalCluster, start: int) -> AsyncIterator[None]:
    """Orders all the time, through node 0."""
    stop = trio.Event()

    async def run() -> None:
        number = start
        while not stop.is_set():
            await trade(cluster, 1, number)
            number += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield
        stop.set()


async def forget_blocks(cluster: LocalCluster) -> None:
    """The running nodes serve the state at their newest snapshot and the blocks above, as if those below
    had been pruned; and what waits on the way to absent nodes is lost."""
    await cluster.wait_until(lambda node: node._replica._state.snapshot is not None)
    for node in cluster.nodes.values():
        state = node._replica._state
        state.oldest = state.snapshot.seq + 1 if state.snapshot else 1
        for outbox in node._parts.transport._outboxes.values():
            outbox.trim(0)


async def check_equal(cluster: LocalCluster) -> None:
    await cluster.wait_equal()
    assert len(set(await cluster.state_roots())) == 1
    for node in cluster.nodes.values():
        assert node.status().halted == ""
        await node.query(lambda machine: machine.check_conservation())


async def test_an_empty_node_joins_a_network_that_trades(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, rules=OFTEN, adjust=eager, starts=(0, 1, 2)) as cluster:
        await cluster.submit(cluster.listing())
        await trade(cluster, 24, 1)
        await forget_blocks(cluster)
        async with trading(cluster, 100):
            await cluster.start(3)
            node = cluster.nodes[3]
            await cluster.wait_until(lambda node: node._replica.counters.get("states_installed", 0) > 0, 3)
            await cluster.wait_until(lambda node: node.status().proven > 28, 3)
        await check_equal(cluster)
        assert node.status().transfer is None
        with pytest.raises(InputError) as refused:
            await node.load_block(2)
        assert refused.value.code == Refused.NOT_HELD
        # It takes part again: without it, there is no quorum.
        await cluster.stop(2)
        await trade(cluster, 6, 5000)
        await cluster.start(2)
        await check_equal(cluster)
        for node_id in range(4):
            await cluster.stop(node_id)
        audits = [audit_home(home) for home in cluster.homes.nodes]
        assert agree(audits) and [audit.is_whole for audit in audits] == [True, True, True, False]
        assert 0 < audits[3].orders < audits[0].orders and all(audit.conserved for audit in audits)


async def test_a_node_that_fetched_its_state_restarts_from_it(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, rules=OFTEN, adjust=eager) as cluster:
        await cluster.submit(cluster.listing())
        await cluster.stop(3)
        await trade(cluster, 24, 1)
        await forget_blocks(cluster)
        await cluster.start(3)
        await cluster.wait_until(lambda node: node._replica.counters.get("states_installed", 0) > 0, 3)
        await trade(cluster, 3, 50)
        await check_equal(cluster)
        for _ in range(2):
            await cluster.stop(3)
            await trade(cluster, 3, 60)
            await cluster.start(3)
            await trade(cluster, 3, 70)
            await check_equal(cluster)
            assert cluster.nodes[3]._replica.counters.get("transfers", 0) == 0


@pytest.mark.parametrize("point", CRASHES)
async def test_a_node_that_dies_while_it_installs_a_state_ends_with_it(tmp_path, monkeypatch, point):
    died: list[str] = []

    def die() -> None:
        died.append(point)
        raise Crashed

    async with local_cluster(tmp_path, rules=OFTEN, adjust=eager) as cluster:
        await cluster.submit(cluster.listing())
        await trade(cluster, 4, 1)
        await cluster.stop(3)
        await trade(cluster, 12, 10)
        await forget_blocks(cluster)
        monkeypatch.setattr(*make_dying(point, die))
        await cluster.start(3)
        await cluster.wait_crashed(3)
        assert died == [point]
        await cluster.start(3)
        await trade(cluster, 6, 100)
        await check_equal(cluster)
        height = cluster.nodes[3].status().executed
        assert cluster.nodes[3]._parts.ledger.base() > 0, "it came back by its state, not by blocks"
        await cluster.stop(3)
        await cluster.start(3)
        assert cluster.nodes[3].status().executed >= height
        await check_equal(cluster)
        data = cluster.homes.nodes[3].data
        assert not (data / swap.OLD).exists() and not (data / swap.STAGING).exists()
