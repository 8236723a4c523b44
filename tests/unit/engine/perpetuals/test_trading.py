"""Perpetual markets: fills become positions, profit waits for cash, reduce-only, limits, auctions."""

import numpy as np
import pytest

from engine.auctions.uncross import LINES_PER_MEETING, uncross
from engine.fixed_point import LOTS_MAX, NOTIONAL_MAX
from engine.invariants import check_all
from engine.layout import OrderFlag, PriceStatus
from engine.perpetuals.audit import check_perpetuals
from engine.perpetuals.positions import POSITIONS_PER_ACCOUNT_MAX
from engine.records import JOURNAL, REDUCE_ONLY, Code, Kind, Op, Side, TimeInForce
from engine.tables.table import kernel_view
from tests.helpers.perpetual_floor import PerpetualFloor, contract
from tests.helpers.trading_floor import MarketTerms, make_ops
from tests.helpers.trading_floor import new as spot_new

FREE = contract(maker_fee_e6=0, taker_fee_e6=0)
BUY, SELL = Side.BUY, Side.SELL


def new(account, order_id, side, price, qty, market=1, reduce_only=False, **rest):
    op, flags, *others = spot_new(account, order_id, side, price, qty, market=market, **rest)
    return (op, flags | (REDUCE_ONLY if reduce_only else 0), *others)


@pytest.fixture
def floor():
    return PerpetualFloor(accounts=5, funds=100_000, contracts=(FREE,))


def run(floor, *ops):
    results, events = floor.execute(make_ops(*ops))
    check_all(floor.state)
    check_perpetuals(floor.state)
    return results["code"].tolist(), events


def trade(floor, buyer, seller, price, qty, market=1):
    """`qty` lots change hands, through the book."""
    ids = {}
    for account in (buyer, seller):
        ids[account] = floor.next_id = getattr(floor, "next_id", 1000) + 1
    codes, _ = run(
        floor,
        new(seller, ids[seller], SELL, price, qty, market),
        new(buyer, ids[buyer], BUY, price, qty, market),
    )
    assert codes == [0, 0]


def available(floor, account, asset=1):
    return floor.balances().get((account, asset), (0, 0))[0]


def test_a_fill_gives_both_sides_a_position_and_moves_no_cash_but_fees():
    floor = PerpetualFloor(funds=100_000)
    trade(floor, 2, 1, 100, 30)
    assert floor.positions() == {(1, 1): (-30, -9000, 0, 0, 0), (2, 1): (30, 9000, 0, 0, 0)}
    assert available(floor, 1) == 100_000 - 9  # 9000 × 1000 ppm: the maker's
    assert available(floor, 2) == 100_000 - 23  # 9000 × 2500 ppm, rounded up
    assert available(floor, 0) == 32


def test_profit_is_paid_as_soon_as_the_loser_closes(floor):
    trade(floor, 2, 1, 100, 30)
    floor.price(1, 110)
    trade(floor, 3, 2, 110, 30)  # 2 has won 30 × 10 × 3 of 1, who keeps the short
    assert floor.position(2, 1)["unsettled"] == 900
    assert available(floor, 2) == 100_000
    trade(floor, 1, 4, 110, 30)
    assert (available(floor, 1), floor.pool()) == (99_100, 900)
    floor.end_block()
    assert (available(floor, 2), floor.pool()) == (100_900, 0)


def test_a_waiting_profit_calls_for_what_others_have_lost_at_the_mark_price(floor):
    trade(floor, 2, 1, 100, 30)
    floor.price(1, 110)
    trade(floor, 3, 2, 110, 30)
    floor.end_block()
    floor.end_block()
    assert (available(floor, 1), available(floor, 2)) == (99_100, 100_900)
    assert floor.positions()[1, 1] == (-30, -9900, 0, 0, 0)


def test_nothing_is_called_in_at_a_price_that_cannot_be_relied_on(floor):
    trade(floor, 2, 1, 100, 30)
    floor.price(1, 110)
    trade(floor, 3, 2, 110, 30)
    floor.price(1, 110, status=PriceStatus.STALE)
    floor.end_block()
    assert (available(floor, 1), available(floor, 2)) == (100_000, 100_000)


