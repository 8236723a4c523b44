"""Compiled perpetual markets against their slow twin: every line, every position, every unit of cash."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.genesis import CLEARING_ACCOUNT
from engine.invariants import check_all
from engine.layout import PositionFlag, PriceStatus
from engine.margin.account import NO_CHANGE, assess
from engine.perpetuals.audit import check_perpetuals
from engine.perpetuals.commands import (
    AddCollateral,
    RegisterCollateral,
    RemoveCollateral,
    SetDefaultAddon,
    SetIsolation,
    SetMarginMode,
    SetMarginTier,
)
from engine.records import Op, Term
from tests.helpers.perpetual_floor import HOUR_MS, START_MS, PerpetualFloor, contract
from tests.helpers.slow_perpetuals import SlowCollateral, SlowPerpetuals
from tests.helpers.trading_floor import MarketTerms, make_ops

ACCOUNTS = 4
SPOT = (MarketTerms(price_max=200),)
CONTRACTS = (
    contract(group=7, offset_ppm=800_000, position_max=2000, open_interest_max=3000),
    contract(group=7, offset_ppm=500_000, quote_per_lot_tick=7, scan_ppm=130_000, maker_fee_e6=0),
    contract(quote_per_lot_tick=1, initial_ppm=20_000, maintenance_ppm=10_000, collar_ppm=20_000),
)
TIERS = (
    SetMarginTier(1, 1, 20_000, 150_000, 70_000),
    SetMarginTier(1, 2, 90_001, 400_000, 300_000),
    SetMarginTier(2, 1, 33_333, 110_001, 50_003),
)
HAIRCUT_PPM, CAP = 123_456, 20_000
EXAMPLES = int(os.environ.get("KONTOR_EXAMPLES", "150"))
ROOT = Path(__file__).resolve().parents[2]


def _often(value, rare):
    return st.one_of(*[value] * 9, rare)


accounts = st.integers(1, ACCOUNTS - 1)
markets = st.integers(1, len(CONTRACTS))


@st.composite
def orders(draw):
    """An order operation, nearly always in a contract and around its price; sometimes an iceberg."""
    op = draw(_often(st.sampled_from([Op.NEW] * 8 + [Op.CANCEL, Op.REDUCE, Op.REPLACE]), st.integers(0, 5)))
    flags = draw(st.integers(0, 63).filter(lambda f: f >> 1 & 7 <= 4))
    flags |= 64 * draw(st.sampled_from([0, 0, 0, 1]))
    names = draw(_often(markets, st.just(0))), draw(accounts), draw(st.integers(0, 8))
    price = draw(_often(st.integers(92, 108), st.integers(1, 200)))
    qty = draw(_often(st.integers(1, 60), st.integers(1, 1000)))
    order = (op, flags, *names, price, qty)
    if op == Op.NEW and flags >> 1 & 7 in (0, 3) and qty > 3 and draw(st.integers(0, 5)) == 0:
        return [(Op.TERMS, Term.DISPLAY, *names, 0, draw(st.integers(1, 3))), order]
    return [order]


@st.composite
def steps(draw):
    """What happens next: a block's orders, a price, the end of a block, or a command."""
    kind = draw(st.integers(0, 9))
    if kind <= 4:
        found = draw(st.lists(orders(), min_size=1, max_size=12))
        return "orders", [op for part in found for op in part]
    if kind <= 6:
        market = draw(_often(markets, st.just(0)))
        mark, index = draw(st.integers(90, 110)), draw(st.integers(95, 105))
        status = draw(_often(st.just(PriceStatus.VALID), st.sampled_from(list(PriceStatus))))
        return "price", (market, draw(_often(st.just(mark), st.sampled_from([0, 40, 190]))), index, status)
    if kind <= 8:
        return "end", draw(st.sampled_from([1, 1000, 59_999, HOUR_MS, 5 * HOUR_MS]))
    account, market, amount = draw(accounts), draw(markets), draw(st.integers(1, 4000))
    command = draw(
        st.sampled_from(
            [
                SetMarginMode(account, amount % 2),
                SetIsolation(account, market, amount % 2),
                AddCollateral(account, market, amount),
                AddCollateral(account, market, amount),
                RemoveCollateral(account, market, amount),
                SetDefaultAddon(amount),
            ]
        )
    )
    return "command", command


def _twins(funds: int) -> tuple[PerpetualFloor, SlowPerpetuals]:
    fast = PerpetualFloor(accounts=ACCOUNTS, markets=SPOT, funds=funds, contracts=CONTRACTS)
    balances = {(account, asset): funds for account in range(1, ACCOUNTS) for asset in (0, 1)}
    slow = SlowPerpetuals(ACCOUNTS, SPOT, CONTRACTS, balances, START_MS)
    for tier in TIERS:
        assert fast.command(tier) == 0
        slow.markets[tier.market].tiers.append(tuple(tier[2:]))
    assert fast.command(RegisterCollateral(0, 0, HAIRCUT_PPM, CAP)) == 0
    slow.collaterals.append(SlowCollateral(0, 0, HAIRCUT_PPM, CAP))
    return fast, slow


def _step(fast: PerpetualFloor, slow: SlowPerpetuals, kind: str, what) -> None:
    if kind == "orders":
        results, events = fast.execute(make_ops(*what))
        slow_results, slow_events = slow.execute(what)
        assert _lines(results) == [tuple(map(int, line)) for line in slow_results]
        assert _lines(events) == [tuple(map(int, line)) for line in slow_events]
    elif kind == "price":
        market, mark, index, status = what
        fast.price(market, mark, index, status)
        slow.prices[market] = (index, status)
        if market:
            slow.markets[market].mark, slow.markets[market].index = mark, index
            slow.markets[market].price_status = status
    elif kind == "end":
        rows = fast.state.positions.data[: fast.state.used(fast.state.positions)]
        visits = [(int(r["account"]), int(r["market"])) for r in rows if r["flags"] & PositionFlag.LIVE]
        fast.end_block(what)
        slow.end_block(what, [key for key in visits if key in slow.positions])
        assert {key for key in slow.positions if not slow._is_gone(key)} <= set(visits)
    else:
        assert fast.command(what) == slow.command(what)


