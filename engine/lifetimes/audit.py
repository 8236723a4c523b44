"""Exact audit of alarms: the heap is one, and everybody in it knows their place."""

import numpy as np

from consensus.primitives.errors import ensure
from engine.layout import OrderFlag
from engine.state import State


def check_alarms(state: State) -> None:
    """No entry is due before the one above it; orders that expire and accounts with deadlines know theirs."""
    used = state.count["alarms"]
    entries = state.alarms.data[:used]
    times, who = entries["time_ms"], entries["who"].astype(np.int64)
    above = (np.arange(1, used) - 1) >> 1
    sorted_by_time = times[above] < times[1:]
    ties = (times[above] == times[1:]) & (who[above] < who[1:])
    ensure(bool(np.all(sorted_by_time | ties)), "an alarm stands above an earlier one")
    orders, places = who[who >= 0], np.arange(used)
    ensure(
        np.array_equal(state.terms.columns["alarm"][orders], places[who >= 0] + 1)
        and np.array_equal(state.terms.columns["expiry_ms"][orders], times[who >= 0]),
        "an order does not know its alarm",
    )
    accounts = ~who[who < 0]
    ensure(
        np.array_equal(state.accounts.columns["alarm"][accounts], places[who < 0] + 1),
        "an account does not know its alarm",
    )
    rows = state.orders.data[: state.used(state.orders)]
    has_terms = (rows["flags"] & OrderFlag.HAS_TERMS) != 0
    expiring = has_terms & (state.terms.columns["expiry_ms"][: rows.shape[0]] > 0)
    ensure(np.count_nonzero(expiring) == orders.shape[0], "orders that expire and alarms differ in number")
    waiting = np.count_nonzero(state.accounts.columns["alarm"][: state.count["accounts"]])
    ensure(waiting == accounts.shape[0], "accounts with a deadline and alarms differ in number")
