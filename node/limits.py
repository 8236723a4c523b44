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


class Buckets:
    """One bucket per name; forgets the longest unused beyond `names_max`.

    Whoever is forgotten starts full again, so `names_max` should exceed the names seen in one refill.
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
            bucket = self._buckets[name] = Bucket(self._per_second, self._burst, self._burst, now_s)
            if len(self._buckets) > self._names_max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        return bucket.take(count, now_s)
