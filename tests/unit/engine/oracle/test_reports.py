"""Reports: who may report what and when, equivocation, and every rung of the ladder."""

import pytest

from engine.commands import EXPIRY_NEVER, GrantKey
from engine.layout import PriceStatus, Scope
from engine.oracle.aggregate import reports_needed
from engine.oracle.commands import (
    AddFeed,
    AddReporter,
    RemoveReporter,
    ReportPrice,
    SetFeed,
    SetFeedReporter,
)
from engine.oracle.ladder import ALLOWED, PriceAction, price_allows
from engine.oracle.tables import VALUE_MAX
from engine.records import Code, Kind, PriceLine
from tests.helpers.reporting import EPOCH_MS, ReportedVenue, command_codes, lines_of
from tests.helpers.venue import signer


@pytest.fixture
def venue():
    return ReportedVenue()


def test_the_lower_median_of_all_reports_is_the_value(venue):
    venue.price([100, 130, 110, 120])
    assert (venue.feed("value"), venue.market("index_price"), venue.status) == (110, 110, PriceStatus.VALID)


def test_a_complete_epoch_is_aggregated_in_its_own_block_and_an_incomplete_one_when_it_is_over(venue):
    venue.price(100)
    for reporter in range(3):
        venue.report(reporter, 200)
    venue.step()
    assert venue.feed("value") == 100
    venue.step(EPOCH_MS - 1 - venue.now_ms % EPOCH_MS)
    assert venue.feed("value") == 100
    venue.step(1)
    assert venue.feed("value") == 200


def test_the_next_epochs_first_report_ends_the_one_before(venue):
    for reporter in range(3):
        venue.report(reporter, 200)
    venue.step()
    venue.report(0, 500)
    result = venue.step()
    assert venue.feed("value") == 200
    assert len(lines_of(result, Kind.PRICE, PriceLine.FEED)) == 1


@pytest.mark.parametrize(("n", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 5), (31, 21)])
def test_reports_needed(n, needed):
    assert reports_needed(n) == needed


def test_too_few_reports_leave_the_price_until_it_is_stale(venue):
    venue.price(100)
    for _ in range(10):
        for reporter in range(2):
            venue.report(reporter, 777)
        venue.step()
        assert (venue.market("index_price"), venue.status) == (100, PriceStatus.VALID)
    result = venue.step(1)
    assert venue.status == PriceStatus.STALE
    assert (venue.market("index_price"), venue.market("mark_price")) == (100, 100)
    assert lines_of(result, Kind.PRICE, PriceLine.MARKET)[0]["flags"] == PriceStatus.STALE
    venue.price(101)
    assert (venue.market("index_price"), venue.status) == (101, PriceStatus.VALID)


def test_reports_of_an_epoch_before_a_long_silence_are_old_when_they_are_aggregated(venue):
    for reporter in range(3):
        venue.report(reporter, 200)
    venue.step()
    venue.step(3_600_000)
    assert (venue.feed("value"), venue.status) == (200, PriceStatus.STALE)


def test_wide_confidence_makes_the_price_uncertain(venue):
    venue.price(1000, confidence=100)
    assert (venue.feed("confidence"), venue.status) == (100, PriceStatus.VALID)
    venue.price(1000, confidence=101)
    assert venue.status == PriceStatus.UNCERTAIN


def test_reporters_far_apart_make_the_price_uncertain(venue):
    venue.price([700, 900, 1000, 1200])
    assert (venue.feed("value"), venue.feed("confidence")) == (900, 100)
    assert venue.status == PriceStatus.UNCERTAIN


def test_one_liar_of_four_changes_neither_value_nor_status(venue):
    for lie in (1, -VALUE_MAX, VALUE_MAX):
        venue.price([1000, 1001, lie, 1002])
        assert venue.feed("value") in (1000, 1001)
        assert venue.status == PriceStatus.VALID


def test_a_step_beyond_the_limit_is_clamped_and_volatile():
    venue = ReportedVenue(feed=AddFeed("BTC/USD", 0, EPOCH_MS, 10 * EPOCH_MS, 100_000, 50_000))
    venue.price(1000)
    venue.price(1200)
    assert (venue.feed("value"), venue.feed("median"), venue.status) == (1050, 1200, PriceStatus.VOLATILE)
    venue.price(10)
    assert (venue.feed("value"), venue.status) == (998, PriceStatus.VOLATILE)
    venue.price(1000)
    assert (venue.feed("value"), venue.status) == (1000, PriceStatus.VALID)


