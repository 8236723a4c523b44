"""The breakers plugin: its commands, and its turns at a block's start and end."""

from collections.abc import Sequence

import numpy as np

from consensus.primitives.errors import ensure
from engine.breakers import outflows, pegs, switches
from engine.breakers.commands import EVERY_ASSET
from engine.breakers.markets import HALTABLE, MEASURED, MINUTE_MS, Breaker
from engine.breakers.tables import BreakerState, make_specs
from engine.genesis import Genesis
from engine.layout import HaltReason, PriceStatus
from engine.oracle.tables import PPM
from engine.plugin import Context, Handler, Plugin
from engine.state import State
from engine.tables.table import TableSpec

SAMPLES_PER_BLOCK_MAX = 256  # bands drawn anew in one block; the others follow in the next


class BreakersPlugin(Plugin):
    """Price bands, halts, switches, pegs, limits of outflow."""

    name = "breakers"
    handlers: Sequence[Handler] = (*switches.HANDLERS, *pegs.HANDLERS, *outflows.HANDLERS)

    def __init__(self, genesis: Genesis) -> None:
        self.tables: Sequence[TableSpec] = make_specs(genesis)

    def on_block_start(self, state: State, context: Context) -> None:
        """Whatever opened a market that a breaker holds, no order trades there."""
        columns, used = state.markets.columns, state.count["markets"]
        held = columns["halt_reason"][:used] != HaltReason.NONE
        if held.any():
            for market in np.flatnonzero(held & np.isin(columns["status"][:used], HALTABLE)).tolist():
                Breaker(state, context, market).enforce()

    def on_block_end(self, state: State, context: Context) -> None:
        """Alarms, then bands, then halts: a band that is drawn now is what the price is held against."""
        self._heed_alarms(state, context)
        for market in _due_samples(state, context.time_ms)[:SAMPLES_PER_BLOCK_MAX].tolist():
            Breaker(state, context, market).sample()
        for market in _due_turns(state).tolist():
            Breaker(state, context, market).turn()
        pegs.watch_pegs(state, context)
        outflows.refill(state, context)

    def check_invariants(self, state: State) -> None:
        """A band surrounds its reference."""
        table = state.table("breakers")
        used = state.used(table)
        reference = table.columns["reference"][:used]
        low, high = (state.markets.columns[name][:used] for name in ("band_low", "band_high"))
        ensure(bool(np.all((reference == 0) == (high == 0))), "a band without a reference, or without a band")
        ensure(bool(np.all((low <= reference) & (reference <= high))), "a band beside its reference")

    def _heed_alarms(self, state: State, context: Context) -> None:
        raised = state.count["solvency_alarms"]
        if raised == switches.get_rule(state, "alarms_seen"):
            return
        switches.set_rule(state, "alarms_seen", raised)
        switches.switch_all_off(state, context, HaltReason.SOLVENCY)
        switches.pause_withdrawals(state, context, EVERY_ASSET)


def _due_samples(state: State, time_ms: int) -> np.ndarray:
    """Markets whose minute is over and whose price is known, ascending."""
    table = state.table("breakers")
    used = state.used(table)
    is_due = (table.columns["is_on"][:used] == 1) & (table.columns["minute"][:used] < time_ms // MINUTE_MS)
    if not is_due.any():
        return np.flatnonzero(is_due)
    status, price = (state.markets.columns[name][:used] for name in ("price_status", "index_price"))
    return np.flatnonzero(is_due & np.isin(status, MEASURED) & (price > 0))


def _due_turns(state: State) -> np.ndarray:
    """Markets where anything may have to happen, ascending; nearly always none."""
    liquidated, status, price = (
        state.markets.columns[name][: state.count["markets"]]
        for name in ("liquidated", "price_status", "index_price")
    )
    due = (liquidated > 0) | (status == PriceStatus.NONPOSITIVE)
    table = state.table("breakers")
    used = state.used(table)
    if used == 0:
        return np.flatnonzero(due)
    names = ("state", "level", "pressure", "is_on", "reference", "band_ppm")
    busy, level, pressure, is_on, reference, band_ppm = (table.columns[name][:used] for name in names)
    # As in `Breaker.turn`. Whether the price can be measured is looked at there.
    half = np.maximum(reference * band_ppm // PPM, 1)
    is_watched = (is_on == 1) & (np.abs(price[:used] - reference) >= half)
    due[:used] |= (busy != BreakerState.NORMAL) | (level > 0) | (pressure > 0) | is_watched
    return np.flatnonzero(due)
