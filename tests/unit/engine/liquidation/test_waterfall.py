"""Who is liquidated, in which order of stages, and that no stage makes or loses a unit."""

import pytest

from engine.accounts.funds import validate_withdraw
from engine.commands import Withdraw
from engine.invariants import check_all
from engine.layout import AssetAlarm, PriceStatus
from engine.liquidation.commands import RegisterBackstop, SetLiquidation
from engine.liquidation.plugin import LiquidationPlugin
from engine.liquidation.tables import Stage
from engine.liquidation.waterfall import UNITS_PER_BLOCK_MAX
from engine.margin.account import NO_CHANGE, assess
from engine.markets.states import MarketStatus
from engine.perpetuals.audit import check_perpetuals
from engine.perpetuals.commands import AddCollateral, SetIsolation
from engine.records import Code, Side
from tests.helpers.liquidation_floor import LiquidationFloor
from tests.helpers.perpetual_floor import contract

LOTS = 100  # at 100 ticks × 3: notional 30,000, initial margin 3,000, maintenance 1,500


@pytest.fixture
def floor():
    """Account 1 is rich and short against account 2; 3 is the fund; 4 and 5 stand by."""
    floor = LiquidationFloor(accounts=6, contracts=(contract(maker_fee_e6=0, taker_fee_e6=0),))
    floor.rule(SetLiquidation(1, 3, 10_000, 0, 0, 10**9, 0))
    floor.set_cash(2, 3000)
    floor.open(2, LOTS)
    return floor


def stages(lines):
    return [(Stage(line["op"]).name, int(line["counter_account"]), int(line["qty"])) for line in lines]


def check(floor, total):
    assert floor.total() == total
    check_perpetuals(floor.state)
    check_all(floor.state)


def equity(floor, account):
    return int(assess(floor.state.core(), account, 0, NO_CHANGE).equity)


def test_an_account_at_its_maintenance_margin_is_left_alone(floor):
    floor.price(1, 95)  # equity 1500, maintenance 1425
    assert not len(floor.liquidate())
    assert floor.position(2, 1)["qty"] == LOTS


def test_what_the_book_takes_brings_the_account_back_above_initial_margin_and_no_further(floor):
    floor.rest(4, Side.BUY, 94, 500)
    floor.price(1, 94)  # equity 1200, maintenance 1410
    total = floor.total()
    lines = floor.liquidate()
    assert stages(lines) == [("BOOK", 0, 58)]  # 42 lots ask for 1185, 43 for 1213
    assert int(lines["fee"][0]) == 58 * 94 * 3 * 10_000 // 10**6 + 1 == floor.cash(3) - 10**9
    assert floor.position(2, 1)["qty"] == 42
    check(floor, total)


def test_a_large_position_is_sold_in_parts_with_a_pause_between_them(floor):
    floor.rule(SetLiquidation(1, 3, 0, 20_000, 5000, 10**9, 0))
    floor.rest(4, Side.BUY, 94, 500)
    floor.price(1, 94)
    assert stages(floor.liquidate()) == [("BOOK", 0, 20)]
    floor.set_cash(2, floor.cash(2) - 150)  # below maintenance again
    assert stages(floor.liquidate()) == []
    assert stages(floor.liquidate(4000)) == [("BOOK", 0, 16)]


def test_a_sale_is_never_worse_than_the_fillable_price(floor):
    floor.rest(4, Side.BUY, 91, 500)  # the fillable price is 94 − 420 / 300 = 93
    floor.price(1, 94)
    assert stages(floor.liquidate()) == []
    assert floor.position(2, 1)["qty"] == LOTS


def test_when_the_book_gives_nothing_a_backstop_takes_the_part(floor):
    floor.rule(RegisterBackstop(5, 1, 40))
    floor.rule(RegisterBackstop(4, 1, 500))
    floor.price(1, 94)
    total = floor.total()
    assert stages(floor.liquidate()) == [("BACKSTOP", 5, 40), ("BACKSTOP", 4, 18)]
    assert floor.position(5, 1)["qty"] == 40
    check(floor, total)


def test_below_two_thirds_a_backstop_takes_all_at_the_bankruptcy_price(floor):
    floor.rest(4, Side.BUY, 92, 500)
    floor.rule(RegisterBackstop(5, 1, 500))
    floor.price(1, 92)  # equity 600, maintenance 1380
    total = floor.total()
    lines = floor.liquidate()
    assert stages(lines) == [("BACKSTOP", 5, LOTS)]
    assert int(lines["price"][0]) == 90
    assert equity(floor, 2) == 0
    check(floor, total)


def test_a_backstop_takes_no_more_than_its_margin_allows(floor):
    floor.set_cash(5, 1000)
    floor.rule(RegisterBackstop(5, 1, 500))
    floor.price(1, 92)
    lines = floor.liquidate()
    assert stages(lines) == [("BACKSTOP", 5, 25)]
    found = assess(floor.state.core(), 5, 0, NO_CHANGE)
    assert found.equity >= found.initial


def test_a_deficit_is_paid_by_the_fund_once_the_other_side_was_closed_at_the_mark_price(floor):
    floor.price(1, 85)  # equity −1500
    total, fund = floor.total(), floor.cash(3)
    lines = floor.liquidate()
    assert stages(lines) == [("DELEVERAGED", 1, LOTS), ("INSURANCE", 3, 1500)]
    assert int(lines["price"][0]) == 85
    assert floor.cash(3) == fund - 1500
    assert equity(floor, 2) == 0 and floor.position(1, 1)["qty"] == 0
    check(floor, total)


