"""Stable assets off their anchor: after PEG_MS they count for less as collateral, and nobody borrows on them.

Trading goes on: whoever wants to leave an asset that breaks must be able to. Others read ASSET.alarms and
ASSET.peg_haircut_ppm. The alarm ends when the price was back for PEG_BACK_MS.
"""

from collections.abc import Sequence

import numpy as np

from engine.authority import is_venue
from engine.breakers.commands import SetPeg
from engine.breakers.tables import PEG
from engine.layout import AssetAlarm, PriceStatus
from engine.oracle.tables import PPM
from engine.plugin import Context, Entry, Handler
from engine.records import Code, HaltLine, Kind
from engine.state import State
from engine.timelock.queue import delay_of_rules

PEG_MS = 180_000
PEG_BACK_MS = 3_600_000


def validate_set_peg(state: State, command: SetPeg, context: Context) -> Code:
    """The venue says what an asset is worth."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if command.asset >= state.count["assets"]:
        return Code.UNKNOWN_ASSET
    return Code.OK if command.feed < state.used(state.table("feeds")) else Code.UNKNOWN_FEED


def apply_set_peg(state: State, command: SetPeg, context: Context) -> Entry:
    """From the end of this block on. An alarm under the old rule is over."""
    table = state.table("pegs")
    missing = command.asset + 1 - state.used(table)
    if missing > 0:
        state.add_rows(table, missing)
    table.data[command.asset] = np.zeros((), dtype=PEG)
    if command.anchor:
        for field in ("feed", "anchor", "deviation_ppm", "haircut_ppm"):
            table.columns[field][command.asset] = getattr(command, field)
    table.mark(command.asset)
    _set_alarm(state, command.asset, None)
    return Entry(subject=command.asset, qty=command.anchor, detail=command.feed)


def watch_pegs(state: State, context: Context) -> None:
    """At the end of a block: who is off, who is back, for how long."""
    table, feeds = state.table("pegs"), state.table("feeds")
    used = state.used(table)
    if used == 0:
        return
    columns = {name: column[:used] for name, column in table.columns.items()}
    value, status = (feeds.columns[name][columns["feed"]] for name in ("value", "status"))
    # Below zero is off whatever the last value was; a price that nobody renews says nothing.
    distance = np.abs(value - columns["anchor"])
    off = (distance > _shares(columns["anchor"], columns["deviation_ppm"])) | (
        status == PriceStatus.NONPOSITIVE
    )
    known = (columns["anchor"] > 0) & (value > 0) & (status != PriceStatus.STALE)
    was_off, since = columns["is_off"] == 1, columns["since_ms"]
    for asset in np.flatnonzero(known & ((off != was_off) | (since > 0))).tolist():
        _turn(state, context, asset, bool(off[asset]))


def _turn(state: State, context: Context, asset: int, is_off: bool) -> None:
    """One asset whose price disagrees with its alarm, or has just come to agree again."""
    table, now = state.table("pegs"), context.time_ms
    columns = table.columns
    was_off, since = columns["is_off"].item(asset) == 1, columns["since_ms"].item(asset)
    table.mark(asset)
    if is_off == was_off:
        columns["since_ms"][asset] = 0
    elif since == 0:
        columns["since_ms"][asset] = now
    elif now - since >= (PEG_BACK_MS if was_off else PEG_MS):
        columns["since_ms"][asset] = 0
        columns["is_off"][asset] = is_off
        _set_alarm(state, asset, columns["haircut_ppm"].item(asset) if is_off else None)
        context.events.add(
            Kind.HALT,
            op=HaltLine.PEG_LOST if is_off else HaltLine.PEG_REGAINED,
            market=asset,
            price=state.table("feeds").columns["value"].item(columns["feed"].item(asset)),
            qty=columns["anchor"].item(asset),
        )


def _set_alarm(state: State, asset: int, haircut_ppm: int | None) -> None:
    columns = state.assets.columns
    alarms = columns["alarms"].item(asset) & ~AssetAlarm.DEPEGGED
    columns["alarms"][asset] = alarms if haircut_ppm is None else alarms | AssetAlarm.DEPEGGED
    columns["peg_haircut_ppm"][asset] = haircut_ppm or 0
    state.assets.mark(asset)


def _shares(amounts: np.ndarray, shares_ppm: np.ndarray) -> np.ndarray:
    """⌊amount × share / 10^6⌋ of each, for amounts up to VALUE_MAX = 2^48: split, so that nothing wraps."""
    return np.asarray(amounts // PPM * shares_ppm + amounts % PPM * shares_ppm // PPM)


HANDLERS: Sequence[Handler] = (Handler(SetPeg, validate_set_peg, apply_set_peg, delay_of_rules),)
