"""Switches that people throw: who may trip, who may lift, and when.

Tripping is a guardian's, and takes effect at once. Lifting is the venue's, and takes the lift delay, in which
everybody can see it coming and a guardian can cancel it. A lift names the trip that it lifts, so none can be
proposed ahead of a trip to undo it without delay.
"""

from collections.abc import Sequence

import numpy as np

from engine.authority import is_guardian, is_venue
from engine.breakers.commands import (
    EVERY_ASSET,
    LIFT_DELAY_MS_MIN,
    LiftBreaker,
    PauseWithdrawals,
    ResumeWithdrawals,
    SetBreaker,
    SetLiftDelay,
    TripBreaker,
)
from engine.breakers.markets import Breaker
from engine.layout import AssetAlarm, HaltReason
from engine.plugin import Context, Entry, Handler
from engine.records import EVERY_MARKET, Code, HaltLine, Kind
from engine.state import State
from engine.timelock.queue import delay_of_rules

LIFT_DELAY_MS = 10 * LIFT_DELAY_MS_MIN  # unless the venue set another
_PAUSED = int(AssetAlarm.WITHDRAWALS_PAUSED)
_RULES_OF_BREAKER = ("floor_ppm", "cap_ppm", "limit_ms", "quiet_ms", "grace_ms", "liquidation_max")


def lift_delay(state: State) -> int:
    """How long lifting waits, in ms."""
    return get_rule(state, "lift_delay_ms") or LIFT_DELAY_MS


def get_rule(state: State, field: str) -> int:
    """A column of the one row of rules; 0 before anybody wrote one."""
    table = state.table("breaker_rules")
    return table.columns[field].item(0) if state.used(table) else 0


def set_rule(state: State, field: str, value: int) -> None:
    """Write a column of the one row of rules."""
    table = state.table("breaker_rules")
    if state.used(table) == 0:
        state.add_rows(table)
    table.columns[field][0] = value
    table.mark(0)


# -- trading --------------------------------------------------------------------------------------


