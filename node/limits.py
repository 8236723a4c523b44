"""Token buckets: how much somebody may ask for. Pure arithmetic on times that are passed in."""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """Holds up to `burst` tokens and gains `per_second` of them a second."""

    per_second: float
    burst: float
    tokens: float
    filled_at_s: float

    def take(self, count: float, now_s: float) -> bool:
        """Take `count` tokens if they are there. A count above `burst` passes when the bucket is full."""
        elapsed_s = max(0.0, now_s - self.filled_at_s)
        self.tokens = min(self.burst, self.tokens + elapsed_s * self.per_second)
        self.filled_at_s = now_s
        if self.tokens < min(count, self.burst):
            return False
        self.tokens -= count  # may go below zero: an oversized request is paid off before the next
        return True

    def is_full(self, now_s: float) -> bool:
        """Whether it holds `burst` tokens by now, as a new one does."""
        return self.tokens + max(0.0, now_s - self.filled_at_s) * self.per_second >= self.burst


class Buckets:
    """One bucket per name. Those that are full again are forgotten, which changes nothing. Beyond `names_max`
    the longest unused goes, and starts full: `names_max` should exceed the names seen in one refill.
    """

    def __init__(self, per_second: float, burst: float, names_max: int = 65_536) -> None:
        self._per_second = per_second
        self._burst = burst
        self._names_max = names_max
        self._buckets: OrderedDict[bytes, Bucket] = OrderedDict()

    def take(self, name: bytes, count: float, now_s: float) -> bool:
        """Take `count` tokens from the bucket of `name`, if they are there."""
        bucket = self._buckets.get(name)
        if bucket is None:
            self._forget(now_s)
            bucket = self._buckets[name] = Bucket(self._per_second, self._burst, self._burst, now_s)
        else:
            self._buckets.move_to_end(name)
        return bucket.take(count, now_s)

    def __len__(self) -> int:
        return len(self._buckets)

    def _forget(self, now_s: float) -> None:
        """Make room for a name: up to two go for one that comes, so that fewer follow a flood of them."""
        for _ in range(min(2, len(self._buckets))):
            oldest = next(iter(self._buckets))
            if len(self._buckets) >= self._names_max or self._buckets[oldest].is_full(now_s):
                del self._buckets[oldest]
