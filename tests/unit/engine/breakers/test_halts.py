"""Limit states, halts, their way back, and what stays possible meanwhile."""

import pytest

from engine.breakers.commands import SetBreaker
from engine.breakers.markets import DURATIONS_MS, NEVER_MS
from engine.breakers.tables import BreakerState
from engine.breakers.triggers import add_liquidated
from engine.commands import CallAuction, Deposit, SetMarketStatus, Transfer
from engine.layout import HaltReason, PriceStatus
from engine.markets.states import MarketStatus
from engine.oracle.commands import AddFeed, SetIndex
from engine.records import Code, HaltLine, Kind, PriceLine, Side
from tests.helpers.reporting import EPOCH_MS, ReportedVenue, command_codes, lines_of
from tests.helpers.venue import cancel, new

MINUTE = 60_000
QUIET_MS = 6 * 60 * MINUTE
GRACE_MS = 30_000
LIQUIDATION_MAX = 1_000_000
RULES = SetBreaker(0, 1, 50_000, 150_000, 15_000, QUIET_MS, GRACE_MS, LIQUIDATION_MAX)
FEED = AddFeed("BTC/USD", 0, EPOCH_MS, 3 * EPOCH_MS, 100_000, 1_000_000)


class Watched(ReportedVenue):
    """A market at 10,000 ticks with five calm minutes behind it."""

    def __init__(self):
        super().__init__(reporters=1, feed=FEED)
        self.commands(RULES)
        self.at(self.now_ms + MINUTE - self.now_ms % MINUTE)
        for _ in range(5):
            self.price(10_000, passed_ms=MINUTE)

    @property
    def state(self):
        return BreakerState(self.breaker("state"))

    def breaker(self, name):
        return int(self.machine.state.table("breakers").columns[name][0])

    def move(self, price, seconds):
        """The price stays there for so long."""
        return [self.price(price) for _ in range(seconds)]

    def halt(self):
        """Move the price by a third until it halts."""
        up = self.market("index_price") * 4 // 3
        for _ in range(17):
            if self.state != BreakerState.HALTED:
                self.price(up)
        assert self.state == BreakerState.HALTED

    def pass_by(self, milliseconds, price):
        """Let time pass in minutes, with a price at each, and in seconds at the end."""
        end = self.now_ms + milliseconds
        while self.now_ms + 2 * MINUTE < end:
            self.price(price, passed_ms=MINUTE)
        while self.now_ms + EPOCH_MS <= end:
            self.price(price)


@pytest.fixture
def venue():
    return Watched()


def halt_lines(results, what):
    return [line for result in results for line in lines_of(result, Kind.HALT, what)]


def test_the_band_is_drawn_around_the_last_minutes(venue):
    assert (venue.market("band_low"), venue.market("band_high")) == (9500, 10_500)
    result = venue.price(10_100, passed_ms=MINUTE)
    (line,) = lines_of(result, Kind.PRICE, PriceLine.BAND)
    assert (line["detail"], line["fee"], line["price"], line["qty"]) == (10_020, 50_000, 9519, 10_521)


def test_no_trade_happens_outside_the_band(venue):
    account = venue.first_trader
    venue.orders(
        venue.traders[0], account, [new(0, account, n, Side.SELL, 10_400 + 100 * n, 1) for n in range(3)]
    )
    venue.orders(venue.traders[1], account + 1, [new(0, account + 1, 1, Side.BUY, 11_000, 3)])
    journal = venue.step().journal
    assert journal["price"][journal["kind"] == Kind.FILL].tolist() == [10_400, 10_500]


def test_a_price_inside_the_band_is_normal_and_at_its_end_it_is_not(venue):
    venue.price(10_499)
    assert venue.state == BreakerState.NORMAL
    (line,) = lines_of(venue.price(10_500), Kind.HALT, HaltLine.LIMIT_BEGINS)
    assert (line["price"], line["detail"]) == (10_500, 10_000)
    assert venue.state == BreakerState.LIMIT
    assert venue.market("status") == MarketStatus.OPEN
    assert lines_of(venue.price(10_499), Kind.HALT, HaltLine.LIMIT_ENDS)
    assert venue.state == BreakerState.NORMAL


