"""Fee schedules: who may set what, what is refused, and the edges of tiers."""

import pytest

from engine.fees.accounting import _convert
from engine.fees.commands import (
    ChooseFeeAsset,
    SetFeeAsset,
    SetFeeRates,
    SetFeeTier,
    SetMarketSchedule,
    SetReferralShare,
    SetReferrer,
)
from engine.fees.tables import DAY_MS, SWEEP_ROWS_MAX
from engine.layout import FEE_TIERS, PriceStatus
from engine.records import AMOUNT_MAX, Code, Kind, Side
from tests.helpers.venue import START_MS, Venue, new

FIRST_DAY = START_MS // DAY_MS * DAY_MS


@pytest.fixture
def venue():
    made = Venue()
    made.keys = made.open_market(traders=3)
    return made


def run(venue, *commands, by=None, account=0):
    """Codes of commands, in a block of their own."""
    venue.commands(*commands, by=by, account=account)
    journal = venue.block().journal
    return journal["code"][journal["kind"] == Kind.COMMAND].tolist()


def trade(venue, price=100, qty=10, day=0):
    """Account 1 sells to account 2, who takes; returns the FILL line."""
    number = venue.machine.height
    venue.orders(venue.keys[0], 1, [new(0, 1, number, Side.SELL, price, qty)])
    venue.orders(venue.keys[1], 2, [new(0, 2, number, Side.BUY, price, qty)])
    journal = venue.block(time_ms=FIRST_DAY + day * DAY_MS).journal
    venue.machine.check_conservation()
    return journal[journal["kind"] == Kind.FILL][0]


def tier(venue, account):
    return int(venue.machine.state.accounts.columns["fee_tier"][account])


def test_only_the_venue_sets_rates_tiers_schedules_assets_and_shares(venue):
    commands = (
        SetFeeRates(1, 0, 0, 1000),
        SetFeeTier(1, 100),
        SetMarketSchedule(0, 0, 1),
        SetFeeAsset(0, 0, 1),
        SetReferralShare(1),
    )
    assert run(venue, *commands, by=venue.keys[0], account=1) == [Code.NOT_AUTHORISED] * 5


def test_a_rebate_above_any_takers_fee_of_its_schedule_is_refused(venue):
    assert run(venue, SetFeeRates(1, 0, -1, 0)) == [Code.REBATE_TOO_HIGH]
    assert run(venue, SetFeeRates(1, 0, -500, 500), SetFeeRates(1, 3, -501, 900)) == [0, Code.REBATE_TOO_HIGH]
    assert run(venue, SetFeeRates(1, 3, 0, 499)) == [Code.REBATE_TOO_HIGH]
    assert run(venue, SetFeeRates(2, 0, 0, 499)) == [0]


def test_names_that_do_not_exist_are_refused(venue):
    assert run(venue, SetMarketSchedule(9, 0, 1)) == [Code.UNKNOWN_MARKET]
    assert run(venue, SetMarketSchedule(0, 5, 1)) == [Code.UNKNOWN_SCHEDULE]
    assert run(venue, SetFeeAsset(0, 9, 1)) == [Code.UNKNOWN_MARKET]
    own = {"by": venue.keys[0], "account": 1}
    assert run(venue, ChooseFeeAsset(1, 1), **own) == [Code.UNKNOWN_FEE_ASSET]
    assert run(venue, ChooseFeeAsset(99, 0), **own) == [Code.UNKNOWN_ACCOUNT]
    assert run(venue, ChooseFeeAsset(2, 0), **own) == [Code.NOT_AUTHORISED]
    assert run(venue, SetReferrer(1, 99), **own) == [Code.UNKNOWN_ACCOUNT]


def test_a_referrer_is_another_account_and_named_once(venue):
    own = {"by": venue.keys[0], "account": 1}
    assert run(venue, SetReferrer(1, 1), **own) == [Code.BAD_ARGUMENT]
    assert run(venue, SetReferrer(1, 2), **own) == [0]
    assert run(venue, SetReferrer(1, 3), **own) == [Code.NOTHING_TO_DO]


def test_a_market_without_a_schedule_keeps_its_own_fees(venue):
    before = trade(venue)
    run(venue, SetFeeRates(1, 0, 0, 100_000), SetFeeTier(1, 1))
    after = trade(venue)
    assert (int(before["fee"]), int(before["detail"])) == (int(after["fee"]), int(after["detail"])) == (1, 1)
    assert tier(venue, 1) == 0


