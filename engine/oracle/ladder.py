"""What may be done at a price of each status: one table.

    NONPOSITIVE   a price at or below zero: nothing works
    VOLATILE      it moved more than it may in one step; what stands is as far as it may go
    UNCERTAIN     reporters disagree by more than the feed allows, or the book cannot express it
    STALE         too few reports for too long; the last price stands
    VALID

A worse status never allows what a better one forbids. Trading goes on while there is any price: the band
around the last reference, frozen where nothing renews it, limits it. What touches other people's positions
or lends them money waits for a price that can be trusted. NONE, a market without an oracle, is outside the
ladder: it trades and calls auctions as markets always did, and nothing is margined there.
"""

from enum import IntEnum

from engine.compiled import shared


class PriceAction(IntEnum):
    """What somebody may want to do at a market's oracle price; bits."""

    TRADE = 1
    NEW_RISK = 2  # open or grow a margined position
    LIQUIDATE = 4
    BORROW = 8
    AUCTION = 16  # uncross a halted market
    TRIGGER = 32  # conditional orders that wait for it may become orders


_TRADE, _NEW_RISK, _LIQUIDATE, _BORROW, _AUCTION, _TRIGGER = (action.value for action in PriceAction)

# indexed by PriceStatus
ALLOWED = (
    _TRADE | _NEW_RISK | _LIQUIDATE | _BORROW | _AUCTION | _TRIGGER,  # VALID
    _TRADE | _TRIGGER,  # STALE
    _TRADE,  # UNCERTAIN
    _TRADE,  # VOLATILE
    0,  # NONPOSITIVE
    _TRADE | _AUCTION,  # NONE
)


@shared
def price_allows(status: int, actions: int) -> bool:
    """Whether a price of `status` allows all of `actions`, bits of `PriceAction`."""
    return (ALLOWED[status] & actions) == actions
