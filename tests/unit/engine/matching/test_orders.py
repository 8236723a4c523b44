"""Each rule of the order operations. A lot is 10 base units, a lot at one tick 3 quote units."""

import numpy as np
import pytest

from engine.invariants import check_all
from engine.markets.states import MarketStatus
from engine.records import AMOUNT_MAX, EVERY_MARKET, SLIDE, Code, Kind, Op, SelfTrade, Side, TimeInForce
from tests.helpers.trading_floor import Floor, MarketTerms, cancel, flags_of, make_ops, new

BUY, SELL = Side.BUY, Side.SELL
IOC, FOK, POST_ONLY, MARKET = (
    TimeInForce.IOC,
    TimeInForce.FOK,
    TimeInForce.POST_ONLY,
    TimeInForce.MARKET,
)


@pytest.fixture
def floor():
    """Accounts 1..3 with a billion of each asset; asks of account 1: 10 lots at 100, 10 at 101."""
    made = Floor()
    made.execute(make_ops(new(1, 1, SELL, 100, 10), new(1, 2, SELL, 101, 10)))
    yield made
    check_all(made.state)


def run(floor: Floor, *ops: tuple):
    """One block; the results and events as records."""
    return floor.execute(make_ops(*ops))


def run_one(floor: Floor, op: tuple) -> tuple[int, int, int]:
    """(code, lots, lots left) of one operation."""
    (result,), _ = run(floor, op)
    return int(result["code"]), int(result["qty"]), int(result["detail"])


def pages(floor: Floor) -> list[bytes]:
    """Every byte of the state."""
    return [table.pages.tobytes() for table in floor.state.tables]


def replace(account: int, client_order_id: int, price: int, qty: int, tif=TimeInForce.GTC) -> tuple:
    """REPLACE as a tuple."""
    return (Op.REPLACE, flags_of(BUY, tif), 0, account, client_order_id, price, qty)


def reduce(account: int, client_order_id: int, qty: int) -> tuple:
    """REDUCE as a tuple."""
    return (Op.REDUCE, 0, 0, account, client_order_id, 0, qty)


# -- time in force ------------------------------------------------------------------------------------


def test_gtc_trades_at_the_makers_price_and_rests_the_remainder(floor):
    _, events = run(floor, new(2, 1, BUY, 100, 15))
    assert [(int(e["price"]), int(e["qty"])) for e in events] == [(100, 10)]
    assert (BUY, 100, 2, 1, 5, 10, 0) in floor.book(0)


def test_price_improvement_goes_back_to_the_taker(floor):
    before = floor.balances()[2, 1][0]
    run(floor, new(2, 1, BUY, 150, 10))
    assert floor.balances()[2, 1] == (before - 100 * 10 * 3, 0)


def test_ioc_never_rests(floor):
    assert run_one(floor, new(2, 1, BUY, 100, 15, IOC)) == (Code.OK, 10, 0)
    assert all(order[2] == 1 for order in floor.book(0))


def test_market_order_stops_at_its_protection_price(floor):
    assert run_one(floor, new(2, 1, BUY, 100, 20, MARKET)) == (Code.OK, 10, 0)


@pytest.mark.parametrize("tif", [IOC, MARKET])
def test_taking_where_nobody_offers_is_refused_and_changes_nothing(floor, tif):
    before = pages(floor)
    assert run_one(floor, new(2, 1, BUY, 99, 5, tif)) == (Code.NO_LIQUIDITY, 0, 0)
    assert pages(floor) == before


def test_fok_fills_over_several_levels_or_not_at_all(floor):
    before = pages(floor)
    assert run_one(floor, new(2, 1, BUY, 101, 21, FOK)) == (Code.NOT_FILLABLE, 0, 0)
    assert run_one(floor, new(2, 1, BUY, 100, 11, FOK)) == (Code.NOT_FILLABLE, 0, 0)
    assert pages(floor) == before
    assert run_one(floor, new(2, 1, BUY, 101, 20, FOK)) == (Code.OK, 20, 0)


def test_fok_does_not_count_own_orders(floor):
    run(floor, new(2, 9, SELL, 100, 10))
    for mode in (SelfTrade.CANCEL_TAKER, SelfTrade.CANCEL_BOTH, SelfTrade.DECREMENT):
        assert run_one(floor, new(2, 1, BUY, 101, 30, FOK, mode))[0] == Code.NOT_FILLABLE
    assert run_one(floor, new(2, 1, BUY, 101, 20, FOK, SelfTrade.CANCEL_MAKER)) == (Code.OK, 20, 0)