def test_a_loss_without_cash_stays_as_a_debt_and_takes_nobody_below_zero():
    floor = PerpetualFloor(accounts=4, funds=1000, contracts=(FREE,))
    trade(floor, 2, 1, 100, 30)  # margin 900
    floor.price(1, 150)
    run(floor, new(3, 1, SELL, 150, 5), new(1, 1, BUY, 150, 5))
    assert available(floor, 1) == 1000 - 750
    run(floor, new(3, 2, SELL, 150, 1, reduce_only=True), new(2, 2, SELL, 150, 25), new(1, 2, BUY, 150, 25))
    assert available(floor, 1) == 0
    assert floor.position(1, 1)["unsettled"] == -(30 * 50 * 3 - 1000)
    assert available(floor, 2) == 1000 + 1000
    assert floor.position(2, 1)["unsettled"] == 25 * 50 * 3 - 1000


def test_closing_part_of_a_position_leaves_the_rounding_in_what_is_left(floor):
    trade(floor, 2, 1, 100, 1)
    trade(floor, 2, 1, 101, 2)  # 2 paid 300 + 606 for three lots
    trade(floor, 3, 2, 101, 1)  # a third of it is 302
    assert floor.positions()[2, 1][:2] == (2, 604)
    assert floor.position(2, 1)["unsettled"] == 1
    for price in (101, 101):
        trade(floor, 3, 2, price, 1)
    assert floor.position(2, 1)["unsettled"] == 303 * 3 - 906


def test_an_order_needs_margin_for_the_worse_side_of_everything_open(floor):
    # 100,000 of equity at 10 % of 300 a lot: 3,333 lots on one side
    codes, _ = run(floor, *[new(1, i, BUY, 100, 1000) for i in range(3)], new(1, 3, BUY, 100, 334))
    assert codes == [0, 0, 0, Code.MARGIN_TOO_LOW]
    assert (
        run(floor, new(1, 4, BUY, 100, 333), *[new(1, 5 + i, SELL, 101, 1000) for i in range(3)])[0]
        == [0] * 4
    )
    assert run(floor, new(1, 8, SELL, 101, 400))[0] == [Code.MARGIN_TOO_LOW]
    assert run(floor, (Op.CANCEL, 0, 1, 1, 5, 0, 0), new(1, 8, SELL, 101, 400))[0] == [0, 0]


def test_what_an_order_would_lose_against_the_mark_price_is_asked_for_too(floor):
    # at 105: 15 a lot lost and 30 of margin
    assert run(floor, *[new(1, i, BUY, 105, 1000) for i in range(2)], new(1, 2, BUY, 105, 223))[0] == [
        0,
        0,
        Code.MARGIN_TOO_LOW,
    ]
    assert run(floor, new(1, 2, BUY, 105, 222))[0] == [0]


def test_what_one_order_would_lose_is_not_made_up_for_by_what_another_would_win(floor):
    # A bid far below the mark price would win 270 a lot; one at 105 loses 15, and asks for 30 of margin.
    assert run(floor, new(1, 1, BUY, 10, 1000), new(1, 2, BUY, 105, 1000))[0] == [0, 0]
    assert run(floor, new(1, 3, BUY, 105, 889), new(1, 3, BUY, 105, 888))[0] == [Code.MARGIN_TOO_LOW, 0]


@pytest.mark.parametrize(("side", "good", "bad"), [(BUY, 110, 111), (SELL, 90, 89)])
def test_no_order_is_worse_than_the_mark_price_by_more_than_the_collar(floor, side, good, bad):
    assert run(floor, new(1, 1, side, bad, 1), new(1, 2, side, good, 1))[0] == [Code.FAR_FROM_MARK, 0]
    assert run(floor, new(1, 3, 1 - side, bad, 1))[0] == [0]


@pytest.mark.parametrize(("mark", "status"), [(0, PriceStatus.VALID), (100, PriceStatus.STALE)])
def test_without_a_mark_price_to_rely_on_only_reducing_orders_are_taken(floor, mark, status):
    trade(floor, 2, 1, 100, 30)
    floor.price(1, mark, status=status)
    assert run(floor, new(3, 1, BUY, 100, 1), new(2, 1, SELL, 100, 31))[0] == [Code.NO_MARK_PRICE] * 2
    assert run(floor, new(2, 2, SELL, 100, 20), new(2, 3, SELL, 100, 11))[0] == [0, Code.NO_MARK_PRICE]
    assert run(floor, new(1, 2, BUY, 100, 30))[0] == [0]
    assert floor.position(2, 1)["qty"] == 10


def test_a_replaced_order_gives_its_margin_to_the_new_one(floor):
    run(floor, *[new(1, i, BUY, 100, 1000) for i in range(3)], new(1, 3, BUY, 100, 333))
    replace = (Op.REPLACE, 0, 1, 1, 3, 99, 333)
    assert run(floor, replace, (Op.REPLACE, 0, 1, 1, 3, 99, 334))[0] == [0, Code.MARGIN_TOO_LOW]
    assert floor.position(1, 1)["open_buy"] == 3333


