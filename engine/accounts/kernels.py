"""Whether each order operation may be given by the key that signed it."""

import numpy as np

from engine.compiled import kernel
from engine.layout import NONE, Core, Scope
from engine.records import Code
from engine.tables.index import find_grant


@kernel
def authorise_orders(core: Core, ops: np.ndarray, keys: np.ndarray, codes: np.ndarray) -> None:
    """Write why each operation is refused, or OK: its key needs a live TRADE grant on its account.

    ops (n,) ORDER_OP. keys (n,) int64, the row of the key that signed each. codes (n,) uint8,
    overwritten. Runs of one account under one key, the common case, are looked up once.
    """
    counters = core.counters.rows[0]
    last_key, last_account, code = np.int64(NONE), np.int64(NONE), np.int64(Code.OK)
    for i in range(ops.shape[0]):
        key, account = keys[i], np.int64(ops[i].account)
        if key != last_key or account != last_account:
            last_key, last_account = key, account
            code = np.int64(Code.OK)
            if account >= counters.accounts:
                code = np.int64(Code.UNKNOWN_ACCOUNT)
            else:
                row = find_grant(core.grant_index, core.grants.rows, key, account)
                if row == NONE or core.grants.rows[row].scopes & Scope.TRADE == 0:
                    code = np.int64(Code.NOT_AUTHORISED)
                elif counters.time_ms >= core.grants.rows[row].expiry_ms:
                    code = np.int64(Code.KEY_EXPIRED)
        codes[i] = code
