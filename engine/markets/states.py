"""Market states, and the one table of what may be done in each.

Cancels, reductions, deposits and top-ups of margin are possible in every state: nobody is ever locked
into an order.
"""

from enum import IntEnum

from engine.compiled import shared


class MarketStatus(IntEnum):
    """Where a market stands. The wire's and the tables' numbers: append only."""

    CLOSED = 0
    OPEN = 1
    PRE_OPEN = 2  # orders gather before an opening auction is called
    AUCTION = 3  # a call: orders gather, and uncross at its end
    HALTED = 4  # a breaker stopped it; an auction reopens it
    CANCEL_ONLY = 5
    DELISTED = 6  # settled, for good
    UNCROSSING = 7  # an auction's price is fixed and its trades are being made, over several blocks


class Action(IntEnum):
    """What an operation may want of a market; bits."""

    ENTER = 1  # place orders, or give them a new price or more lots
    MATCH = 2  # trade continuously
    TRIGGER = 4  # conditional orders may become orders
    LIQUIDATE = 8  # clearing may close positions


_ENTER, _MATCH, _TRIGGER, _LIQUIDATE = (action.value for action in Action)

# indexed by MarketStatus
ALLOWED = (
    0,
    _ENTER | _MATCH | _TRIGGER | _LIQUIDATE,
    _ENTER,
    _ENTER,
    0,
    0,
    0,
    0,
)


@shared
def allows(status: int, actions: int) -> bool:
    """Whether a market in `status` takes all of `actions`, bits of `Action`."""
    return (ALLOWED[status] & actions) == actions
