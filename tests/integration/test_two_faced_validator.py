"""A validator in a process of its own lies over its real links, and convicts itself on every ledger."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from node.client import Client, ClientError, open_client
from ops import cli
from tests.helpers.local_cluster import LocalCluster, local_cluster
from tests.helpers.venue import new

pytestmark = pytest.mark.trio
ROOT = Path(__file__).parents[2]
LIAR = 3


async def _wait_until_it_votes(client: Client, cluster: LocalCluster) -> None:
    """Until the liar is linked to all others and has executed what they have."""
    while True:
        try:
            status = await client.status(LIAR)
            if (status.peers_connected, status.executed) == (3, cluster.nodes[0].status().executed):
                return
        except ClientError:
            pass  # it is about to listen
        await trio.sleep(0.02)


async def test_one_lie_over_a_real_link_stands_once_on_all_ledgers(tmp_path, capsys):
    async with (
        local_cluster(tmp_path) as cluster,
        open_client(cluster.network, cluster.admin) as client,
        trio.open_nursery() as nursery,
    ):
        await cluster.submit(cluster.listing())
        await cluster.stop(LIAR)
        command = [sys.executable, "-m", "tests.helpers.two_faced_node", str(cluster.homes.nodes[LIAR].root)]
        nursery.start_soon(partial(trio.run_process, command, cwd=ROOT))
        await _wait_until_it_votes(client, cluster)
        await cluster.submit(cluster.orders(new(0, 0, 1, 0, 100, 5)))
        for node in cluster.nodes.values():
            while not await node.query(lambda m: m.state.count["evidence"]):
                await trio.sleep(0.005)
        # Whom the ledger convicted goes on: an exclusion is the admins' decision, or a rule's.
        await cluster.submit(cluster.orders(new(0, 0, 2, 0, 100, 5)))
        await _wait_until_it_votes(client, cluster)
        for node_id in range(4):
            (row,) = await client.convictions(node_id)
        network = ["--network", str(cluster.homes.network_file), "--json"]
        capsys.readouterr()
        assert await trio.to_thread.run_sync(cli.main, ["evidence", "list", *network]) == 0
        (shown,) = json.loads(capsys.readouterr().out)
        assert (shown["validator"], shown["kind"], shown["height"]) == (LIAR, "prepare", row.height)
        nursery.cancel_scope.cancel()
