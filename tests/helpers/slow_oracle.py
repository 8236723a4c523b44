"""The oracle's rules once more, in plain Python integers: reports, aggregates, indexes, marks."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from engine.layout import PriceStatus
from engine.records import Code

PPM = 10**6


class Aggregate(NamedTuple):
    value: int
    confidence: int
    median: int
    status: PriceStatus


def needed(reporters: int) -> int:
    """2f + 1 with the largest f for which 3f + 1 reporters suffice, and a majority."""
    f = max(f for f in range(reporters) if 3 * f + 1 <= reporters)
    return max(2 * f + 1, reporters // 2 + 1)


def aggregate(
    reports: list[tuple[int, int]], reporters: int, old: int, confidence_max_ppm: int, step_max_ppm: int
) -> Aggregate | None:
    """What an epoch's (value, confidence) pairs become; None if they are too few."""
    count = len(reports)
    if count < needed(reporters):
        return None
    median = sorted(value for value, _ in reports)[(count - 1) // 2]
    votes = sorted(vote for v, c in reports for vote in (v - c, v, v + c))
    quarter = len(votes) // 4
    confidence = max(median - votes[quarter], votes[-1 - quarter] - median)
    if median <= 0:
        return Aggregate(old, confidence, median, PriceStatus.NONPOSITIVE)
    value = median
    if old:
        step = max(old * step_max_ppm // PPM, 1)
        value = max(old - step, 1) if median < old - step else min(median, old + step)
    if value != median:
        return Aggregate(value, confidence, median, PriceStatus.VOLATILE)
    wide = Fraction(confidence, 1) > Fraction(value * confidence_max_ppm, PPM)
    return Aggregate(value, confidence, median, PriceStatus.UNCERTAIN if wide else PriceStatus.VALID)


class Part(NamedTuple):
    """One feed of an index."""

    value: int
    status: int
    weight: int
    numerator: int
    denominator: int


def compute_index(parts: list[Part], is_mean: bool, price_max: int, before: int) -> tuple[int, int]:
    """(index in ticks, status) of a market whose index was `before`."""
    total = sum(part.weight for part in parts)
    for status in range(PriceStatus.NONE):
        good = [p for p in parts if p.weight and p.value > 0 and p.status <= status]
        weight = sum(part.weight for part in good)
        if weight == 0 or (weight < total if is_mean else 2 * weight <= total):
            continue
        ticks = [(min(p.value * p.numerator // p.denominator, 2**31), p.weight) for p in good]
        if is_mean:
            price = sum(t * w for t, w in ticks) // weight
        else:
            line = [t for t, w in sorted(ticks) for _ in range(w)]
            price = line[(weight - 1) // 2]
        fits = 1 <= price <= price_max
        return min(max(price, 1), price_max), status if fits else max(status, PriceStatus.UNCERTAIN)
    return before, PriceStatus.STALE


def compute_mark(index: int, basis_q16: int, bid: int, ask: int, last: int, price_max: int) -> int:
    """The mark price; bid 0 or ask above price_max: there is none, last 0: no trade yet."""
    if index == 0:
        return 0
    own = last or index
    if bid and ask <= price_max:
        own = sorted((bid, ask, last))[1] if last else (bid + ask) // 2
    mark = sorted((index, index + basis_q16 // 65_536, own))[1]
    return min(max(mark, 1), price_max)


def move_basis(basis_q16: int, index: int, bid: int, ask: int, passed_ms: int) -> int:
    """The average basis after `passed_ms` with this book."""
    most = index * 50_000 // PPM
    basis = min(max((bid + ask) // 2 - index, -most), most)
    share = Fraction(min(passed_ms, 150_000), 150_000)
    return basis_q16 + int((basis * 65_536 - basis_q16) * share // 1)


@dataclass
class SlowFeed:
    """One feed and its reporters 0..n − 1, block by block."""

    reporters: int
    epoch_ms: int
    stale_ms: int
    confidence_max_ppm: int
    step_max_ppm: int
    value: int = 0
    confidence: int = 0
    told: PriceStatus = PriceStatus.STALE
    known_ms: int = 0
    epoch: int = 0
    is_open: bool = False
    said: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # what each said, in order
    equivocations: list[tuple[int, int]] = field(default_factory=list)  # (reporter, epoch)

    def report(self, now: int, reporter: int, epoch: int, value: int, confidence: int) -> Code:
        """One command in a block at `now`."""
        if epoch != now // self.epoch_ms:
            return Code.REPORT_LATE if epoch < now // self.epoch_ms else Code.REPORT_EARLY
        if epoch != self.epoch:
            self._close(now)
            self.epoch, self.is_open, self.said = epoch, True, {}
        earlier = self.said.setdefault(reporter, [])
        if len(earlier) == 2:
            return Code.REPORTER_EXCLUDED
        if (value, confidence) in earlier:
            return Code.REPORT_REPEATED
        earlier.append((value, confidence))
        if len(earlier) == 2:
            self.equivocations.append((reporter, epoch))
        return Code.OK

    def end_block(self, now: int) -> PriceStatus:
        """The status after the block at `now`."""
        if now // self.epoch_ms > self.epoch or len(self.said) == self.reporters:
            self._close(now)
        is_stale = (self.value == 0 and self.known_ms == 0) or now - self.known_ms > self.stale_ms
        return max(self.told, PriceStatus.STALE) if is_stale else self.told

    def _close(self, now: int) -> None:
        if not self.is_open:
            return
        self.is_open = False
        reports = [said[0] for said in self.said.values() if len(said) == 1]
        made = aggregate(reports, self.reporters, self.value, self.confidence_max_ppm, self.step_max_ppm)
        if made:
            self.value, self.confidence, _, self.told = made
            self.known_ms = min(now, (self.epoch + 1) * self.epoch_ms)
