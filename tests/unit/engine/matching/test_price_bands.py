"""Price bands: no trade outside, and nobody can block a book from there."""

import pytest

from engine.records import Code, Kind, Side, TimeInForce
from tests.helpers.trading_floor import Floor, make_ops, new

BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def floor():
    """Bids at 95 and 90, asks at 105, 110 and 115; the band is 92..112."""
    floor = Floor()
    floor.execute(
        make_ops(
            new(1, 1, BUY, 95, 10),
            new(1, 2, BUY, 90, 10),
            new(1, 3, SELL, 105, 10),
            new(1, 4, SELL, 110, 10),
            new(1, 5, SELL, 115, 10),
        )
    )
    floor.set_band(0, 92, 112)
    return floor


def run(floor, *ops):
    results, events = floor.execute(make_ops(*ops))
    fills = events[events["kind"] == Kind.FILL]
    return results["code"].tolist(), results["qty"].tolist(), fills["price"].tolist()


@pytest.mark.parametrize("tif", [TimeInForce.GTC, TimeInForce.IOC, TimeInForce.MARKET])
def test_an_order_beyond_the_band_trades_up_to_its_end_and_the_rest_is_cancelled(floor, tif):
    assert run(floor, new(2, 1, BUY, 120, 25, tif)) == ([Code.OUTSIDE_BAND], [20], [105, 110])
    assert run(floor, new(2, 2, SELL, 1, 25, tif)) == ([Code.OUTSIDE_BAND], [10], [95])
    assert all(account == 1 for _, _, account, *_ in floor.book(0))


def test_an_order_beyond_the_band_that_trades_in_full_is_an_order_like_any_other(floor):
    assert run(floor, new(2, 1, BUY, 120, 20)) == ([Code.OK], [20], [105, 110])


@pytest.mark.parametrize("tif", [TimeInForce.POST_ONLY, TimeInForce.GTC, TimeInForce.IOC])
def test_an_order_that_could_only_rest_beyond_the_band_is_refused(floor, tif):
    run(floor, new(2, 1, BUY, 112, 20))
    assert run(floor, new(2, 2, BUY, 113, 20, tif)) == ([Code.OUTSIDE_BAND], [0], [])


def test_orders_rest_at_the_ends_of_the_band_and_passive_ones_anywhere(floor):
    floor.execute(make_ops(new(2, 1, BUY, 112, 20)))
    post = TimeInForce.POST_ONLY
    codes, _, _ = run(floor, new(2, 2, BUY, 112, 1, post), new(2, 3, BUY, 1, 1), new(2, 4, SELL, 200, 1))
    assert codes == [Code.OK] * 3


def test_fill_or_kill_counts_only_what_the_band_lets_it_have(floor):
    fok = TimeInForce.FOK
    assert run(floor, new(2, 1, BUY, 120, 21, fok)) == ([Code.NOT_FILLABLE], [0], [])
    assert run(floor, new(2, 1, BUY, 120, 20, fok)) == ([Code.OK], [20], [105, 110])


def test_a_maker_that_the_band_has_passed_is_taken_off_by_whom_it_would_meet(floor):
    floor.set_band(0, 80, 92)
    results, events = floor.execute(make_ops(new(2, 1, SELL, 85, 15)))
    assert results["code"].tolist() == [Code.OK]
    assert events["kind"].tolist() == [Kind.CANCELLED, Kind.FILL]
    assert events["code"].tolist() == [Code.OUTSIDE_BAND, Code.OK]
    assert events["price"].tolist() == [95, 90]
    assert floor.book(0)[0][:5] == (SELL, 85, 2, 1, 5)


def test_fill_or_kill_does_not_count_on_makers_that_the_band_has_passed(floor):
    floor.set_band(0, 80, 92)
    assert run(floor, new(2, 1, SELL, 85, 11, TimeInForce.FOK)) == ([Code.NOT_FILLABLE], [0], [])
    assert run(floor, new(2, 1, SELL, 85, 10, TimeInForce.FOK)) == ([Code.OK], [10], [90])


def test_without_a_band_everything_trades(floor):
    floor.set_band(0, 0, 0)
    assert run(floor, new(2, 1, BUY, 120, 30)) == ([Code.OK], [30], [105, 110, 115])