def test_post_only_joins_or_is_refused(floor):
    before = pages(floor)
    assert run_one(floor, new(2, 1, BUY, 100, 5, POST_ONLY)) == (Code.WOULD_CROSS, 0, 0)
    assert pages(floor) == before
    assert run_one(floor, new(2, 1, BUY, 99, 5, POST_ONLY)) == (Code.OK, 0, 5)


# -- priority -----------------------------------------------------------------------------------------


def test_older_orders_trade_first_and_reducing_keeps_the_place(floor):
    run(floor, new(2, 1, SELL, 100, 10), reduce(1, 1, 4))
    _, events = run(floor, new(3, 1, BUY, 100, 8, IOC))
    assert [(int(e["counter_account"]), int(e["qty"])) for e in events] == [(1, 6), (2, 2)]


@pytest.mark.parametrize(("qty", "order"), [(4, [1, 2]), (10, [1, 2]), (11, [2, 1])])
def test_replacing_at_the_same_price_keeps_the_place_unless_it_grows(floor, qty, order):
    run(floor, new(2, 1, SELL, 100, 10))
    assert run_one(floor, replace(1, 1, 100, qty)) == (Code.OK, 0, qty)
    _, events = run(floor, new(3, 1, BUY, 100, 12, IOC))
    assert [int(e["counter_account"]) for e in events] == order


def test_replacing_at_another_price_and_back_loses_the_place(floor):
    run(floor, new(2, 1, SELL, 100, 10), replace(1, 1, 101, 10), replace(1, 1, 100, 10))
    _, events = run(floor, new(3, 1, BUY, 100, 12, IOC))
    assert [int(e["counter_account"]) for e in events] == [2, 1]


@pytest.mark.parametrize(("side", "at", "slid"), [(BUY, 100, 99), (BUY, 150, 99), (SELL, 90, 91)])
def test_a_post_only_order_that_slides_rests_at_the_best_price_that_does_not_cross(floor, side, at, slid):
    run(floor, new(2, 1, BUY, 90, 5))
    op, flags, *rest = new(3, 1, side, at, 5, POST_ONLY)
    (result,), events = run(floor, (op, flags | SLIDE, *rest))
    assert (result["code"], result["price"], len(events)) == (Code.OK, slid, 0)


def test_sliding_is_for_post_only_orders(floor):
    op, flags, *rest = new(3, 1, BUY, 120, 5)
    (result,), _ = run(floor, (op, flags | SLIDE, *rest))
    assert (result["code"], result["price"]) == (Code.BAD_OP, 120)


def test_a_collar_bounds_bids_from_above_and_asks_from_below_only(floor):
    floor.state.markets.columns["collar_low"][0] = 95
    floor.state.markets.columns["collar_high"][0] = 105
    ops = [new(2, 1, BUY, 106, 1), new(2, 2, BUY, 10, 1), new(2, 3, SELL, 94, 1), new(2, 4, SELL, 190, 1)]
    results, _ = run(floor, *ops)
    assert results["code"].tolist() == [Code.BEYOND_COLLAR, Code.OK, Code.BEYOND_COLLAR, Code.OK]


# -- replace, reduce, cancel --------------------------------------------------------------------------


def test_replacement_may_trade_and_keeps_side_and_filled_lots(floor):
    run(floor, new(2, 1, BUY, 100, 12))
    (result,), _ = run(floor, replace(2, 1, 101, 4))
    assert (result["code"], result["side"], result["qty"], result["detail"]) == (Code.OK, BUY, 4, 0)
    run(floor, replace(1, 2, 120, 50))
    assert floor.book(0) == [(SELL, 120, 1, 2, 50, 4, 0)]


@pytest.mark.parametrize(
    ("price", "qty", "tif", "code"),
    [
        (201, 5, TimeInForce.GTC, Code.PRICE_OUT_OF_RANGE),
        (99, 1001, TimeInForce.GTC, Code.QTY_OUT_OF_RANGE),
        (100, 5, POST_ONLY, Code.WOULD_CROSS),
        (99, 5, IOC, Code.BAD_OP),
    ],
)
def test_refused_replacement_leaves_the_original_in_its_place(floor, price, qty, tif, code):
    run(floor, new(2, 1, BUY, 99, 5), new(3, 1, BUY, 99, 5))
    before = pages(floor)
    assert run_one(floor, replace(2, 1, price, qty, tif)) == (code, 0, 0)
    assert pages(floor) == before