@pytest.mark.parametrize("price", [11_000, 9000])
def test_beyond_the_band_for_too_long_is_a_halt(venue, price):
    venue.move(price, 15)
    assert venue.state == BreakerState.LIMIT
    (line,) = lines_of(venue.price(price), Kind.HALT, HaltLine.HALTED)
    assert (line["flags"], line["price"], line["detail"]) == (HaltReason.PRICE_MOVED, 10_000, 0)
    assert line["qty"] == venue.now_ms + DURATIONS_MS[0] == venue.market("reopen_ms")
    assert venue.market("status") == MarketStatus.HALTED
    assert venue.market("halt_reason") == HaltReason.PRICE_MOVED


def test_coming_back_starts_the_clock_anew(venue):
    venue.move(11_000, 14)
    venue.price(10_000)
    venue.move(11_000, 15)
    assert venue.state == BreakerState.LIMIT


def test_halts_grow_longer_and_shorter_again_after_a_quiet_time(venue):
    lengths = []
    for _ in range(5):
        venue.halt()
        lengths.append(venue.breaker("halt_end_ms") - venue.now_ms)
        venue.pass_by(lengths[-1] + 3 * MINUTE, venue.market("index_price"))
        assert venue.state == BreakerState.NORMAL
        assert venue.market("status") == MarketStatus.OPEN
    assert lengths == [*DURATIONS_MS, DURATIONS_MS[3]]
    venue.pass_by(QUIET_MS, venue.market("index_price"))
    assert venue.breaker("level") == 0


def test_a_halt_ends_in_an_auction_and_grace(venue):
    account = venue.first_trader
    venue.halt()
    price = venue.market("index_price")
    venue.pass_by(DURATIONS_MS[0] - EPOCH_MS, price)
    assert venue.market("status") == MarketStatus.HALTED
    result = venue.price(price)
    assert lines_of(result, Kind.HALT, HaltLine.REOPENING)
    assert venue.market("status") == MarketStatus.AUCTION
    assert venue.market("halt_reason") == HaltReason.NONE
    assert venue.market("grace_until_ms") == NEVER_MS
    venue.orders(venue.traders[0], account, [new(0, account, 1, Side.SELL, price, 5)])
    venue.orders(venue.traders[1], account + 1, [new(0, account + 1, 1, Side.BUY, price + 10, 5)])
    fills = 0
    while venue.market("status") != MarketStatus.OPEN:
        result = venue.price(price)
        fills += int((result.journal["kind"] == Kind.FILL).sum())
    assert fills == 1
    assert venue.market("grace_until_ms") == NEVER_MS
    venue.price(price)
    assert venue.market("grace_until_ms") == venue.now_ms + GRACE_MS
    assert venue.state == BreakerState.NORMAL


def test_a_halt_does_not_end_without_a_price_to_check_an_auction_against(venue):
    venue.halt()
    venue.step(DURATIONS_MS[0])
    assert venue.status == PriceStatus.STALE
    assert (venue.market("status"), venue.market("reopen_ms")) == (MarketStatus.HALTED, 0)
    venue.step(MINUTE)
    assert venue.state == BreakerState.HALTED
    venue.price(13_000)
    assert venue.market("status") == MarketStatus.AUCTION


def test_a_silent_oracle_leaves_the_band_where_it_was(venue):
    for _ in range(100):
        venue.step(MINUTE)
    assert venue.status == PriceStatus.STALE
    assert (venue.market("band_low"), venue.market("band_high")) == (9500, 10_500)
    assert venue.state == BreakerState.NORMAL


def test_a_price_that_grows_stale_in_the_limit_state_neither_halts_nor_clears(venue):
    venue.price(11_000)
    venue.step(MINUTE)
    venue.step(MINUTE)
    assert (venue.status, venue.state) == (PriceStatus.STALE, BreakerState.LIMIT)


def test_a_price_at_or_below_zero_halts_at_once(venue):
    (line,) = lines_of(venue.price(0), Kind.HALT, HaltLine.HALTED)
    assert line["flags"] == HaltReason.NO_PRICE
    assert venue.market("status") == MarketStatus.HALTED


