"""`kontor breakers` and `kontor oracle`: what prices say, what stopped, and stopping it."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.primitives.errors import ConfigError, InputError, LedgerError

if TYPE_CHECKING:
    from node.client import Client, Rejected
    from node.price_views import BreakerView, FeedView
    from ops.cli import Subparsers

BREAKERS_HELP = """\
Shows markets, their prices and what stopped them; stops them, and lets them reopen. Tripping needs the key
of a guardian or an admin, and takes effect with the next block. Lifting needs an admin's, names the
trip, and takes effect after the ledger's lift delay; until then a guardian can cancel it. Cancels, deposits
and top-ups of margin are possible all the time.

  kontor breakers show --network network.toml
  kontor breakers trip BTC-USD --network network.toml --key guardian.seed
  kontor breakers lift BTC-USD --trip 7 --network network.toml --key admin.seed

Without a market, trip and lift are about all of them.
"""
ORACLE_HELP = """\
Shows the feeds of prices, and reports to one. A report is about the beginning of an epoch and is taken until
it ends: what is sent here is for the epoch that is open by the clock of this machine.

  kontor oracle list --network network.toml
  kontor oracle report BTC/USD 42000.5 --reporter 0 --account 3 --network network.toml --key reporter.seed
"""


def register(subparsers: "Subparsers") -> None:
    """Add both commands."""
    breakers = _add(subparsers, "breakers", "show what stopped, trip, lift", BREAKERS_HELP)
    actions = breakers.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_common(_add(actions, "show", "print markets and what stopped them", BREAKERS_HELP), show_breakers)
    trip = _add(actions, "trip", "stop a market, or all", BREAKERS_HELP)
    lift = _add(actions, "lift", "let what a trip stopped reopen, after a delay", BREAKERS_HELP)
    lift.add_argument("--trip", type=int, required=True, metavar="N", help="the trip's number, see show")
    for action, run in ((trip, trip_breaker), (lift, lift_breaker)):
        action.add_argument("market", nargs="?", metavar="MARKET", help="default: all markets")
        _add_common(action, run, signed=True)

    oracle = _add(subparsers, "oracle", "show feeds of prices, report", ORACLE_HELP)
    actions = oracle.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_common(_add(actions, "list", "print all feeds", ORACLE_HELP), list_feeds)
    report = _add(actions, "report", "report one price", ORACLE_HELP)
    report.add_argument("feed", metavar="FEED", help="its name")
    report.add_argument("value", metavar="PRICE", help="in whole quote units, such as 42000.5")
    report.add_argument("--confidence", default="0", metavar="PRICE", help="give or take so much; default 0")
    report.add_argument("--reporter", type=int, required=True, metavar="ID", help="which reporter this is")
    report.add_argument("--account", type=int, required=True, metavar="ID", help="the reporter's account")
    _add_common(report, report_price, signed=True)


def show_breakers(args: argparse.Namespace) -> int:
    """Ask one node, print."""

    async def ask(client: "Client") -> int:
        rows = await client.breakers()
        for row in rows:
            print(json.dumps(asdict(row)) if args.json else describe_breaker(row))
        return 0

    return _run(args, ask)


def trip_breaker(args: argparse.Namespace) -> int:
    """Stop a market, or all."""
    from engine.breakers.commands import TripBreaker

    async def submit(client: "Client") -> int:
        market = await _find_market(client, args.market)
        line = await client.command(TripBreaker(market))
        trip = int(line["detail"])
        words = f"stopped: trip {trip}"
        print(json.dumps({"market": market, "trip": trip}) if args.json else words)
        return 0

    return _run(args, submit)


def lift_breaker(args: argparse.Namespace) -> int:
    """Let what a trip stopped reopen."""
    from engine.breakers.commands import LiftBreaker

    async def submit(client: "Client") -> int:
        market = await _find_market(client, args.market)
        line = await client.command(LiftBreaker(market, args.trip))
        due_ms, change = int(line["qty"]), int(line["detail"])
        words = f"lifted at ledger time {due_ms} ms, unless change {change} is cancelled before"
        print(json.dumps({"market": market, "due_ms": due_ms, "change": change}) if args.json else words)
        return 0

    return _run(args, submit)


def list_feeds(args: argparse.Namespace) -> int:
    """Ask one node, print."""

    async def ask(client: "Client") -> int:
        for row in await client.feeds():
            print(json.dumps(asdict(row)) if args.json else describe_feed(row))
        return 0

    return _run(args, ask)


def report_price(args: argparse.Namespace) -> int:
    """Send one report for the epoch that is open now."""
    import time

    from engine.oracle.commands import ReportPrice

    async def submit(client: "Client") -> int:
        feed = next((row for row in await client.feeds() if row.name == args.feed), None)
        if feed is None:
            raise ConfigError(f"no feed is called {args.feed}: see `kontor oracle list`")
        value, confidence = (_to_units(text, feed.decimals) for text in (args.value, args.confidence))
        epoch = int(time.time() * 1000) // feed.epoch_ms
        await client.command(ReportPrice(args.reporter, feed.id, epoch, value, confidence))
        report = {"feed": feed.id, "epoch": epoch, "value": value, "confidence": confidence}
        print(json.dumps(report) if args.json else f"reported {args.value} for epoch {epoch}")
        return 0

    return _run(args, submit)


def describe_breaker(row: "BreakerView") -> str:
    """One line about a market, or about all."""
    from engine.layout import HaltReason, PriceStatus
    from engine.markets.states import MarketStatus
    from engine.records import EVERY_MARKET

    reason = HaltReason(row.halt_reason)
    stopped = "" if reason == HaltReason.NONE else f"  stopped: {reason.name.lower()}"
    tripped = f"  last trip {row.trip}" if row.trip else ""
    if row.market == EVERY_MARKET:
        return f"all markets{stopped or '  nothing stopped'}{tripped}"
    band = f"  band {row.band_low}–{row.band_high}" if row.band_high else ""
    prices = f"  index {row.index_price} mark {row.mark_price} ({PriceStatus(row.price_status).name.lower()})"
    return f"{row.name:<16} {MarketStatus(row.status).name.lower():<12}{prices}{band}{stopped}{tripped}"


def describe_feed(row: "FeedView") -> str:
    """One line about a feed."""
    from engine.layout import PriceStatus

    value, confidence = (Decimal(units).scaleb(-row.decimals) for units in (row.value, row.confidence))
    status = PriceStatus(row.status).name.lower()
    return (
        f"{row.id:>4}  {row.name:<16} {value:f} ± {confidence:f}  {status}, epoch {row.value_epoch} "
        f"of {row.epoch_ms} ms, {row.reporters} reporters"
    )


def _to_units(text: str, decimals: int) -> int:
    """A number that somebody wrote, in units of 10^-decimals. Raises `InputError` unless that is whole."""
    try:
        number = Fraction(Decimal(text)) * 10**decimals
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise InputError("PRICE", f"{text!r} is no number: write one such as 42000.5") from error
    if number.denominator != 1:
        raise InputError("PRICE", f"{text} has more than the {decimals} decimals of this feed")
    return number.numerator


async def _find_market(client: "Client", name: str | None) -> int:
    from engine.records import EVERY_MARKET

    if name is None:
        return EVERY_MARKET
    found = next((row.id for row in await client.markets() if row.name == name), None)
    if found is None:
        raise ConfigError(f"no market is called {name}: see `kontor breakers show`")
    return found


def _run(args: argparse.Namespace, work: Callable[["Client"], Any]) -> int:
    import trio

    from consensus.primitives.crypto import Ed25519Signer
    from node.client import Rejected, open_client
    from node.keys import load_signer, new_seed
    from node.network import load_network

    network = load_network(args.network)
    # Queries are not signed, so any key does.
    key = load_signer(args.key) if hasattr(args, "key") else Ed25519Signer(new_seed())

    async def connected() -> int:
        async with open_client(network, key, getattr(args, "account", 0)) as client:
            try:
                return int(await work(client))
            except Rejected as error:
                raise LedgerError(f"refused: {_remedy(error)}") from error

    return trio.run(connected)


def _remedy(error: "Rejected") -> str:
    from engine.records import Code

    remedies = {
        Code.NOT_AUTHORISED: "this key may not do that: guardians trip, admins lift, reporters report",
        Code.NOTHING_TO_DO: "it is so already, or another trip is in force: see `kontor breakers show`",
        Code.UNKNOWN_REPORTER: "this is no reporter, or not one of this feed",
        Code.REPORT_LATE: "the epoch is over: report again",
        Code.REPORT_EARLY: "the epoch has not begun: this machine's clock is ahead of the ledger's",
        Code.REPORT_REPEATED: "the same report was counted before",
        Code.REPORTER_EXCLUDED: "this reporter contradicted itself in this epoch: wait for the next",
    }
    return remedies.get(Code(error.code), str(error))


def _add_common(parser: argparse.ArgumentParser, run: Callable[..., int], signed: bool = False) -> None:
    parser.add_argument("--network", type=Path, required=True, metavar="FILE", help="the network file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    if signed:
        parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the seed that signs")
    parser.set_defaults(run=run)


def _add(subparsers: "Subparsers", name: str, help: str, description: str) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=help,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
