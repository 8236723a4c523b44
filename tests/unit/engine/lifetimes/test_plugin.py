"""Orders that expire, and the dead man's switch, through whole blocks."""

import pytest

from engine.commands import CancelAllAfter, GrantKey
from engine.layout import Scope
from engine.lifetimes import plugin
from engine.machine import Machine
from engine.records import Code, Kind, Op, Side, Term
from tests.helpers.venue import NEVER, START_MS, Venue, cancel, new, signer

BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def venue():
    venue = Venue()
    venue.keys = venue.open_market(traders=3)
    return venue


def gtd(trader, order_id, side, price, qty, expiry_ms):
    order = new(0, trader, order_id, side, price, qty)
    return [(Op.TERMS, Term.EXPIRE, *order[2:5], expiry_ms, 0), order]


def place(venue, trader, *ops):
    venue.orders(venue.keys[trader - 1], trader, [op for group in ops for op in group])


def lines(result, kind):
    return result.journal[result.journal["kind"] == kind]


def check(venue):
    machine = venue.machine
    machine.check_conservation()
    assert machine.state_root() == machine.full_state_root()
    Machine.restore(venue.genesis, machine.snapshot(), machine.state_root()).check_conservation()


def test_an_order_that_has_expired_does_not_trade_in_the_block_of_that_time(venue):
    place(venue, 1, gtd(1, 1, SELL, 100, 5, START_MS + 5000), gtd(1, 2, SELL, 100, 5, START_MS + 9000))
    venue.block(time_ms=START_MS + 1000)
    place(venue, 2, [new(0, 2, 1, BUY, 100, 10)])
    result = venue.block(time_ms=START_MS + 5000)
    [gone] = lines(result, Kind.CANCELLED)
    assert (gone["code"], gone["client_order_id"], gone["qty"]) == (Code.EXPIRED, 1, 5)
    assert lines(result, Kind.FILL)["counter_order_id"].tolist() == [2]
    check(venue)


def test_what_is_over_before_it_comes_is_refused(venue):
    place(venue, 1, gtd(1, 1, SELL, 100, 5, START_MS + 1000))
    result = venue.block(time_ms=START_MS + 1000)
    assert lines(result, Kind.RESULT)["code"].tolist() == [Code.OK, Code.EXPIRED]


def test_an_order_that_leaves_takes_its_alarm_along(venue):
    place(venue, 1, *(gtd(1, n, SELL, 100 + n, 5, START_MS + 9000 + n) for n in range(6)))
    venue.block(time_ms=START_MS + 1000)
    assert venue.machine.state.count["alarms"] == 6
    place(venue, 1, [cancel(0, 1, 0), cancel(0, 1, 3)])
    place(venue, 2, [new(0, 2, 1, BUY, 101, 5)])
    venue.block(time_ms=START_MS + 2000)
    assert venue.machine.state.count["alarms"] == 3
    check(venue)
    result = venue.block(time_ms=START_MS + 9005)
    assert lines(result, Kind.CANCELLED)["client_order_id"].tolist() == [2, 4, 5]


def test_a_replacement_keeps_its_expiry(venue):
    place(venue, 1, gtd(1, 1, SELL, 100, 5, START_MS + 9000))
    venue.block(time_ms=START_MS + 1000)
    place(venue, 1, [(Op.REPLACE, SELL, 0, 1, 1, 120, 7)])
    venue.block(time_ms=START_MS + 2000)
    result = venue.block(time_ms=START_MS + 9000)
    assert [(e["price"], e["qty"]) for e in lines(result, Kind.CANCELLED)] == [(120, 7)]
    check(venue)


def test_a_switch_that_is_not_set_again_cancels_everything_of_its_account(venue):
    place(venue, 1, [new(0, 1, n, BUY, 10 + n, 1) for n in range(4)])
    place(venue, 2, [new(0, 2, 1, BUY, 10, 1)])
    venue.commands(CancelAllAfter(1, 3000), by=venue.keys[0], account=1)
    venue.block(time_ms=START_MS + 1000)
    venue.commands(CancelAllAfter(1, 3000), by=venue.keys[0], account=1)
    assert len(lines(venue.block(time_ms=START_MS + 3999), Kind.CANCELLED)) == 0
    assert len(lines(venue.block(time_ms=START_MS + 4000), Kind.CANCELLED)) == 0
    result = venue.block(time_ms=START_MS + 6999)
    gone = lines(result, Kind.CANCELLED)
    assert gone["client_order_id"].tolist() == [3, 2, 1, 0]
    assert set(gone["code"]) == {Code.DEAD_MAN}
    assert venue.machine.state.count["orders_live"] == 1
    assert venue.machine.state.count["alarms"] == 0
    check(venue)


def test_a_switch_can_be_put_off_for_good(venue):
    place(venue, 1, [new(0, 1, 1, BUY, 10, 1)])
    venue.commands(CancelAllAfter(1, 3000), by=venue.keys[0], account=1)
    venue.block(time_ms=START_MS + 1000)
    venue.commands(CancelAllAfter(1, 0), by=venue.keys[0], account=1)
    venue.block(time_ms=START_MS + 2000)
    assert len(lines(venue.block(time_ms=START_MS + 9000), Kind.CANCELLED)) == 0


def test_many_alarms_at_once_go_on_in_the_next_block(venue, monkeypatch):
    monkeypatch.setattr(plugin, "ALARMS_PER_BLOCK_MAX", 3)
    place(venue, 1, *(gtd(1, n, SELL, 100, 5, START_MS + 5000) for n in range(5)))
    place(venue, 1, [new(0, 1, 50 + n, BUY, 10, 1) for n in range(3)])
    venue.commands(CancelAllAfter(1, 5000), by=venue.keys[0], account=1)
    venue.block(time_ms=START_MS + 1000)
    counts = [len(lines(venue.block(time_ms=START_MS + 6000 + n), Kind.CANCELLED)) for n in range(4)]
    assert counts == [3, 3, 2, 0]
    check(venue)


def test_only_a_trading_key_of_the_account_sets_its_switch(venue):
    clerk = signer("clerk")
    venue.commands(GrantKey(1, clerk.public_key, Scope.TRANSFER, NEVER), by=venue.keys[0], account=1)
    venue.block(time_ms=START_MS + 1)
    venue.commands(CancelAllAfter(1, 3000), by=venue.keys[1], account=2)
    venue.commands(CancelAllAfter(1, 3000), by=clerk, account=1)
    venue.commands(CancelAllAfter(99, 3000), by=venue.keys[1], account=2)
    result = venue.block(time_ms=START_MS + 1000)
    codes = [Code.NOT_AUTHORISED, Code.NOT_AUTHORISED, Code.UNKNOWN_ACCOUNT]
    assert lines(result, Kind.COMMAND)["code"].tolist() == codes
