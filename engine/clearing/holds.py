"""Holds: what an open order may cost is set aside from the account's available balance.

A buyer holds price × lots × quote_per_lot_tick of the quote asset, a seller lots × base_per_lot of
the base asset. Fees come out of what a side receives, so a hold is exact and leaves no dust: the hold
of q lots is the sum of the holds of its parts.
"""

import numpy as np

from engine.compiled import inlined
from engine.layout import BALANCE_PAGE, Rows
from engine.records import Side


@inlined
def compute_hold(side: int, price: int, qty: int, market: np.record) -> int:
    """Base units that `qty` lots hold: of the quote asset for a buyer, of the base asset for a seller.

    Bound: admission checked price × qty × quote_per_lot_tick and listing checked
    qty_max × base_per_lot against AMOUNT_MAX.
    """
    if side == Side.BUY:
        return price * qty * market.quote_per_lot_tick
    return qty * market.base_per_lot


@inlined
def release_hold(balances: Rows, row: int, amount: int) -> None:
    """Move `amount` (at most what is held) of one balance row from held back to available."""
    balance = balances.rows[row]
    balance.held -= amount
    balance.available += amount
    balances.dirty[row >> BALANCE_PAGE] = 1
