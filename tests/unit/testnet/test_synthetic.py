"""The synthetic flow: deterministic, realistic in its mix, and accepted by the engine nearly always."""

from dataclasses import replace

import numpy as np
import pytest

from engine.invariants import check_all
from engine.records import Code, Op, Side
from testnet.synthetic import SHAPES, SyntheticFlow
from tests.helpers.trading_floor import Floor, MarketTerms

SMALL = replace(SHAPES["demo"], markets=3, accounts=20, resting=400)


def test_same_seed_gives_the_same_operations_however_they_are_cut():
    first, second = SyntheticFlow(SMALL, 7), SyntheticFlow(SMALL, 7)
    whole = first.take(1000)
    assert np.array_equal(np.concatenate([second.take(n) for n in (1, 99, 400, 500)]), whole)
    assert not np.array_equal(SyntheticFlow(SMALL, 8).take(1000), whole)


def test_mix_is_about_half_cancels_and_a_tenth_takers():
    flow = SyntheticFlow(SHAPES["demo"], 1)
    flow.fill_book()
    flow.take(20_000)
    ops = flow.take(50_000)
    cancels = np.mean(ops["op"] == Op.CANCEL)
    takers = np.mean((ops["op"] == Op.NEW) & (ops["flags"] > 1))
    assert 0.40 < cancels < 0.50
    assert 0.08 < takers < 0.12
    assert len(np.unique(ops["market"])) == 8
    assert len(np.unique(ops["account"])) > 900


def test_flow_uses_the_accounts_and_markets_it_is_given():
    accounts, markets = np.array([70, 80, 90]), np.array([5, 2])
    flow = SyntheticFlow(SMALL, 3, accounts=accounts, markets=markets, first_order_id=1000)
    ops = np.concatenate([flow.fill_book(), flow.take(2000)])
    assert set(ops["account"].tolist()) == {70, 80, 90}
    assert set(ops["market"].tolist()) == {5, 2}
    assert ops["client_order_id"].min() >= 1000


@pytest.mark.parametrize("shape", ["demo", "take"])
def test_the_engine_accepts_the_flow_and_keeps_its_book_at_size(shape):
    flow_shape = replace(SHAPES[shape], markets=3, accounts=50, resting=600)
    terms = MarketTerms(price_max=flow_shape.price_max, base_per_lot=1, quote_per_lot_tick=1, qty_max=1 << 20)
    floor = Floor(accounts=51, markets=(terms,) * 3, funds=10**15)
    flow = SyntheticFlow(flow_shape, 5)
    floor.execute(flow.fill_book())
    codes = []
    for _ in range(20):
        results, _ = floor.execute(flow.take(1000))
        codes += results["code"].tolist()
    assert np.mean(np.array(codes) == Code.OK) > 0.95
    assert 300 < floor.state.count["orders_live"] < 900
    check_all(floor.state)


def test_prices_walk():
    flow = SyntheticFlow(replace(SMALL, markets=1), 11)
    flow.fill_book()
    ops = flow.take(100_000)
    takers = ops[(ops["op"] == Op.NEW) & (ops["flags"] & 1 == Side.BUY) & (ops["flags"] > 1)]
    assert np.ptp(takers["price"]) > 10
