"""Calls by command, by schedule and after a halt; who may, what is told, and how a market comes out of it."""

import numpy as np
import pytest

from engine.auctions import plugin
from engine.commands import CallAuction, ScheduleAuctions, SetMarketStatus
from engine.layout import PriceStatus
from engine.machine import Machine
from engine.markets.states import MarketStatus
from engine.records import AUCTION_FILL, Code, Kind, Op, Side
from tests.helpers.venue import START_MS, Venue, cancel, new

CALL_MS = 10_000
BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def venue():
    venue = Venue()
    venue.keys = venue.open_market(traders=3)
    return venue


def status(venue):
    return int(venue.machine.state.markets.columns["status"][0])


def call(venue, now=START_MS + 1000, then=MarketStatus.OPEN):
    venue.commands(CallAuction(0, now + CALL_MS, then))
    return venue.block(time_ms=now)


def place(venue, trader, *orders):
    venue.orders(venue.keys[trader - 1], trader, [new(0, trader, *order) for order in orders])


def lines(result, kind):
    return result.journal[result.journal["kind"] == kind]


def check(venue):
    """The machine's laws hold, and a restored copy goes on from the same bytes."""
    venue.machine.check_conservation()
    assert venue.machine.state_root() == venue.machine.full_state_root()
    Machine.restore(venue.genesis, venue.machine.snapshot(), venue.machine.state_root())


def test_orders_gather_in_a_call_and_trade_at_one_price_when_it_ends(venue):
    call(venue)
    place(venue, 1, (1, SELL, 90, 10), (2, SELL, 100, 10))
    place(venue, 2, (1, BUY, 110, 10), (2, BUY, 100, 5))
    gathered = venue.block(time_ms=START_MS + 2000)
    assert gathered.counts.fills == 0
    assert status(venue) == MarketStatus.AUCTION
    [told] = lines(gathered, Kind.AUCTION)
    assert (told["code"], told["price"], told["qty"], told["detail"]) == (0, 100, 15, -5)
    ended = venue.block(time_ms=START_MS + 1000 + CALL_MS)
    fills = lines(ended, Kind.FILL)
    assert set(fills["price"]) == {100}
    assert set(fills["flags"]) == {AUCTION_FILL}
    assert fills["qty"].sum() == 15
    assert status(venue) == MarketStatus.OPEN
    assert venue.machine.state.count["orders_live"] == 1
    assert int(venue.machine.state.markets.columns["last_price"][0]) == 100
    check(venue)


def test_a_buyer_gets_back_what_it_held_above_the_price(venue):
    call(venue)
    place(venue, 1, (1, SELL, 90, 10))
    place(venue, 2, (1, BUY, 110, 10))
    before = venue.machine.state.balances.columns["available"].copy()
    venue.block(time_ms=START_MS + 2000)
    venue.block(time_ms=START_MS + 1000 + CALL_MS)
    state = venue.machine.state
    row = state.balance_row(2, 1)
    assert state.balances.columns["held"][row] == 0
    assert before[row] - state.balances.columns["available"][row] == 100 * 10


@pytest.mark.parametrize("tif", [1, 2, 3, 4])
def test_only_orders_that_may_rest_are_taken_in_a_call(venue, tif):
    call(venue)
    venue.orders(venue.keys[0], 1, [new(0, 1, 1, BUY, 100, 1, tif=tif)])
    result = venue.block(time_ms=START_MS + 2000)
    assert lines(result, Kind.RESULT)["code"].tolist() == [Code.NOT_IN_A_CALL]


def test_cancels_are_taken_in_a_call(venue):
    call(venue)
    place(venue, 1, (1, SELL, 90, 10))
    venue.block(time_ms=START_MS + 2000)
    venue.orders(venue.keys[0], 1, [cancel(0, 1, 1)])
    result = venue.block(time_ms=START_MS + 3000)
    assert lines(result, Kind.RESULT)["code"].tolist() == [Code.OK]


