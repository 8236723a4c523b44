"""Slow twin of the nonce window: remembers every nonce ever used."""

from engine.layout import NONCE_WINDOW
from engine.records import Code


class SlowNonces:
    """One key's nonces, as a set."""

    def __init__(self) -> None:
        self.used: set[int] = set()

    def check(self, nonce: int) -> Code:
        """What the window has to answer."""
        highest = max(self.used, default=0)
        if nonce <= highest - NONCE_WINDOW:
            return Code.NONCE_TOO_OLD
        return Code.NONCE_USED if nonce in self.used else Code.OK
