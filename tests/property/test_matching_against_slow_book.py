"""The compiled book against its slow twin: every journal line, every order left, every balance."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.conditional import plugin
from engine.conditional.audit import check_waiting
from engine.events import Events
from engine.invariants import check_all
from engine.layout import NONE, PriceStatus
from engine.lifetimes.audit import check_alarms
from engine.lifetimes.plugin import LifetimesPlugin
from engine.markets.states import MarketStatus
from engine.plugin import Context
from engine.records import AMOUNT_MAX, EVERY_MARKET, TERMS_MAX, Code, Kind, Op, Reference, Term
from engine.tables.alarms import set_alarm
from tests.helpers.slow_book import SlowVenue
from tests.helpers.trading_floor import Floor, MarketTerms, make_ops

MARKETS = (
    MarketTerms(price_max=70),
    MarketTerms(
        base_asset=1, quote_asset=2, base_per_lot=7, quote_per_lot_tick=1_000_003, price_max=130, qty_max=50
    ),
    MarketTerms(base_asset=2, quote_asset=0, notional_min=60, maker_fee_e6=0, taker_fee_e6=1_000_000),
    MarketTerms(status=MarketStatus.CLOSED),
)
EXAMPLES = int(os.environ.get("KONTOR_EXAMPLES", "150"))
ROOT = Path(__file__).resolve().parents[2]


def _often(value, rare):
    """Nearly always `value`, now and then what must be refused."""
    return st.one_of(*[value] * 9, rare)


@st.composite
def operations(draw):
    """One order operation around a narrow price range, so that orders meet often."""
    op = draw(_often(st.sampled_from([Op.NEW] * 8 + [Op.CANCEL, Op.REDUCE, Op.REPLACE]), st.integers(0, 7)))
    return (
        op,
        draw(
            _often(
                st.integers(0, 63).filter(lambda f: f >> 1 & 7 <= 4),
                st.sampled_from([134, 135]) | st.integers(0, 255),
            )
        ),
        draw(_often(st.sampled_from([0, 0, 1, 2]), st.sampled_from([3, 4, 9, EVERY_MARKET]))),
        draw(_often(st.integers(1, 3), st.sampled_from([0, 4, 2**32 - 1]))),
        draw(st.integers(0, 6)),
        draw(_often(st.integers(55, 66), st.sampled_from([-1, 0, 1, 64, 70, 71, 130, 200, 2**62, -(2**63)]))),
        draw(_often(st.integers(1, 12), st.sampled_from([-1, 0, 50, 51, 1000, 1001, 2**62, 2**63 - 1]))),
    )


@st.composite
def requests(draw):
    """One operation, or an order behind its terms, nearly always terms that name it."""
    op = draw(operations())
    if not draw(_often(st.just(op[0] == Op.NEW and draw(st.integers(0, 3)) == 0), st.booleans())):
        return [op]
    names = op[2:5]
    count = draw(_often(st.just(1), st.integers(2, TERMS_MAX + 2)))
    terms = [
        (
            draw(_often(st.just(Op.TERMS), st.just(Op.NEW))),
            draw(_often(st.sampled_from(Term), st.integers(0, 255))),
            *draw(_often(st.just(names), st.just((0, 1, 3)))),
            draw(_often(st.integers(1, 9), st.sampled_from([-1, 0, 2**62]))),
            draw(_often(st.integers(1, 4), st.sampled_from([-1, 0, 12, 2**62]))),
        )
        for _ in range(count)
    ]
    return [*terms, op]


def blocks(sizes):
    """A block's operations, whatever stands for one request."""
    return st.lists(requests(), **sizes).map(lambda parts: [op for part in parts for op in part])


def _twins(funds: int, accounts: int = 4, markets: tuple = MARKETS) -> tuple[Floor, SlowVenue]:
    floor = Floor(accounts=accounts, markets=markets, funds=funds)
    balances = {(a, x): funds for a in range(1, accounts) for x in range(floor.assets)}
    return floor, SlowVenue(accounts, markets, balances)


