"""Who is due next: one binary heap over ledger time, for orders that expire and accounts with a deadline.

An entry says when and who: `who` is an order row, or ~account (that is −1 − account). Orders and accounts
know where their entry stands (`alarm`, its place plus one), so one that leaves takes its entry along, and
the heap never holds more than there are orders and accounts. Earlier comes first, then the lower `who`.
"""

import numpy as np

from engine.compiled import inlined, kernel
from engine.layout import ACCOUNT_PAGE, ALARM_PAGE, TERMS_PAGE, Core


@kernel
def set_alarm(core: Core, who: int, time_ms: int) -> None:
    """Ring for `who` at `time_ms`, and not when it was set to before. Caller reserved a row."""
    place = _find(core, who)
    if place < 0:
        counters = core.counters.rows[0]
        place = counters.alarms
        counters.alarms = place + 1
        core.counters.dirty[0] = 1
    _sift(core, place, time_ms, who)


@kernel
def drop_alarm(core: Core, who: int) -> None:
    """Forget the alarm of `who`, if there is one."""
    place = _find(core, who)
    if place < 0:
        return
    _note(core, who, -1)
    counters = core.counters.rows[0]
    last = counters.alarms - 1
    counters.alarms = last
    core.counters.dirty[0] = 1
    moved = core.alarms.rows[last]
    time_ms, other = moved.time_ms, np.int64(moved.who)
    moved.time_ms = 0
    moved.who = 0
    core.alarms.dirty[last >> ALARM_PAGE] = 1
    if place != last:
        _sift(core, place, time_ms, other)


@inlined
def _sift(core: Core, place: int, time_ms: int, who: int) -> None:
    """Put (time_ms, who) where it belongs, from the free `place` up or down."""
    while place > 0:
        above = (place - 1) >> 1
        if not _precedes(core, time_ms, who, above):
            break
        _move(core, above, place)
        place = above
    used = core.counters.rows[0].alarms
    while True:
        below = 2 * place + 1
        if below >= used:
            break
        if below + 1 < used and _entry_precedes(core, below + 1, below):
            below += 1
        if _precedes(core, time_ms, who, below):
            break
        _move(core, below, place)
        place = below
    _put(core, place, time_ms, who)


@inlined
def _precedes(core: Core, time_ms: int, who: int, place: int) -> bool:
    entry = core.alarms.rows[place]
    return time_ms < entry.time_ms or (time_ms == entry.time_ms and who <= entry.who)


@inlined
def _entry_precedes(core: Core, place: int, other: int) -> bool:
    entry = core.alarms.rows[place]
    return _precedes(core, entry.time_ms, np.int64(entry.who), other)


@inlined
def _move(core: Core, source: int, target: int) -> None:
    entry = core.alarms.rows[source]
    _put(core, target, entry.time_ms, np.int64(entry.who))


@inlined
def _put(core: Core, place: int, time_ms: int, who: int) -> None:
    entry = core.alarms.rows[place]
    entry.time_ms = time_ms
    entry.who = who
    core.alarms.dirty[place >> ALARM_PAGE] = 1
    _note(core, who, place)


@inlined
def _find(core: Core, who: int) -> int:
    """Place of the entry of `who`, or −1."""
    if who >= 0:
        return int(core.terms.rows[who].alarm) - 1
    return int(core.accounts.rows[~who].alarm) - 1


@inlined
def _note(core: Core, who: int, place: int) -> None:
    if who >= 0:
        core.terms.rows[who].alarm = place + 1
        core.terms.dirty[who >> TERMS_PAGE] = 1
    else:
        core.accounts.rows[~who].alarm = place + 1
        core.accounts.dirty[~who >> ACCOUNT_PAGE] = 1
