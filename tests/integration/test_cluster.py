"""Four real nodes in one process: they agree, survive restarts, and stop safely on a full disk."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from consensus.primitives.errors import ConfigError, InputError, StorageError
from engine.records import Op, Side
from node.config import Config, Home, load_config
from node.ledger import Ledger
from node.network import Network, Rules
from node.snapshots import Snapshots
from node.start import run_node
from tests.helpers.local_cluster import LocalCluster, local_cluster, quick

pytestmark = pytest.mark.trio
OFTEN = Rules(window=16, checkpoint_interval=4, snapshot_seconds=0)


def _crossing(start: int, count: int) -> list[tuple[int, ...]]:
    """Pairs of orders: one rests, one takes half of it."""
    orders: list[tuple[int, ...]] = []
    for number in range(start, start + count):
        orders.append((Op.NEW, Side.SELL, 0, 1, 2 * number, 100 + number % 50, 4))
        orders.append((Op.NEW, Side.BUY, 0, 0, 2 * number + 1, 100 + number % 50, 2))
    return orders


async def _trade(cluster: LocalCluster, blocks: int, start: int = 0) -> None:
    for number in range(blocks):
        nodes = sorted(cluster.nodes)
        batch = cluster.orders(*_crossing(100 * (start + number) + 1, 20))
        await cluster.submit(batch, to=nodes[number % len(nodes)])


async def test_four_nodes_agree_on_orders_given_to_any_of_them(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, rules=OFTEN) as cluster:
        await cluster.submit(cluster.listing())
        await _trade(cluster, 8)
        await cluster.wait_equal()
        assert len(set(await cluster.state_roots())) == 1
        for node in cluster.nodes.values():
            status = node.status()
            assert status.halted == "" and status.view == 0 and status.peers_connected == 3
            assert status.orders == 8 * 40 and status.rejected == 0 and status.fills > 0
            await node.query(lambda machine: machine.check_conservation())


async def test_a_restarted_network_continues_from_the_same_roots(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, rules=OFTEN) as cluster:
        await cluster.submit(cluster.listing())
        await _trade(cluster, 6)
        before = await cluster.wait_equal()
        states = await cluster.state_roots()
        for node_id in range(4):
            await cluster.stop(node_id)
        await cluster.start()
        assert await cluster.wait_equal() == before
        assert await cluster.state_roots() == states
        await _trade(cluster, 3, start=6)
        await cluster.wait_equal()
        assert len(set(await cluster.state_roots())) == 1


async def test_a_node_restarts_from_its_snapshot_without_replaying_what_is_in_it(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, rules=OFTEN) as cluster:
        await cluster.submit(cluster.listing())
        await _trade(cluster, 9)
        before = await cluster.wait_equal()
        states = await cluster.state_roots()
        await _wait_for_snapshot(cluster, 1)
        await cluster.stop(1)
        home = cluster.homes.nodes[1]
        snapshots = Snapshots(home.data / "state", 16 << 20)
        meta = snapshots.meta()
        snapshots.close()
        assert meta is not None and meta.height >= 4 and meta.height % 4 == 0
        _forget_block(home, cluster.network, 1)  # a replay from genesis would miss it
        await cluster.start(1)
        assert cluster.nodes[1].status().journal_root == before
        assert await cluster.state_roots() == states
        await _trade(cluster, 2, start=9)
        await cluster.wait_equal()


@pytest.mark.parametrize("damage", ["page", "root"])
async def test_a_damaged_snapshot_is_noticed_and_says_what_to_do(tmp_path: Path, damage: str) -> None:
    async with local_cluster(tmp_path, n=1, rules=OFTEN) as cluster:
        await cluster.submit(cluster.listing())
        await _trade(cluster, 9)
        await _wait_for_snapshot(cluster, 0)
        await cluster.stop(0)
        home = cluster.homes.nodes[0]
        snapshots = Snapshots(home.data / "state", 16 << 20)
        meta, (table, page, data) = snapshots.meta(), next(snapshots.pages())
        assert meta is not None
        if damage == "page":
            snapshots.write(meta, [(table, page, bytes([data[0] ^ 1]) + data[1:])])
        else:
            snapshots.write(replace(meta, state=replace(meta.state, root=bytes(32))), [])
        snapshots.close()
        with pytest.raises(StorageError, match=r"state is damaged.*remove that directory"):
            await run_node(home.root)
        shutil.rmtree(home.data / "state")
        await cluster.start(0)
        await cluster.submit(cluster.orders(*_crossing(50_000, 2)))


async def _wait_for_snapshot(cluster: LocalCluster, node_id: int) -> None:
    """Snapshots are written behind execution."""
    executor = cluster.nodes[node_id]._parts.executor
    await cluster.wait_until(lambda node: executor._snapshots.meta() is not None, node_id)


def _forget_block(home: Home, network: Network, height: int) -> None:
    ledger = Ledger(home.data / "ledger", network.chain_id, load_config(home.config).node.id, 16 << 20)
    with ledger._env.begin(db=ledger._blocks, write=True) as txn:
        assert txn.delete(height.to_bytes(8, "big"))
    ledger.close()


@pytest.mark.parametrize("loss", ["emptied", "put back"])
async def test_a_node_never_votes_with_a_ledger_that_forgot(tmp_path: Path, loss: str) -> None:
    async with local_cluster(tmp_path, rules=OFTEN) as cluster:
        await cluster.submit(cluster.listing())
        await cluster.stop(1)
        data = cluster.homes.nodes[1].data
        shutil.copytree(data, tmp_path / "copy")
        await cluster.start(1)
        await _trade(cluster, 5)
        await cluster.wait_equal()
        await cluster.stop(1)
        data.rename(tmp_path / "now")
        if loss == "put back":
            shutil.copytree(tmp_path / "copy", data)
        with pytest.raises(ConfigError, match=r"ledger .*kontor recover"):
            await run_node(cluster.homes.nodes[1].root)
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "now", data)
        await cluster.start(1)  # with all that it promised it goes on
        await _trade(cluster, 2, start=9)
        await cluster.wait_equal()


async def test_a_node_that_was_away_catches_up(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, rules=OFTEN) as cluster:
        await cluster.submit(cluster.listing())
        await cluster.wait_equal()
        await cluster.stop(3)
        await _trade(cluster, 10)
        await cluster.start(3)
        await _trade(cluster, 2, start=10)
        await cluster.wait_equal()
        assert len(set(await cluster.state_roots())) == 1


async def test_the_others_go_on_when_the_primary_stops(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, rules=OFTEN) as cluster:
        await cluster.submit(cluster.listing())
        await cluster.wait_equal()
        await cluster.stop(0)
        await _trade(cluster, 3)
        await cluster.wait_equal()
        assert all(node.status().view >= 1 for node in cluster.nodes.values())
        await cluster.start(0)
        await _trade(cluster, 3, start=3)
        await cluster.wait_equal()
        assert len(set(await cluster.state_roots())) == 1


async def test_a_second_process_on_the_same_home_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster:
        with pytest.raises(StorageError, match="in use by process"):
            await run_node(cluster.homes.nodes[0].root)
        await cluster.submit(cluster.listing())


async def test_a_port_in_use_is_refused_with_the_setting_to_change(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster:
        await cluster.stop(1)
        address = cluster.network.validators[1].peer_address
        blocker = await trio.open_tcp_listeners(address.port, host=address.host)
        with pytest.raises(ConfigError, match=r"cannot listen on 127.*node\.peer_listen"):
            await run_node(cluster.homes.nodes[1].root)
        for listener in blocker:
            await listener.aclose()
        await cluster.start(1)


def _small_disk(config: Config) -> Config:
    config = quick(config)
    return replace(config, ledger=replace(config.ledger, blocks_mib=1)) if config.node.id == 3 else config


async def test_a_full_disk_stops_one_node_safely_and_the_others_go_on(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, adjust=_small_disk) as cluster:
        await cluster.submit(cluster.listing())
        number = 0
        while not cluster.nodes[3].status().halted:
            await cluster.submit(cluster.orders(*_crossing(2000 * number + 1, 1500)))
            number += 1
        node = cluster.nodes[3]
        assert "ledger.blocks_mib" in node.status().halted
        with pytest.raises(InputError, match="HALTED"):
            node.submit_batch(cluster.orders(*_crossing(1, 1)), 2)
        ahead = await node.query(lambda machine: machine.height) - node.status().executed
        assert 0 <= ahead <= 4  # in memory, a committed block may have run before the disk refused it
        await cluster.submit(cluster.orders(*_crossing(2000 * number + 1, 5)))
        await cluster.wait_equal(0, 1, 2)


async def test_a_lost_history_is_rebuilt_from_the_ledger(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, rules=OFTEN) as cluster:
        await cluster.submit(cluster.listing())
        await _trade(cluster, 5)
        before = await cluster.wait_equal()
        await cluster.stop(2)
        for path in (cluster.homes.nodes[2].data / "history").iterdir():
            path.unlink()
        await cluster.start(2)
        assert cluster.nodes[2].status().journal_root == before
        await trio.lowlevel.checkpoint()