def _check_equal(floor: Floor, slow: SlowVenue, ops: list, codes: list | None = None) -> None:
    """Execute one block on both and compare everything a client or a replica could see."""
    results, events = floor.execute(make_ops(*ops), codes)
    slow_results, slow_events = slow.execute(ops, codes)
    assert [tuple(map(int, line)) for line in results.tolist()] == [tuple(map(int, r)) for r in slow_results]
    assert [tuple(map(int, line)) for line in events.tolist()] == [tuple(map(int, e)) for e in slow_events]
    assert floor.balances() == slow.balances()
    for market in range(len(floor.markets)):
        assert floor.book(market) == slow.book(market)
        assert floor.waiting(market) == slow.waiting(market)
    check_all(floor.state)
    check_waiting(floor.state)


def _trigger_both(floor: Floor, slow: SlowVenue, height: int) -> list[int]:
    """The end of a block: who is triggered, and what becomes of them. Returns the codes."""
    lines = [tuple(map(int, line)) for line in floor.trigger(height).tolist()]
    slow_lines = slow.trigger(height, plugin.TRIGGERS_PER_BLOCK_MAX)
    assert lines == [tuple(map(int, line)) for line in slow_lines]
    _check_equal(floor, slow, [])
    return [line.code for line in slow_lines if line.kind == Kind.TRIGGERED]


