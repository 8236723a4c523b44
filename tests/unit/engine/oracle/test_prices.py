"""Index and mark prices."""

import pytest

from engine.commands import ListMarket, RegisterAsset
from engine.layout import PriceStatus
from engine.oracle.commands import AddFeed, SetFeedReporter, SetIndex, SetIndexFeed
from engine.oracle.indexes import ticks_per_value
from engine.oracle.tables import IndexMethod
from engine.records import Code, Kind, PriceLine, Side
from tests.helpers.reporting import EPOCH_MS, ReportedVenue, command_codes, lines_of
from tests.helpers.venue import START_MS, new

FEED = AddFeed("F", 0, EPOCH_MS, 10 * EPOCH_MS, 100_000, 1_000_000)


@pytest.fixture
def venue():
    return ReportedVenue()


def quote(venue, bid, ask, first_id=1):
    """Rest a bid and an ask of trader 0."""
    account = venue.first_trader
    orders = [(Side.BUY, bid), (Side.SELL, ask)]
    venue.orders(
        venue.traders[0],
        account,
        [new(0, account, first_id + n, side, price, 5) for n, (side, price) in enumerate(orders) if price],
    )


def three_feeds(weights, method, values):
    """A venue whose market 0 has an index of three feeds, after one epoch with these values."""
    venue = ReportedVenue(reporters=1)
    venue.commands(
        *[FEED._replace(name=f"F{n}") for n in (1, 2)],
        *[SetFeedReporter(n, 0, 1) for n in (1, 2)],
        *[SetIndexFeed(0, n, weight) for n, weight in enumerate(weights)],
        SetIndex(0, method),
    )
    assert set(command_codes(venue.step())) == {0}
    for feed, value in enumerate(values):
        if value is not None:
            venue.report(0, value, feed=feed)
    venue.step()
    return venue


@pytest.mark.parametrize(
    ("weights", "values", "index", "status"),
    [
        ((1, 1, 1), (100, 300, 200), 200, PriceStatus.VALID),
        ((3, 1, 1), (100, 300, 200), 100, PriceStatus.VALID),
        ((2, 1, 1), (100, 300, 200), 100, PriceStatus.VALID),
        ((2, 1, 1), (300, 100, 200), 200, PriceStatus.VALID),
        ((1, 1, 1), (100, 300, None), 100, PriceStatus.VALID),
        ((1, 1, 2), (100, 300, None), 0, PriceStatus.STALE),
        ((1, 1, 1), (-1, 300, 400), 300, PriceStatus.VALID),
        ((1_000_000, 1, 1), (100_000, 1, 1), 100_000, PriceStatus.VALID),
    ],
)
def test_the_index_is_the_lower_weighted_median_of_feeds_that_are_valid(weights, values, index, status):
    venue = three_feeds(weights, IndexMethod.MEDIAN, values)
    assert (venue.market("index_price"), venue.status) == (index, status)


@pytest.mark.parametrize(
    ("weights", "values", "index", "status"),
    [
        ((1, 1, 1), (100, 301, 200), 200, PriceStatus.VALID),
        ((3, 1, 0), (100, 301, None), 150, PriceStatus.VALID),
        ((1, 1, 1), (100, 301, None), 0, PriceStatus.STALE),
    ],
)
def test_the_index_of_a_basket_is_its_weighted_mean_and_needs_all_of_it(weights, values, index, status):
    ours = [w for w in weights if w]
    venue = three_feeds(weights[: len(ours)], IndexMethod.MEAN, values[: len(ours)])
    assert (venue.market("index_price"), venue.status) == (index, status)


def test_one_bad_part_of_a_basket_makes_the_whole_as_bad():
    venue = three_feeds((1, 1, 1), IndexMethod.MEAN, (100, 200, 300))
    for feed, value in enumerate((100, 200, 300)):
        venue.report(0, value, 200 if feed == 1 else 0, feed=feed)
    venue.step()
    assert (venue.market("index_price"), venue.status) == (200, PriceStatus.UNCERTAIN)


def test_an_index_of_several_feeds_survives_one_that_goes_bad():
    venue = three_feeds((1, 1, 1), IndexMethod.MEDIAN, (100, 200, 300))
    for _ in range(20):
        venue.report(0, 110, feed=0)
        venue.report(0, 310, feed=2)
        venue.step()
    assert (venue.market("index_price"), venue.status) == (110, PriceStatus.VALID)


@pytest.mark.parametrize(("value", "clamped"), [(100_001, 100_000), (2**48, 100_000)])
def test_an_index_that_the_book_cannot_express_is_clamped_and_uncertain(venue, value, clamped):
    venue.price(value)
    assert (venue.market("index_price"), venue.status) == (clamped, PriceStatus.UNCERTAIN)


