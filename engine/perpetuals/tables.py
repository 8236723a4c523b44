"""Tables of this package that no kernel reads."""

import numpy as np

from engine.tables.table import TableSpec

SCORERS = "scorers"
SCORERS_MAX = 64
SCORER = np.dtype([("key", "<i4"), ("active", "<i4"), ("reserved", "<i8")])  # 16 bytes; row of the key table
SCORERS_SPEC = TableSpec(SCORERS, SCORER, SCORERS_MAX)
