"""Whatever prices do, liquidation makes and loses no unit, and leaves books that add up."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.invariants import check_all
from engine.liquidation.commands import RegisterBackstop, SetLiquidation
from engine.perpetuals.audit import check_perpetuals
from engine.records import Side
from tests.helpers.liquidation_floor import LiquidationFloor
from tests.helpers.perpetual_floor import contract

EXAMPLES = int(os.environ.get("KONTOR_EXAMPLES", "60"))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    holders=st.lists(
        st.tuples(st.integers(-300, 300).filter(bool), st.integers(1, 9)), min_size=1, max_size=6
    ),
    marks=st.lists(st.integers(1, 200), min_size=1, max_size=6),
    bids=st.lists(st.tuples(st.integers(60, 99), st.integers(1, 200)), max_size=3),
    fund=st.integers(0, 20_000),
    capacity=st.integers(0, 400),
    taker_fee_e6=st.sampled_from((0, 2500)),
)
def test_every_stage_conserves_value_and_the_books_add_up(holders, marks, bids, fund, capacity, taker_fee_e6):
    terms = contract(maker_fee_e6=0, taker_fee_e6=taker_fee_e6)
    floor = LiquidationFloor(accounts=5 + len(holders), contracts=(terms,))
    floor.set_cash(2, fund)
    floor.rule(SetLiquidation(1, 2, 5000, 20_000, 2000, 10_000, 0))
    floor.rule(RegisterBackstop(3, 1, capacity))
    for account, (lots, spare) in enumerate(holders, 5):
        floor.set_cash(account, abs(lots) * (30 + spare))
        floor.open(account, lots)
    for price, qty in bids:
        floor.rest(4, Side.BUY, max(price, 90), qty)
    total = floor.total()
    for mark in marks:
        floor.price(1, mark)
        before = floor.cash(2)
        lines = floor.liquidate()
        assert floor.total() == total
        assert before - floor.cash(2) <= 10_000
        accounts = lines["account"].tolist()
        assert accounts == sorted(accounts)
        floor.end_block(0)
        assert floor.total() == total
        check_perpetuals(floor.state)
        check_all(floor.state)