def test_without_a_fund_winners_give_up_profit_and_nothing_else(floor):
    floor.set_cash(3, 0)
    floor.price(1, 85)
    total = floor.total()
    lines = floor.liquidate()
    assert stages(lines) == [("DELEVERAGED", 1, LOTS)]
    assert int(lines["price"][0]) == 90
    assert equity(floor, 2) == 0
    check(floor, total)


def test_the_fund_pays_no_more_in_one_block_than_it_may(floor):
    floor.rule(SetLiquidation(1, 3, 0, 0, 0, 600, 0))
    floor.price(1, 85)
    lines = floor.liquidate()
    assert stages(lines) == [("DELEVERAGED", 1, LOTS), ("INSURANCE", 3, 600)]
    assert int(lines["price"][0]) == 88


def test_the_most_profitable_and_leveraged_of_the_other_side_is_closed_first():
    floor = LiquidationFloor(accounts=7, contracts=(contract(maker_fee_e6=0, taker_fee_e6=0),))
    for account, cash in ((2, 3000), (4, 3000), (5, 1000), (6, 3000)):
        floor.set_cash(account, cash)
    floor.open(2, 30, other=4)
    floor.open(2, 30, other=5)
    floor.open(2, 30, other=6)
    floor.price(1, 60)
    lines = floor.liquidate()
    assert [int(account) for account in lines["counter_account"]] == [5, 4, 6]  # 4 and 6 tie


def test_while_a_deficit_is_open_nothing_is_withdrawn_and_the_breakers_hear_of_it_once(floor):
    floor.rule(SetLiquidation(1, 3, 0, 0, 0, 0, 100))
    floor.state.markets.columns["grace_until_ms"][1] = 2**61  # nobody may be closed
    floor.price(1, 70)  # equity −6000
    assert stages(floor.liquidate()) == [("DEFICIT", 0, 6000)]
    assert int(floor.state.assets.columns["alarms"][1]) & AssetAlarm.DEFICIT
    assert validate_withdraw(floor.state, Withdraw(4, 1, 5), floor.context()) == Code.DEFICIT_OPEN
    floor.liquidate()
    assert floor.state.count["solvency_alarms"] == 1
    floor.price(1, 100)
    floor.liquidate()
    assert validate_withdraw(floor.state, Withdraw(4, 1, 5), floor.context()) == Code.OK
    assert floor.state.count["solvency_alarms"] == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("price_status", PriceStatus.STALE),
        ("price_status", PriceStatus.NONE),
        ("status", MarketStatus.HALTED),
        ("status", MarketStatus.AUCTION),
        ("grace_until_ms", 2**61),
        ("mark_price", 0),
    ],
)
def test_nobody_is_closed_without_a_price_a_market_or_after_a_call_for_margin(floor, column, value):
    floor.rule(RegisterBackstop(5, 1, 500))
    floor.price(1, 92)
    floor.state.markets.columns[column][1] = value
    assert not len(floor.liquidate())
    assert floor.position(2, 1)["qty"] == LOTS


def test_open_orders_are_cancelled_first_and_what_they_held_may_be_enough(floor):
    floor.set_cash(2, 3000 + 900)
    floor.rest(2, Side.BUY, 30, 10, market=0)  # holds 900 of the quote asset
    floor.price(1, 94)
    assert not len(floor.liquidate())
    assert floor.position(2, 1)["qty"] == LOTS
    assert int(floor.state.accounts.columns["open_orders"][2]) == 0
    assert floor.cash(2) == 3900


def test_an_isolated_position_is_closed_alone(floor):
    floor.set_cash(4, 10_000)
    assert floor.command(SetIsolation(4, 1, 1)) == Code.OK
    assert floor.command(AddCollateral(4, 1, 3000)) == Code.OK
    floor.open(4, LOTS)
    floor.set_cash(2, 10**6)
    floor.price(1, 85)
    total = floor.total()
    assert stages(floor.liquidate()) == [("DELEVERAGED", 1, LOTS), ("INSURANCE", 3, 1500)]
    assert floor.cash(4) == 7000
    check(floor, total)


def test_every_account_is_reached_over_several_blocks_in_order():
    count = UNITS_PER_BLOCK_MAX * 2 + 10
    floor = LiquidationFloor(accounts=count + 4, contracts=(contract(maker_fee_e6=0, taker_fee_e6=0),))
    floor.rule(SetLiquidation(1, 2, 0, 0, 0, 10**9, 0))
    floor.rule(RegisterBackstop(3, 1, 5000))
    for account in range(4, count + 4):
        floor.set_cash(account, 30)
        floor.open(account, 1)
    floor.price(1, 92)
    total, met = floor.total(), []
    for _ in range(4):
        met += floor.liquidate()["account"].tolist()
    assert met == list(range(4, count + 4))
    check(floor, total)


def test_only_the_venue_sets_rules_and_only_of_what_is_there(floor):
    nobody = floor.context()._replace(key=-1)
    assert floor.rule(SetLiquidation(0, 3, 0, 0, 0, 0, 0)) == Code.UNKNOWN_ASSET
    assert floor.rule(SetLiquidation(1, 99, 0, 0, 0, 0, 0)) == Code.UNKNOWN_ACCOUNT
    assert floor.rule(RegisterBackstop(99, 1, 5)) == Code.UNKNOWN_ACCOUNT
    assert floor.rule(RegisterBackstop(5, 0, 5)) == Code.NOT_PERPETUAL
    assert floor.rule(RegisterBackstop(5, 9, 5)) == Code.UNKNOWN_MARKET
    for handler, command in zip(
        LiquidationPlugin.handlers,
        (SetLiquidation(1, 3, 0, 0, 0, 0, 0), RegisterBackstop(5, 1, 5)),
        strict=True,
    ):
        assert handler.validate(floor.state, command, nobody) == Code.NOT_AUTHORISED
