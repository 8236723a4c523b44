"""One market's breaker once more, in plain Python: lists instead of rings, None instead of columns."""

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise

from engine.layout import HaltReason, PriceStatus

MINUTE = 60_000
LENGTHS = [5 * MINUTE, 15 * MINUTE, 60 * MINUTE, 240 * MINUTE]


@dataclass
class SlowBreaker:
    """What a breaker knows after each block."""

    floor_ppm: int
    cap_ppm: int
    limit_ms: int
    quiet_ms: int
    liquidation_max: int
    minutes: list[int] = field(default_factory=list)
    last_minute: int = 0
    reference: int = 0
    half: int = 0
    level: int = 0
    limit_since: int | None = None
    halted_until: int | None = None
    reopening: bool = False
    reason: HaltReason = HaltReason.NONE
    quiet_since: int = 0
    pressure: int = 0
    pressure_ms: int = 0
    halts: list[tuple[int, HaltReason, int]] = field(default_factory=list)  # when, why, how long

    def block(self, now: int, price: int, status: PriceStatus, liquidated: int, is_trading: bool) -> None:
        """The block at `now` ends with this price; `is_trading`: the market is not on its way back."""
        measured = status in (PriceStatus.VALID, PriceStatus.VOLATILE) and price > 0
        if measured and now // MINUTE > self.last_minute:
            self.last_minute = now // MINUTE
            self.minutes.append(price)
            self._draw()
        too_many = self._liquidate(now, liquidated)
        if self.halted_until is None and not self.reopening:
            if too_many:
                self._halt(now, HaltReason.LIQUIDATIONS)
            else:
                self._watch(now, price, status)
        elif self.halted_until is not None:
            self._end(now, status)
        elif is_trading:
            self.reopening = False
        is_quiet = now - self.quiet_since >= self.quiet_ms
        if is_quiet and self.halted_until is None and not self.reopening:
            self.level = 0

    def _draw(self) -> None:
        last = self.minutes[-5:]
        self.reference = sum(last) // len(last)
        hour = self.minutes[-61:]
        returns = sorted(abs(b - a) * 10**6 // a for a, b in pairwise(hour))
        sigma = returns[(len(returns) - 1) // 2] * 1483 // 1000 if returns else 0
        # the largest whole number up to the cap whose square is at most (6 sigma)² × 5
        root = bisect_right(range(self.cap_ppm + 1), 180 * sigma**2, key=lambda ppm: ppm * ppm) - 1
        band = min(max(root, self.floor_ppm), self.cap_ppm)
        self.half = max(self.reference * band // 10**6, 1)

    def _watch(self, now: int, price: int, status: PriceStatus) -> None:
        if status == PriceStatus.NONPOSITIVE:
            self._halt(now, HaltReason.NO_PRICE)
        elif status not in (PriceStatus.VALID, PriceStatus.VOLATILE) or self.reference == 0:
            return
        elif abs(price - self.reference) < self.half:
            self.limit_since = None
        else:
            self.limit_since = now if self.limit_since is None else self.limit_since
            if now - self.limit_since >= self.limit_ms:
                self._halt(now, HaltReason.PRICE_MOVED)

    def _liquidate(self, now: int, added: int) -> bool:
        drained = self.liquidation_max * min(now - self.pressure_ms, 300_000) // 300_000
        total = max(self.pressure - drained, 0) + added
        self.pressure, self.pressure_ms = min(total, self.liquidation_max), now
        return total > self.liquidation_max

    def _halt(self, now: int, reason: HaltReason) -> None:
        length = LENGTHS[self.level]
        self.level = min(self.level + 1, 3)
        self.halted_until, self.limit_since, self.reason = now + length, None, reason
        self.halts.append((now, reason, length))

    def _end(self, now: int, status: PriceStatus) -> None:
        if self.halted_until is None or now < self.halted_until:
            return
        if status in (PriceStatus.VALID, PriceStatus.NONE):
            self.halted_until, self.reopening, self.reason = None, True, HaltReason.NONE
            self.quiet_since = now
