"""How much of an asset may leave: a bucket of tokens for the net outflow.

    tokens = min(cap, tokens + refill × time + share × deposits that are older than AGE_MS)

A withdrawal takes its amount; one that finds too few is refused, and repeated when there are more. Deposits
give tokens only once they are old, so money that goes in and out in circles makes no room for more. One
larger than the cap never passes: cut it up. After ERC-7265 and dashpay/platform#4471.

`engine.accounts` takes the tokens (ASSET.outflow_left) where it withdraws; here they are refilled, at most
once in REFILL_MS. Fractions of a token are dropped with the time that made them: against the outflow.
"""

from collections.abc import Sequence

import numpy as np

from engine.authority import is_venue
from engine.breakers.commands import SetOutflowLimit
from engine.breakers.tables import AGE_BUCKETS, OUTFLOW
from engine.layout import AssetAlarm
from engine.oracle.tables import PPM
from engine.plugin import Context, Entry, Handler
from engine.records import Code, HaltLine, Kind
from engine.state import State
from engine.timelock.queue import delay_of_rules

HOUR_MS = 3_600_000
BUCKET_MS = 300_000
AGE_MS = BUCKET_MS * (AGE_BUCKETS - 1)  # an hour
REFILL_MS = 1000
LOW_PARTS = 10  # less than a tenth of the cap left is told


def validate_set_outflow_limit(state: State, command: SetOutflowLimit, context: Context) -> Code:
    """The venue limits outflows."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    return Code.OK if command.asset < state.count["assets"] else Code.UNKNOWN_ASSET


def apply_set_outflow_limit(state: State, command: SetOutflowLimit, context: Context) -> Entry:
    """From the next command on; the bucket starts full, but never fuller than it was under another rule."""
    table, assets, asset = state.table("outflows"), state.assets.columns, command.asset
    missing = asset + 1 - state.used(table)
    if missing > 0:
        state.add_rows(table, missing)
    was_limited = table.columns["cap"].item(asset) > 0
    table.data[asset] = np.zeros((), dtype=OUTFLOW)
    alarms = assets["alarms"].item(asset) & ~AssetAlarm.OUTFLOW_LIMITED
    left = 0
    if command.cap:
        for field in ("cap", "refill_per_hour", "deposit_share_ppm"):
            table.columns[field][asset] = getattr(command, field)
        table.columns["refilled_ms"][asset] = context.time_ms
        table.columns["bucket"][asset] = context.time_ms // BUCKET_MS
        table.columns["deposited_seen"][asset] = assets["deposited"].item(asset)
        left = min(command.cap, assets["outflow_left"].item(asset)) if was_limited else command.cap
        alarms |= AssetAlarm.OUTFLOW_LIMITED
    assets["alarms"][asset] = alarms
    assets["outflow_left"][asset] = left
    table.mark(asset)
    state.assets.mark(asset)
    return Entry(subject=asset, qty=command.cap, detail=command.refill_per_hour)


def refill(state: State, context: Context) -> None:
    """At the end of a block: tokens for the time that passed, and for deposits that have become old."""
    table = state.table("outflows")
    used = state.used(table)
    if used == 0:
        return
    columns = {name: column[:used] for name, column in table.columns.items()}
    due = (columns["cap"] > 0) & (context.time_ms - columns["refilled_ms"] >= REFILL_MS)
    for asset in np.flatnonzero(due).tolist():
        _refill(state, context, asset)


def _refill(state: State, context: Context, asset: int) -> None:
    table, assets, now = state.table("outflows"), state.assets.columns, context.time_ms
    columns = table.columns
    cap, left = columns["cap"].item(asset), assets["outflow_left"].item(asset)
    passed = now - columns["refilled_ms"].item(asset)
    gained = columns["refill_per_hour"].item(asset) * passed // HOUR_MS
    gained += _take_aged(state, asset, now) * columns["deposit_share_ppm"].item(asset) // PPM
    left = min(cap, left + gained)
    assets["outflow_left"][asset] = left
    columns["refilled_ms"][asset] = now
    table.mark(asset)
    state.assets.mark(asset)
    is_low = left < cap // LOW_PARTS
    if is_low and not columns["is_exhausted"].item(asset):
        context.events.add(Kind.HALT, op=HaltLine.OUTFLOW_EXHAUSTED, market=asset, qty=left)
    columns["is_exhausted"][asset] = is_low


def _take_aged(state: State, asset: int, now: int) -> int:
    """Put what was deposited since the last look into the present bucket; take out what became old."""
    columns = state.table("outflows").columns
    ring = columns["deposits"][asset]
    deposited, seen = state.assets.columns["deposited"].item(asset), columns["deposited_seen"].item(asset)
    bucket, present = columns["bucket"].item(asset), now // BUCKET_MS
    aged = 0
    for number in range(bucket + 1, min(present, bucket + AGE_BUCKETS) + 1):
        aged += int(ring[number % AGE_BUCKETS])
        ring[number % AGE_BUCKETS] = 0
    # Both totals of an asset are rebased once in decades: what was deposited then counts for nothing.
    ring[present % AGE_BUCKETS] += max(deposited - seen, 0)
    columns["deposited_seen"][asset] = deposited
    columns["bucket"][asset] = present
    return aged


HANDLERS: Sequence[Handler] = (
    Handler(SetOutflowLimit, validate_set_outflow_limit, apply_set_outflow_limit, delay_of_rules),
)
