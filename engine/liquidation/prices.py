"""At which prices positions of an account under water are closed. Python integers: exact.

A position's part of its account's equity is `equity × its maintenance margin / that of all`, rounded down.
Closed at its bankruptcy price it costs that part, so the others stay backed as they were.
"""

from typing import NamedTuple

from engine.fixed_point import E6


class Lots(NamedTuple):
    """A position as prices see it."""

    qty: int  # lots, negative if short; not 0
    mark: int  # ticks
    lot_tick: int  # quote units of one lot at one tick
    price_max: int
    maintenance: int  # quote units


def bankruptcy_price(lots: Lots, equity: int, maintenance: int) -> int:
    """The price at which closing all lots costs their part of `equity`, rounded in the account's favour.

    `maintenance` is the sum over the account's positions. Within 1..price_max.
    """
    return _price_after(lots, equity * lots.maintenance // max(maintenance, 1))


def limit_price(lots: Lots, equity: int, maintenance: int, fee_e6: int) -> int:
    """The worst price at which the lots are sold to the book (bought, if short); 0: there is none.

    It leaves the mark price as equity falls below maintenance, and never passes the bankruptcy price with
    the taker's fee on top, nor the rounding of that fee, a unit a fill.
    """
    fallen = max(min(2 * (maintenance - equity), maintenance), 0)
    fillable = _price_after(lots, lots.maintenance * fallen // max(maintenance, 1))
    worst = bankruptcy_price(lots, equity, maintenance)
    if lots.qty > 0:
        if fee_e6:
            worst = -(-worst * E6 // (E6 - fee_e6)) + 1 if fee_e6 < E6 else lots.price_max + 1
        limit = max(fillable, worst)
        return limit if limit <= lots.price_max else 0
    if fee_e6:
        worst = worst * E6 // (E6 + fee_e6) - 1
    return max(min(fillable, worst), 0)


def _price_after(lots: Lots, loss: int) -> int:
    """The price at which all lots lose at most `loss` against the mark price."""
    step = abs(lots.qty) * lots.lot_tick
    worth = step * lots.mark
    price = -((loss - worth) // step) if lots.qty > 0 else (worth + loss) // step
    return max(min(price, lots.price_max), 1)
