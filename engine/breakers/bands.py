"""The price band around the consensus price: a reference, and how far from it trades may happen.

    reference   mean of the last five one-minute prices
    sigma       1.483 × median of the absolute one-minute returns of the last hour: one wild minute, or one
                attacked, does not move it
    band        6 sigma of five minutes, within floor and cap: 6 × √5 × sigma = √(180 × sigma²)

The cap is essential. Sigma grows in a crash, and a band that grows with it never trips: on LUNA's fall of May
2022 an uncapped one let everything through.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import isqrt

REFERENCE_MINUTES = 5
_PPM = 1_000_000
_SIX_SIGMA_OF_FIVE_MINUTES_SQUARED = 36 * 5


def compute_reference(prices: Sequence[int]) -> int:
    """Mean of the last REFERENCE_MINUTES of one-minute prices, oldest first, rounded down; at least one."""
    last = prices[-REFERENCE_MINUTES:]
    return sum(last) // len(last)


def compute_sigma_ppm(prices: Sequence[int]) -> int:
    """Robust deviation of the returns between positive one-minute prices; 0 where there are no two."""
    returns = sorted(abs(after - before) * _PPM // before for before, after in pairwise(prices))
    return 1483 * returns[(len(returns) - 1) // 2] // 1000 if returns else 0


def compute_band_ppm(sigma_ppm: int, floor_ppm: int, cap_ppm: int) -> int:
    """Half the width of the band, rounded down."""
    return min(max(isqrt(_SIX_SIGMA_OF_FIVE_MINUTES_SQUARED * sigma_ppm**2), floor_ppm), cap_ppm)


def compute_half_width(reference: int, band_ppm: int) -> int:
    """Ticks from the reference to either end of the band, rounded down, one at least."""
    return max(reference * band_ppm // _PPM, 1)


def compute_band(reference: int, band_ppm: int, price_max: int) -> tuple[int, int]:
    """(lowest, highest) ticks at which trades may happen, within 1..price_max."""
    half = compute_half_width(reference, band_ppm)
    return max(reference - half, 1), min(reference + half, price_max)