def test_replacement_may_use_what_the_original_holds():
    floor = Floor(funds=1000)
    run(floor, new(2, 1, BUY, 100, 3))
    assert floor.balances()[2, 1] == (100, 900)
    assert run_one(floor, replace(2, 1, 110, 3)) == (Code.OK, 0, 3)
    assert run_one(floor, replace(2, 1, 112, 3)) == (Code.INSUFFICIENT_FUNDS, 0, 0)
    assert floor.balances()[2, 1] == (10, 990)


def test_reducing_by_all_that_is_left_cancels(floor):
    assert run_one(floor, reduce(1, 1, 11)) == (Code.OK, 10, 0)
    assert run_one(floor, reduce(1, 1, 1)) == (Code.UNKNOWN_ORDER, 0, 0)


def test_reducing_by_nothing_is_refused(floor):
    assert run_one(floor, reduce(1, 1, 0)) == (Code.QTY_OUT_OF_RANGE, 0, 0)


def test_cancelling_gives_the_hold_back_and_frees_the_order_id(floor):
    before = floor.balances()
    run(floor, new(2, 1, BUY, 90, 10))
    assert run_one(floor, cancel(2, 1)) == (Code.OK, 10, 0)
    assert floor.balances() == before
    assert run_one(floor, cancel(2, 1)) == (Code.UNKNOWN_ORDER, 0, 0)
    assert run_one(floor, new(2, 1, BUY, 90, 10)) == (Code.OK, 0, 10)


def test_orders_of_others_cannot_be_cancelled(floor):
    assert run_one(floor, cancel(2, 2))[0] == Code.UNKNOWN_ORDER


def test_cancels_work_while_a_market_is_closed(floor):
    floor.state.markets.columns["status"][0] = MarketStatus.CLOSED
    assert run_one(floor, new(2, 1, BUY, 90, 10))[0] == Code.MARKET_CLOSED
    assert run_one(floor, replace(1, 1, 105, 1))[0] == Code.MARKET_CLOSED
    assert run_one(floor, cancel(1, 1))[0] == Code.OK


def test_cancel_all_takes_one_market_or_all():
    floor = Floor(markets=(MarketTerms(), MarketTerms()))
    run(floor, *[new(1, 10 * m + i, SELL, 100, 5, market=m) for m in (0, 1) for i in range(3)])
    (result,), events = run(floor, (Op.CANCEL_ALL, 0, 1, 1, 0, 0, 0))
    assert (result["qty"], len(events)) == (3, 3)
    assert {int(e["kind"]) for e in events} == {Kind.CANCELLED}
    (result,), _ = run(floor, (Op.CANCEL_ALL, 0, EVERY_MARKET, 1, 0, 0, 0))
    assert result["qty"] == 3
    assert floor.balances()[1, 0] == (10**9, 0)


# -- order inside the block ---------------------------------------------------------------------------


def test_a_maker_may_leave_before_being_hit(floor):
    (taker, leaver), events = run(floor, new(2, 1, BUY, 100, 10, IOC), cancel(1, 1))
    assert (taker["code"], leaver["code"], len(events)) == (Code.NO_LIQUIDITY, Code.OK, 0)


def test_a_cancel_finds_what_the_block_placed_before_it(floor):
    results, _ = run(floor, cancel(2, 1), new(2, 1, BUY, 90, 1), cancel(2, 1), cancel(2, 1))
    assert results["code"].tolist() == [Code.UNKNOWN_ORDER, Code.OK, Code.OK, Code.UNKNOWN_ORDER]


def test_cancel_all_takes_what_rested_and_what_came_before_it_in_the_block(floor):
    results, events = run(
        floor, new(1, 3, SELL, 110, 1), (Op.CANCEL_ALL, 0, 0, 1, 0, 0, 0), new(1, 4, SELL, 120, 1)
    )
    assert results["qty"].tolist() == [0, 3, 0]
    assert events["client_order_id"].tolist() == [2, 1, 3]
    assert floor.book(0) == [(SELL, 120, 1, 4, 1, 0, 0)]


# -- self-trade prevention ----------------------------------------------------------------------------


@pytest.mark.parametrize("tif", [IOC, MARKET])
def test_an_order_that_meets_only_its_own_account_cancels_and_finds_no_liquidity(floor, tif):
    """The one refusal that changes something."""
    (result,), events = run(floor, new(1, 3, BUY, 101, 5, tif, SelfTrade.CANCEL_MAKER))
    assert (result["code"], len(events), floor.book(0)) == (Code.NO_LIQUIDITY, 2, [])


