"""Stable assets off their anchor, and how much of an asset may leave."""

import pytest

from engine.breakers.commands import SetOutflowLimit, SetPeg
from engine.breakers.outflows import AGE_MS, BUCKET_MS
from engine.breakers.pegs import PEG_BACK_MS, PEG_MS
from engine.commands import Deposit, Transfer, Withdraw
from engine.layout import AssetAlarm, PriceStatus
from engine.oracle.commands import AddFeed
from engine.records import Code, HaltLine, Kind
from tests.helpers.reporting import EPOCH_MS, ReportedVenue, command_codes, lines_of

FEED = AddFeed("BTC/USD", 0, EPOCH_MS, 100 * EPOCH_MS, 100_000, 1_000_000)
PEG = SetPeg(1, 0, 10_000, 10_000, 200_000)
CAP, HOUR_MS = 1000, 3_600_000


@pytest.fixture
def venue():
    venue = ReportedVenue(reporters=1, feed=FEED)
    venue.commands(PEG, SetOutflowLimit(0, CAP, 360, 500_000))
    venue.price(10_000)
    return venue


def asset(venue, name, row=1):
    return venue.machine.state.assets.columns[name].item(row)


def is_depegged(venue):
    return bool(asset(venue, "alarms") & AssetAlarm.DEPEGGED)


def stay(venue, price, milliseconds):
    """One price now and one at the end."""
    venue.price(price)
    return venue.price(price, passed_ms=milliseconds)


@pytest.mark.parametrize("price", [9899, 10_101, 1])
def test_off_for_three_minutes_is_an_alarm_and_a_haircut_and_no_halt(venue, price):
    stay(venue, price, PEG_MS - 1)
    assert not is_depegged(venue)
    (line,) = lines_of(venue.step(1), Kind.HALT, HaltLine.PEG_LOST)
    assert (line["market"], line["price"], line["qty"]) == (1, price, 10_000)
    assert is_depegged(venue)
    assert asset(venue, "peg_haircut_ppm") == 200_000
    assert venue.market("halt_reason") == 0


@pytest.mark.parametrize("price", [9900, 10_100])
def test_a_hundred_basis_points_are_not_off(venue, price):
    stay(venue, price, 10 * PEG_MS)
    assert not is_depegged(venue)


def test_coming_back_starts_the_clock_anew(venue):
    stay(venue, 9000, PEG_MS - 1000)
    venue.price(10_000)
    stay(venue, 9000, PEG_MS - 1000)
    assert not is_depegged(venue)


def test_the_alarm_ends_when_the_price_was_back_for_an_hour(venue):
    stay(venue, 9000, PEG_MS)
    stay(venue, 10_000, PEG_BACK_MS - 1000)
    venue.price(9000)
    stay(venue, 10_000, PEG_BACK_MS - 1000)
    assert is_depegged(venue)
    assert lines_of(venue.price(10_000), Kind.HALT, HaltLine.PEG_REGAINED)
    assert not is_depegged(venue)
    assert asset(venue, "peg_haircut_ppm") == 0


def test_a_price_below_zero_is_off_and_a_stale_one_says_nothing(venue):
    stay(venue, -1, PEG_MS)
    assert is_depegged(venue)
    other = ReportedVenue(reporters=1, feed=FEED)
    other.commands(PEG)
    other.price(9000)
    other.step(150_000)
    assert other.status == PriceStatus.STALE
    other.step(HOUR_MS)
    assert not is_depegged(other)


def test_a_new_rule_ends_the_alarm_of_the_old_one(venue):
    stay(venue, 9000, PEG_MS)
    venue.commands(PEG._replace(anchor=0))
    venue.step()
    assert not is_depegged(venue)
    stay(venue, 1, 2 * PEG_MS)
    assert not is_depegged(venue)


def test_pegs_and_limits_are_checked(venue):
    venue.commands(PEG._replace(asset=9), PEG._replace(feed=9), SetOutflowLimit(9, 1, 1, 1))
    assert command_codes(venue.step()) == [Code.UNKNOWN_ASSET, Code.UNKNOWN_FEED, Code.UNKNOWN_ASSET]
    venue.commands(PEG, SetOutflowLimit(0, 0, 0, 0), by=venue.reporters[0], account=1)
    assert command_codes(venue.step()) == [Code.NOT_AUTHORISED] * 2


# -- outflows -------------------------------------------------------------------------------------


def withdraw(venue, *amounts, row=0):
    account = venue.first_trader
    for amount in amounts:
        venue.commands(Withdraw(account, row, amount), by=venue.traders[0], account=account)
    return command_codes(venue.step(1))


def test_no_more_than_the_cap_leaves_at_once(venue):
    assert withdraw(venue, 600, 401, 400, 1) == [0, Code.OUTFLOW_LIMIT, 0, Code.OUTFLOW_LIMIT]
    assert withdraw(venue, 10**6, row=1) == [0]
    assert withdraw(venue, CAP + 1) == [Code.OUTFLOW_LIMIT]


def test_the_bucket_refills_with_time_up_to_the_cap(venue):
    withdraw(venue, CAP)
    venue.step(100_000)
    assert asset(venue, "outflow_left", 0) == 10
    venue.step(10 * HOUR_MS)
    assert asset(venue, "outflow_left", 0) == CAP
    assert withdraw(venue, CAP, 1) == [0, Code.OUTFLOW_LIMIT]


def test_deposits_make_room_only_when_they_are_old(venue):
    account = venue.first_trader
    venue.commands(SetOutflowLimit(0, CAP, 0, 500_000))
    venue.step()
    withdraw(venue, CAP)
    venue.commands(Deposit(account, 0, 600))
    for _ in range(AGE_MS // BUCKET_MS + 1):  # the first block has the deposit
        venue.step(BUCKET_MS)
        assert asset(venue, "outflow_left", 0) == 0
    venue.step(BUCKET_MS)
    assert asset(venue, "outflow_left", 0) == 300
    venue.step(10 * HOUR_MS)
    assert asset(venue, "outflow_left", 0) == 300


def test_money_that_goes_in_circles_makes_no_room(venue):
    account = venue.first_trader
    for _ in range(5):
        venue.commands(Deposit(account, 0, 200))
        withdraw(venue, 200)
    assert withdraw(venue, 1) == [Code.OUTFLOW_LIMIT]


def test_a_bucket_that_runs_low_is_told_once(venue):
    withdraw(venue, 950)
    assert lines_of(venue.step(1000), Kind.HALT, HaltLine.OUTFLOW_EXHAUSTED)
    assert not lines_of(venue.step(1000), Kind.HALT, HaltLine.OUTFLOW_EXHAUSTED)


def test_another_limit_fills_no_bucket(venue):
    withdraw(venue, CAP)
    venue.commands(SetOutflowLimit(0, 2 * CAP, 0, 0))
    venue.step(1)
    assert withdraw(venue, 1) == [Code.OUTFLOW_LIMIT]
    venue.commands(SetOutflowLimit(0, 0, 0, 0))
    venue.step(1)
    assert withdraw(venue, 10 * CAP) == [0]


def test_transfers_and_refused_withdrawals_take_no_tokens(venue):
    account = venue.first_trader
    venue.commands(Transfer(account, account + 1, 0, 10**6), by=venue.traders[0], account=account)
    venue.commands(Withdraw(account, 0, CAP), by=venue.traders[1], account=account + 1)
    assert command_codes(venue.step(1)) == [0, Code.NOT_AUTHORISED]
    assert asset(venue, "outflow_left", 0) == CAP
