"""Integer arithmetic of money: bounds and named roundings.

Every amount, notional and supply is an int64 in 0..AMOUNT_MAX = 2^62 − 1, so a sum of two never
wraps. A product is bounded before it is made: `product_fits(a, b)`, then `a * b`.
"""

from engine.compiled import inlined, shared
from engine.records import AMOUNT_MAX

E6 = 1_000_000  # rates are millionths
BPS_ONE = 10_000
LOTS_MAX = 2**31 - 1  # of one position, and of a perpetual market's open interest: shares of it fit 2^62
NOTIONAL_MAX = 2**54  # quote units of a perpetual market's open interest at its highest price
_SAFE_FACTOR = 1 << 31


@shared
def product_fits(a: int, b: int) -> bool:
    """Whether a × b ≤ AMOUNT_MAX, for a in 1..AMOUNT_MAX and b in 0..AMOUNT_MAX."""
    if a < _SAFE_FACTOR and b < _SAFE_FACTOR:  # spares the division nearly always
        return True
    return bool(b <= AMOUNT_MAX // a)


@shared
def fee_rounded_up(amount: int, rate_e6: int) -> int:
    """⌈amount × rate_e6 / 10^6⌉, never more than `amount`: what the venue takes from what one side receives.

    amount 0..AMOUNT_MAX, rate_e6 0..E6. Split at E6, so that no product passes 2^62.
    """
    whole, part = amount // E6, amount % E6
    return whole * rate_e6 + (part * rate_e6 + (E6 - 1)) // E6


@inlined
def share_rounded_down(amount: int, share_e6: int) -> int:
    """⌊amount × share_e6 / 10^6⌋. amount 0..AMOUNT_MAX, share_e6 0..E6: split at E6, as above."""
    return amount // E6 * share_e6 + amount % E6 * share_e6 // E6


@inlined
def part_rounded_down(amount: int, part: int, whole: int) -> int:
    """⌊amount × part / whole⌋: amount 0..AMOUNT_MAX, part 0..whole, whole 1..LOTS_MAX. Split at `whole`, so
    that no product passes 2^62."""
    return amount // whole * part + amount % whole * part // whole


@inlined
def part_rounded_up(amount: int, part: int, whole: int) -> int:
    """⌈amount × part / whole⌉, within the same bounds."""
    return amount // whole * part + (amount % whole * part + (whole - 1)) // whole
