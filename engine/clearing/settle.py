"""Settlement of trades: value moves between balance rows at the moment of the fill.

Bound for all of it: an asset's supply is at most AMOUNT_MAX and every row is part of it, so no sum
here can pass 2^62. Each kernel conserves value: what one row loses, another gains.
"""

from engine.compiled import inlined
from engine.layout import BALANCE_PAGE, Rows


@inlined
def settle_maker(balances: Rows, pay_row: int, paid: int, receive_row: int, received: int) -> None:
    """A resting order traded: `paid` leaves its hold, `received` (after its fee) becomes available."""
    balances.rows[pay_row].held -= paid
    balances.dirty[pay_row >> BALANCE_PAGE] = 1
    balances.rows[receive_row].available += received
    balances.dirty[receive_row >> BALANCE_PAGE] = 1


@inlined
def settle_taker(balances: Rows, pay_row: int, paid: int, held: int, receive_row: int, received: int) -> None:
    """An incoming order is done: pay for all its fills at once, and hold for what now rests.

    Caller ensured that paid + held is available: both are parts of the hold that admission checked.
    """
    balance = balances.rows[pay_row]
    balance.available -= paid + held
    balance.held += held
    balances.dirty[pay_row >> BALANCE_PAGE] = 1
    if received > 0:
        credit(balances, receive_row, received)


@inlined
def credit(balances: Rows, row: int, amount: int) -> None:
    """Add `amount` to what a balance row has available."""
    balances.rows[row].available += amount
    balances.dirty[row >> BALANCE_PAGE] = 1