def _lines(lines: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(map(int, line)) for line in lines.tolist()]


def _check_equal(fast: PerpetualFloor, slow: SlowPerpetuals) -> None:
    assert fast.balances() == slow.balances()
    held = {
        key: (p.qty, p.entry, p.unsettled, p.collateral, int(p.isolated))
        for key, p in slow.positions.items()
        if not p.is_empty()
    }
    assert fast.positions() == held
    pools = fast.state.pools.columns
    assert (int(pools["claims"][0]), int(pools["fees_due"][0])) == (slow.claims(), slow.fees_due)
    for market in range(len(SPOT) + len(CONTRACTS)):
        assert fast.book(market) == slow.book(market)
    for account in range(1, ACCOUNTS):
        equity, initial, maintenance, known = slow.assess(account)
        found = assess(fast.state.core(), account, 0, NO_CHANGE)
        assert found[1:] == (initial, maintenance)
        assert not known or found.equity == equity
    check_all(fast.state)
    check_perpetuals(fast.state)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(steps(), min_size=4, max_size=25), st.sampled_from([0, 2000, 20_000, 10**6, 10**12]))
def test_any_course_of_events_agrees_with_the_slow_twin(course, funds):
    fast, slow = _twins(funds)
    for kind, what in course:
        _step(fast, slow, kind, what)
        _check_equal(fast, slow)


@pytest.mark.parametrize("seed", range(4))
def test_long_random_runs_agree_with_the_slow_twin(seed):
    """Thousands of orders, prices that walk, funding, isolated positions, debts and claims."""
    rng = np.random.default_rng(20261124 + seed)
    fast, slow = _twins(int(rng.choice([20_000, 10**6])))
    mark = 100
    for _ in range(40):
        ops = []
        for _ in range(40):
            flags = int(rng.integers(0, 2) | rng.choice([0, 0, 0, 1, 2, 3, 4]) << 1 | rng.integers(0, 4) << 4)
            flags |= 64 * int(rng.random() < 0.15)
            op = Op.NEW if rng.random() < 0.8 else int(rng.choice([Op.CANCEL, Op.REDUCE, Op.REPLACE]))
            market, account, order_id = (
                int(rng.integers(low, high)) for low, high in ((0, 4), (1, 4), (0, 30))
            )
            price, qty = mark + int(rng.integers(-6, 7)), int(rng.integers(1, 80))
            ops.append((op, flags, market, account, order_id, price, qty))
        _step(fast, slow, "orders", ops)
        mark = int(np.clip(mark + rng.integers(-6, 7), 60, 150))
        for market in range(4):
            status = PriceStatus.STALE if rng.random() < 0.1 else PriceStatus.VALID
            _step(fast, slow, "price", (market, mark, mark + int(rng.integers(-2, 3)), status))
        _step(fast, slow, "end", int(rng.choice([1000, 30_000, HOUR_MS])))
        account, market, amount = int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.integers(1, 3000))
        commands = [
            SetIsolation(account, market, amount % 2),
            AddCollateral(account, market, amount),
            RemoveCollateral(account, market, amount),
            SetMarginMode(account, amount % 2),
        ]
        _step(fast, slow, "command", commands[int(rng.integers(0, 4))])
        _check_equal(fast, slow)
    assert int(fast.state.count["fills"]) > 100


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(st.lists(steps(), min_size=4, max_size=25), st.data())
def test_no_trade_changes_anybodys_equity_but_by_fees_and_distance_from_the_mark(course, data):
    """What a fill moves between two accounts at the mark price is nothing; away from it, one's gain is the
    other's loss: equities and the venue's income add up to what they were."""
    fast, _ = _twins(10**6)

    def total() -> int:
        core, state = fast.state.core(), fast.state
        isolated = state.positions.data[: state.used(state.positions)]
        own = sum(assess(core, account, 0, NO_CHANGE).equity for account in range(1, ACCOUNTS))
        assert not (isolated["flags"] & PositionFlag.ISOLATED).any()
        venue = int(state.balances.columns["available"][state.balance_row(0, 1)])
        return own + venue + int(state.pools.columns["fees_due"][0])

    for kind, what in course:
        if kind == "orders":
            # Spot orders set collateral aside: that is another law.
            before = total()
            fast.execute(make_ops(*[op for op in what if op[2] != 0] or [(Op.CANCEL, 0, 1, 1, 1, 0, 0)]))
            assert total() == before


def test_nobody_but_clearing_owns_its_balances():
    fast, _ = _twins(1000)
    assert (CLEARING_ACCOUNT, 1) not in {k for k in fast.balances() if k[0] < ACCOUNTS}
    assert fast.state.accounts.capacity_max <= CLEARING_ACCOUNT


@pytest.mark.parametrize("setting", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_interpreted_and_bounds_checked_kernels_agree_too(setting):
    """The same properties in a process whose kernels run as plain Python, or check every index."""
    if os.environ.get("NUMBA_DISABLE_JIT") or os.environ.get("NUMBA_BOUNDSCHECK"):
        pytest.skip("already inside such a process")
    env = {**os.environ, setting: "1", "KONTOR_EXAMPLES": "15"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
