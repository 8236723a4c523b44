"""Icebergs: what shows, what follows it, who comes first, and what FOK may count on."""

import pytest

from engine.invariants import check_all
from engine.matching.admit import FILLS_PER_ORDER_MAX
from engine.records import AMOUNT_MAX, Code, Kind, Op, SelfTrade, Side, Term, TimeInForce
from tests.helpers.trading_floor import Floor, MarketTerms, cancel, make_ops, new

WIDE = (MarketTerms(base_per_lot=1, quote_per_lot_tick=1, qty_max=10**6),)


def iceberg(account, order_id, side, price, qty, display, **rest):
    return [
        (Op.TERMS, Term.DISPLAY, 0, account, order_id, 0, display),
        new(account, order_id, side, price, qty, **rest),
    ]


@pytest.fixture
def floor():
    return Floor(accounts=5, markets=WIDE, funds=10**12)


def run(floor, *ops):
    results, events = floor.execute(make_ops(*ops))
    check_all(floor.state)
    return results, events


def test_only_the_shown_lots_are_on_the_book_and_all_are_held(floor):
    results, _ = run(floor, *iceberg(1, 1, Side.SELL, 50, 100, 30))
    assert results["code"].tolist() == [Code.OK, Code.OK]
    assert results["detail"][1] == 100
    assert floor.book(0) == [(Side.SELL, 50, 1, 1, 30, 0, 70)]
    assert floor.balances()[1, 0] == (10**12 - 100, 100)


def test_a_new_slice_goes_behind_everybody_at_its_price(floor):
    run(floor, *iceberg(1, 1, Side.SELL, 50, 100, 30), new(2, 1, Side.SELL, 50, 5))
    _, events = run(floor, new(3, 1, Side.BUY, 50, 50, tif=TimeInForce.IOC))
    assert [(e["counter_account"], e["qty"]) for e in events] == [(1, 30), (2, 5), (1, 15)]
    assert floor.book(0) == [(Side.SELL, 50, 1, 1, 15, 45, 40)]


def test_the_last_slice_may_be_short_and_then_the_order_is_gone(floor):
    run(floor, *iceberg(1, 1, Side.SELL, 50, 70, 30))
    _, events = run(floor, new(3, 1, Side.BUY, 50, 70, tif=TimeInForce.FOK))
    assert events["qty"].tolist() == [30, 30, 10]
    assert floor.book(0) == []


def test_reducing_takes_hidden_lots_first_and_keeps_the_place(floor):
    run(floor, *iceberg(1, 1, Side.SELL, 50, 100, 30), new(2, 1, Side.SELL, 50, 5))
    run(floor, (Op.REDUCE, 0, 0, 1, 1, 0, 80))
    assert floor.book(0) == [(Side.SELL, 50, 1, 1, 20, 0, 0), (Side.SELL, 50, 2, 1, 5, 0, 0)]


def test_a_cancel_gives_back_all_that_was_held(floor):
    run(floor, *iceberg(1, 1, Side.BUY, 50, 100, 30))
    results, _ = run(floor, cancel(1, 1))
    assert results["qty"][0] == 100
    assert floor.balances()[1, 1] == (10**12, 0)


def test_an_iceberg_that_crosses_trades_all_it_can_before_it_hides_the_rest(floor):
    run(floor, new(2, 1, Side.BUY, 50, 60))
    results, _ = run(floor, *iceberg(1, 1, Side.SELL, 50, 100, 30))
    assert (results["qty"][1], results["detail"][1]) == (60, 40)
    assert floor.book(0) == [(Side.SELL, 50, 1, 1, 30, 60, 10)]


@pytest.mark.parametrize(
    ("terms", "order"),
    [
        ([(Op.TERMS, Term.DISPLAY, 0, 1, 1, 0, 0)], new(1, 1, Side.BUY, 50, 10)),
        ([(Op.TERMS, Term.DISPLAY, 0, 1, 1, 0, 10)], new(1, 1, Side.BUY, 50, 10)),
        ([(Op.TERMS, Term.DISPLAY, 0, 1, 1, 0, AMOUNT_MAX)], new(1, 1, Side.BUY, 50, 10)),
        ([(Op.TERMS, Term.DISPLAY, 0, 1, 1, 0, 3)] * 2, new(1, 1, Side.BUY, 50, 10)),
        ([(Op.TERMS, 0, 0, 1, 1, 0, 3)], new(1, 1, Side.BUY, 50, 10)),
        ([(Op.TERMS, Term.DISPLAY, 0, 1, 1, 0, 3)], new(1, 1, Side.BUY, 50, 10, tif=TimeInForce.IOC)),
        ([(Op.TERMS, Term.DISPLAY, 0, 1, 1, 0, 3)], new(1, 1, Side.BUY, 50, 10, tif=TimeInForce.FOK)),
    ],
)
def test_terms_that_make_no_sense_refuse_the_order(floor, terms, order):
    results, _ = run(floor, *terms, order)
    assert results["code"][-1] == Code.BAD_TERMS
    assert floor.book(0) == []


def test_terms_without_their_order_are_refused_and_change_nothing(floor):
    terms = (Op.TERMS, Term.DISPLAY, 0, 1, 1, 0, 3)
    results, _ = run(floor, terms, new(1, 2, Side.BUY, 50, 10), terms, cancel(1, 2), terms)
    assert results["code"][[0, 2, 4]].tolist() == [Code.BAD_OP] * 3
    assert results["code"][1] == Code.OK


def test_terms_that_a_stranger_puts_before_an_order_say_nothing_about_it(floor):
    """A key without a grant names somebody else's next order, in an envelope right before it."""
    ops = make_ops(*iceberg(1, 1, Side.SELL, 50, 100, 30))
    floor.execute(ops, [Code.NOT_AUTHORISED, 0])
    assert floor.book(0) == [(Side.SELL, 50, 1, 1, 100, 0, 0)]


def test_fok_never_trades_in_part_though_others_stand_before_the_hidden_lots(floor):
    """One slice hides enough, but the fill limit is used up by those who come before it."""
    singles = [new(2, n, Side.SELL, 50, 1) for n in range(FILLS_PER_ORDER_MAX)]
    run(floor, *iceberg(1, 1, Side.SELL, 50, 10_000, 5000), *singles)
    run(floor, new(3, 1, Side.BUY, 50, 4999, tif=TimeInForce.IOC))
    results, events = run(floor, new(3, 2, Side.BUY, 50, FILLS_PER_ORDER_MAX + 2, tif=TimeInForce.FOK))
    assert (results["code"][0], len(events)) == (Code.NOT_FILLABLE, 0)


def test_an_own_iceberg_in_the_way_is_cancelled_whole(floor):
    run(floor, *iceberg(1, 1, Side.SELL, 50, 100, 30), new(2, 1, Side.SELL, 50, 5))
    _, events = run(floor, new(1, 2, Side.BUY, 50, 5, mode=SelfTrade.CANCEL_MAKER))
    assert events["kind"].tolist() == [Kind.CANCELLED, Kind.FILL]
    assert (events["qty"][0], events["detail"][0]) == (100, 0)