def test_an_uncrossing_of_many_orders_goes_on_over_blocks_and_no_order_enters_meanwhile(venue, monkeypatch):
    monkeypatch.setattr(plugin, "MEETINGS_PER_BLOCK_MAX", 3)
    call(venue)
    place(venue, 1, *((n, SELL, 100, 1) for n in range(8)))
    place(venue, 2, (1, BUY, 100, 8))
    venue.block(time_ms=START_MS + 2000)
    fills, blocks = 0, 0
    venue.block(time_ms=START_MS + 1000 + CALL_MS)
    while status(venue) == MarketStatus.UNCROSSING:
        place(venue, 3, (50 + blocks, BUY, 200, 1))
        result = venue.block(time_ms=START_MS + 20_000 + blocks)
        assert lines(result, Kind.RESULT)["code"].tolist() == [Code.MARKET_CLOSED]
        fills += result.counts.fills
        blocks += 1
        check(venue)
    assert (fills, blocks) == (5, 2)
    assert venue.machine.state.count["orders_live"] == 0


def test_cancels_amid_an_uncrossing_never_open_a_crossed_market(venue, monkeypatch):
    monkeypatch.setattr(plugin, "MEETINGS_PER_BLOCK_MAX", 1)
    call(venue)
    place(venue, 1, (1, SELL, 80, 1), (2, SELL, 85, 20))
    place(venue, 2, (1, BUY, 120, 1), (2, BUY, 110, 20))
    place(venue, 3, (1, BUY, 90, 9))
    venue.block(time_ms=START_MS + 2000)
    venue.block(time_ms=START_MS + 1000 + CALL_MS)
    assert status(venue) == MarketStatus.UNCROSSING
    venue.orders(venue.keys[1], 2, [cancel(0, 2, 2)])
    prices = []
    for n in range(10):
        result = venue.block(time_ms=START_MS + 20_000 + n)
        prices += lines(result, Kind.AUCTION)["price"].tolist()
        check(venue)
    assert status(venue) == MarketStatus.OPEN
    columns = venue.machine.state.markets.columns
    assert columns["best_bid"][0] < columns["best_ask"][0]
    assert len(prices) == 1


def test_nothing_but_an_auction_opens_a_crossed_market(venue):
    call(venue)
    place(venue, 1, (1, SELL, 90, 10))
    place(venue, 2, (1, BUY, 110, 10))
    venue.block(time_ms=START_MS + 2000)
    venue.commands(SetMarketStatus(0, MarketStatus.OPEN), SetMarketStatus(0, MarketStatus.HALTED))
    result = venue.block(time_ms=START_MS + 3000)
    assert lines(result, Kind.COMMAND)["code"].tolist() == [Code.BOOK_CROSSED, Code.OK]
    assert status(venue) == MarketStatus.HALTED


def test_a_halt_with_an_end_reopens_by_a_call(venue):
    columns = venue.machine.state.markets.columns
    columns["status"][0] = MarketStatus.HALTED
    columns["reopen_ms"][0] = START_MS + 5000
    venue.block(time_ms=START_MS + 4999)
    assert status(venue) == MarketStatus.HALTED
    result = venue.block(time_ms=START_MS + 5000)
    assert lines(result, Kind.STATUS)["detail"].tolist() == [MarketStatus.AUCTION]
    venue.block(time_ms=START_MS + 5000 + plugin.REOPENING_CALL_MS)
    assert status(venue) == MarketStatus.OPEN
    assert columns["reopen_ms"][0] == 0