def test_a_price_of_zero_or_less_keeps_the_last_positive_one(venue):
    venue.price(1000)
    for value in (0, -5, -VALUE_MAX):
        venue.price(value)
        assert (venue.market("index_price"), venue.status) == (1000, PriceStatus.NONPOSITIVE)
    venue.price(1001)
    assert (venue.market("index_price"), venue.status) == (1001, PriceStatus.VALID)


def test_the_worst_of_staleness_and_the_last_aggregate_counts(venue):
    venue.price(1000, confidence=500)
    venue.step(60_000)
    assert venue.status == PriceStatus.UNCERTAIN


@pytest.mark.parametrize("worse", range(PriceStatus.STALE, PriceStatus.NONPOSITIVE + 1))
def test_a_worse_status_allows_nothing_that_a_better_one_forbids(worse):
    assert ALLOWED[worse] & ~ALLOWED[worse - 1] == 0


def test_the_ladder_says_what_each_status_allows():
    risky = (PriceAction.NEW_RISK, PriceAction.LIQUIDATE, PriceAction.BORROW)
    for status in PriceStatus:
        for action in risky:
            assert price_allows(status.value, action.value) == (status == PriceStatus.VALID)
        trades = status != PriceStatus.NONPOSITIVE
        assert price_allows(status.value, PriceAction.TRADE.value) == trades
        allows_auction = status in (PriceStatus.VALID, PriceStatus.NONE)
        assert price_allows(status.value, PriceAction.AUCTION.value) == allows_auction


def test_a_market_without_an_oracle_says_so():
    venue = ReportedVenue()
    venue.machine.state.add_market("OTHER", 10)
    assert venue.market("price_status", 1) == PriceStatus.NONE


# -- refusals -------------------------------------------------------------------------------------


def test_reports_are_taken_for_the_open_epoch_only_and_once(venue):
    epoch = venue.now_ms // EPOCH_MS + 1
    for offset in (-1, 1):
        venue.report(0, 100, epoch=epoch + offset)
    venue.report(0, 100)
    venue.report(0, 100)
    assert command_codes(venue.step()) == [Code.REPORT_LATE, Code.REPORT_EARLY, 0, Code.REPORT_REPEATED]