def test_a_reduce_only_order_trades_no_more_than_the_position(floor):
    trade(floor, 2, 1, 100, 30)
    run(floor, new(3, 1, BUY, 100, 100))
    codes, events = run(floor, new(2, 1, SELL, 100, 50, reduce_only=True, tif=TimeInForce.IOC))
    assert (codes, events["qty"].tolist()) == ([0], [30])
    assert run(floor, new(2, 2, SELL, 100, 1, reduce_only=True))[0] == [Code.WOULD_NOT_REDUCE]
    assert run(floor, new(4, 1, SELL, 100, 1, reduce_only=True))[0] == [Code.WOULD_NOT_REDUCE]
    assert run(floor, new(1, 5, SELL, 101, 1, reduce_only=True))[0] == [Code.WOULD_NOT_REDUCE]


def test_a_resting_reduce_only_order_shrinks_with_its_position_and_leaves_when_met_in_vain(floor):
    trade(floor, 2, 1, 100, 30)
    run(floor, new(2, 1, SELL, 101, 30, reduce_only=True), new(2, 2, SELL, 102, 25, reduce_only=True))
    trade(floor, 3, 2, 100, 20)  # ten are left
    codes, events = run(floor, new(4, 1, BUY, 102, 50))
    assert [(e["kind"], e["code"], e["price"], e["qty"]) for e in events] == [
        (Kind.FILL, 0, 101, 10),
        (Kind.CANCELLED, Code.WOULD_NOT_REDUCE, 101, 20),
        (Kind.CANCELLED, Code.WOULD_NOT_REDUCE, 102, 25),
    ]
    assert codes == [0] and floor.position(2, 1)["qty"] == 0


def test_reduce_only_is_refused_on_spot_markets_and_stays_what_it_was_when_replaced(floor):
    trade(floor, 2, 1, 100, 30)
    assert run(floor, new(1, 1, BUY, 100, 1, market=0, reduce_only=True))[0] == [Code.BAD_OP]
    run(floor, new(2, 1, SELL, 105, 5, reduce_only=True), new(2, 2, SELL, 105, 5))
    changes = [(Op.REPLACE, SELL, 1, 2, 1, 106, 5), (Op.REPLACE, SELL | REDUCE_ONLY, 1, 2, 2, 106, 5)]
    assert run(floor, *changes)[0] == [Code.BAD_OP] * 2
    assert run(floor, (Op.REPLACE, SELL | REDUCE_ONLY, 1, 2, 1, 106, 5))[0] == [0]
    flags = floor.state.orders.data["flags"]
    assert np.count_nonzero(flags & OrderFlag.REDUCE_ONLY) == 1


def test_fill_or_kill_does_not_count_on_reduce_only_orders(floor):
    trade(floor, 2, 1, 100, 30)
    run(floor, new(2, 1, SELL, 100, 30, reduce_only=True), new(3, 1, SELL, 100, 10))
    fok = [new(4, i, BUY, 100, qty, tif=TimeInForce.FOK) for i, qty in enumerate((11, 10))]
    assert run(floor, *fok)[0] == [Code.NOT_FILLABLE, 0]


def test_positions_and_open_interest_have_limits():
    terms = contract(position_max=100, open_interest_max=150, qty_max=100, maker_fee_e6=0, taker_fee_e6=0)
    floor = PerpetualFloor(accounts=5, funds=10**9, contracts=(terms,))
    assert run(floor, new(1, 1, BUY, 99, 60), new(1, 2, BUY, 99, 41))[0] == [0, Code.POSITION_LIMIT]
    trade(floor, 3, 2, 100, 100)
    assert run(floor, new(4, 1, BUY, 98, 51))[0] == [Code.OPEN_INTEREST_LIMIT]
    assert run(floor, new(4, 2, SELL, 99, 50))[0] == [0]
    assert floor.state.perpetuals.columns["open_interest"][0] == 150
    assert run(floor, new(4, 3, SELL, 99, 1))[0] == [Code.OPEN_INTEREST_LIMIT]
    assert run(floor, new(3, 3, SELL, 99, 10))[0] == [0]  # who closes hands over what is there
    assert floor.state.perpetuals.columns["open_interest"][0] == 150