def _set_prices(floor: Floor, slow: SlowVenue, market: int, mark: int, index: int, status: int) -> None:
    columns = floor.state.markets.columns
    columns["mark_price"][market], columns["index_price"][market] = mark, index
    columns["price_status"][market] = status
    counts = status in (PriceStatus.VALID, PriceStatus.STALE)
    slow.prices[market, Reference.MARK], slow.prices[market, Reference.INDEX] = mark * counts, index * counts


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(blocks({"min_size": 1, "max_size": 30}), min_size=1, max_size=4),
    st.sampled_from([0, 3000, 10**9, 10**12]),
)
def test_blocks_of_any_operations_agree_with_the_slow_book(blocks, funds):
    floor, slow = _twins(funds)
    for ops in blocks:
        _check_equal(floor, slow, ops)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(
        st.tuples(
            blocks({"min_size": 1, "max_size": 30}),
            st.sampled_from([(0, 0), (58, 62), (60, 60), (62, 66), (1, 59), (1, 70)]),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_blocks_under_moving_price_bands_agree_with_the_slow_book(banded):
    floor, slow = _twins(10**9)
    for ops, band in banded:
        for market in range(3):
            floor.set_band(market, *band)
            slow.bands[market] = band
        _check_equal(floor, slow, ops)
        _check_fills_are_within(slow, band)


def test_long_random_runs_under_moving_price_bands_agree_with_the_slow_book():
    """A band that walks over a deep book leaves orders of both sides behind."""
    rng = np.random.default_rng(20261127)
    floor, slow = _twins(10**10)
    outside = 0
    for _ in range(60):
        middle = int(rng.integers(45, 62))
        band = (middle - 4, middle + 4)
        for market in range(3):
            floor.set_band(market, *band)
            slow.bands[market] = band
        ops = []
        for _ in range(60):
            names = (int(rng.integers(0, 3)), int(rng.integers(1, 4)), int(rng.integers(0, 60)))
            flags = int(rng.integers(0, 2) | rng.choice([0, 0, 0, 1, 2, 3, 4]) << 1 | rng.integers(0, 4) << 4)
            price, qty = int(rng.integers(40, 66)), int(rng.integers(1, 50))
            if rng.random() < 0.2:
                ops.append((Op.TERMS, Term.DISPLAY, *names, 0, int(rng.integers(1, 12))))
            op = Op.NEW if rng.random() < 0.8 else int(rng.choice([Op.CANCEL, Op.REDUCE, Op.REPLACE]))
            ops.append((op, flags, *names, price, qty))
        _check_equal(floor, slow, ops)
        _check_fills_are_within(slow, band)
        outside += sum(event.code == Code.OUTSIDE_BAND for event in slow.events)
    assert outside > 30


def test_an_order_meets_no_more_left_behind_makers_than_its_limit():
    floor, slow = _twins(10**12)
    for first in (0, 1000):
        ops = [(Op.NEW, 1, 0, 1, first + i, 50, 1) for i in range(1000)]
        _check_equal(floor, slow, ops)
    floor.set_band(0, 55, 65)
    slow.bands[0] = (55, 65)
    for order_id in range(3):
        _check_equal(floor, slow, [(Op.NEW, 0, 0, 2, order_id, 60, 5)])


def _check_fills_are_within(slow: SlowVenue, band: tuple[int, int]) -> None:
    prices = [event.price for event in slow.events if event.kind == Kind.FILL]
    assert band == (0, 0) or all(band[0] <= price <= band[1] for price in prices)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(blocks({"min_size": 1, "max_size": 20}), min_size=1, max_size=6), st.data())
def test_owners_limits_and_time_agree_with_the_slow_book(given_blocks, data):
    """Two accounts of one owner, few open orders, a rate, a collar, deadlines; orders expire meanwhile."""
    floor, slow = _twins(10**9)
    state, columns = floor.state, floor.state.accounts.columns
    columns["group"][[2, 3]] = 2
    slow.owners[3] = 2
    columns["open_orders_max"][1], slow.open_max[1] = 4, 4
    columns["rate_max"][2], slow.rates[2], slow.tokens[2] = 3, 3, (0, 0)
    state.markets.columns["collar_low"][0], state.markets.columns["collar_high"][0] = 57, 63
    slow.collars[0] = (57, 63)
    for ops in given_blocks:
        slow.time_ms += data.draw(st.sampled_from([0, 1, 2, 400, 1000]))
        state.count["time_ms"] = slow.time_ms
        _ring_both(floor, slow)
        for account in data.draw(st.lists(st.integers(1, 3), max_size=1)):
            slow.deadlines[account] = slow.time_ms + 2
            state.reserve_alarms(1)
            set_alarm(state.core(), ~account, slow.time_ms + 2)
        _check_equal(floor, slow, ops)
        check_alarms(state)


def _ring_both(floor: Floor, slow: SlowVenue) -> None:
    """What is due leaves both books, in the order of its time."""
    events = Events()
    LifetimesPlugin().on_block_start(floor.state, Context(NONE, slow.time_ms, 0, events))
    lines = sorted(tuple(map(int, line)) for line in events.lines.tolist())
    assert lines == sorted(tuple(map(int, line)) for line in slow.ring())


def test_long_random_runs_agree_with_the_slow_book():
    """Deeper books than hypothesis builds: thousands of operations from one seed."""
    rng = np.random.default_rng(20261124)
    floor, slow = _twins(10**10)
    for _ in range(30):
        n = 100
        ops = list(
            zip(
                rng.choice(
                    [1, 1, 1, 1, 2, 2, 3, 4, 5], n, p=[0.15] * 4 + [0.12, 0.12, 0.08, 0.079, 0.001]
                ).tolist(),
                (
                    rng.integers(0, 2, n)
                    | rng.choice([0, 0, 0, 1, 2, 3, 4], n) << 1
                    | rng.integers(0, 4, n) << 4
                ).tolist(),
                rng.integers(0, 3, n).tolist(),
                rng.integers(1, 4, n).tolist(),
                rng.integers(0, 60, n).tolist(),
                rng.integers(40, 70, n).tolist(),
                rng.integers(1, 40, n).tolist(),
                strict=True,
            )
        )
        _check_equal(floor, slow, ops)


def test_long_random_runs_with_icebergs_agree_with_the_slow_book():
    """Slices refill, are hit, shrink and leave, thousands of times from one seed."""
    rng = np.random.default_rng(20261126)
    floor, slow = _twins(10**10)
    for _ in range(30):
        ops = []
        for _ in range(60):
            market, account, order_id = (
                int(rng.integers(0, 3)),
                int(rng.integers(1, 4)),
                int(rng.integers(0, 40)),
            )
            flags = int(rng.integers(0, 2) | rng.choice([0, 0, 0, 1, 2, 3, 4]) << 1 | rng.integers(0, 4) << 4)
            price, qty = int(rng.integers(45, 60)), int(rng.integers(1, 50))
            kind = rng.random()
            if kind < 0.4:
                ops.append((Op.TERMS, Term.DISPLAY, market, account, order_id, 0, int(rng.integers(1, 12))))
            op = Op.NEW if kind < 0.8 else int(rng.choice([Op.CANCEL, Op.REDUCE, Op.REPLACE]))
            ops.append((op, flags, market, account, order_id, price, qty))
        _check_equal(floor, slow, ops)


def test_cancel_all_among_more_orders_than_it_looks_at_agrees_with_the_slow_book():
    """One account, its orders on three markets one after the other, as many as need several CANCEL_ALLs."""
    rng = np.random.default_rng(20261125)
    floor, slow = _twins(10**12)
    sell_post_only = 1 | 3 << 1
    markets = np.sort(rng.integers(0, 3, 2600)).tolist()
    _check_equal(floor, slow, [(Op.NEW, sell_post_only, m, 1, i, 60, 20) for i, m in enumerate(markets)])
    for block in range(12):
        ops = [(Op.CANCEL_ALL, 0, int(m), 1, 0, 0, 0) for m in rng.choice([0, 1, 2, 3], 2)]
        ops += [(Op.CANCEL_ALL, 0, EVERY_MARKET, 1, 700 * block, 700 * block + 90, int(rng.integers(-1, 4)))]
        ops += [(Op.CANCEL, 0, markets[i], 1, i, 0, 0) for i in rng.integers(0, 2600, 20).tolist()]
        first = 2600 + 100 * block
        placed = [
            (Op.NEW, sell_post_only, m, 1, first + i, 60, 20)
            for i, m in enumerate(rng.integers(0, 3, 100).tolist())
        ]
        place = int(rng.integers(0, 100))
        _check_equal(floor, slow, [*placed[:place], *ops, *placed[place:]])
    for _ in range(4):
        _check_equal(floor, slow, [(Op.CANCEL_ALL, 0, EVERY_MARKET, 1, 0, 0, 0)] * 2)
    assert not slow.orders


@st.composite
def stop_requests(draw):
    """Mostly orders that wait for a price among those that trade, with other terms now and then."""
    op = draw(operations())
    if op[0] != Op.NEW or draw(st.booleans()):
        return [op]
    terms = [
        (
            Op.TERMS,
            Term.STOP,
            *op[2:5],
            draw(_often(st.integers(56, 65), st.sampled_from([-1, 0, 1, 70, 71, 2**62]))),
            draw(_often(st.integers(0, 2), st.sampled_from([-1, 3, 2**62]))),
        )
    ]
    if draw(st.integers(0, 3)) == 0:
        terms.append((Op.TERMS, Term.DISPLAY, *op[2:5], 0, draw(st.integers(1, 4))))
    if draw(st.integers(0, 3)) == 0:
        terms.append((Op.TERMS, Term.EXPIRE, *op[2:5], draw(st.integers(1, 9)), 0))
    return [*draw(st.permutations(terms)), op]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.lists(stop_requests(), max_size=15), min_size=1, max_size=6), st.data())