def test_a_report_after_its_complete_epoch_is_late_for_a_new_reporter(venue):
    venue.reporters.append(signer("reporter x"))
    venue.commands(AddReporter(5), by=venue.admin)
    venue.price([100, 100, 100, 100])
    venue.commands(SetFeedReporter(0, 4, 1))
    venue.commands(
        ReportPrice(4, 0, venue.now_ms // EPOCH_MS, 100, 0), by=venue.traders[0], account=venue.first_trader
    )
    assert command_codes(venue.step(1)) == [0, Code.REPORT_LATE]


def test_only_keys_with_the_report_scope_of_a_reporters_account_report(venue):
    guest = signer("guest")
    venue.commands(
        GrantKey(1, guest.public_key, Scope.REPORT, EXPIRY_NEVER), by=venue.reporters[0], account=1
    )
    epoch = venue.now_ms // EPOCH_MS + 1
    venue.commands(ReportPrice(0, 0, epoch, 5, 0), by=guest, account=1)
    venue.commands(ReportPrice(1, 0, epoch, 5, 0), by=guest, account=1)
    venue.commands(ReportPrice(1, 0, epoch, 5, 0))
    assert command_codes(venue.step()) == [0, 0, Code.NOT_AUTHORISED, Code.NOT_AUTHORISED]
    venue.commands(GrantKey(1, guest.public_key, Scope.TRADE, EXPIRY_NEVER), by=venue.reporters[0], account=1)
    venue.commands(ReportPrice(0, 0, epoch + 1, 5, 0), by=guest, account=1)
    assert command_codes(venue.step()) == [0, Code.NOT_AUTHORISED]


def test_unknown_feeds_and_reporters_are_refused(venue):
    epoch = venue.now_ms // EPOCH_MS + 1
    venue.commands(AddFeed("ETH/USD", 0, EPOCH_MS, EPOCH_MS, 1, 1))
    for reporter, feed in ((0, 9), (9, 0), (0, 1)):
        venue.commands(ReportPrice(reporter, feed, epoch, 5, 0), by=venue.reporters[0], account=1)
    codes = command_codes(venue.step())
    assert codes == [0, Code.UNKNOWN_FEED, Code.UNKNOWN_REPORTER, Code.UNKNOWN_REPORTER]


@pytest.mark.parametrize(
    "changes",
    [
        {"value": VALUE_MAX + 1},
        {"value": -VALUE_MAX - 1},
        {"confidence": -1},
        {"epoch": 0},
        {"confidence": VALUE_MAX + 1},
    ],
    ids=str,
)
def test_arguments_out_of_bounds_are_refused(venue, changes):
    report = ReportPrice(0, 0, venue.now_ms // EPOCH_MS + 1, 5, 0)._replace(**changes)
    venue.commands(report, by=venue.reporters[0], account=1)
    assert command_codes(venue.step()) == [Code.BAD_ARGUMENT]


def test_a_removed_reporter_neither_reports_nor_counts(venue):
    venue.report(0, 100)
    venue.report(1, 100)
    venue.commands(RemoveReporter(0))
    venue.report(0, 100)
    assert command_codes(venue.step()) == [0, 0, 0, Code.UNKNOWN_REPORTER]
    assert (venue.feed("reporters"), venue.feed("answers")) == (3, 1)
    venue.commands(RemoveReporter(0), SetFeedReporter(0, 0, 1), AddReporter(1))
    assert command_codes(venue.step()) == [Code.UNKNOWN_REPORTER, Code.UNKNOWN_REPORTER, 0]


def test_the_venue_alone_runs_feeds(venue):
    commands = [
        AddReporter(1),
        RemoveReporter(0),
        AddFeed("A", 0, 1000, 1000, 1, 1),
        SetFeed(0, 1000, 1, 1),
        SetFeedReporter(0, 0, 0),
    ]
    venue.commands(*commands, by=venue.reporters[0], account=1)
    assert command_codes(venue.step()) == [Code.NOT_AUTHORISED] * len(commands)


def test_feeds_are_checked(venue):
    venue.commands(
        AddFeed("BTC/USD", 0, 1000, 1000, 1, 1),
        AddFeed("A", 0, 1000, 999, 1, 1),
        SetFeed(0, 999, 1, 1),
        SetFeed(7, 1000, 1, 1),
        SetFeedReporter(0, 0, 1),
        SetFeedReporter(7, 0, 1),
        AddReporter(1),
        AddReporter(99),
    )
    codes = [Code.NAME_TAKEN, Code.BAD_ARGUMENT, Code.BAD_ARGUMENT, Code.UNKNOWN_FEED, Code.NOTHING_TO_DO]
    assert command_codes(venue.step()) == [
        *codes,
        Code.UNKNOWN_FEED,
        Code.NOTHING_TO_DO,
        Code.UNKNOWN_ACCOUNT,
    ]


# -- equivocation ---------------------------------------------------------------------------------


def test_two_different_reports_of_one_epoch_are_recorded_once_and_neither_counts(venue):
    venue.report(0, 5)
    venue.report(0, 6, confidence=1)
    venue.report(0, 5)
    venue.report(0, 7)
    for reporter in (1, 2, 3):
        venue.report(reporter, 100)
    result = venue.step()
    assert command_codes(result)[:4] == [0, 0, Code.REPORTER_EXCLUDED, Code.REPORTER_EXCLUDED]
    assert (venue.feed("value"), venue.feed("reports")) == (100, 3)
    (line,) = lines_of(result, Kind.PRICE, PriceLine.EQUIVOCATION)
    assert (line["account"], line["price"], line["qty"]) == (1, 5, 6)
    table = venue.machine.state.table("equivocations")
    assert venue.machine.state.used(table) == 1
    row = table.data[0]
    assert (row["first_value"], row["second_value"], row["second_confidence"]) == (5, 6, 1)
    assert venue.machine.state.table("reporters").columns["equivocations"][0] == 1


def test_an_equivocator_may_leave_an_epoch_with_too_few_reports(venue):
    venue.price(100)
    venue.report(0, 5)
    venue.report(0, 6)
    for reporter in (1, 2):
        venue.report(reporter, 100)
    venue.step()
    venue.price([200, 200, 200, 200])
    assert (venue.feed("value"), venue.feed("reports")) == (200, 4)


def test_a_contradiction_after_the_epoch_was_complete_is_still_recorded(venue):
    venue.price(100)
    venue.report(0, 5, epoch=venue.now_ms // EPOCH_MS)
    assert command_codes(venue.step(1)) == [0]
    assert venue.machine.state.table("reporters").columns["equivocations"][0] == 1
    assert venue.feed("value") == 100


def test_reports_count_again_after_an_epoch_of_exclusion(venue):
    venue.report(0, 5)
    venue.report(0, 6)
    venue.step()
    venue.price(100)
    assert venue.feed("reports") == 4
