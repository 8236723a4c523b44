"""Tables of the options desk: part of the state root and of snapshots, like every other.

Rows of a table are found by their number, so a series links its offers and positions into lists, and free
rows are linked too. A link is a row plus one: zero, what a new row holds, means none.
"""

from enum import IntEnum

import numpy as np

from engine.state import State
from engine.tables.table import Table, TableSpec

SERIES_MAX, OFFERS_MAX, POSITIONS_MAX = 4096, 1 << 16, 1 << 18


class Status(IntEnum):
    """Where a series stands."""

    OPEN = 0
    SETTLING = 1  # its price is fixed, and positions are being paid
    SETTLED = 2


SERIES = np.dtype(
    [
        ("market", "<i4"),
        ("status", "<i4"),
        ("strike", "<i8"),  # ticks
        ("cap", "<i8"),  # ticks
        ("expiry_ms", "<i8"),
        ("price", "<i8"),  # ticks at which it is settled
        ("offers", "<i4"),  # list of its offers
        ("positions", "<i4"),  # list of its positions
        ("reserved", "u1", (16,)),
    ]
)  # 64 bytes: the size of a row divides a page's 4,096

OFFER = np.dtype(
    [
        ("series", "<i4"),
        ("writer", "<i4"),
        ("next", "<i4"),
        ("previous", "<i4"),
        ("lots", "<i8"),  # 0: the row is free
        ("premium", "<i8"),  # quote units a lot
    ]
)  # 32 bytes

POSITION = np.dtype(
    [
        ("series", "<i4"),
        ("writer", "<i4"),
        ("holder", "<i4"),
        ("next", "<i4"),
        ("lots", "<i8"),  # 0: the row is free
        ("reserved", "u1", (8,)),
    ]
)  # 32 bytes

DESK = np.dtype(
    [
        ("escrow", "<i4"),  # account that holds what writers may lose, plus one; 0: not yet
        ("free_offers", "<i4"),  # lists of free rows
        ("free_positions", "<i4"),
        ("reserved", "<i4"),
    ]
)  # 16 bytes; one row

SPECS = (
    TableSpec("options_desk", DESK, 1),
    TableSpec("options_series", SERIES, SERIES_MAX),
    TableSpec("options_offers", OFFER, OFFERS_MAX),
    TableSpec("options_positions", POSITION, POSITIONS_MAX),
)


class Rows:
    """One table by row and column. Whoever writes a row marks its page, so that the root sees it."""

    def __init__(self, state: State, name: str) -> None:
        self._state = state
        self.table: Table = state.table(name)

    @property
    def used(self) -> int:
        """Rows in use or free, from 0 on."""
        return self._state.used(self.table)

    def get(self, row: int, column: str) -> int:
        """A value as a Python integer."""
        return int(self.table.columns[column][row])

    def set(self, row: int, **values: int) -> None:
        """Write some columns of a row."""
        for column, value in values.items():
            self.table.columns[column][row] = value
        self.table.mark(row)

    def has_room(self, free_list: int) -> bool:
        """Whether one more row can be had, from a list of free ones or behind the last."""
        return bool(free_list) or self._state.has_room(self.table)

    def add(self) -> int:
        """A row behind the last."""
        return self._state.add_rows(self.table)
