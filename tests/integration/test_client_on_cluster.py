"""The SDK and the quickstart against four real nodes."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from engine.commands import ListMarket, RegisterAsset
from engine.envelope import orders_array
from engine.records import Side
from node.client import open_client, orders
from tests.helpers.local_cluster import local_cluster
from tests.helpers.venue import signer

pytestmark = pytest.mark.trio
ROOT = Path(__file__).parents[2]
TRADER = signer("trader")


async def test_orders_survive_the_loss_of_the_node_they_were_sent_to(tmp_path: Path) -> None:
    async with (
        local_cluster(tmp_path) as cluster,
        open_client(cluster.network, cluster.admin, 0, prefer=1) as venue,
        open_client(cluster.network, TRADER, 1, prefer=1) as trader,
    ):
        await venue.commands([RegisterAsset("BTC", 8, 0), RegisterAsset("USD", 2, 0)])
        await venue.command(ListMarket("BTC-USD", 0, 1, 10**4, 1, 10**4, 10**7, 0, 100, 200))
        assert await venue.open_account(TRADER.public_key) == 1
        await venue.deposit(1, "BTC", 100)
        before = await trader.place("BTC-USD", "sell", price=42000, qty=1)

        done: list[int] = []

        async def place(number: int) -> None:
            order = orders.new(0, 1, number, Side.SELL, 420, 1)
            done.append((await trader.submit_orders(orders_array([order]))).accepted)

        async with trio.open_nursery() as nursery:
            for number in range(1, 21):
                nursery.start_soon(place, number)
            await cluster.stop(1)
        assert done == [1] * 20
        assert len(await trader.orders()) == 21
        assert (await trader.receipt(before.outcome.envelope_digest)).accepted == 1
        await cluster.wait_equal()
        assert len(set(await cluster.state_roots())) == 1


async def test_the_quickstart_runs_as_it_is_printed(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster:
        command = [sys.executable, str(ROOT / "examples" / "quickstart.py"), str(cluster.homes.root)]
        run = partial(trio.run_process, command, capture_stdout=True, capture_stderr=True, check=False)
        result: subprocess.CompletedProcess[bytes] = await run()
        assert result.returncode == 0, result.stderr.decode()
        lines = result.stdout.decode().splitlines()
        assert lines[0] == "account 1 has 1.5 BTC"
        assert "0.25 BTC on the book" in lines[1]
        assert lines[2].endswith("proves OK: 1 of 1 accepted")
        assert lines[3] == "refused, and that is proven too: INSUFFICIENT_FUNDS"
        assert lines[4] == "BTC: 1.25000000 available, 0.25000000 in open orders"
