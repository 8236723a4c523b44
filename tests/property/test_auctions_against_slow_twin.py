"""Calls and uncrossings against their slow twin: the price, every line, every order left, every balance."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.auctions.price import find_cross
from engine.auctions.uncross import LINES_PER_MEETING, uncross
from engine.invariants import check_all
from engine.markets.states import MarketStatus
from engine.records import JOURNAL, Op, Side, Term
from engine.tables.table import kernel_view
from tests.helpers import slow_auction
from tests.helpers.slow_book import SlowVenue
from tests.helpers.trading_floor import Floor, MarketTerms, make_ops

TERMS = (
    MarketTerms(price_max=70, status=MarketStatus.AUCTION),
    MarketTerms(base_asset=1, quote_asset=2, base_per_lot=7, price_max=1 << 13, status=MarketStatus.PRE_OPEN),
)


@st.composite
def calls(draw):
    """Operations of a call: mostly orders around one price, plain and icebergs, some cancels."""
    ops = []
    for _ in range(draw(st.integers(0, 25))):
        market = draw(st.sampled_from([0, 0, 1]))
        names = (market, draw(st.integers(1, 4)), draw(st.integers(0, 9)))
        side, price = draw(st.sampled_from(Side)), draw(st.integers(50, 60))
        if market == 1 and draw(st.booleans()):
            price = draw(st.sampled_from([1, 64, 4000, 4095, 4096, 8000]))
        op = draw(st.sampled_from([Op.NEW] * 9 + [Op.CANCEL, Op.REDUCE, Op.REPLACE]))
        tif = draw(st.sampled_from([0] * 12 + [1, 2, 3, 4]))
        if op == Op.NEW and draw(st.integers(0, 3)) == 0:
            ops.append((Op.TERMS, Term.DISPLAY, *names, 0, draw(st.integers(1, 4))))
        ops.append((op, side | tif << 1, *names, price, draw(st.integers(1, 20))))
    return ops


def _uncross(floor: Floor, market: int, price: int, volume: int, meetings: int) -> tuple[int, list]:
    events = np.zeros(LINES_PER_MEETING * meetings, dtype=JOURNAL)
    done, met, used = uncross(floor.state.core(), market, price, volume, meetings, kernel_view(events))
    assert met <= meetings
    return int(done), [tuple(map(int, line)) for line in events[:used].tolist()]


@settings(max_examples=120, deadline=None)
@given(calls(), st.integers(0, 70), st.sampled_from([1, 3, 1000]))
def test_a_call_gathers_and_uncrosses_as_the_slow_twin_does(ops, reference, meetings):
    floor = Floor(accounts=5, markets=TERMS, funds=10**9)
    slow = SlowVenue(5, TERMS, {(a, x): 10**9 for a in range(1, 5) for x in range(floor.assets)})
    results, events = floor.execute(make_ops(*ops))
    slow_results, _ = slow.execute(ops)
    assert [tuple(map(int, line)) for line in results.tolist()] == [tuple(map(int, r)) for r in slow_results]
    assert len(events) == 0
    for market in range(len(TERMS)):
        cross = tuple(map(int, find_cross(floor.state.core(), market, reference)))
        assert cross == slow_auction.find_cross(slow, market, reference)
        price, left, _ = cross
        expected = slow_auction.uncross(slow, market, price, left)
        lines = []
        while left:
            done, more = _uncross(floor, market, price, left, meetings)
            assert done > 0
            left -= done
            lines += more
        assert lines == [tuple(map(int, line)) for line in expected]
        assert floor.book(market) == slow.book(market)
        assert slow_auction.find_cross(slow, market, reference) == (0, 0, 0)
        assert tuple(find_cross(floor.state.core(), market, reference)) == (0, 0, 0)
    assert floor.balances() == slow.balances()
    check_all(floor.state)
