"""The oracle's commands. Those marked TIMELOCKED wait as `engine.timelock` says."""

from typing import Annotated, NamedTuple

from engine.commands import DECIMALS_MAX, AccountId, Bounds, MarketId
from engine.oracle.tables import EPOCH_MS_MAX, FEEDS_MAX, PPM, REPORTERS_MAX, VALUE_MAX, IndexMethod

ReporterId = Annotated[int, Bounds(0, REPORTERS_MAX - 1)]
FeedId = Annotated[int, Bounds(0, FEEDS_MAX - 1)]
EpochMs = Annotated[int, Bounds(100, EPOCH_MS_MAX)]
StaleMs = Annotated[int, Bounds(100, 7 * EPOCH_MS_MAX)]
Share = Annotated[int, Bounds(1, PPM)]


class AddReporter(NamedTuple):
    """By the venue: `account` may report on feeds that it is assigned to, with its REPORT keys."""

    account: AccountId


class RemoveReporter(NamedTuple):
    """By the venue, TIMELOCKED: a reporter reports on nothing any more."""

    reporter: ReporterId


class AddFeed(NamedTuple):
    """By the venue: a new feed, without reporters yet. See `tables.FEED` for the rules."""

    name: str
    decimals: Annotated[int, Bounds(0, DECIMALS_MAX)]
    epoch_ms: EpochMs
    stale_ms: StaleMs
    confidence_max_ppm: Share
    step_max_ppm: Share


class SetFeed(NamedTuple):
    """By the venue, TIMELOCKED: other rules for a feed. The length of its epochs never changes."""

    feed: FeedId
    stale_ms: StaleMs
    confidence_max_ppm: Share
    step_max_ppm: Share


class SetFeedReporter(NamedTuple):
    """By the venue, TIMELOCKED: a reporter reports on a feed from now on (1), or not any more (0)."""

    feed: FeedId
    reporter: ReporterId
    is_on: Annotated[int, Bounds(0, 1)]


class ReportPrice(NamedTuple):
    """By a REPORT key of a reporter's account: what it saw when `epoch` of the feed began, give or take
    `confidence`. Epoch e begins at ledger time e × epoch_ms, and takes reports until it ends."""

    reporter: ReporterId
    feed: FeedId
    epoch: Annotated[int, Bounds(1, 2**62)]
    value: Annotated[int, Bounds(-VALUE_MAX, VALUE_MAX)]
    confidence: Annotated[int, Bounds(0, VALUE_MAX)]


class SetIndex(NamedTuple):
    """By the venue, TIMELOCKED: how the index of a market is made of its feeds (`tables.IndexMethod`)."""

    market: MarketId
    method: Annotated[int, Bounds(0, max(IndexMethod))]


class SetIndexFeed(NamedTuple):
    """By the venue, TIMELOCKED: what a feed weighs in a market's index, relative to the others; 0: not."""

    market: MarketId
    feed: FeedId
    weight: Annotated[int, Bounds(0, PPM)]
