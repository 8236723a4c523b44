"""Replay protection: per key the highest nonce used, and which of the last NONCE_WINDOW were.

A window and not a counter, because envelopes of one key travel through several nodes and may be
ordered differently from how they were signed. Bit n % NONCE_WINDOW stands for nonce n.
"""

from engine.layout import NONCE_WINDOW
from engine.records import Code
from engine.state import State

_ALL = (1 << NONCE_WINDOW) - 1
_BYTES = NONCE_WINDOW // 8


def check_nonce(state: State, key: int, nonce: int) -> Code:
    """Say whether `nonce` (0..2^63 − 1) may still be used by the key in row `key`."""
    highest = state.keys.columns["nonce_highest"].item(key)
    if nonce > highest:
        return Code.OK
    if nonce <= highest - NONCE_WINDOW:
        return Code.NONCE_TOO_OLD
    bits = int.from_bytes(state.nonces.columns["bits"][key].tobytes(), "little")
    return Code.NONCE_USED if bits >> (nonce % NONCE_WINDOW) & 1 else Code.OK


def use_nonce(state: State, key: int, nonce: int) -> None:
    """Note that a nonce which `check_nonce` let pass was used."""
    highest = state.keys.columns["nonce_highest"].item(key)
    window = state.nonces.columns["bits"]
    bits = int.from_bytes(window[key].tobytes(), "little")
    if nonce > highest:
        # The nonces skipped are unused, whatever their bits said about the nonces of a window before.
        bits &= ~_ring_mask(highest + 1, min(nonce - highest, NONCE_WINDOW))
        state.keys.columns["nonce_highest"][key] = nonce
    bits |= 1 << (nonce % NONCE_WINDOW)
    window[key] = bits.to_bytes(_BYTES, "little")
    state.keys.columns["envelopes"][key] += 1
    state.keys.mark(key)
    state.nonces.mark(key)


def _ring_mask(first: int, count: int) -> int:
    """Bits of `count` nonces from `first` on, which may wrap around the window's end."""
    mask = ((1 << count) - 1) << (first % NONCE_WINDOW)
    return (mask | mask >> NONCE_WINDOW) & _ALL
