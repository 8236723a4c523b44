"""Margin: tiers, scan ranges, offsets, collateral, isolated positions, scores, and what may leave."""

import pytest

from engine.accounts.plugin import AccountsPlugin
from engine.commands import Transfer, Withdraw
from engine.layout import AssetAlarm, MarginMode, PriceStatus
from engine.margin.account import (
    NO_CHANGE,
    UNKNOWN,
    account_equity,
    assess,
    assess_isolated,
    initial_margin,
    maintenance_margin,
)
from engine.margin.scores import ADDON_TIER_BPS, LOWERING_MS, margin_addon_bps
from engine.margin.tiers import compute_risk
from engine.perpetuals.commands import (
    AddCollateral,
    AttestScore,
    RegisterCollateral,
    RegisterScorer,
    RemoveCollateral,
    SetDefaultAddon,
    SetIsolation,
    SetMarginMode,
    SetMarginTier,
    SetPositionLimits,
)
from engine.records import Code
from tests.helpers.perpetual_floor import PerpetualFloor, contract
from tests.helpers.trading_floor import MarketTerms
from tests.unit.engine.perpetuals.test_trading import BUY, FREE, SELL, available, new, run, trade

MODEL = bytes(32)


@pytest.fixture
def floor():
    return PerpetualFloor(accounts=5, funds=100_000, contracts=(FREE,))


def found(floor, account):
    return tuple(map(int, assess(floor.state.core(), account, 0, NO_CHANGE)))


def leave(floor, command):
    """Withdraw or transfer, as the accounts plugin would."""
    handler = next(h for h in AccountsPlugin.handlers if h.command is type(command))
    code = handler.validate(floor.state, command, floor.context())
    if code == Code.OK:
        handler.apply(floor.state, command, floor.context())
    return code


def test_equity_follows_the_mark_price_and_margins_follow_the_size(floor):
    trade(floor, 2, 1, 100, 1000)
    assert found(floor, 2) == (100_000, 30_000, 15_000)
    floor.price(1, 104)
    assert found(floor, 2) == (112_000, 31_200, 15_600)
    assert found(floor, 1) == (88_000, 31_200, 15_600)
    core = floor.state.core()
    assert (account_equity(core, 1, 0), initial_margin(core, 1, 0)) == (88_000, 31_200)
    assert maintenance_margin(core, 1, 0) == 15_600
    floor.price(1, 0)
    assert found(floor, 1)[0] == UNKNOWN


def test_each_part_of_a_position_asks_for_its_own_tiers_rate(floor):
    assert floor.command(SetMarginTier(1, 1, 30_000, 200_000, 100_000)) == 0
    assert floor.command(SetMarginTier(1, 2, 60_000, 500_000, 400_000)) == 0
    market, core = floor.state.markets.rows[1], floor.state.core()
    assert compute_risk(core, market, 100) == (3000, 1500)
    assert compute_risk(core, market, 200) == (3000 + 6000, 1500 + 3000)
    assert compute_risk(core, market, 300) == (9000 + 15_000, 4500 + 12_000)
    assert floor.command(SetMarginTier(1, 0, 0, 100_000, 100_000)) == 0
    assert compute_risk(core, market, 200)[1] == 3000 + 3000


@pytest.mark.parametrize(
    "tier",
    [
        SetMarginTier(1, 2, 60_000, 500_000, 400_000),  # there is no tier 1
        SetMarginTier(1, 1, 0, 500_000, 400_000),
        SetMarginTier(1, 1, 30_000, 99_999, 50_000),  # asks for less than the one below
        SetMarginTier(1, 1, 30_000, 200_000, 200_001),
        SetMarginTier(1, 0, 5, 100_000, 50_000),
        SetMarginTier(1, 0, 0, 90_000, 50_000),  # below the collar
    ],
)
def test_tiers_that_make_no_sense_are_refused(floor, tier):
    assert floor.command(tier) == Code.BAD_ARGUMENT


def test_initial_margin_covers_the_scan_range(floor):
    trade(floor, 2, 1, 100, 1000)
    assert floor.command(SetPositionLimits(1, 5000, 20_000, 250_000, 100_000)) == 0
    assert found(floor, 2)[1:] == (75_000, 15_000)


