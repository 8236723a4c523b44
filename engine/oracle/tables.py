"""Rows of the oracle's tables. All of them are bounded; slots are found by arithmetic, not by search.

Values are integers of 10^-decimals quote units (whole ones) per whole base unit, within ±VALUE_MAX.
"""

from enum import IntEnum

import numpy as np

from engine.genesis import Genesis
from engine.layout import page_shift
from engine.tables.table import TableSpec

REPORTERS_MAX = 1024  # that ever were
FEEDS_MAX = 1024
REPORTERS_PER_FEED_MAX = 32
FEEDS_PER_INDEX_MAX = 8
EQUIVOCATIONS_MAX = 65_536
EQUIVOCATIONS_PER_REPORTER_MAX = 64  # that are kept; more would not convict it more
VALUE_MAX = 2**48
EPOCH_MS_MAX = 86_400_000
PPM = 1_000_000

REPORTER = np.dtype(
    [
        ("account", "<i4"),  # whose REPORT keys sign for it
        ("is_active", "<i4"),
        ("reports", "<i8"),  # counted, ever
        ("equivocations", "<i8"),  # ever
        ("reserved", "u1", (40,)),
    ]
)  # 64 bytes; row = reporter id, never freed

FEED = np.dtype(
    [
        ("name", "u1", (16,)),  # ASCII, padded with zero bytes
        ("decimals", "<i4"),
        ("status", "<i4"),  # PriceStatus
        ("told", "<i4"),  # PriceStatus of the last aggregate, which staleness may only worsen
        ("reporters", "<i4"),  # in its slots
        ("epoch_ms", "<i8"),
        ("stale_ms", "<i8"),  # STALE when the last aggregate is older
        ("confidence_max_ppm", "<i8"),  # of the value; UNCERTAIN above
        ("step_max_ppm", "<i8"),  # of the value, in one epoch; VOLATILE where it would be more
        ("epoch", "<i8"),  # that reports are taken for, or were last
        ("closed_epoch", "<i8"),  # the last one that was aggregated, or had too few reports
        ("answers", "<i4"),  # reporters that reported in `epoch`, or contradicted themselves
        ("reports", "<i4"),  # counted in the last aggregate
        ("value", "<i8"),  # last good one, positive; 0: none ever
        ("confidence", "<i8"),
        ("median", "<i8"),  # what reporters said, before the step was limited
        ("value_epoch", "<i8"),
        ("value_ms", "<i8"),  # ledger time at which it was known, no later than its epoch's end
        ("line_epoch", "<i8"),  # of the value that the last PRICE line told
        ("reserved", "u1", (120,)),
    ]
)  # 256 bytes; row = feed id, never freed

REPORT = np.dtype(
    [
        ("reporter", "<i4"),  # its id plus one; 0: the slot is free
        ("reserved_word", "<i4"),
        ("epoch", "<i8"),  # of the report below; 0: none yet
        ("value", "<i8"),
        ("confidence", "<i8"),
        ("excluded_epoch", "<i8"),  # the last one in which it contradicted itself
        ("reserved", "u1", (24,)),
    ]
)  # 64 bytes; row = feed id × REPORTERS_PER_FEED_MAX + slot


class IndexMethod(IntEnum):
    """How a market's index is made of its feeds."""

    NONE = 0
    MEDIAN = 1  # several sources for one price: lower weighted median
    MEAN = 2  # a basket of several assets: weighted mean, and all of them must be there


INDEX = np.dtype(
    [
        ("method", "<i4"),  # IndexMethod
        ("reserved_word", "<i4"),
        ("basis_q16", "<i8"),  # moving average of mid − index, in 2^-16 ticks
        ("basis_ms", "<i8"),  # when it moved last
        ("told_index", "<i8"),  # what the last PRICE line said
        ("told_mark", "<i8"),
        ("told_status", "<i8"),
        ("reserved", "u1", (80,)),
    ]
)  # 128 bytes; row = market id

INDEX_FEED = np.dtype(
    [
        ("feed", "<i4"),
        ("weight", "<i4"),  # relative, 1..PPM; 0: the slot is free
        ("numerator", "<i8"),  # ticks = value × numerator // denominator
        ("denominator", "<i8"),
        ("reserved", "<i8"),
    ]
)  # 32 bytes; row = market id × FEEDS_PER_INDEX_MAX + slot

EQUIVOCATION = np.dtype(
    [
        ("reporter", "<i4"),
        ("feed", "<i4"),
        ("epoch", "<i8"),
        ("height", "<i8"),  # of the block with the second report
        ("first_value", "<i8"),
        ("first_confidence", "<i8"),
        ("second_value", "<i8"),
        ("second_confidence", "<i8"),
        ("reserved", "<i8"),
    ]
)  # 64 bytes

FEED_PAGE = page_shift(FEED)
REPORT_PAGE = page_shift(REPORT)
INDEX_PAGE = page_shift(INDEX)


def make_specs(genesis: Genesis) -> tuple[TableSpec, ...]:
    """The oracle's tables under one genesis."""
    markets = genesis.capacity.markets
    return (
        TableSpec("reporters", REPORTER, REPORTERS_MAX),
        TableSpec("feeds", FEED, FEEDS_MAX),
        TableSpec("reports", REPORT, FEEDS_MAX * REPORTERS_PER_FEED_MAX),
        TableSpec("indexes", INDEX, markets),
        TableSpec("index_feeds", INDEX_FEED, markets * FEEDS_PER_INDEX_MAX),
        TableSpec("equivocations", EQUIVOCATION, EQUIVOCATIONS_MAX),
    )
