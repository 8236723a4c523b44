"""Commands of the options desk. Their names on the wire are `list_options`, `offer_options`, ….

A command is a NamedTuple whose fields are annotated with bounds: what is out of bounds is refused before a
plugin sees it.
"""

from enum import IntEnum
from typing import Annotated, NamedTuple

from engine.commands import EXPIRY_NEVER, PRICE_LEVELS_MAX, AccountId, Amount, Bounds, MarketId
from engine.records import AMOUNT_MAX

Row = Annotated[int, Bounds(0, 2**31 - 1)]
Ticks = Annotated[int, Bounds(0, PRICE_LEVELS_MAX)]


class ListOptions(NamedTuple):
    """By the venue: a new series on a market, until `expiry_ms` of ledger time."""

    market: MarketId
    strike: Ticks
    cap: Ticks
    expiry_ms: Annotated[int, Bounds(1, EXPIRY_NEVER)]


class OfferOptions(NamedTuple):
    """By a TRADE key of `account`: write up to `lots` of a series, for `premium` quote units a lot."""

    series: Row
    account: AccountId
    lots: Amount
    premium: Annotated[int, Bounds(0, AMOUNT_MAX)]


class WithdrawOffer(NamedTuple):
    """By a TRADE key of its writer: what is left of an offer comes back."""

    offer: Row


class TakeOptions(NamedTuple):
    """By a TRADE key of `account`: hold `lots` of an offer, and pay its premium."""

    offer: Row
    account: AccountId
    lots: Amount


class OptionsLine(IntEnum):
    """What a FOREIGN journal line of this plugin tells, in its `op`. `market` is the options' market."""

    TAKEN = 1  # account: holder; counter_account: writer; qty: lots; price: premium a lot; detail: series
    PRICED = 2  # price: ticks at which a series is settled; detail: series
    PAID = 3  # account: holder; counter_account: writer; qty: what the holder got; detail: series
