"""A market's breaker, and an asset's bucket of outflow, against their slow twins."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.breakers import outflows
from engine.breakers.commands import SetBreaker, SetOutflowLimit
from engine.breakers.plugin import BreakersPlugin
from engine.breakers.switches import apply_set_breaker
from engine.breakers.tables import BreakerState
from engine.events import Events
from engine.genesis import Capacity, Genesis
from engine.layout import PriceStatus
from engine.markets.states import MarketStatus
from engine.plugin import Context
from engine.plugins import new_state
from engine.records import HaltLine, Kind
from tests.helpers.slow_breaker import LENGTHS, SlowBreaker
from tests.helpers.venue import START_MS

GENESIS = Genesis(bytes(32), (bytes(32),), Capacity(levels=1 << 20))
RULES = SetBreaker(0, 1, 50_000, 150_000, 15_000, 3_600_000, 1000, 1000)
PRICE_MAX = 20_000


class Market:
    """A state with one market, whose prices are written by hand; what would open it again opens it."""

    def __init__(self, rules: SetBreaker) -> None:
        self.state = new_state(GENESIS)
        self.state.add_market("M", PRICE_MAX + 1)
        self.plugin = BreakersPlugin(GENESIS)
        self.halts: list[tuple[int, int, int]] = []
        self._set("status", MarketStatus.OPEN)
        self.call_ends = 0
        apply_set_breaker(self.state, rules, self._context(START_MS))

    def block(self, now: int, price: int, status: PriceStatus, liquidated: int) -> None:
        """End a block at `now`."""
        for name, value in (("index_price", price), ("price_status", status), ("liquidated", liquidated)):
            self._set(name, value)
        context = self._context(now)
        self.plugin.on_block_end(self.state, context)
        self.plugin.check_invariants(self.state)
        for line in context.events.lines[context.events.lines["kind"] == Kind.HALT]:
            if line["op"] == HaltLine.HALTED:
                self.halts.append((now, int(line["flags"]), int(line["qty"]) - now))

    def reopen(self, now: int) -> None:
        """What auctions do at the end of the same block: a call of a minute."""
        if self.get("status") == MarketStatus.HALTED and 0 < self.get("reopen_ms") <= now:
            self._set("status", MarketStatus.AUCTION)
            self._set("reopen_ms", 0)
            self.call_ends = now + 60_000
        elif self.get("status") == MarketStatus.AUCTION and now >= self.call_ends:
            self._set("status", MarketStatus.OPEN)

    def get(self, name: str) -> int:
        """A column of the market."""
        return int(self.state.markets.columns[name][0])

    def breaker(self, name: str) -> int:
        """A column of its breaker."""
        return int(self.state.table("breakers").columns[name][0])

    def _set(self, name: str, value: int) -> None:
        self.state.markets.columns[name][0] = value

    def _context(self, now: int) -> Context:
        return Context(0, now, 1, Events())


def twins(rules: SetBreaker) -> tuple[Market, SlowBreaker]:
    """The same rules twice."""
    slow = SlowBreaker(rules.floor_ppm, rules.cap_ppm, rules.limit_ms, rules.quiet_ms, rules.liquidation_max)
    return Market(rules), slow


def check_block(fast: Market, slow: SlowBreaker, now: int, price: int, status: int, liquidated: int) -> None:
    """One block on both, and everything that others could see of it."""
    is_trading = fast.get("status") == MarketStatus.OPEN
    fast.block(now, price, PriceStatus(status), liquidated)
    slow.block(now, price, PriceStatus(status), liquidated, is_trading)
    expected = BreakerState.NORMAL if slow.limit_since is None else BreakerState.LIMIT
    if slow.halted_until is not None:
        expected = BreakerState.HALTED
    elif slow.reopening:
        expected = BreakerState.REOPENING
    assert fast.breaker("state") == expected
    assert (fast.breaker("level"), fast.breaker("reference")) == (slow.level, slow.reference)
    assert (fast.breaker("pressure"), fast.get("halt_reason")) == (slow.pressure, slow.reason)
    assert fast.halts == slow.halts
    if slow.reference:
        band = (max(slow.reference - slow.half, 1), min(slow.reference + slow.half, PRICE_MAX))
        assert (fast.get("band_low"), fast.get("band_high")) == band
    fast.reopen(now)
    assert (fast.get("status") == MarketStatus.HALTED) == (slow.halted_until is not None)


@pytest.mark.parametrize("seed", range(6))
def test_a_wild_market_is_halted_and_reopened_as_the_twin_says(seed):
    rng = random.Random(seed)
    fast, slow = twins(RULES._replace(quiet_ms=1_200_000))
    now, price = START_MS, 1000
    for _ in range(4000):
        now += rng.choice((1000, 5000, 15_000, 60_000, 60_000, 300_000))
        step = rng.choice((0, 1, 2, 5, rng.choice((0, 0, 60, 200))))
        price = min(max(price * (1000 + rng.choice((-1, 1)) * step) // 1000, 1), PRICE_MAX)
        status = rng.choice([PriceStatus.VALID] * 150 + list(PriceStatus)[:5] * 2)
        check_block(fast, slow, now, price, status, rng.choice([0] * 100 + [100, 500, 1001]))
    reasons, lengths = [halt[1] for halt in slow.halts], [halt[2] for halt in slow.halts]
    assert len(set(reasons)) == 3
    assert lengths.count(LENGTHS[0]) > 5
    assert LENGTHS[3] in lengths


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.sampled_from([0, 15_000]),
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 14_999, 15_000, 60_000, 299_999, 300_000, 4_000_000]),
            st.one_of(st.integers(900, 1100), st.sampled_from([1, 2, PRICE_MAX])),
            st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5]),
            st.sampled_from([0, 0, 999, 1000, 1001, 2**62 - 1]),
        ),
        max_size=40,
    ),
)
def test_any_prices_lead_where_the_twin_says(low, high, limit_ms, blocks):
    rules = RULES._replace(floor_ppm=min(low, high), cap_ppm=max(low, high), limit_ms=limit_ms)
    fast, slow = twins(rules)
    now = START_MS
    for passed_ms, price, status, liquidated in blocks:
        now += passed_ms
        check_block(fast, slow, now, price, status, liquidated)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([300, 301, 1000]),
    st.sampled_from([0, 0, 10, 10**6]),
    st.sampled_from([0, 333_333, 10**6]),
    st.lists(
        st.tuples(
            st.sampled_from([1, 999, 1000, 60_000, 300_000, 1_000_000, 3_600_000]),
            st.sampled_from([0, 100, 300]),
            st.booleans(),
        ),
        max_size=60,
    ),
)
def test_what_leaves_is_bounded_by_cap_refill_and_old_deposits(cap, refill, share, moves):
    """Tokens never exceed the cap, and all that left is at most the cap, the refill for the time that
    passed, and the share of deposits older than an hour."""
    state = new_state(GENESIS)
    state.add_asset("A", 0, 0)
    columns = state.assets.columns
    outflows.apply_set_outflow_limit(
        state, SetOutflowLimit(0, cap, refill, share), Context(0, START_MS, 1, Events())
    )
    now, left, deposits = START_MS, 0, []
    for passed_ms, amount, is_deposit in moves:
        now += passed_ms
        if is_deposit:
            columns["deposited"][0] += amount
            deposits.append((now, amount))
        elif amount <= columns["outflow_left"][0]:
            columns["outflow_left"][0] -= amount
            left += amount
        outflows.refill(state, Context(0, now, 2, Events()))
        assert 0 <= columns["outflow_left"][0] <= cap
        old = sum(amount for when, amount in deposits if when <= now - outflows.AGE_MS)
        assert left * 10**6 <= (cap + refill * (now - START_MS) // 3_600_000) * 10**6 + share * old