def test_a_rebate_is_the_takers_and_what_is_left_is_the_venues(venue):
    run(venue, SetFeeRates(1, 0, -30_000, 50_000), SetMarketSchedule(0, 1, 1))
    before = venue.machine.state.balances.columns["available"].copy()
    fill = trade(venue, qty=11)  # the taker gets 110 of asset 0
    assert (int(fill["fee"]), int(fill["detail"])) == (6, -3)
    state = venue.machine.state
    change = {
        (account, asset): int(state.balances.columns["available"][row] - before[row])
        for account in range(3)
        for asset in range(2)
        for row in [state.balance_row(account, asset)]
    }
    assert change == {(0, 0): 3, (0, 1): 0, (1, 0): -107, (1, 1): 1100, (2, 0): 104, (2, 1): -1100}


def test_volume_counts_for_thirty_days_and_from_the_next_block_on(venue):
    run(
        venue,
        SetFeeRates(1, 0, 0, 50_000),
        SetFeeRates(1, 1, 0, 10_000),
        SetFeeTier(1, 1000),
        SetMarketSchedule(0, 1, 1),
    )
    assert trade(venue)["fee"] == 5  # 1000 units, which make tier 1
    assert tier(venue, 1) == tier(venue, 2) == 1
    assert trade(venue, qty=1, day=29)["fee"] == 1
    assert tier(venue, 2) == 1
    venue.block(time_ms=FIRST_DAY + 30 * DAY_MS)
    assert tier(venue, 1) == tier(venue, 2) == 0


def test_a_unit_of_volume_is_what_the_market_says_rounded_down_for_each_trade(venue):
    run(venue, SetFeeRates(1, 0, 0, 0), SetFeeTier(1, 3), SetMarketSchedule(0, 1, 400))
    trade(venue)
    assert tier(venue, 1) == 0
    trade(venue, qty=4)
    assert tier(venue, 1) == 1


def test_the_highest_tier_that_fits_counts_and_one_without_a_volume_is_nobodys(venue):
    run(venue, SetFeeRates(1, 0, 0, 0), SetMarketSchedule(0, 1, 1))
    run(venue, SetFeeTier(1, 10), SetFeeTier(3, 1000), SetFeeTier(FEE_TIERS - 1, 1001))
    trade(venue)
    assert tier(venue, 1) == 3
    run(venue, SetFeeTier(3, 0))
    venue.block()
    assert tier(venue, 1) == 1


def test_a_sweep_looks_at_so_many_accounts_a_block():
    venue = Venue()
    venue.keys = venue.open_market(traders=2)
    run(venue, SetFeeRates(1, 0, 0, 0), SetFeeTier(1, 10), SetMarketSchedule(0, 1, 1))
    trade(venue)
    assert SWEEP_ROWS_MAX == 4096
    settings = venue.machine.state.table("fee_settings").columns
    settings["sweep_next"][0] = 2  # as if the sweep had come that far
    run(venue, SetFeeTier(1, 10**6))
    assert settings["sweep_next"][0] == venue.machine.state.count["accounts"]
    assert tier(venue, 1) == tier(venue, 2) == 0


def test_a_fee_that_no_product_can_convert_is_taken_as_it_comes(venue):
    state = venue.machine.state
    state.markets.columns["index_price"][0] = 10_000
    state.markets.columns["price_status"][0] = PriceStatus.VALID
    market = state.core().markets.rows[0]
    largest = AMOUNT_MAX // 10_000  # fee × index × quote_per_lot_tick
    assert _convert(market, True, largest, market, 0) == -(-(largest * 10_000 // 10) * 10 // 10_000)
    assert _convert(market, True, largest + 1, market, 0) == 0
    assert _convert(market, False, AMOUNT_MAX // 10, market, 0) == -(-AMOUNT_MAX // 10 * 10 // 10_000)
    assert _convert(market, False, AMOUNT_MAX // 10 + 1, market, 0) == 0
    assert _convert(market, False, 1, market, 900_000) == 1
    state.markets.columns["price_status"][0] = PriceStatus.STALE
    assert _convert(market, False, 1, market, 0) == 0