def test_blocks_with_stops_agree_with_the_slow_book(given_blocks, data):
    """Prices, statuses, bands, collars and time change between the blocks."""
    floor, slow = _twins(10**9)
    price = st.sampled_from([0, 57, 59, 61, 63, 300])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugin, "TRIGGERS_PER_BLOCK_MAX", data.draw(st.sampled_from([1, 3, 4096])))
        for height, parts in enumerate(given_blocks):
            slow.time_ms += data.draw(st.sampled_from([0, 1, 4]))
            floor.state.count["time_ms"] = slow.time_ms
            _ring_both(floor, slow)
            for market in range(3):
                _set_prices(
                    floor, slow, market, data.draw(price), data.draw(price), data.draw(st.integers(0, 5))
                )
            low, high = data.draw(st.sampled_from([(0, 70), (0, 70), (58, 62)]))
            columns = floor.state.markets.columns
            columns["collar_low"][0], columns["collar_high"][0] = low, high
            slow.collars[0] = (low, high)
            status = data.draw(st.sampled_from([MarketStatus.OPEN] * 4 + [MarketStatus.CANCEL_ONLY]))
            columns["status"][1] = slow.statuses[1] = status
            band = data.draw(st.sampled_from([(0, 0), (0, 0), (58, 62)]))
            floor.set_band(2, *band)
            slow.bands[2] = band
            _check_equal(floor, slow, [op for part in parts for op in part])
            _trigger_both(floor, slow, height)
            check_alarms(floor.state)