def test_long_and_short_of_one_underlying_offset_in_portfolio_mode_only():
    pair = [contract(group=3, offset_ppm=ppm, maker_fee_e6=0, taker_fee_e6=0) for ppm in (900_000, 600_000)]
    floor = PerpetualFloor(accounts=5, funds=100_000, contracts=(*pair, FREE))
    trade(floor, 2, 1, 100, 1000, market=1)
    trade(floor, 1, 2, 100, 400, market=2)
    trade(floor, 1, 2, 100, 100, market=3)
    assert found(floor, 2)[1:] == (45_000, 22_500)
    assert floor.command(SetMarginMode(2, MarginMode.PORTFOLIO)) == 0
    # 60 % of twice the smaller side: 14,400 of initial, 7,200 of maintenance margin
    assert found(floor, 2)[1:] == (45_000 - 14_400, 22_500 - 7_200)
    run(floor, new(2, 77, BUY, 99, 100, market=2))  # a hedge that may go counts for what is sure to stay
    assert found(floor, 2)[1:] == (45_000 - 10_800, 22_500 - 7_200)


def test_nobody_goes_back_to_standard_mode_without_the_margin_for_it():
    pair = [contract(group=3, offset_ppm=900_000, maker_fee_e6=0, taker_fee_e6=0)] * 2
    floor = PerpetualFloor(accounts=3, funds=40_000, contracts=tuple(pair))
    assert floor.command(SetMarginMode(2, MarginMode.PORTFOLIO)) == 0
    trade(floor, 2, 1, 100, 800, market=1)
    assert floor.command(SetMarginMode(1, MarginMode.PORTFOLIO)) == 0
    for _ in range(4):
        trade(floor, 1, 2, 100, 200, market=2)
    assert floor.command(SetMarginMode(2, MarginMode.STANDARD)) == Code.MARGIN_TOO_LOW


def test_other_assets_back_positions_less_a_haircut_up_to_a_cap_while_their_price_is_valid(floor):
    assert floor.command(RegisterCollateral(0, 0, 200_000, 50_000)) == 0
    lots = 50_000 // 10  # of the spot market, at 100 ticks of 3
    assert found(floor, 1)[0] == 100_000 + lots * 300 * 8 // 10
    floor.price(0, 100, index=101)
    assert found(floor, 1)[0] == 100_000 + lots * 303 * 8 // 10
    floor.price(0, 100, index=101, status=PriceStatus.STALE)
    assert found(floor, 1)[0] == 100_000


def test_an_asset_that_lost_its_peg_counts_for_less(floor):
    assert floor.command(RegisterCollateral(0, 0, 0, 50_000)) == 0
    floor.state.assets.columns["peg_haircut_ppm"][0] = 500_000
    assert found(floor, 1)[0] == 1_600_000
    floor.state.assets.columns["alarms"][0] = AssetAlarm.DEPEGGED
    assert found(floor, 1)[0] == 850_000


def test_an_asset_backs_one_settlement_asset_and_settlement_assets_back_none(floor):
    assert floor.command(RegisterCollateral(1, 0, 0, 1)) == Code.BAD_ARGUMENT
    assert floor.command(RegisterCollateral(0, 1, 0, 1)) == Code.BAD_ARGUMENT
    assert floor.command(RegisterCollateral(0, 0, 0, 2**62)) == Code.BAD_ARGUMENT
    assert floor.command(RegisterCollateral(0, 0, 0, 1)) == 0
    assert floor.command(contract("OTHER", base_asset=1, quote_asset=0)) == Code.ASSET_BACKS_ANOTHER


def test_only_what_positions_do_not_need_may_leave(floor):
    assert floor.command(RegisterCollateral(0, 0, 0, 100)) == 0  # worth 3,000
    trade(floor, 2, 1, 100, 1000)
    assert leave(floor, Withdraw(2, 1, 73_001)) == Code.MARGIN_TOO_LOW
    assert leave(floor, Transfer(2, 3, 1, 73_000)) == 0
    assert leave(floor, Withdraw(2, 0, 99_901)) == Code.MARGIN_TOO_LOW
    assert leave(floor, Withdraw(2, 0, 99_900)) == 0
    assert leave(floor, Withdraw(3, 1, 173_000)) == 0


def test_unrealised_profit_backs_positions_but_only_cash_leaves(floor):
    trade(floor, 2, 1, 100, 1000)
    floor.price(1, 190)
    assert leave(floor, Withdraw(2, 1, 100_001)) == Code.INSUFFICIENT_FUNDS
    assert leave(floor, Withdraw(2, 1, 100_000)) == 0
    assert leave(floor, Withdraw(1, 1, 1)) == Code.MARGIN_TOO_LOW


