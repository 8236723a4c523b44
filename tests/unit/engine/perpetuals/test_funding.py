"""Funding: premium over time, one payment an interval, rounding to the venue; the round of visits."""

import pytest

from engine.fixed_point import E6
from engine.layout import PriceStatus
from engine.perpetuals.audit import check_perpetuals
from engine.perpetuals.commands import SetFunding
from engine.perpetuals.funding import GAP_MS_MAX, PREMIUM_PPM_MAX, divide_towards_zero
from engine.perpetuals.sweep import VISITS_PER_BLOCK
from engine.records import Code, Kind, Op
from tests.helpers.perpetual_floor import HOUR_MS, PRICE, PerpetualFloor, contract
from tests.unit.engine.perpetuals.test_trading import BUY, FREE, SELL, available, new, run, trade


@pytest.fixture
def floor():
    return PerpetualFloor(accounts=5, funds=100_000, contracts=(FREE,))


def column(floor, name):
    return int(floor.state.perpetuals.columns[name][0])


def quote(floor, bid, ask):
    """A book that stands at these prices, of accounts that trade nothing else."""
    floor.price(1, bid, index=PRICE)
    codes, _ = run(floor, new(3, 1, BUY, bid, 1), new(4, 1, SELL, ask, 1))
    assert codes == [0, 0]


def rest_of_hour(floor, minutes=60):
    lines = []
    for _ in range(minutes):
        lines += floor.end_block(GAP_MS_MAX).tolist()
        check_perpetuals(floor.state)
    return [line for line in lines if line[0] == Kind.FUNDING]


def test_longs_pay_shorts_the_average_premium_within_the_cap(floor):
    trade(floor, 2, 1, 100, 1000)
    quote(floor, 100, 101)  # the middle is 0.5 % above the index; the cap is 0.5 %
    lines = rest_of_hour(floor)
    rate = lines[0][11]
    assert len(lines) == 1 and 4900 <= rate < 5000  # the first minute saw no book yet
    floor.end_block()  # the receiver was visited first, before there was cash
    paid = -(-1000 * 300 * rate // E6)
    assert available(floor, 2) == 100_000 - paid
    assert available(floor, 1) == 100_000 + 1000 * 300 * rate // E6
    quote_again = [(Op.CANCEL, 0, 1, 3, 1, 0, 0), (Op.CANCEL, 0, 1, 4, 1, 0, 0)]
    run(floor, *quote_again)
    quote(floor, 104, 106)
    rest_of_hour(floor, 1)
    assert rest_of_hour(floor)[0][11] == 5000


def test_below_the_index_shorts_pay_longs(floor):
    trade(floor, 2, 1, 100, 1000)
    quote(floor, 98, 99)
    assert rest_of_hour(floor)[0][11] == -5000
    assert (available(floor, 1), available(floor, 2)) == (98_500, 101_500)


def test_what_rounding_takes_is_the_venues(floor):
    for account in (2, 3, 4):
        trade(floor, account, 1, 100, 1)
    floor.price(1, 100, index=100)
    columns = floor.state.perpetuals.columns
    columns["premium_sum"][0], columns["premium_ms"][0] = 1111 * (GAP_MS_MAX + 10), 10
    floor.end_block(HOUR_MS)  # 0.3333 units a lot: each of three pays one, 1 gets none of its 0.9999
    assert [available(floor, account) for account in (0, 1, 2, 3, 4)] == [3, 100_000, 99_999, 99_999, 99_999]
    check_perpetuals(floor.state)
    assert (column(floor, "funding_residue"), column(floor, "funding_net")) == (0, 0)


def test_time_without_an_index_to_rely_on_does_not_count(floor):
    trade(floor, 2, 1, 100, 1000)
    quote(floor, 104, 106)
    floor.price(1, 104, index=100, status=PriceStatus.STALE)
    assert rest_of_hour(floor)[0][11] == 0
    assert column(floor, "premium_ms") == 0
    assert (available(floor, 1), available(floor, 2)) == (100_000, 100_000)


def test_no_sample_counts_for_more_than_the_gap_and_the_cap_of_a_sample(floor):
    floor.price(1, 10, index=10)
    run(floor, new(3, 1, BUY, 10, 1), new(4, 1, SELL, 200, 1))
    floor.end_block(1)
    assert column(floor, "premium_ppm") == PREMIUM_PPM_MAX
    floor.end_block(30 * GAP_MS_MAX)
    assert (column(floor, "premium_sum"), column(floor, "premium_ms")) == (
        PREMIUM_PPM_MAX * GAP_MS_MAX,
        GAP_MS_MAX + 1,
    )


def test_intervals_that_nobody_saw_are_not_made_up_for(floor):
    first = column(floor, "funding_next_ms")
    floor.end_block(5 * HOUR_MS + 1000)
    assert column(floor, "funding_next_ms") == first + 5 * HOUR_MS


def test_funding_waits_until_every_position_was_visited_for_the_last_one():
    accounts = VISITS_PER_BLOCK + 10
    floor = PerpetualFloor(accounts=accounts, funds=10_000, contracts=(FREE,))
    floor.deposit(1, 1, 10**6)
    for account in range(2, accounts):
        trade(floor, account, 1, 100, 1)
    quote(floor, 104, 106)
    floor.end_block(HOUR_MS)
    assert floor.state.count["sweep_next"] == VISITS_PER_BLOCK
    lines = floor.end_block(HOUR_MS)  # due again, but the round is not over
    assert Kind.FUNDING not in lines["kind"]
    assert Kind.FUNDING in floor.end_block(1)["kind"]
    check_perpetuals(floor.state)


def test_the_venue_sets_interval_and_cap(floor):
    assert floor.command(SetFunding(0, HOUR_MS, 1)) == Code.NOT_PERPETUAL
    before = column(floor, "funding_next_ms")
    assert floor.command(SetFunding(1, 2 * HOUR_MS, 1)) == 0
    assert column(floor, "funding_next_ms") == before
    assert floor.command(SetFunding(1, 5000, 1)) == 0
    assert column(floor, "funding_next_ms") == floor.state.count["time_ms"] + 5000


@pytest.mark.parametrize(("a", "b", "quotient"), [(7, 2, 3), (-7, 2, -3), (6, 3, 2), (-6, 3, -2), (0, 5, 0)])
def test_premiums_are_rounded_towards_zero(a, b, quotient):
    assert divide_towards_zero(a, b) == quotient


def test_a_contract_is_listed_within_exact_arithmetic(floor):
    good = contract("NEW")
    assert floor.command(good._replace(open_interest_max=2**31 - 1, price_max=2**22)) == Code.BAD_ARGUMENT
    for wrong in (
        {"position_max": 20_001},
        {"qty_max": 5001},
        {"maintenance_ppm": 100_001},
        {"collar_ppm": 100_001},
        {"base_asset": 1},
        {"base_per_lot": 2**61},
    ):
        assert floor.command(good._replace(**wrong)) == Code.BAD_ARGUMENT
    assert floor.command(good._replace(quote_asset=9)) == Code.UNKNOWN_ASSET
    assert floor.command(good) == 0
    assert floor.command(good) == Code.NAME_TAKEN
