"""Open orders and operations a second of one account."""

import pytest

from engine.commands import Deposit, OpenAccount, SetAccountGroup, SetAccountLimits
from engine.records import Code, Kind, Op, Side
from tests.helpers.venue import START_MS, Venue, cancel, new


@pytest.fixture
def venue():
    venue = Venue()
    venue.keys = venue.open_market(traders=2)
    return venue


def send(venue, now, *ops, trader=1):
    venue.orders(venue.keys[trader - 1], trader, list(ops))
    result = venue.block(time_ms=START_MS + now)
    return result.journal["code"][result.journal["kind"] == Kind.RESULT].tolist()


def limit(venue, open_orders_max, rate_max):
    venue.commands(SetAccountLimits(1, open_orders_max, rate_max))
    venue.block(time_ms=START_MS + 1)


def test_an_account_has_no_more_orders_open_than_it_may(venue):
    limit(venue, 2, 0)
    orders = [new(0, 1, n, Side.BUY, 10, 1) for n in range(4)]
    assert send(venue, 10, *orders) == [0, 0, Code.TOO_MANY_ORDERS, Code.TOO_MANY_ORDERS]
    replace, another = (Op.REPLACE, Side.BUY, 0, 1, 0, 12, 1), new(0, 1, 9, Side.BUY, 10, 1)
    assert send(venue, 20, cancel(0, 1, 1), replace, another) == [0, 0, 0]
    assert send(venue, 30, *[new(0, 2, n, Side.BUY, 10, 1) for n in range(4)], trader=2) == [0] * 4


def test_a_lower_limit_leaves_what_is_open(venue):
    assert send(venue, 1, *[new(0, 1, n, Side.BUY, 10, 1) for n in range(4)]) == [0] * 4
    limit(venue, 0, 0)
    assert venue.machine.state.count["orders_live"] == 4
    assert send(venue, 20, new(0, 1, 9, Side.BUY, 10, 1), cancel(0, 1, 0)) == [Code.TOO_MANY_ORDERS, 0]


def test_operations_above_the_rate_are_refused_and_a_second_gives_new_ones(venue):
    limit(venue, 1000, 2)
    orders = [new(0, 1, n, Side.BUY, 10, 1) for n in range(9)]
    assert send(venue, 1000, *orders[:4]) == [0, 0, Code.TOO_FAST, Code.TOO_FAST]
    assert send(venue, 1499, orders[4]) == [Code.TOO_FAST]
    assert send(venue, 1500, orders[4], orders[5]) == [0, Code.TOO_FAST]
    assert send(venue, 60_000, *orders[5:9]) == [0, 0, Code.TOO_FAST, Code.TOO_FAST]


def test_cancels_are_taken_whatever_the_rate(venue):
    limit(venue, 1000, 1)
    assert send(venue, 1000, new(0, 1, 1, Side.BUY, 10, 1), cancel(0, 1, 1), cancel(0, 1, 2)) == [
        0,
        0,
        Code.UNKNOWN_ORDER,
    ]


def test_only_the_venue_limits_accounts(venue):
    venue.commands(SetAccountLimits(2, 0, 0), by=venue.keys[0], account=1)
    venue.commands(SetAccountLimits(99, 0, 0))
    result = venue.block()
    codes = result.journal["code"][result.journal["kind"] == Kind.COMMAND].tolist()
    assert codes == [Code.NOT_AUTHORISED, Code.UNKNOWN_ACCOUNT]


def test_accounts_of_one_owner_do_not_trade_with_each_other():
    venue = Venue()
    venue.keys = venue.open_market(traders=2)
    owner = venue.keys[0]
    venue.commands(OpenAccount(owner.public_key), Deposit(3, 1, 10**6), SetAccountGroup(3, 1))
    venue.block()
    venue.orders(owner, 1, [new(0, 1, 1, Side.SELL, 100, 5)])
    venue.orders(owner, 3, [new(0, 3, 1, Side.BUY, 100, 5)])
    result = venue.block()
    assert result.counts.fills == 0
    assert Code.SELF_TRADE in result.journal["code"]
    venue.commands(SetAccountGroup(3, 3))
    venue.orders(owner, 3, [new(0, 3, 2, Side.BUY, 100, 5)])
    assert venue.block().counts.fills == 1


def test_accounts_under_one_root_key_are_strangers_unless_the_venue_says_otherwise():
    venue = Venue()
    owner = venue.open_market(traders=2)[0]
    venue.commands(OpenAccount(owner.public_key), Deposit(3, 1, 10**6))
    venue.block()
    venue.orders(owner, 1, [new(0, 1, 1, Side.SELL, 100, 5)])
    venue.orders(owner, 3, [new(0, 3, 1, Side.BUY, 100, 5)])
    assert venue.block().counts.fills == 1


def test_only_the_venue_says_who_has_one_owner(venue):
    venue.commands(SetAccountGroup(2, 1), by=venue.keys[1], account=2)
    venue.commands(SetAccountGroup(99, 1), SetAccountGroup(1, 99))
    result = venue.block()
    codes = result.journal["code"][result.journal["kind"] == Kind.COMMAND].tolist()
    assert codes == [Code.NOT_AUTHORISED, Code.UNKNOWN_ACCOUNT, Code.UNKNOWN_ACCOUNT]
