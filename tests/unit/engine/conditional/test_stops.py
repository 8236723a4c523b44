"""Stops: when they are due, what becomes of them, and what they are until then."""

import numpy as np
import pytest

from engine.commands import SetCollar, SetMarketStatus
from engine.conditional import plugin
from engine.layout import OrderFlag, PriceStatus
from engine.machine import Machine
from engine.markets.states import MarketStatus
from engine.records import EVERY_MARKET, Code, Kind, Op, Reference, Side, Term, TimeInForce
from tests.helpers.venue import START_MS, Venue, cancel, new

BUY, SELL, MARKET, IOC = Side.BUY, Side.SELL, TimeInForce.MARKET, TimeInForce.IOC
FUNDS = 1_000_000_000


@pytest.fixture
def venue():
    venue = Venue()
    venue.keys = venue.open_market(traders=3, funds=FUNDS, maker_fee_e6=0, taker_fee_e6=0)
    return venue


def stop(trader, order_id, side, trigger, price, qty, tif=TimeInForce.GTC, reference=Reference.LAST):
    order = new(0, trader, order_id, side, price, qty, tif)
    return [(Op.TERMS, Term.STOP, *order[2:5], trigger, reference), order]


def block(venue, *groups, **options):
    """One block of (trader, operation, ...) groups, and every audit."""
    for trader, *ops in groups:
        flat = [op for group in ops for op in (group if isinstance(group, list) else [group])]
        venue.orders(venue.keys[trader - 1], trader, flat)
    result = venue.block(**options)
    machine = venue.machine
    machine.check_conservation()
    assert machine.state_root() == machine.full_state_root()
    return result


def trade(price, qty=1, order_id=1000):
    """Accounts 1 and 2 trade at a price, the buyer coming last."""
    return (1, new(0, 1, order_id, SELL, price, qty)), (2, new(0, 2, order_id, BUY, price, qty))


def triggered(result):
    found = result.journal[result.journal["kind"] == Kind.TRIGGERED]
    return [(int(line["client_order_id"]), int(line["code"])) for line in found]


def balance(venue, account, asset):
    state = venue.machine.state
    row = state.balances.data[state.balance_row(account, asset)]
    return int(row["available"]), int(row["held"])


def test_a_stop_waits_off_the_book_with_its_funds_held(venue):
    result = block(venue, (3, stop(3, 1, BUY, 110, 120, 5)), (1, new(0, 1, 1, SELL, 115, 9)))
    assert triggered(result) == []
    assert not np.any(result.journal["kind"] == Kind.FILL)
    assert int(venue.machine.state.markets.columns["best_bid"][0]) == 0
    assert balance(venue, 3, 1) == (FUNDS - 600, 600)


def test_a_buy_stop_is_due_at_its_trigger_and_above(venue):
    block(
        venue, (3, stop(3, 1, BUY, 110, 120, 5), stop(3, 2, BUY, 109, 120, 5), stop(3, 3, BUY, 111, 120, 5))
    )
    assert triggered(block(venue, *trade(108))) == []
    assert triggered(block(venue, *trade(110))) == [(2, Code.OK), (1, Code.OK)]


def test_a_sell_stop_is_due_at_its_trigger_and_below(venue):
    block(venue, (3, *(stop(3, n, SELL, trigger, 80, 5) for n, trigger in enumerate((90, 91, 89)))))
    assert triggered(block(venue, *trade(92))) == []
    assert triggered(block(venue, *trade(90))) == [(1, Code.OK), (0, Code.OK)]


def test_a_price_touched_inside_a_block_triggers_though_it_ends_elsewhere(venue):
    block(venue, (3, stop(3, 1, SELL, 90, 80, 5)))
    result = block(venue, *trade(100), *trade(85, order_id=2000), *trade(100, order_id=3000))
    assert triggered(result) == [(1, Code.OK)]


def test_every_price_of_a_sweep_counts(venue):
    asks = [new(0, 1, n, SELL, price, 1) for n, price in enumerate((95, 100, 105))]
    block(venue, *trade(99))
    block(venue, (1, *asks), (3, stop(3, 1, SELL, 96, 80, 5), stop(3, 2, BUY, 104, 120, 5, MARKET)))
    result = block(venue, (2, new(0, 2, 9, BUY, 105, 3)))
    assert triggered(result) == [(2, Code.NO_LIQUIDITY), (1, Code.OK)]


def test_what_was_touched_before_a_stop_came_does_not_count_in_later_blocks(venue):
    block(venue, *trade(80), *trade(100, order_id=2000))
    assert triggered(block(venue, (3, stop(3, 1, SELL, 90, 70, 5)))) == []


