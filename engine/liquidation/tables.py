"""Rows of this package's tables."""

from enum import IntEnum

import numpy as np

from engine.genesis import POOLS_MAX
from engine.state import State
from engine.tables.table import Table, TableSpec

BACKSTOPS_MAX = 256  # (account, market) pairs that ever were

ROUND = np.dtype([("next_account", "<i8"), ("reserved", "u1", (56,))])  # 64 bytes; one row

RULES = np.dtype(
    [
        ("insurance_plus_one", "<i4"),  # the account whose balance is the insurance fund; 0: there is none
        ("fee_ppm", "<i4"),  # of what the book takes, to the fund
        ("large_from", "<i8"),  # quote units: larger positions are sold in parts; 0: none is
        ("cooldown_ms", "<i8"),  # ledger time between two parts
        ("cover_max", "<i8"),  # quote units that the fund pays in one block
        ("alarm_at", "<i8"),  # a deficit of so many quote units stops every market; 0: none does
        ("deficit", "<i8"),  # quote units missing, as far as the last round and this one found
        ("deficit_found", "<i8"),  # in this round so far
        ("reserved", "<i8"),
    ]
)  # 64 bytes; row = pool

BACKSTOP = np.dtype([("account", "<i4"), ("market", "<i4"), ("lots_max", "<i8")])  # 16 bytes, in order

TABLES = (
    TableSpec("liquidation_round", ROUND, 1),
    TableSpec("liquidation_rules", RULES, POOLS_MAX),
    TableSpec("backstops", BACKSTOP, BACKSTOPS_MAX),
)


class Stage(IntEnum):
    """What a LIQUIDATION line tells, in its `op`. Counter account: whoever took the lots, or paid."""

    BOOK = 1  # price: limit; qty: lots sold; fee: to the fund; detail: quote units they were sold for
    BACKSTOP = 2  # price: bankruptcy price; qty: lots
    DELEVERAGED = 3  # the same; the counter account's position was closed against it
    INSURANCE = 4  # qty: quote units that the fund paid
    DEFICIT = 5  # qty: quote units missing; market: 0


def open_rules(state: State) -> Table:
    """The rules, with a row for every pool."""
    table = state.table("liquidation_rules")
    missing = state.count["pools"] - state.used(table)
    if missing > 0:
        state.add_rows(table, missing)
    return table
