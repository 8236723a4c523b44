"""Rows of the breakers' tables."""

from enum import IntEnum

import numpy as np

from engine.genesis import Genesis
from engine.tables.table import TableSpec

SAMPLES_MAX = 61  # one-minute prices that are kept: an hour of returns
AGE_BUCKETS = 13  # of deposits that do not count yet


class BreakerState(IntEnum):
    """Where a market's breaker stands."""

    NORMAL = 0
    LIMIT = 1  # the price is at or beyond the band: a halt follows unless it comes back
    HALTED = 2
    REOPENING = 3  # released: an auction is called, and will open the market


BREAKER = np.dtype(
    [
        ("is_on", "<i4"),  # the rules below are in force; switches work without them
        ("state", "<i4"),  # BreakerState
        ("level", "<i4"),  # halts since the last quiet time, as a place in DURATIONS_MS
        ("samples", "<i4"),  # prices in the ring
        ("newest", "<i4"),  # place of the last of them
        ("reserved_word", "<i4"),
        ("floor_ppm", "<i8"),  # half width of the band, at least
        ("cap_ppm", "<i8"),  # and at most
        ("limit_ms", "<i8"),  # how long the price may stay beyond the band
        ("quiet_ms", "<i8"),  # without halts until the level is 0 again
        ("grace_ms", "<i8"),  # after a reopening
        ("liquidation_max", "<i8"),  # quote units that may be liquidated at once; drains in LIQUIDATION_MS
        ("reference", "<i8"),  # ticks; 0: none yet
        ("band_ppm", "<i8"),
        ("minute", "<i8"),  # of the last sample
        ("limit_since_ms", "<i8"),
        ("halt_end_ms", "<i8"),  # HALTED, not by a switch: not before
        ("released_ms", "<i8"),  # end of the last halt that raised the level
        ("pressure", "<i8"),  # quote units liquidated and not drained yet
        ("pressure_ms", "<i8"),  # when it was drained last
        ("trip", "<i8"),  # number of the last trip by command
        ("prices", "<i8", (SAMPLES_MAX,)),  # ticks, a ring
        ("reserved", "u1", (392,)),
    ]
)  # 1024 bytes; row = market id

RULES = np.dtype(
    [
        ("lift_delay_ms", "<i8"),
        ("trips", "<i8"),  # by command, ever
        ("trip", "<i8"),  # number of the last one of every market
        ("pauses", "<i8"),  # of withdrawals, ever
        ("alarms_seen", "<i8"),  # of COUNTERS.solvency_alarms
        ("reserved", "u1", (24,)),
    ]
)  # 64 bytes; one row

PEG = np.dtype(
    [
        ("feed", "<i4"),
        ("haircut_ppm", "<i4"),
        ("anchor", "<i8"),  # in units of the feed's value; 0: no rule
        ("deviation_ppm", "<i8"),  # of the anchor; further off is off
        ("since_ms", "<i8"),  # off (while all is well) or back (while alarmed) since; 0: not
        ("is_off", "<i4"),  # the alarm is on
        ("reserved_word", "<i4"),
        ("reserved", "u1", (24,)),
    ]
)  # 64 bytes; row = asset id

OUTFLOW = np.dtype(
    [
        ("cap", "<i8"),  # base units that may leave at once; 0: no rule
        ("refill_per_hour", "<i8"),
        ("deposit_share_ppm", "<i8"),  # of deposits that count once they are old enough
        ("refilled_ms", "<i8"),
        ("bucket", "<i8"),  # number of the newest bucket
        ("deposited_seen", "<i8"),  # ASSET.deposited when that was looked at last
        ("is_exhausted", "<i8"),  # it was told that little is left
        ("deposits", "<i8", (AGE_BUCKETS,)),  # a ring by bucket number
        ("reserved", "u1", (96,)),
    ]
)  # 256 bytes; row = asset id


def make_specs(genesis: Genesis) -> tuple[TableSpec, ...]:
    """The breakers' tables under one genesis."""
    capacity = genesis.capacity
    return (
        TableSpec("breakers", BREAKER, capacity.markets),
        TableSpec("breaker_rules", RULES, 1),
        TableSpec("pegs", PEG, capacity.assets),
        TableSpec("outflows", OUTFLOW, capacity.assets),
    )
