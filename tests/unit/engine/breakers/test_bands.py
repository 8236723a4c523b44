"""Reference, sigma, band: plain arithmetic."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.breakers.bands import (
    compute_band,
    compute_band_ppm,
    compute_half_width,
    compute_reference,
    compute_sigma_ppm,
)

PRICES = st.lists(st.integers(1, 2**26), min_size=1, max_size=61)


def test_the_reference_is_the_mean_of_the_last_five_prices_rounded_down():
    assert compute_reference([1000, 1, 2, 3, 4, 6]) == 3
    assert compute_reference([7]) == 7


def test_one_wild_minute_does_not_move_sigma():
    calm = [1000, 1001] * 15
    assert compute_sigma_ppm([*calm, 5000, 1000]) == compute_sigma_ppm(calm) == 1483


def test_without_two_prices_there_is_no_sigma():
    assert compute_sigma_ppm([5]) == 0


@pytest.mark.parametrize(
    ("sigma", "band"), [(0, 50_000), (3_726, 50_000), (3_727, 50_002), (11_180, 149_995), (10**6, 150_000)]
)
def test_the_band_is_six_sigma_of_five_minutes_between_floor_and_cap(sigma, band):
    assert compute_band_ppm(sigma, 50_000, 150_000) == band


def test_a_band_stays_inside_the_book_and_is_a_tick_wide_at_least():
    assert compute_band(1000, 50_000, 10_000) == (950, 1050)
    assert compute_band(1, 50_000, 10) == (1, 2)
    assert compute_band(10, 150_000, 10) == (9, 10)
    assert compute_half_width(19, 50_000) == 1


@given(PRICES)
def test_sigma_agrees_with_floats_within_three_millionths_of_rounding(prices):
    """Each return is rounded down by less than 1 ppm, the product by less than 1 more."""
    floats = np.array(prices, dtype=float)
    returns = np.sort(np.abs(np.diff(floats) / floats[:-1]))
    expected = 1.483e6 * returns[(returns.shape[0] - 1) // 2] if returns.shape[0] else 0.0
    assert expected - 3 <= compute_sigma_ppm(prices) <= expected + 1e-6 * expected + 1e-3


@given(st.integers(0, 10**9), st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_band_agrees_with_floats(sigma, low, high):
    floor, cap = min(low, high), max(low, high)
    expected = min(max(6 * sigma * sqrt(5), floor), cap)
    assert expected - 1 <= compute_band_ppm(sigma, floor, cap) <= expected + 1e-9 * expected