def test_a_stop_that_comes_too_late_to_wait_enters_at_the_end_of_its_block(venue):
    block(venue, *trade(100))
    result = block(venue, (3, stop(3, 1, SELL, 100, 90, 5)), (2, new(0, 2, 5, BUY, 95, 2)))
    assert triggered(result) == [(1, Code.OK)]
    [line] = result.journal[result.journal["kind"] == Kind.TRIGGERED]
    assert (line["price"], line["qty"], line["detail"], line["counter_order_id"]) == (90, 2, 3, 100)
    [fill] = result.journal[result.journal["kind"] == Kind.FILL]
    assert (fill["account"], fill["counter_account"], fill["price"], fill["op"]) == (3, 2, 95, 0)


def test_a_stop_limit_rests_like_any_order_afterwards(venue):
    block(venue, *trade(100), (3, stop(3, 1, SELL, 100, 110, 5)))
    assert int(venue.machine.state.markets.columns["best_ask"][0]) == 110
    result = block(venue, (2, new(0, 2, 5, BUY, 110, 5)))
    assert result.counts.fills == 1
    assert balance(venue, 3, 0) == (FUNDS - 50, 0)


def test_a_market_stop_trades_up_to_its_protection_price_and_the_rest_is_cancelled(venue):
    block(venue, *trade(100), (1, new(0, 1, 1, SELL, 101, 2), new(0, 1, 2, SELL, 103, 2)))
    result = block(venue, (3, stop(3, 1, BUY, 100, 102, 5, MARKET)))
    [line] = result.journal[result.journal["kind"] == Kind.TRIGGERED]
    assert (line["qty"], line["detail"]) == (2, 0)
    assert balance(venue, 3, 1) == (FUNDS - 202, 0)


def test_those_at_one_trigger_enter_in_the_order_in_which_they_came(venue):
    block(venue, (3, *(stop(3, n, BUY, 100, 90, 1) for n in (5, 3, 4))))
    assert [order for order, _ in triggered(block(venue, *trade(100)))] == [5, 3, 4]


def test_what_a_triggered_order_touches_is_seen_one_block_later(venue):
    block(venue, *trade(100), (1, new(0, 1, 1, SELL, 105, 1), new(0, 1, 2, SELL, 110, 1)))
    chain = [stop(3, 1, BUY, 100, 105, 1, MARKET), stop(3, 2, BUY, 105, 110, 1, MARKET)]
    result = block(venue, (3, *chain, stop(3, 3, BUY, 110, 50, 1)))
    assert triggered(result) == [(1, Code.OK)]
    assert triggered(block(venue)) == [(2, Code.OK)]
    assert triggered(block(venue)) == [(3, Code.OK)]


def test_more_than_a_block_may_trigger_stay_due_though_the_price_returns(venue, monkeypatch):
    monkeypatch.setattr(plugin, "TRIGGERS_PER_BLOCK_MAX", 2)
    block(venue, (3, *(stop(3, n, SELL, 90, 120 + n, 1) for n in range(5))))
    assert triggered(block(venue, *trade(85), *trade(100, order_id=2000))) == [(0, 0), (1, 0)]
    assert triggered(block(venue)) == [(2, 0), (3, 0)]
    assert triggered(block(venue)) == [(4, 0)]
    assert triggered(block(venue)) == []


def test_a_stop_is_cancelled_reduced_and_mass_cancelled_while_it_waits(venue):
    block(venue, (3, *(stop(3, n, BUY, 110, 120, 5) for n in range(3))))
    result = block(venue, (3, cancel(0, 3, 0), (Op.REDUCE, 0, 0, 3, 1, 0, 2)))
    codes = result.journal[result.journal["kind"] == Kind.RESULT]
    assert codes["code"].tolist() == [0, 0] and codes["qty"].tolist() == [5, 2]
    assert balance(venue, 3, 1) == (FUNDS - 8 * 120, 8 * 120)
    block(venue, (3, (Op.CANCEL_ALL, 0, EVERY_MARKET, 3, 0, 0, 0)))
    assert balance(venue, 3, 1) == (FUNDS, 0)
    assert venue.machine.state.count["orders_waiting"] == 0


def test_an_id_is_taken_while_its_order_waits(venue):
    block(venue, (3, stop(3, 1, BUY, 110, 120, 5)))
    result = block(venue, (3, new(0, 3, 1, BUY, 50, 5)))
    assert int(result.journal["code"][1]) == Code.DUPLICATE_ORDER_ID


def test_a_replaced_stop_waits_for_its_old_trigger(venue):
    block(venue, (3, stop(3, 1, BUY, 110, 120, 5, MARKET)))
    block(venue, (3, (Op.REPLACE, 0, 0, 3, 1, 130, 7)))
    assert balance(venue, 3, 1) == (FUNDS - 910, 910)
    block(venue, (1, new(0, 1, 1, SELL, 125, 9)))
    result = block(venue, *trade(111))
    [line] = result.journal[result.journal["kind"] == Kind.TRIGGERED]
    assert (line["price"], line["qty"], line["detail"]) == (130, 7, 0)