def test_a_price_at_or_below_zero_halts_markets_without_rules_too():
    venue = ReportedVenue(reporters=1, feed=FEED)
    venue.price(1000)
    venue.price(1900)
    assert venue.market("status") == MarketStatus.OPEN
    venue.price(-1)
    assert (venue.market("status"), venue.market("halt_reason")) == (
        MarketStatus.HALTED,
        HaltReason.NO_PRICE,
    )
    venue.price(1900)
    venue.price(1900, passed_ms=DURATIONS_MS[0])
    assert venue.market("status") == MarketStatus.AUCTION


def test_cancels_deposits_and_transfers_stay_possible_and_orders_do_not(venue):
    account, key = venue.first_trader, venue.traders[0]
    venue.orders(key, account, [new(0, account, 1, Side.BUY, 9000, 5)])
    venue.step()
    venue.halt()
    venue.orders(key, account, [cancel(0, account, 1), new(0, account, 2, Side.BUY, 9000, 5)])
    venue.commands(Deposit(account, 1, 7))
    venue.commands(Transfer(account, account + 1, 1, 7), by=key, account=account)
    result = venue.step()
    journal = result.journal
    assert journal["code"][journal["kind"] == Kind.RESULT].tolist() == [Code.OK, Code.MARKET_CLOSED]
    assert command_codes(result) == [0, 0]


def test_nobody_opens_a_market_that_a_breaker_holds(venue):
    venue.halt()
    for status in (MarketStatus.OPEN, MarketStatus.PRE_OPEN, MarketStatus.CLOSED):
        venue.commands(SetMarketStatus(0, status))
    venue.commands(CallAuction(0, venue.now_ms + MINUTE, MarketStatus.OPEN))
    assert command_codes(venue.step()) == [Code.HALTED] * 4


def test_liquidations_in_too_short_a_time_halt_a_market(venue):
    state = venue.machine.state
    for part, expected in ((600_000, False), (400_000, False), (100, True)):
        add_liquidated(state, 0, part)
        result = venue.step(1)
        assert bool(lines_of(result, Kind.HALT, HaltLine.HALTED)) == expected
    assert venue.market("halt_reason") == HaltReason.LIQUIDATIONS
    assert venue.market("liquidated") == 0


def test_liquidations_drain_away(venue):
    state = venue.machine.state
    for _ in range(20):
        add_liquidated(state, 0, LIQUIDATION_MAX // 5)
        venue.price(10_000, passed_ms=MINUTE)
    assert venue.state == BreakerState.NORMAL
    venue.price(10_000, passed_ms=5 * MINUTE)
    venue.price(10_000)
    assert venue.breaker("pressure") == 0


def test_rules_that_are_taken_away_take_the_band_with_them(venue):
    venue.move(11_000, 3)
    venue.commands(RULES._replace(is_on=0))
    venue.step()
    assert (venue.market("band_low"), venue.market("band_high")) == (0, 0)
    assert venue.state == BreakerState.NORMAL
    venue.move(20_000, 20)
    assert venue.market("status") == MarketStatus.OPEN
    venue.machine.check_conservation()


def test_a_market_that_loses_its_index_while_halted_reopens(venue):
    venue.halt()
    venue.commands(SetIndex(0, 0))
    venue.step(DURATIONS_MS[0])
    assert venue.market("status") == MarketStatus.AUCTION


def test_a_halt_of_a_closed_market_opens_nothing(venue):
    venue.commands(SetMarketStatus(0, MarketStatus.CLOSED))
    venue.step()
    venue.halt()
    venue.pass_by(DURATIONS_MS[0] + MINUTE, venue.market("index_price"))
    assert (venue.market("status"), venue.state) == (MarketStatus.CLOSED, BreakerState.NORMAL)


def test_rules_are_checked(venue):
    venue.commands(
        RULES._replace(market=9),
        RULES._replace(floor_ppm=150_001),
        RULES._replace(floor_ppm=0),
        RULES._replace(cap_ppm=1_000_001),
    )
    bad = Code.BAD_ARGUMENT
    assert command_codes(venue.step()) == [Code.UNKNOWN_MARKET, bad, bad, bad]
    venue.commands(RULES, by=venue.reporters[0], account=1)
    assert command_codes(venue.step()) == [Code.NOT_AUTHORISED]
