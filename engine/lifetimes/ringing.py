"""Taking off the book whatever is due by ledger time."""

import numpy as np

from engine.compiled import kernel
from engine.layout import NONE, Core
from engine.matching.iceberg import open_lots
from engine.matching.records import write_removed
from engine.matching.taking import take_off
from engine.records import Code
from engine.tables.alarms import drop_alarm


@kernel
def ring_alarms(core: Core, now_ms: int, events: np.ndarray) -> int:
    """Cancel what is due at `now_ms`, one line of `events` each, until there is no line left.

    Returns the lines written. An account whose deadline has passed loses all its orders, newest first.
    """
    used = 0
    counters = core.counters.rows[0]
    while counters.alarms > 0 and core.alarms.rows[0].time_ms <= now_ms and used < events.shape[0]:
        who = np.int64(core.alarms.rows[0].who)
        row, code = who, Code.EXPIRED.value
        if who < 0:
            row, code = np.int64(core.accounts.rows[~who].first_order), Code.DEAD_MAN.value
            if row == NONE:
                drop_alarm(core, who)
                continue
        lots = open_lots(core, row)
        write_removed(events[used], code, core.orders.rows[row], lots, 0)
        used += 1
        take_off(core, row, lots)
    return used
