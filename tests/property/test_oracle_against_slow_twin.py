"""Aggregates, indexes, marks and the whole life of a feed against their slow twin."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.layout import MARKET, PriceStatus, Rows
from engine.markets.states import MarketStatus
from engine.oracle.aggregate import SCRATCH_LENGTH, close_epoch
from engine.oracle.commands import AddFeed
from engine.oracle.prices import INDEX_SCRATCH, update_prices
from engine.oracle.tables import (
    FEED,
    FEEDS_PER_INDEX_MAX,
    INDEX,
    INDEX_FEED,
    REPORT,
    REPORTERS_PER_FEED_MAX,
    VALUE_MAX,
    IndexMethod,
)
from engine.records import AMOUNT_MAX, JOURNAL
from engine.tables.table import kernel_view
from tests.helpers import slow_oracle
from tests.helpers.reporting import ReportedVenue, command_codes
from tests.helpers.slow_oracle import Part, SlowFeed

ROOT = Path(__file__).resolve().parents[2]
VALUES = st.one_of(
    st.integers(90, 110), st.integers(-3, 3), st.sampled_from([VALUE_MAX, -VALUE_MAX, VALUE_MAX - 1])
)
CONFIDENCES = st.one_of(st.integers(0, 20), st.sampled_from([0, VALUE_MAX]))
SHARES = st.one_of(st.integers(1, 300_000), st.just(10**6))


def rows_of(dtype: np.dtype, count: int) -> tuple[np.ndarray, Rows]:
    """An empty table of `count` rows: as data, and as kernels take it."""
    data = np.zeros(count, dtype=dtype)
    return data, Rows(kernel_view(data), np.zeros(count, dtype=np.uint8))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(VALUES, CONFIDENCES), max_size=REPORTERS_PER_FEED_MAX),
    st.integers(0, 8),
    st.one_of(st.just(0), st.integers(1, 200), st.just(VALUE_MAX)),
    SHARES,
    SHARES,
)
def test_an_epoch_closes_as_the_twin_says(reports, silent, old, confidence_max, step_max):
    feeds, feed_rows = rows_of(FEED, 1)
    slots, slot_rows = rows_of(REPORT, REPORTERS_PER_FEED_MAX)
    reporters = min(len(reports) + silent, REPORTERS_PER_FEED_MAX) or 1
    feed = feeds[0]
    feed["reporters"], feed["epoch"], feed["epoch_ms"], feed["value"] = reporters, 7, 1000, old
    feed["confidence_max_ppm"], feed["step_max_ppm"] = confidence_max, step_max
    for slot, (value, confidence) in enumerate(reports):
        slots["reporter"][slot], slots["epoch"][slot] = slot + 1, 7
        slots["value"][slot], slots["confidence"][slot] = value, confidence
    close_epoch(feed_rows, slot_rows, 0, 7500, np.zeros(SCRATCH_LENGTH, dtype=np.int64))
    expected = slow_oracle.aggregate(reports, reporters, old, confidence_max, step_max)
    if expected is None:
        assert (feed["value"], feed["value_ms"], feed["closed_epoch"]) == (old, 0, 7)
    else:
        assert tuple(int(feed[name]) for name in ("value", "confidence", "median", "told")) == expected
        assert feed["value_ms"] == 7500


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=21),
    st.lists(st.integers(-VALUE_MAX, VALUE_MAX), max_size=10),
)
def test_the_median_lies_between_honest_values_if_less_than_a_third_lie(honest, lies):
    reporters = len(honest) + len(lies)
    if 3 * len(lies) + 1 > reporters:
        return
    reports = [(value, 0) for value in [*honest, *lies]]
    made = slow_oracle.aggregate(reports, reporters, 0, 10**6, 10**6)
    assert made is not None
    assert min(honest) <= made.median <= max(honest)


@st.composite
def parts(draw):
    """Feeds of an index, with ratios at the edge of what is admitted now and then."""
    numerator = draw(st.sampled_from([1, 3, AMOUNT_MAX // VALUE_MAX]))
    denominator = draw(st.sampled_from([1, 7, 10**6]))
    value = draw(st.one_of(st.just(0), st.integers(1, 300), st.sampled_from([10**8, VALUE_MAX])))
    return Part(value, draw(st.integers(0, 4)), draw(st.integers(0, 5)), numerator, denominator)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(parts(), min_size=1, max_size=FEEDS_PER_INDEX_MAX),
    st.booleans(),
    st.sampled_from([200, 2**26 - 2]),
    st.integers(0, 200),
    st.integers(-(2**23), 2**23),
    st.tuples(st.integers(0, 200), st.integers(1, 210), st.integers(0, 200)),
    st.sampled_from([0, 999, 1000, 70_000, 10**9]),
)
def test_indexes_and_marks_are_as_the_twin_says(feeds, is_mean, price_max, before, basis, book, passed_ms):
    bid, ask, last = book
    ask = max(ask, bid + 1) if ask <= 200 else price_max + 1
    markets, market_rows = rows_of(MARKET, 1)
    indexes, index_rows = rows_of(INDEX, 1)
    shares, share_rows = rows_of(INDEX_FEED, FEEDS_PER_INDEX_MAX)
    tables, feed_rows = rows_of(FEED, len(feeds))
    market, index = markets[0], indexes[0]
    market["price_max"], market["index_price"], market["status"] = price_max, before, MarketStatus.OPEN
    market["best_bid"], market["best_ask"], market["last_price"] = bid, ask, last
    index["method"] = IndexMethod.MEAN if is_mean else IndexMethod.MEDIAN
    index["basis_q16"], index["basis_ms"] = basis, 10**6
    for row, part in enumerate(feeds):
        shares[row] = (row, part.weight, part.numerator, part.denominator, 0)
        tables["value"][row], tables["status"][row] = part.value, part.status
    lines = kernel_view(np.zeros(1, dtype=JOURNAL))
    scratch = np.zeros(INDEX_SCRATCH, dtype=np.int64)
    update_prices(market_rows, index_rows, share_rows, feed_rows, 1, 10**6 + passed_ms, scratch, lines)
    price, status = slow_oracle.compute_index(feeds, is_mean, price_max, before)
    has_two_sides = bid > 0 and ask <= price_max
    if passed_ms >= 1000 and status == PriceStatus.VALID and has_two_sides:
        basis = slow_oracle.move_basis(basis, price, bid, ask, passed_ms)
    assert int(index["basis_q16"]) == basis
    mark = slow_oracle.compute_mark(price, basis, bid, ask, last, price_max)
    assert tuple(int(market[n]) for n in ("index_price", "price_status", "mark_price")) == (
        price,
        status,
        mark,
    )


@settings(max_examples=int(os.environ.get("KONTOR_EXAMPLES", "30")), deadline=None)
@given(
    st.integers(1, 5),
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 300, 999, 1000, 1001, 4000]),
            st.lists(
                st.tuples(
                    st.integers(0, 4),
                    st.sampled_from([0] * 6 + [-1, 1]),
                    st.integers(95, 105),
                    st.integers(0, 6),
                ),
                max_size=8,
            ),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_a_feed_lives_as_its_twin_does(reporters, blocks):
    feed = AddFeed("BTC/USD", 0, 1000, 2500, 40_000, 30_000)
    venue = ReportedVenue(reporters=reporters, traders=0, feed=feed)
    slow = SlowFeed(reporters, 1000, 2500, 40_000, 30_000)
    for passed_ms, reports in blocks:
        now = venue.now_ms + passed_ms
        expected = []
        for reporter, offset, value, confidence in reports:
            if reporter < reporters:
                epoch = now // 1000 + offset
                venue.report(reporter, value, confidence, epoch)
                expected.append(slow.report(now, reporter, epoch, value, confidence))
        assert command_codes(venue.at(now)) == expected
        status = slow.end_block(now)
        state = (venue.feed("value"), venue.feed("confidence"), venue.feed("value_ms"), venue.feed("status"))
        assert state == (slow.value, slow.confidence, slow.known_ms, status)
        assert venue.market("index_price") == slow.value
        assert (venue.status == status) or slow.value == 0
    table = venue.machine.state.table("equivocations")
    rows = table.data[: venue.machine.state.used(table)]
    assert list(zip(rows["reporter"].tolist(), rows["epoch"].tolist(), strict=True)) == slow.equivocations
    venue.machine.check_conservation()


@pytest.mark.parametrize("setting", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_interpreted_and_bounds_checked_kernels_agree_too(setting):
    """The same properties in a process whose kernels run as plain Python, or check every index."""
    if os.environ.get("NUMBA_DISABLE_JIT") or os.environ.get("NUMBA_BOUNDSCHECK"):
        pytest.skip("already inside such a process")
    env = {**os.environ, setting: "1", "KONTOR_EXAMPLES": "10"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
