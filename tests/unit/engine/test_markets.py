"""Market commands."""

import pytest

from engine.commands import ListMarket, RegisterAsset, SetFees, SetMarketStatus
from engine.genesis import Capacity
from engine.markets.states import MarketStatus
from engine.records import AMOUNT_MAX, Code, Kind, Side
from tests.helpers.venue import Venue, cancel, new, signer

GOOD = ListMarket("ETH/USD", 0, 1, 10, 1, 1000, 1000, 0, 0, 0)


@pytest.fixture
def venue():
    venue = Venue()
    venue.open_market(traders=2)
    return venue


def codes(venue, *commands):
    venue.commands(*commands)
    journal = venue.block().journal
    return journal["code"][journal["kind"] == Kind.COMMAND].tolist()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, Code.OK),
        ({"name": "BTC/USD"}, Code.NAME_TAKEN),
        ({"base_asset": 2}, Code.UNKNOWN_ASSET),
        ({"quote_asset": 2}, Code.UNKNOWN_ASSET),
        ({"quote_asset": 0}, Code.BAD_ARGUMENT),
        ({"price_max": 0}, Code.BAD_ARGUMENT),
        ({"price_max": 1 << 26}, Code.BAD_ARGUMENT),
        ({"price_max": 1 << 21}, Code.LIMIT_REACHED),
        ({"taker_fee_e6": 100_001}, Code.BAD_ARGUMENT),
        ({"maker_fee_e6": -1}, Code.BAD_ARGUMENT),
        ({"qty_max": AMOUNT_MAX // 10}, Code.OK),
        ({"qty_max": AMOUNT_MAX // 10 + 1}, Code.BAD_ARGUMENT),
        ({"quote_per_lot_tick": AMOUNT_MAX // 1000}, Code.OK),
        ({"quote_per_lot_tick": AMOUNT_MAX // 1000 + 1}, Code.BAD_ARGUMENT),
        ({"quote_per_lot_tick": 1 << 50, "qty_max": 1 << 12}, Code.BAD_ARGUMENT),
    ],
    ids=str,
)
def test_listings_are_checked(venue, changes, code):
    assert codes(venue, GOOD._replace(**changes)) == [code]
    venue.machine.check_conservation()


def test_rules_change_from_the_next_order_on(venue):
    assert codes(venue, SetFees(0, 7, 9), SetMarketStatus(0, MarketStatus.CLOSED)) == [0, 0]
    columns = venue.machine.state.markets.columns
    assert (columns["maker_fee_e6"].item(0), columns["taker_fee_e6"].item(0)) == (7, 9)
    assert codes(venue, SetFees(9, 7, 9), SetMarketStatus(9, 0)) == [Code.UNKNOWN_MARKET] * 2


def test_only_the_venue_changes_rules(venue):
    trader = signer("trader 1")
    venue.commands(GOOD, SetFees(0, 0, 0), SetMarketStatus(0, 0), by=trader, account=1)
    journal = venue.block().journal
    assert journal["code"][1:].tolist() == [Code.NOT_AUTHORISED] * 3


def test_a_closed_market_takes_cancels_only():
    venue = Venue()
    alice, _ = venue.open_market(traders=2)
    venue.orders(alice, 1, [new(0, 1, 1, Side.BUY, 5, 1)])
    venue.block()
    venue.orders(alice, 1, [new(0, 1, 2, Side.BUY, 5, 1), cancel(0, 1, 1)])
    venue.commands(SetMarketStatus(0, MarketStatus.CLOSED))
    journal = venue.block().journal
    assert journal["code"][journal["kind"] == Kind.RESULT].tolist() == [Code.MARKET_CLOSED, Code.OK]


def test_levels_of_all_markets_share_one_capacity():
    venue = Venue(Capacity(levels=2500))
    venue.commands(RegisterAsset("A", 0, 0), RegisterAsset("B", 0, 0))
    venue.block()
    listings = [GOOD._replace(name=f"M{number}") for number in range(3)]
    assert codes(venue, *listings) == [Code.OK, Code.OK, Code.LIMIT_REACHED]
