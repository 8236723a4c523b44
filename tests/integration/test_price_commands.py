"""`kontor oracle` and `kontor breakers` against client ports: what they show, send, and say when refused."""

import json
import time
from pathlib import Path

import pytest
import trio

from engine.breakers.commands import TripBreaker
from engine.commands import EXPIRY_NEVER, GrantKey, ListMarket, RegisterAsset
from engine.layout import HaltReason, PriceStatus, Scope
from engine.markets.states import MarketStatus
from engine.oracle.commands import AddFeed, AddReporter, SetFeedReporter, SetIndex, SetIndexFeed
from engine.oracle.tables import EPOCH_MS_MAX
from engine.records import EVERY_MARKET
from node.client import open_client
from node.keys import load_signer
from node.network import Network, render_network
from ops import cli
from tests.helpers.memory_network import memory_network

pytestmark = pytest.mark.trio
EPOCH_MS = EPOCH_MS_MAX  # a day: the clock does not leave it during a test


def write_seed(path: Path, byte: int) -> Path:
    """A secret as an operator keeps it."""
    path.write_text(bytes([byte] * 32).hex() + "\n", "utf-8")
    path.chmod(0o600)
    return path


def write_file(folder: Path, network: Network) -> Path:
    """The network file with the ports that are really open."""
    path = folder / "network.toml"
    path.write_text(render_network(network), "utf-8")
    return path


async def kontor(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and complaint of one command."""
    capsys.readouterr()
    code = await trio.to_thread.run_sync(cli.main, list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


async def test_prices_are_reported_and_markets_stopped_from_the_command_line(tmp_path, capsys):
    reporter, guardian = write_seed(tmp_path / "reporter.seed", 1), write_seed(tmp_path / "guardian.seed", 2)
    async with memory_network(tmp_path / "net", 1) as net:
        net.ledger.now_ms = int(time.time() * 1000)
        async with open_client(net.network, net.ledger.admin, 0) as venue:
            account = await venue.open_account(load_signer(reporter).public_key)
            guard = GrantKey(0, load_signer(guardian).public_key, Scope.GUARD, EXPIRY_NEVER)
            for command in (
                RegisterAsset("BTC", 8, 0),
                RegisterAsset("USD", 2, 0),
                ListMarket("BTC-USD", 0, 1, 10**4, 1, 10**6, 10**9, 0, 0, 0),
                AddFeed("BTC/USD", 8, EPOCH_MS, EPOCH_MS, 10**6, 10**6),
                AddReporter(account),
                SetFeedReporter(0, 0, 1),
                SetIndexFeed(0, 0, 1),
                SetIndex(0, 1),
                guard,
            ):
                await venue.command(command)
        network = ("--network", str(write_file(tmp_path, net.network)))
        report = ("oracle", "report", "BTC/USD", "42000.5", "--reporter", "0", "--account", str(account))
        code, _, _ = await kontor(capsys, *report, *network, "--key", str(reporter))
        assert code == 0
        code, out, _ = await kontor(capsys, "oracle", "list", *network, "--json")
        feed = json.loads(out)
        assert (code, feed["value"], feed["status"]) == (0, 4_200_050_000_000, PriceStatus.VALID)
        _, out, _ = await kontor(capsys, "oracle", "list", *network)
        assert "42000.50000000 ± 0.00000000  valid" in out
        code, _, err = await kontor(capsys, *report, *network, "--key", str(reporter))
        assert code == 1 and "the same report was counted before" in err

        code, out, _ = await kontor(
            capsys, "breakers", "trip", "BTC-USD", *network, "--key", str(guardian), "--json"
        )
        assert (code, json.loads(out)) == (0, {"market": 0, "trip": 1})
        _, out, _ = await kontor(capsys, "breakers", "show", *network, "--json")
        market, every = (json.loads(line) for line in out.splitlines())
        assert (market["status"], market["halt_reason"]) == (MarketStatus.HALTED, HaltReason.SWITCHED_OFF)
        assert (market["index_price"], market["trip"], every["market"]) == (420, 1, EVERY_MARKET)
        _, out, _ = await kontor(capsys, "breakers", "show", *network)
        assert "index 420 mark 420 (valid)  stopped: switched_off  last trip 1" in out
        lift = ("breakers", "lift", "BTC-USD", "--trip", "1", *network, "--key")
        code, _, err = await kontor(capsys, *lift, str(guardian))
        assert code == 1 and "guardians trip, admins lift" in err
        code, out, _ = await kontor(capsys, *lift, str(net.ledger.homes.admin_seed))
        assert code == 0 and "unless change 1 is cancelled before" in out
        async with open_client(net.network, load_signer(guardian), 0) as client:
            await client.command(TripBreaker(EVERY_MARKET))
        _, out, _ = await kontor(capsys, "breakers", "show", *network)
        assert "all markets  stopped: all_switched_off  last trip 2" in out


async def test_what_is_misspelt_is_named(tmp_path, capsys):
    seed = write_seed(tmp_path / "key.seed", 1)
    async with memory_network(tmp_path / "net", 1) as net:
        network = ("--network", str(write_file(tmp_path, net.network)), "--key", str(seed))
        code, _, err = await kontor(capsys, "breakers", "trip", "NOPE", *network)
        assert code == 2 and "no market is called NOPE" in err
        report = ("oracle", "report", "NOPE", "1", "--reporter", "0", "--account", "0")
        code, _, err = await kontor(capsys, *report, *network)
        assert code == 2 and "no feed is called NOPE" in err