def test_a_stop_expires_while_it_waits(venue):
    order = stop(3, 1, BUY, 110, 120, 5)
    gtd = [(Op.TERMS, Term.EXPIRE, *order[0][2:5], START_MS + 5000, 0), *order]
    block(venue, (3, gtd), time_ms=START_MS + 1000)
    block(venue, *trade(115), time_ms=START_MS + 5000)
    assert balance(venue, 3, 1) == (FUNDS, 0)


def test_an_iceberg_hides_when_it_has_entered(venue):
    order = stop(3, 1, BUY, 100, 90, 50)
    block(venue, (3, [(Op.TERMS, Term.DISPLAY, *order[0][2:5], 0, 10), *order]))
    block(venue, *trade(100))
    rows = venue.machine.state.orders.data
    [row] = np.flatnonzero((rows["flags"] & OrderFlag.LIVE) != 0)
    assert rows["leaves"][row] == 10 and rows["flags"][row] & OrderFlag.WAITING == 0


@pytest.mark.parametrize(
    ("status", "counts"), [(status, status <= PriceStatus.STALE) for status in PriceStatus]
)
def test_marks_and_indexes_count_while_they_can_be_relied_on(venue, status, counts):
    block(venue, (3, stop(3, 1, BUY, 110, 50, 5, reference=1), stop(3, 2, SELL, 90, 150, 5, reference=2)))
    columns = venue.machine.state.markets.columns
    columns["mark_price"][0], columns["index_price"][0], columns["price_status"][0] = 110, 90, status
    venue.machine.state.markets.mark(0)
    assert triggered(block(venue)) == [(1, 0), (2, 0)] * counts


def test_a_price_that_is_not_known_triggers_nobody(venue):
    block(venue, (3, stop(3, 1, SELL, 90, 150, 5, reference=1)))
    venue.machine.state.markets.columns["price_status"][0] = PriceStatus.VALID
    assert triggered(block(venue, *trade(80))) == []


def test_nobody_is_triggered_while_the_market_is_closed_and_no_touch_is_forgotten(venue):
    block(venue, (3, stop(3, 1, SELL, 90, 150, 5)), *trade(100))
    columns = venue.machine.state.markets.columns
    columns["trade_low"][0] = 85
    venue.commands(SetMarketStatus(0, MarketStatus.CANCEL_ONLY))
    assert triggered(block(venue)) == []
    venue.commands(SetMarketStatus(0, MarketStatus.OPEN))
    assert triggered(block(venue)) == [(1, Code.OK)]


def test_a_price_beyond_the_collar_becomes_its_end(venue):
    block(venue, *trade(100), (2, new(0, 2, 1, BUY, 96, 1), new(0, 2, 2, BUY, 94, 1)))
    venue.commands(SetCollar(0, 500))
    block(venue)
    result = block(venue, (3, stop(3, 1, SELL, 100, 1, 5, MARKET), stop(3, 2, SELL, 100, 1, 5)))
    found = result.journal[result.journal["kind"] == Kind.TRIGGERED]
    assert [(line["price"], line["qty"], line["detail"]) for line in found] == [(95, 1, 0), (95, 0, 5)]


@pytest.mark.parametrize(
    "terms",
    [
        [(0, Reference.LAST)],
        [(10_001, Reference.LAST)],
        [(-1, Reference.LAST)],
        [(100, 3)],
        [(100, -1)],
        [(100, 0), (100, 0)],
    ],
)
def test_triggers_out_of_bounds_or_given_twice_are_refused(venue, terms):
    order = new(0, 3, 1, BUY, 100, 5)
    result = block(venue, (3, [*((Op.TERMS, Term.STOP, *order[2:5], *term) for term in terms), order]))
    assert int(result.journal["code"][1 + len(terms)]) == Code.BAD_TERMS
    assert venue.machine.state.count["orders_live"] == 0


def test_a_market_order_may_wait_but_not_hide(venue):
    order = stop(3, 1, BUY, 110, 120, 5, MARKET)
    result = block(venue, (3, [(Op.TERMS, Term.DISPLAY, *order[0][2:5], 0, 1), *order]))
    assert int(result.journal["code"][3]) == Code.BAD_TERMS


def test_snapshots_carry_everything_that_waits(venue):
    block(venue, *trade(100), (3, stop(3, 1, BUY, 110, 50, 5), stop(3, 2, SELL, 90, 150, 5, IOC, 0)))
    machine = venue.machine
    other = Machine.restore(venue.genesis, machine.snapshot(), machine.state_root())
    other.check_conservation()
    block(venue, *trade(112))
    other.apply(*venue.applied[-1])
    assert other.state_root() == venue.machine.state_root()