def test_an_account_may_have_so_many_positions_and_empty_ones_make_room():
    many = POSITIONS_PER_ACCOUNT_MAX + 1
    floor = PerpetualFloor(accounts=3, funds=10**9, contracts=(FREE,) * many)
    opened = [new(1, m, BUY, 100, 1, market=m) for m in range(1, many + 1)]
    assert run(floor, *opened)[0] == [0] * (many - 1) + [Code.LIMIT_REACHED]
    assert run(floor, (Op.CANCEL, 0, 5, 1, 5, 0, 0), opened[-1])[0] == [0, 0]
    assert floor.state.position_row(1, 5) == -1


def test_spot_orders_may_not_use_what_positions_need(floor):
    for _ in range(3):
        trade(floor, 2, 1, 100, 1000)  # margin 90,000
    assert run(floor, spot_new(2, 1, BUY, 100, 34), spot_new(2, 2, BUY, 100, 33))[0] == [
        Code.MARGIN_TOO_LOW,
        0,
    ]
    assert run(floor, (Op.REPLACE, 0, 0, 2, 2, 100, 34))[0] == [Code.MARGIN_TOO_LOW]


def test_an_auction_trades_contracts_at_one_price(floor):
    trade(floor, 2, 1, 100, 30)
    status = floor.state.markets.columns["status"]
    status[1] = 3  # a call
    codes, _ = run(
        floor,
        new(3, 1, BUY, 102, 50),
        new(1, 1, SELL, 98, 20),
        new(1, 2, BUY, 101, 5, reduce_only=True),
        new(2, 1, SELL, 99, 40, reduce_only=True),
        new(4, 1, SELL, 99, 10),
    )
    assert codes == [0] * 5
    lines = np.zeros(20 * LINES_PER_MEETING, dtype=JOURNAL)
    done, _, used = uncross(floor.state.core(), 1, 100, 55, 20, kernel_view(lines))
    fills = [(e["account"], e["counter_account"], e["qty"]) for e in lines[:used] if e["kind"] == Kind.FILL]
    assert fills == [(3, 1, 20), (3, 2, 30), (1, 4, 5)] and done == 55
    assert [e["code"] for e in lines[:used] if e["kind"] != Kind.FILL] == [Code.WOULD_NOT_REDUCE]
    assert {a: floor.position(a, 1)["qty"] for a in range(1, 5)} == {1: -45, 2: 0, 3: 50, 4: -5}
    check_perpetuals(floor.state)


def test_an_auction_makes_no_more_open_interest_than_there_may_be():
    terms = contract(position_max=100, open_interest_max=100, qty_max=100)
    floor = PerpetualFloor(accounts=5, funds=10**9, contracts=(terms,))
    floor.state.markets.columns["status"][1] = 3
    assert (
        run(floor, *[new(a, 1, side, 100, 60) for a, side in ((1, 0), (2, 0), (3, 1), (4, 1))])[0] == [0] * 4
    )
    lines = np.zeros(20 * LINES_PER_MEETING, dtype=JOURNAL)
    done, _, used = uncross(floor.state.core(), 1, 100, 120, 20, kernel_view(lines))
    assert [(e["kind"], e["code"], e["qty"]) for e in lines[:used]] == [
        (Kind.FILL, 0, 60),
        (Kind.CANCELLED, Code.OPEN_INTEREST_LIMIT, 60),
        (Kind.CANCELLED, Code.OPEN_INTEREST_LIMIT, 60),
    ]
    assert done == 60 and floor.book(1) == []
    check_perpetuals(floor.state)


def test_the_largest_contract_that_may_be_listed_does_not_overflow():
    lots, price_max = LOTS_MAX, 1 << 20
    value = NOTIONAL_MAX // (lots * price_max)
    terms = contract(
        base_per_lot=1,
        quote_per_lot_tick=value,
        price_max=price_max,
        qty_max=lots,
        position_max=lots,
        open_interest_max=lots,
        collar_ppm=1_000_000,
        initial_ppm=1_000_000,
        maintenance_ppm=1_000_000,
        maker_fee_e6=100_000,
        taker_fee_e6=100_000,
    )
    spot = (MarketTerms(base_asset=2, quote_asset=0),)
    floor = PerpetualFloor(accounts=3, markets=spot, funds=0, contracts=(terms,))
    for account in (1, 2):
        floor.deposit(account, 1, 2**61 - 1)
    floor.price(1, price_max)
    trade(floor, 1, 2, price_max, lots)
    assert floor.positions()[1, 1][:2] == (lots, lots * price_max * value)
    floor.price(1, 1)
    trade(floor, 2, 1, 1, lots)
    floor.end_block()
    assert floor.positions() == {}
    assert available(floor, 2) - available(floor, 1) > lots * (price_max - 1) * value