def test_a_schedule_calls_at_its_place_in_every_period(venue):
    hour = 3_600_000
    venue.commands(ScheduleAuctions(0, hour, 600_000, 30_000))
    venue.block(time_ms=START_MS + 1)
    begins = []
    for minute in range(1, 200):
        now = START_MS + minute * 60_000
        if MarketStatus.AUCTION in lines(venue.block(time_ms=now), Kind.STATUS)["detail"]:
            begins.append(now)
    assert len(begins) in (3, 4)
    assert all((now - 600_000) % hour < 60_000 for now in begins)
    venue.commands(ScheduleAuctions(0, 0, 0, 1))
    venue.block(time_ms=START_MS + 300 * 60_000)
    assert int(venue.machine.state.table("auctions").columns["next_ms"][0]) == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (CallAuction(9, START_MS + 5000, 1), Code.UNKNOWN_MARKET),
        (CallAuction(0, START_MS, 1), Code.BAD_ARGUMENT),
        (CallAuction(0, START_MS + plugin.CALL_MS_MAX + 5000, 1), Code.BAD_ARGUMENT),
        (CallAuction(0, START_MS + 5000, MarketStatus.DELISTED), Code.BAD_ARGUMENT),
        (ScheduleAuctions(0, 1000, 1000, 10), Code.BAD_ARGUMENT),
        (ScheduleAuctions(0, 1000, 0, 1000), Code.BAD_ARGUMENT),
        (SetMarketStatus(0, MarketStatus.AUCTION), Code.BAD_ARGUMENT),
    ],
)
def test_calls_that_make_no_sense_are_refused(venue, command, code):
    venue.commands(command)
    result = venue.block(time_ms=START_MS + 1000)
    assert lines(result, Kind.COMMAND)["code"].tolist() == [code]
    assert status(venue) == MarketStatus.OPEN


def test_only_the_venue_calls_auctions(venue):
    venue.commands(CallAuction(0, START_MS + 5000, 1), by=venue.keys[0], account=1)
    venue.commands(ScheduleAuctions(0, 1000, 0, 10), by=venue.keys[0], account=1)
    result = venue.block(time_ms=START_MS + 1000)
    assert lines(result, Kind.COMMAND)["code"].tolist() == [Code.NOT_AUTHORISED] * 2


def test_a_settled_market_stays_settled(venue):
    venue.commands(SetMarketStatus(0, MarketStatus.DELISTED))
    venue.block(time_ms=START_MS + 1000)
    venue.commands(SetMarketStatus(0, MarketStatus.OPEN), CallAuction(0, START_MS + 5000, 1))
    result = venue.block(time_ms=START_MS + 2000)
    assert lines(result, Kind.COMMAND)["code"].tolist() == [Code.MARKET_CLOSED] * 2


def test_the_mark_price_is_the_reference_only_while_it_is_valid(venue):
    columns = venue.machine.state.markets.columns
    columns["mark_price"][0] = 108
    columns["last_price"][0] = 92
    prices = []
    for n, price_status in enumerate((PriceStatus.VALID, PriceStatus.STALE)):
        columns["price_status"][0] = price_status
        now = START_MS + 100_000 * (n + 1)
        call(venue, now)
        place(venue, 1, (n, SELL, 90, 10))
        place(venue, 2, (n, BUY, 110, 10))
        venue.block(time_ms=now + 1)
        columns["last_price"][0] = 92
        prices += lines(venue.block(time_ms=now + CALL_MS), Kind.FILL)["price"].tolist()
    assert prices == [108, 92]


def test_the_same_indication_is_told_once(venue):
    call(venue)
    place(venue, 1, (1, SELL, 90, 10))
    place(venue, 2, (1, BUY, 110, 10))
    told = [len(lines(venue.block(time_ms=START_MS + 2000 * n), Kind.AUCTION)) for n in range(1, 4)]
    assert np.array_equal(told, [1, 0, 0])


def test_a_replacement_may_cross_in_a_call(venue):
    call(venue)
    place(venue, 1, (1, SELL, 120, 10))
    place(venue, 2, (1, BUY, 110, 10))
    venue.block(time_ms=START_MS + 2000)
    venue.orders(venue.keys[0], 1, [(Op.REPLACE, SELL, 0, 1, 1, 100, 10)])
    result = venue.block(time_ms=START_MS + 4000)
    assert lines(result, Kind.RESULT)["code"].tolist() == [Code.OK]
    assert result.counts.fills == 0
    check(venue)