def test_an_isolated_position_stakes_its_own_collateral_and_nothing_else(floor):
    assert floor.command(AddCollateral(2, 1, 100)) == Code.BAD_ARGUMENT
    assert floor.command(SetIsolation(2, 1, 1)) == 0
    assert run(floor, new(2, 1, BUY, 100, 1))[0] == [Code.MARGIN_TOO_LOW]
    assert floor.command(AddCollateral(2, 1, 3000)) == 0
    assert available(floor, 2) == 97_000
    trade(floor, 2, 1, 100, 100)
    assert run(floor, new(2, 2, BUY, 100, 1))[0] == [Code.MARGIN_TOO_LOW]
    assert found(floor, 2) == (97_000, 0, 0)
    row = floor.state.position_row(2, 1)
    assert assess_isolated(floor.state.core(), row, NO_CHANGE) == (3000, 3000, 1500)
    assert floor.command(SetIsolation(2, 1, 0)) == Code.POSITION_OPEN
    floor.price(1, 85)
    trade(floor, 1, 2, 85, 100)  # lost 4,500: its 3,000 are gone, the rest is a debt of the position
    assert floor.positions()[2, 1] == (0, 0, -1500, 0, 1)
    assert available(floor, 2) == 97_000
    assert floor.command(SetIsolation(2, 1, 0)) == 0  # the owner may take it over
    floor.end_block()
    assert available(floor, 2) == 95_500


def test_collateral_comes_back_as_far_as_the_position_does_not_need_it(floor):
    floor.command(SetIsolation(2, 1, 1))
    floor.command(AddCollateral(2, 1, 5000))
    trade(floor, 2, 1, 100, 100)
    assert floor.command(RemoveCollateral(2, 1, 2001)) == Code.MARGIN_TOO_LOW
    floor.price(1, 100, status=PriceStatus.UNCERTAIN)
    assert floor.command(RemoveCollateral(2, 1, 2000)) == Code.NO_MARK_PRICE
    floor.price(1, 100)
    assert floor.command(RemoveCollateral(2, 1, 2000)) == 0
    trade(floor, 1, 2, 100, 100)
    assert floor.command(SetIsolation(2, 1, 0)) == 0
    assert available(floor, 2) == 100_000


def test_a_score_raises_initial_margin_at_once_and_comes_down_a_tier_a_day(floor):
    trade(floor, 2, 1, 100, 1000)
    state = floor.state
    assert floor.command(AttestScore(2, 3000, 100, MODEL)) == Code.UNKNOWN_SCORER
    assert floor.command(RegisterScorer(bytes(32), 1)) == 0
    assert floor.command(AttestScore(2, 3000, 100, MODEL)) == 0
    assert found(floor, 2)[1:] == (39_000, 15_000)
    assert floor.command(AttestScore(2, 1000, 100, MODEL)) == 0
    assert found(floor, 2)[1] == 39_000
    for days, bps in ((1, 3000 - ADDON_TIER_BPS), (3, 3000 - 3 * ADDON_TIER_BPS), (40, 1000)):
        state.count["time_ms"] += days * LOWERING_MS - (0 if days == 1 else LOWERING_MS)
        assert floor.command(AttestScore(2, 1000, 100, MODEL)) == 0  # again: it puts nothing off
        assert margin_addon_bps(state.core(), 2) == bps
        state.count["time_ms"] += LOWERING_MS - 1
        if days == 1:
            assert margin_addon_bps(state.core(), 2) == bps
        state.count["time_ms"] -= LOWERING_MS - 1


def test_without_a_fresh_score_the_default_counts(floor):
    floor.command(RegisterScorer(bytes(32), 1))
    floor.command(AttestScore(2, 0, 5, MODEL))
    assert floor.command(SetDefaultAddon(700)) == 0
    core = floor.state.core()
    assert (margin_addon_bps(core, 1), margin_addon_bps(core, 2)) == (700, 0)
    floor.state.count["height"] = 6
    assert margin_addon_bps(core, 2) == 700
    assert floor.command(RegisterScorer(bytes(32), 0)) == 0
    assert floor.command(AttestScore(2, 0, 5, MODEL)) == Code.UNKNOWN_SCORER


def test_an_account_without_the_settlement_asset_trades_on_other_collateral():
    spot = (MarketTerms(price_max=200),)
    floor = PerpetualFloor(accounts=3, markets=spot, funds=0, contracts=(FREE,))
    for account in (1, 2):
        floor.deposit(account, 0, 1000)
    floor.command(RegisterCollateral(0, 0, 100_000, 1000))
    trade(floor, 1, 2, 100, 900)  # 1,000 units are worth 30,000, less a tenth
    assert run(floor, new(1, 9, BUY, 100, 1), new(2, 9, SELL, 100, 1))[0] == [Code.MARGIN_TOO_LOW] * 2
    floor.price(1, 110)
    trade(floor, 2, 1, 110, 900)
    assert floor.positions() == {(1, 1): (0, 0, 27_000, 0, 0), (2, 1): (0, 0, -27_000, 0, 0)}
    assert found(floor, 2) == (0, 0, 0)  # what it owes is what its collateral is worth
    assert leave(floor, Withdraw(2, 0, 10)) == Code.MARGIN_TOO_LOW
