"""An epoch of a feed ends: many reports become one value, and a status.

    value        the lower median of the reports: with at most f = (n − 1) // 3 of n reporters lying and at
                 least 2f + 1 reports, it lies between two honest ones
    confidence   every report votes three times, for value − confidence, value and value + confidence; the
                 wider distance of the median to the quarters of these votes

After libocr's median plugin (`median.go`) and Pyth's `price_model.c`, in integers: no rounding anywhere but
in the shares of the rules, which round down.
"""

import numpy as np

from engine.compiled import inlined, kernel, outlined, shared, widen
from engine.fixed_point import share_rounded_down
from engine.layout import PriceStatus, Rows
from engine.oracle.tables import FEED_PAGE, REPORT_PAGE, REPORTERS_PER_FEED_MAX
from engine.records import Kind, PriceLine

SCRATCH_LENGTH = 4 * REPORTERS_PER_FEED_MAX
_VOTES = REPORTERS_PER_FEED_MAX  # where votes begin in the scratch


@shared
def reports_needed(reporters: int) -> int:
    """How many of n reporters must have reported: 2f + 1, and more than half."""
    return max(2 * ((reporters - 1) // 3) + 1, reporters // 2 + 1)


@kernel
def close_epoch(feeds: Rows, reports: Rows, feed_row: int, time_ms: int, scratch: np.ndarray) -> None:
    """Aggregate the reports of a feed's epoch, if there are enough; else what stood before stands.

    scratch (SCRATCH_LENGTH,) int64. |value| and confidence of a report are at most VALUE_MAX = 2^48.
    """
    feed = feeds.rows[feed_row]
    feeds.dirty[feed_row >> FEED_PAGE] = 1
    feed.closed_epoch = feed.epoch
    count = _gather(reports, feed_row, feed.epoch, scratch)
    if count < reports_needed(widen(feed.reporters)):
        return
    _sort(scratch, 0, count)
    _sort(scratch, _VOTES, 3 * count)
    median = scratch[(count - 1) // 2]
    quarter = 3 * count // 4
    lower, upper = scratch[_VOTES + quarter], scratch[_VOTES + 3 * count - 1 - quarter]
    feed.reports = count
    feed.median = median
    feed.confidence = max(median - lower, upper - median)
    feed.value_epoch = feed.epoch
    # Reports say what was when the epoch began; a block that comes late does not make them younger.
    feed.value_ms = min(time_ms, (feed.epoch + 1) * feed.epoch_ms)
    _judge(feed)


@inlined
def _gather(reports: Rows, feed_row: int, epoch: int, scratch: np.ndarray) -> int:
    """Put values and votes of the reports that count into `scratch`; return how many reports there are."""
    first, count = feed_row * REPORTERS_PER_FEED_MAX, 0
    for row in range(first, first + REPORTERS_PER_FEED_MAX):
        report = reports.rows[row]
        if report.reporter != 0 and report.epoch == epoch and report.excluded_epoch != epoch:
            scratch[count] = report.value
            for vote in range(3):
                scratch[_VOTES + 3 * count + vote] = report.value + (vote - 1) * report.confidence
            count += 1
    return count


@inlined
def _judge(feed: np.record) -> None:
    """Take the median over as the value, as far as one step may go, and say how good it is."""
    feed.told = PriceStatus.VALID.value
    if feed.median <= 0:
        feed.told = PriceStatus.NONPOSITIVE.value  # the last positive value stands
        return
    value, old = feed.median, feed.value
    if old > 0:
        step = max(share_rounded_down(old, feed.step_max_ppm), 1)
        value = min(max(value, old - step, 1), old + step)
    feed.value = value
    if value != feed.median:
        feed.told = PriceStatus.VOLATILE.value
    elif feed.confidence > share_rounded_down(value, feed.confidence_max_ppm):
        feed.told = PriceStatus.UNCERTAIN.value


@outlined
def _sort(numbers: np.ndarray, start: int, count: int) -> None:
    """Sort `count` numbers from `start` on, by insertion: there are at most 96."""
    for i in range(start + 1, start + count):
        number, j = numbers[i], i
        while j > start and numbers[j - 1] > number:
            numbers[j] = numbers[j - 1]
            j -= 1
        numbers[j] = number


@kernel
def update_feeds(
    feeds: Rows, reports: Rows, used: int, time_ms: int, scratch: np.ndarray, lines: np.ndarray
) -> int:
    """At the end of a block: aggregate epochs that are over or complete, and let old values go stale.

    lines (≥ used,) JOURNAL, zero. Returns how many were written, at most one per feed.
    """
    written = 0
    for row in range(used):
        feed = feeds.rows[row]
        if feed.epoch > feed.closed_epoch and (
            time_ms // feed.epoch_ms > feed.epoch or feed.answers >= feed.reporters
        ):
            close_epoch(feeds, reports, row, time_ms, scratch)
        status = widen(feed.told)
        if feed.value_ms == 0 or time_ms - feed.value_ms > feed.stale_ms:
            status = max(status, PriceStatus.STALE.value)
        if feed.value_epoch != feed.line_epoch or status != feed.status:
            feed.status = status
            feed.line_epoch = feed.value_epoch
            feeds.dirty[row >> FEED_PAGE] = 1
            write_feed(lines[written], row, feed)
            written += 1
    return written


@inlined
def write_feed(line: np.record, feed_row: int, feed: np.record) -> None:
    """A PRICE line about a feed."""
    line.kind = Kind.PRICE.value
    line.op = PriceLine.FEED.value
    line["flags"] = feed.status
    line.market = feed_row
    line.price = feed.value
    line.qty = feed.confidence
    line.detail = feed.value_epoch
    line.fee = feed.reports


@kernel
def take_report(
    feeds: Rows,
    reports: Rows,
    row: int,
    epoch: int,
    value: int,
    confidence: int,
    time_ms: int,
    scratch: np.ndarray,
) -> None:
    """Write a report into its slot. The first of an epoch ends the one before, if that is still open."""
    feed_row = row // REPORTERS_PER_FEED_MAX
    feed = feeds.rows[feed_row]
    if feed.epoch != epoch:
        if feed.epoch > feed.closed_epoch:
            close_epoch(feeds, reports, feed_row, time_ms, scratch)
        feed.epoch = epoch
        feed.answers = 0
    feed.answers += 1
    feeds.dirty[feed_row >> FEED_PAGE] = 1
    report = reports.rows[row]
    report.epoch = epoch
    report.value = value
    report.confidence = confidence
    reports.dirty[row >> REPORT_PAGE] = 1
