"""Fees against their slow twins: rates and rebates in trades, then what follows at the block's end."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.commands import Deposit, ListMarket, OpenAccount, RegisterAsset
from engine.fees.commands import (
    ChooseFeeAsset,
    SetFeeAsset,
    SetFeeRates,
    SetFeeTier,
    SetMarketSchedule,
    SetReferralShare,
    SetReferrer,
)
from engine.fees.tables import DAY_MS
from engine.invariants import check_all
from engine.layout import PriceStatus
from engine.records import FeeLine, Kind, Op
from tests.helpers.slow_book import SlowVenue
from tests.helpers.slow_fees import SlowFees
from tests.helpers.trading_floor import Floor, MarketTerms, make_ops
from tests.helpers.venue import START_MS, Venue, new, signer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = int(os.environ.get("KONTOR_EXAMPLES", "100"))
MARKETS = (
    MarketTerms(price_max=70, base_per_lot=1),
    MarketTerms(base_asset=1, quote_asset=2, base_per_lot=7, quote_per_lot_tick=1_000_003, price_max=70),
)
RATES = ((-900, 100_000), (0, 900), (1000, 900), (-1, 5000), (100_000, 77_777))


@st.composite
def trades(draw):
    """Orders of three accounts around one price."""
    return (
        Op.NEW,
        draw(st.integers(0, 1)) | draw(st.sampled_from([0, 0, 1])) << 1 | draw(st.integers(0, 3)) << 4,
        draw(st.integers(0, 1)),
        draw(st.integers(1, 3)),
        draw(st.integers(0, 40)),
        draw(st.integers(55, 65)),
        draw(st.integers(1, 300)),
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(st.lists(trades(), min_size=1, max_size=30), min_size=1, max_size=3),
    st.lists(st.integers(0, len(RATES) - 1), min_size=4, max_size=4),
)
def test_rates_by_tier_and_rebates_agree_with_the_slow_book(blocks, tiers):
    floor = Floor(accounts=4, markets=MARKETS, funds=10**10)
    slow = SlowVenue(4, MARKETS, {(a, x): 10**10 for a in range(1, 4) for x in range(3)})
    floor.set_schedule(1, 2, list(RATES))
    slow.schedules[1] = list(RATES)
    for account, tier in enumerate(tiers):
        floor.set_tier(account, tier)
        slow.tiers[account] = tier
    for ops in blocks:
        results, events = floor.execute(make_ops(*ops))
        slow_results, slow_events = slow.execute(ops)
        assert [tuple(map(int, line)) for line in results.tolist()] == [
            tuple(map(int, line)) for line in slow_results
        ]
        assert [tuple(map(int, line)) for line in events.tolist()] == [
            tuple(map(int, line)) for line in slow_events
        ]
        assert floor.balances() == slow.balances()
        check_all(floor.state)


class Twins:
    """A venue with a coin (0) quoted in money (1), and a token (2) quoted in money, beside its slow twin."""

    def __init__(self) -> None:
        self.venue = Venue()
        self.told: set[int] = set()
        self.keys = [signer(f"payer {number}") for number in range(1, 5)]
        self.venue.commands(
            *[RegisterAsset(name, 2, 0) for name in ("COIN", "MONEY", "TOKEN")],
            ListMarket("COIN/MONEY", 0, 1, 10, 3, 200, 10**6, 0, 0, 0),
            ListMarket("TOKEN/MONEY", 2, 1, 7, 2, 200, 10**6, 0, 0, 0),
            *[OpenAccount(key.public_key) for key in self.keys],
            *[Deposit(account, asset, 10**6) for account in range(1, 5) for asset in (0, 1)],
            Deposit(2, 2, 40),
            SetFeeRates(1, 0, 200, 5000),
            SetFeeRates(1, 1, -400, 2000),
            SetFeeRates(1, 2, -400, 1000),
            SetFeeTier(1, 1000),
            SetFeeTier(2, 5000),
            SetMarketSchedule(0, 1, 7),
            SetFeeAsset(0, 1, 250_000),
            SetReferralShare(300_000),
        )
        self.venue.commands(ChooseFeeAsset(2, 1), by=self.keys[1], account=2)
        self.venue.commands(SetReferrer(2, 4), by=self.keys[1], account=2)
        self.venue.commands(SetReferrer(1, 3), by=self.keys[0], account=1)
        assert self.venue.block().counts.rejected == 0
        self.slow = SlowFees(
            {},
            [
                SimpleNamespace(base=0, quote=1, base_per_lot=10, quote_per_lot_tick=3, per_unit=7, index=0),
                SimpleNamespace(base=2, quote=1, base_per_lot=7, quote_per_lot_tick=2, per_unit=1, index=0),
            ],
            {1: 1000, 2: 5000},
            [(1, 250_000)],
            300_000,
            {2: 0},
            {1: 3, 2: 4},
        )

    def set_index(self, market: int, price: int) -> None:
        """0: the price cannot be relied on."""
        columns = self.venue.machine.state.markets.columns
        columns["index_price"][market] = price or 50
        columns["price_status"][market] = PriceStatus.VALID if price else PriceStatus.STALE
        self.slow.markets[market].index = price

    def block(self, orders: list, day: int) -> None:
        """One block of orders of every account, on both."""
        for account in range(1, 5):
            own = [order for order in orders if order[3] == account]
            if own:
                self.venue.orders(self.keys[account - 1], account, own)
        state = self.venue.machine.state
        journal = self.venue.block(time_ms=START_MS // DAY_MS * DAY_MS + day * DAY_MS).journal
        told = journal[journal["kind"] == Kind.FEE]
        names = ("op", "market", "account", "counter_account", "qty", "fee", "detail")
        lines = list(zip(*(told[name].tolist() for name in names), strict=True))
        # Available amounts as they were between the trades and what followed: undo what the lines say.
        after = self.available()
        before = dict(after)
        for op, asset, account, _, qty, fee, detail in reversed(lines):
            if op == FeeLine.CONVERTED:
                _move(before, 0, account, asset, qty)
                _move(before, account, 0, detail, fee)
            else:
                _move(before, account, 0, asset, qty)
        self.slow.balances = before
        fills = [
            SimpleNamespace(**dict(zip(journal.dtype.names, row, strict=True))) for row in journal.tolist()
        ]
        today = START_MS // DAY_MS + day
        assert self.slow.account(fills, today) == lines
        assert {key: value for key, value in self.slow.balances.items() if value} == after
        tiers = state.accounts.columns["fee_tier"][:5].tolist()
        assert tiers == [self.slow.tier(account, today) for account in range(5)]
        self.venue.machine.check_conservation()
        self.told |= {line[0] for line in lines}

    def available(self) -> dict[tuple[int, int], int]:
        """By (account, asset), without zeros."""
        data = self.venue.machine.state.balances.data[: self.venue.machine.state.count["balances"]]
        rows = zip(*(data[name].tolist() for name in ("account", "asset", "available")), strict=True)
        return {(account, asset): free for account, asset, free in rows if free}


def _move(balances: dict, source: int, target: int, asset: int, amount: int) -> None:
    balances[source, asset] = balances.get((source, asset), 0) - amount
    balances[target, asset] = balances.get((target, asset), 0) + amount


@pytest.mark.parametrize("seed", range(6))
def test_volumes_tiers_conversions_and_referrals_agree_with_the_slow_twin(seed):
    """Days pass, one by one or many at once, prices come and go, and the token runs out."""
    rng = np.random.default_rng(seed)
    twins, day, seen = Twins(), 1, set()
    for block in range(25):
        day += int(rng.choice([0, 0, 1, 2, 11, 40]))
        for market in (0, 1):
            twins.set_index(market, int(rng.choice([0, 40, 55, 90])))
        orders = [
            new(
                0,
                int(rng.integers(1, 5)),
                100 * block + number,
                int(rng.integers(0, 2)),
                int(rng.integers(48, 54)),
                int(rng.integers(1, 60)),
                stp=1,
            )
            for number in range(12)
        ]
        if block % 8 == 7:
            twins.venue.commands(Deposit(2, 2, 30))
        twins.block(orders, day)
        seen |= set(twins.venue.machine.state.accounts.columns["fee_tier"][:5].tolist())
    assert seen == {0, 1, 2}
    assert twins.told == {FeeLine.CONVERTED, FeeLine.REFERRAL}


@pytest.mark.parametrize("setting", ["NUMBA_DISABLE_JIT"])
def test_interpreted_kernels_agree_too(setting):
    if os.environ.get(setting):
        pytest.skip("already inside such a process")
    env = {**os.environ, setting: "1", "KONTOR_EXAMPLES": "15"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
