"""Fees and bounds against exact Python integers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.fixed_point import fee_rounded_up, product_fits
from engine.records import AMOUNT_MAX

AMOUNTS = st.one_of(
    st.integers(0, AMOUNT_MAX), st.integers(0, 3 * 10**6), st.integers(AMOUNT_MAX - 9, AMOUNT_MAX)
)


@settings(deadline=None)
@given(AMOUNTS, st.integers(0, 10**6))
def test_fee_is_exact_and_rounded_up(amount, rate_e6):
    fee = fee_rounded_up(amount, rate_e6)
    assert fee == -(-amount * rate_e6 // 10**6)
    assert 0 <= fee <= amount


@settings(deadline=None)
@given(st.one_of(st.integers(1, AMOUNT_MAX), st.integers(1, 2**32)), AMOUNTS)
def test_product_fits_says_whether_the_exact_product_is_within_bounds(a, b):
    assert product_fits(a, b) == (a * b <= AMOUNT_MAX)


def test_products_next_to_the_bound():
    assert product_fits(AMOUNT_MAX, 1)
    assert product_fits(1, AMOUNT_MAX)
    assert not product_fits(2**31, 2**31)
    assert product_fits(2**31, 2**31 - 1)