def test_long_random_runs_with_stops_agree_with_the_slow_book():
    """Cascades among hundreds of stops, a few at a time, from one seed."""
    rng = np.random.default_rng(20261128)
    floor, slow = _twins(10**10)
    triggered = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugin, "TRIGGERS_PER_BLOCK_MAX", 7)
        for height in range(40):
            ops = []
            for _ in range(50):
                names = (int(rng.integers(0, 2)), int(rng.integers(1, 4)), int(rng.integers(0, 150)))
                flags = int(
                    rng.integers(0, 2) | rng.choice([0, 0, 1, 2, 3, 4, 4]) << 1 | rng.integers(0, 4) << 4
                )
                if rng.random() < 0.5:
                    ops.append((Op.TERMS, Term.STOP, *names, int(rng.integers(45, 62)), int(rng.integers(3))))
                op = Op.NEW if rng.random() < 0.8 else int(rng.choice([Op.CANCEL, Op.REDUCE, Op.REPLACE]))
                ops.append((op, flags, *names, int(rng.integers(45, 62)), int(rng.integers(1, 40))))
            for market in range(2):
                _set_prices(floor, slow, market, *rng.integers(50, 57, 2).tolist(), int(rng.integers(0, 3)))
            _check_equal(floor, slow, ops)
            triggered += _trigger_both(floor, slow, height)
    assert len(triggered) > 100 and {Code.OK, Code.NO_LIQUIDITY, Code.WOULD_CROSS} <= set(triggered)


@settings(max_examples=30, deadline=None)
@given(blocks({"min_size": 1, "max_size": 20}), st.data())
def test_operations_refused_before_have_no_effect(ops, data):
    """A code set by authorisation stands in the result, and nothing else changes."""
    floor, slow = _twins(10**9)
    codes = data.draw(st.lists(st.sampled_from([0, 0, 22, 23]), min_size=len(ops), max_size=len(ops)))
    _check_equal(floor, slow, ops, codes)


@settings(max_examples=30, deadline=None)
@given(blocks({"min_size": 2, "max_size": 30}), st.integers(1, 29))
def test_replaying_the_same_blocks_gives_the_same_tables(ops, cut):
    """Same blocks, same bytes: tables and derived bitmap alike."""
    first, second = _twins(10**9)[0], _twins(10**9)[0]
    for floor in (first, second):
        floor.execute(make_ops(*ops[:cut]))
        floor.execute(make_ops(*ops[cut:]))
    for a, b in zip(first.state.tables, second.state.tables, strict=True):
        assert a.pages.tobytes() == b.pages.tobytes()
    ladder = first.state.ladder_bits.copy()
    first.state.rebuild_derived()
    assert np.array_equal(first.state.ladder_bits, ladder)


def test_amounts_at_the_edge_of_int64_do_not_wrap():
    """The largest notional and quantity that admission lets through, and the first it does not."""
    terms = MarketTerms(base_per_lot=1, quote_per_lot_tick=1, price_max=1 << 20, qty_max=AMOUNT_MAX)
    qty = AMOUNT_MAX >> 20
    floor, slow = _twins(AMOUNT_MAX // 4, 3, (terms,))
    ops = [
        (Op.NEW, 1, 0, 1, 1, 1 << 18, qty),
        (Op.NEW, 0, 0, 2, 1, 1 << 18, qty),
        (Op.NEW, 0, 0, 2, 2, 1 << 20, qty + 1),
        (Op.NEW, 0, 0, 2, 3, 1 << 20, qty),
        (Op.NEW, 1, 0, 1, 2, 1, AMOUNT_MAX // 4 - qty),
        (Op.NEW, 1, 0, 1, 3, 1 << 20, AMOUNT_MAX),
    ]
    _check_equal(floor, slow, ops)


@pytest.mark.parametrize("setting", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_interpreted_and_bounds_checked_kernels_agree_too(setting):
    """The same properties in a process whose kernels run as plain Python, or check every index."""
    if os.environ.get("NUMBA_DISABLE_JIT") or os.environ.get("NUMBA_BOUNDSCHECK"):
        pytest.skip("already inside such a process")
    env = {**os.environ, setting: "1", "KONTOR_EXAMPLES": "25"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