def test_values_become_ticks_rounded_down():
    """A feed of 8 decimals, an asset of 8 and one of 2 decimals, lots of 0.01, ticks of 0.5 a lot."""
    venue = ReportedVenue(reporters=1)
    venue.commands(
        RegisterAsset("ETH", 8, 0),
        RegisterAsset("EUR", 2, 0),
        ListMarket("ETH/EUR", 2, 3, 10**6, 50, 10_000, 1000, 0, 0, 0),
        FEED._replace(name="ETH/EUR", decimals=8),
        SetFeedReporter(1, 0, 1),
        SetIndexFeed(1, 1, 1),
        SetIndex(1, IndexMethod.MEDIAN),
    )
    venue.step()
    assert ticks_per_value(venue.machine.state, 1, 1) == (1, 50 * 10**8)
    for value, ticks in ((350_000_000_000, 70), (349_999_999_999, 69), (10**8, 1)):
        venue.report(0, value, feed=1)
        venue.step()
        assert venue.market("index_price", 1) == ticks
    assert PriceStatus(venue.market("price_status", 1)) == PriceStatus.UNCERTAIN


def test_a_feed_coarser_than_a_tick_is_refused():
    venue = ReportedVenue(reporters=1)
    venue.commands(
        RegisterAsset("ETH", 0, 0),
        RegisterAsset("EUR", 18, 0),
        ListMarket("ETH/EUR", 2, 3, 1, 1, 100, 1000, 0, 0, 0),
        SetIndexFeed(1, 0, 1),
    )
    assert command_codes(venue.step()) == [0, 0, 0, Code.BAD_ARGUMENT]


# -- mark -----------------------------------------------------------------------------------------


def test_the_mark_is_the_index_while_the_book_says_nothing(venue):
    venue.price(1000)
    assert venue.market("mark_price") == 1000


def test_one_side_of_a_book_says_nothing(venue):
    venue.price(1000)
    quote(venue, 900, 0)
    venue.price(1000)
    assert venue.market("mark_price") == 1000


def test_a_moved_book_moves_the_mark_only_as_the_average_basis_does(venue):
    venue.price(1000)
    quote(venue, 1040, 1060)
    venue.price(1000)
    assert venue.market("mark_price") == 1000
    for _ in range(150):
        venue.price(1000)
    # after one time constant some 63 % of a basis of 50 ticks, in 150 steps of 1/150 each
    assert venue.market("mark_price") == 1031
    for _ in range(1200):
        venue.price(1000)
    assert venue.market("mark_price") == 1049


def test_a_basis_is_cut_at_its_limit(venue):
    venue.price(1000)
    quote(venue, 5000, 5002)
    for _ in range(2000):
        venue.price(1000)
    assert venue.market("mark_price") == 1049


def test_the_average_basis_stands_still_while_the_index_is_not_valid(venue):
    venue.price(1000)
    quote(venue, 1040, 1060)
    venue.price(1000, 200)
    basis = venue.machine.state.table("indexes").columns["basis_q16"][0]
    for _ in range(50):
        venue.price(1000, 200)
    assert venue.machine.state.table("indexes").columns["basis_q16"][0] == basis
    venue.price(1000)
    assert venue.machine.state.table("indexes").columns["basis_q16"][0] > basis


def test_prices_are_told_once_when_they_change(venue):
    first = venue.price(1000)
    (line,) = lines_of(first, Kind.PRICE, PriceLine.MARKET)
    assert (line["price"], line["qty"], line["flags"]) == (1000, 1000, PriceStatus.VALID)
    assert lines_of(venue.price(1000), Kind.PRICE, PriceLine.MARKET) == []
    assert len(lines_of(venue.price(1001), Kind.PRICE, PriceLine.MARKET)) == 1


def test_a_market_can_lose_its_index(venue):
    venue.price(1000)
    venue.commands(SetIndex(0, IndexMethod.NONE))
    venue.step()
    assert (venue.market("index_price"), venue.market("mark_price"), venue.status) == (0, 0, PriceStatus.NONE)


def test_indexes_are_checked(venue):
    venue.commands(
        SetIndex(1, 1),
        SetIndex(0, 3),
        SetIndexFeed(1, 0, 1),
        SetIndexFeed(0, 7, 1),
        *[FEED._replace(name=f"F{n}") for n in range(1, 9)],
        SetIndexFeed(0, 1, 0),
        *[SetIndexFeed(0, n, 1) for n in range(1, 9)],
    )
    codes = command_codes(venue.step())
    assert codes[:4] == [Code.UNKNOWN_MARKET, Code.BAD_ARGUMENT, Code.UNKNOWN_MARKET, Code.UNKNOWN_FEED]
    assert codes[12:] == [Code.NOTHING_TO_DO, 0, 0, 0, 0, 0, 0, 0, Code.LIMIT_REACHED]
    venue.commands(SetIndex(0, 1), SetIndexFeed(0, 0, 1), by=venue.reporters[0], account=1)
    assert command_codes(venue.step()) == [Code.NOT_AUTHORISED] * 2
    assert venue.now_ms > START_MS
