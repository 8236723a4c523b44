"""Units: what people write becomes whole numbers of the ledger's units, exactly or not at all."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.client.errors import UnitError
from node.client.units import Listing, base_units, whole_amount
from node.views import AssetView, MarketView

BTC = AssetView(0, "BTC", 8, 0, 0, 0)
USD = AssetView(1, "USD", 2, 0, 0, 0)
# a lot is 0.0001 BTC, and one tick of a lot is 0.01 USD: a tick of a whole BTC is 100 USD
MARKET = MarketView(0, "BTC-USD", 0, 1, 10**4, 1, 10**6, 10**9, 0, 0, 0, 1, 0, 0, 0)
LISTING = Listing((BTC, USD), (MARKET,))


def test_prices_are_ticks_and_quantities_lots():
    assert LISTING.ticks(MARKET, "42000") == LISTING.ticks(MARKET, Decimal("42000.00")) == 420
    assert LISTING.lots(MARKET, "0.25") == 2500
    assert LISTING.price(MARKET, 420) == 42000
    assert LISTING.qty(MARKET, 2500) == Decimal("0.25")


@pytest.mark.parametrize("price", ["42050", "0.1", 1])
def test_a_price_between_ticks_is_refused_not_rounded(price):
    with pytest.raises(UnitError, match="not a multiple of the tick 100 of BTC-USD"):
        LISTING.ticks(MARKET, price)


def test_a_quantity_between_lots_is_refused_not_rounded():
    with pytest.raises(UnitError, match=r"not a multiple of the lot 0\.0001 of BTC-USD"):
        LISTING.lots(MARKET, "0.00005")


@pytest.mark.parametrize("value", [0.5, True, None, "ten", "", "nan", "inf", "1e", b"1", "0", "-1", -5])
def test_what_is_no_exact_positive_number_is_refused(value):
    with pytest.raises(UnitError):
        LISTING.lots(MARKET, value)


def test_amounts_are_base_units():
    assert base_units(USD, "1000.50") == 100050
    assert whole_amount(USD, 100050) == Decimal("1000.50")
    with pytest.raises(UnitError, match=r"not a multiple of the unit 0\.01 of USD"):
        base_units(USD, "0.001")


@given(st.integers(1, 10**6), st.integers(1, 10**9))
def test_units_written_out_are_read_back(ticks, lots):
    assert LISTING.ticks(MARKET, LISTING.price(MARKET, ticks)) == ticks
    assert LISTING.lots(MARKET, LISTING.qty(MARKET, lots)) == lots


def test_names_and_ids_find_what_is_listed_and_nothing_else():
    assert LISTING.market("BTC-USD") is LISTING.market(0) is MARKET
    assert LISTING.asset("USD") is LISTING.asset(1) is USD
    with pytest.raises(UnitError, match="no market 'X'; listed: BTC-USD"):
        LISTING.market("X")
    with pytest.raises(UnitError, match="no asset 7; listed: BTC, USD"):
        LISTING.asset(7)