def validate_trip(state: State, command: TripBreaker, context: Context) -> Code:
    """Guardians trip what is not tripped yet."""
    if not is_guardian(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if command.market == EVERY_MARKET:
        return Code.NOTHING_TO_DO if state.count["halt_reason"] else Code.OK
    if command.market >= state.count["markets"]:
        return Code.UNKNOWN_MARKET
    reason = state.markets.columns["halt_reason"].item(command.market)
    return Code.NOTHING_TO_DO if reason == HaltReason.SWITCHED_OFF else Code.OK


def apply_trip(state: State, command: TripBreaker, context: Context) -> Entry:
    """From this block's first order on."""
    if command.market == EVERY_MARKET:
        trip = switch_all_off(state, context, HaltReason.ALL_SWITCHED_OFF)
    else:
        trip = _next_trip(state)
        breaker = Breaker(state, context, command.market)
        breaker.set("trip", trip)
        breaker.switch_off(HaltReason.SWITCHED_OFF)
    return Entry(subject=command.market, detail=trip)


def switch_all_off(state: State, context: Context, reason: HaltReason) -> int:
    """Stop every market that no switch of its own stops already; return the number of the trip."""
    trip = _next_trip(state)
    set_rule(state, "trip", trip)
    state.count["halt_reason"] = reason
    for market in range(state.count["markets"]):
        if state.markets.columns["halt_reason"].item(market) != HaltReason.SWITCHED_OFF:
            Breaker(state, context, market).switch_off(reason)
    return trip


def validate_lift(state: State, command: LiftBreaker, context: Context) -> Code:
    """The venue lifts the trip that is in force."""
    market, trip = command
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if market == EVERY_MARKET:
        in_force = state.count["halt_reason"] and get_rule(state, "trip") == trip
        return Code.OK if in_force else Code.NOTHING_TO_DO
    if market >= state.count["markets"]:
        return Code.UNKNOWN_MARKET
    if state.markets.columns["halt_reason"].item(market) != HaltReason.SWITCHED_OFF:
        return Code.NOTHING_TO_DO
    return Code.OK if state.table("breakers").columns["trip"].item(market) == trip else Code.NOTHING_TO_DO


def apply_lift(state: State, command: LiftBreaker, context: Context) -> Entry:
    """What was stopped by this trip reopens. One market's own switch stays, whatever is lifted of all; and
    the other way round, a market lifted while all are off stays off with the others."""
    market, trip = command
    if market == EVERY_MARKET:
        state.count["halt_reason"] = HaltReason.NONE
        reasons = state.markets.columns["halt_reason"][: state.count["markets"]]
        of_all = (HaltReason.ALL_SWITCHED_OFF, HaltReason.SOLVENCY)
        for row in np.flatnonzero(np.isin(reasons, of_all)).tolist():
            Breaker(state, context, row).lift()
    elif state.count["halt_reason"]:
        Breaker(state, context, market).switch_off(HaltReason(state.count["halt_reason"]))
    else:
        Breaker(state, context, market).lift()
    return Entry(subject=market, detail=trip)


def _next_trip(state: State) -> int:
    trip = get_rule(state, "trips") + 1
    set_rule(state, "trips", trip)
    return trip


# -- withdrawals ----------------------------------------------------------------------------------


def validate_pause(state: State, command: PauseWithdrawals, context: Context) -> Code:
    """Guardians pause withdrawals."""
    if not is_guardian(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if command.asset != EVERY_ASSET and command.asset >= state.count["assets"]:
        return Code.UNKNOWN_ASSET
    return Code.OK


def apply_pause(state: State, command: PauseWithdrawals, context: Context) -> Entry:
    """From the next command on."""
    return Entry(subject=command.asset, detail=pause_withdrawals(state, context, command.asset))


def pause_withdrawals(state: State, context: Context, asset: int) -> int:
    """Nothing of an asset, or of every asset there is, leaves; return the number of the pause."""
    pause = get_rule(state, "pauses") + 1
    set_rule(state, "pauses", pause)
    _set_alarm(state, asset, is_paused=True)
    context.events.add(Kind.HALT, op=HaltLine.WITHDRAWALS_PAUSED, market=asset, detail=pause)
    return pause


def validate_resume(state: State, command: ResumeWithdrawals, context: Context) -> Code:
    """The venue ends pauses, but none that was ordered after the one it names."""
    asset, pause = command
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if asset != EVERY_ASSET and asset >= state.count["assets"]:
        return Code.UNKNOWN_ASSET
    return Code.OK if get_rule(state, "pauses") == pause else Code.NOTHING_TO_DO


def apply_resume(state: State, command: ResumeWithdrawals, context: Context) -> Entry:
    """From the next block on."""
    asset, pause = command
    _set_alarm(state, asset, is_paused=False)
    context.events.add(Kind.HALT, op=HaltLine.WITHDRAWALS_RESUMED, market=asset, detail=pause)
    return Entry(subject=asset, detail=pause)


def _set_alarm(state: State, asset: int, is_paused: bool) -> None:
    assets = range(state.count["assets"]) if asset == EVERY_ASSET else (asset,)
    alarms = state.assets.columns["alarms"]
    for row in assets:
        alarms[row] = alarms.item(row) | _PAUSED if is_paused else alarms.item(row) & ~_PAUSED
        state.assets.mark(row)


# -- rules ----------------------------------------------------------------------------------------


def validate_set_breaker(state: State, command: SetBreaker, context: Context) -> Code:
    """The venue sets the rules of a market's breaker."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if command.market >= state.count["markets"]:
        return Code.UNKNOWN_MARKET
    return Code.OK if command.floor_ppm <= command.cap_ppm else Code.BAD_ARGUMENT


def apply_set_breaker(state: State, command: SetBreaker, context: Context) -> Entry:
    """From the end of this block on; a halt that is in force ends as it was to end."""
    breaker = Breaker(state, context, command.market)
    breaker.set("is_on", command.is_on)
    for field in _RULES_OF_BREAKER:
        breaker.set(field, getattr(command, field))
    if not command.is_on:
        breaker.forget()
    return Entry(subject=command.market, detail=command.is_on)


def validate_set_lift_delay(state: State, command: SetLiftDelay, context: Context) -> Code:
    """The venue sets the lift delay."""
    return Code.OK if is_venue(state, context.key, context.time_ms) else Code.NOT_AUTHORISED


def apply_set_lift_delay(state: State, command: SetLiftDelay, context: Context) -> Entry:
    """For lifts that are sent from now on."""
    set_rule(state, "lift_delay_ms", command.delay_ms)
    return Entry(qty=command.delay_ms)


HANDLERS: Sequence[Handler] = (
    Handler(SetBreaker, validate_set_breaker, apply_set_breaker, delay_of_rules),
    Handler(TripBreaker, validate_trip, apply_trip),
    Handler(LiftBreaker, validate_lift, apply_lift, lift_delay),
    Handler(SetLiftDelay, validate_set_lift_delay, apply_set_lift_delay, delay_of_rules),
    Handler(PauseWithdrawals, validate_pause, apply_pause),
    Handler(ResumeWithdrawals, validate_resume, apply_resume, lift_delay),
)