@pytest.mark.parametrize(
    ("mode", "expected", "own_left"),
    [
        (SelfTrade.CANCEL_TAKER, (Code.SELF_TRADE, 0, 0), 4),
        (SelfTrade.CANCEL_MAKER, (Code.OK, 6, 0), 0),
        (SelfTrade.CANCEL_BOTH, (Code.SELF_TRADE, 0, 0), 0),
        (SelfTrade.DECREMENT, (Code.OK, 2, 0), 0),
    ],
)
def test_self_trade_modes(floor, mode, expected, own_left):
    """Account 2 offers 4 at 99 and then buys 6 up to 100, where account 1 offers too."""
    run(floor, new(2, 1, SELL, 99, 4))
    assert run_one(floor, new(2, 2, BUY, 100, 6, mode=mode)) == expected
    assert sum(order[4] for order in floor.book(0) if order[2] == 2) == own_left


def test_decrement_to_nothing_shrinks_the_maker_in_place(floor):
    run(floor, new(2, 1, SELL, 99, 4))
    (result,), (event,) = run(floor, new(2, 2, BUY, 100, 3, mode=SelfTrade.DECREMENT))
    assert (result["code"], result["qty"], result["detail"]) == (Code.SELF_TRADE, 0, 0)
    assert (event["kind"], event["qty"], event["detail"]) == (Kind.CANCELLED, 3, 1)


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "code"),
    [
        ((9, 0, 0, 1, 5, 50, 5), Code.BAD_OP),
        ((Op.NEW, 64, 0, 1, 5, 50, 5), Code.BAD_OP),
        ((Op.NEW, 5 << 1, 0, 1, 5, 50, 5), Code.BAD_OP),
        (new(1, 5, BUY, 50, 5, market=1), Code.UNKNOWN_MARKET),
        ((Op.CANCEL_ALL, 0, 1, 1, 0, 0, 0), Code.UNKNOWN_MARKET),
        (new(4, 5, BUY, 50, 5), Code.UNKNOWN_ACCOUNT),
        (cancel(2**32 - 1, 5), Code.UNKNOWN_ACCOUNT),
        (new(1, 5, BUY, 0, 5), Code.PRICE_OUT_OF_RANGE),
        (new(1, 5, BUY, 201, 5), Code.PRICE_OUT_OF_RANGE),
        (new(1, 5, BUY, -(2**63), 5), Code.PRICE_OUT_OF_RANGE),
        (new(1, 5, BUY, 50, 0), Code.QTY_OUT_OF_RANGE),
        (new(1, 5, BUY, 50, 2**63 - 1), Code.QTY_OUT_OF_RANGE),
        (new(1, 1, BUY, 50, 5), Code.DUPLICATE_ORDER_ID),
        (new(0, 5, BUY, 50, 5), Code.INSUFFICIENT_FUNDS),
    ],
)
def test_what_is_refused_changes_nothing(floor, op, code):
    before = pages(floor)
    assert run_one(floor, op)[0] == code
    assert pages(floor) == before


def test_notional_bounds():
    terms = MarketTerms(notional_min=300, qty_max=AMOUNT_MAX // 10, quote_per_lot_tick=1)
    floor = Floor(markets=(terms,))
    assert run_one(floor, new(1, 1, BUY, 100, 2))[0] == Code.NOTIONAL_TOO_SMALL
    assert run_one(floor, new(1, 1, BUY, 100, 3))[0] == Code.OK
    assert run_one(floor, new(1, 2, BUY, 200, AMOUNT_MAX // 10))[0] == Code.NOTIONAL_TOO_LARGE


def test_a_full_order_table_refuses_what_might_rest():
    from engine.genesis import Capacity

    floor = Floor(capacity=Capacity(levels=1 << 12, orders=256))
    ops = [new(1, i, SELL, 100, 1) for i in range(300)]
    results, _ = floor.execute(make_ops(*ops))
    assert results["code"].tolist() == [Code.OK] * 256 + [Code.LIMIT_REACHED] * 44
    check_all(floor.state)


def test_events_only_hold_what_happened(floor):
    _, events = run(floor, new(2, 1, BUY, 90, 1))
    assert events.shape == (0,)
    assert isinstance(events, np.ndarray)
