"""The breakers' commands. Those marked TIMELOCKED wait as `engine.timelock` says."""

from typing import Annotated, NamedTuple

from engine.commands import AssetId, Bounds, MarketId
from engine.oracle.commands import FeedId, Share
from engine.oracle.tables import PPM, VALUE_MAX
from engine.records import AMOUNT_MAX, EVERY_MARKET

DAY_MS = 86_400_000
EVERY_ASSET = EVERY_MARKET
LIFT_DELAY_MS_MIN = 60_000

MarketOrAll = Annotated[int, Bounds(0, EVERY_MARKET)]
AssetOrAll = Annotated[int, Bounds(0, EVERY_ASSET)]
Number = Annotated[int, Bounds(1, 2**62)]


class SetBreaker(NamedTuple):
    """By the venue, TIMELOCKED: the rules of a market's breaker, see `tables.BREAKER`; or none (0)."""

    market: MarketId
    is_on: Annotated[int, Bounds(0, 1)]
    floor_ppm: Share
    cap_ppm: Share
    limit_ms: Annotated[int, Bounds(0, DAY_MS)]
    quiet_ms: Annotated[int, Bounds(0, 30 * DAY_MS)]
    grace_ms: Annotated[int, Bounds(0, DAY_MS)]
    liquidation_max: Annotated[int, Bounds(0, AMOUNT_MAX)]


class TripBreaker(NamedTuple):
    """By a guardian, at once: nothing trades on a market, or on any (65535), until the venue lifts it."""

    market: MarketOrAll


class LiftBreaker(NamedTuple):
    """By the venue, after the lift delay: what was tripped under this number may reopen."""

    market: MarketOrAll
    trip: Number


class SetLiftDelay(NamedTuple):
    """By the venue, TIMELOCKED: how long lifting waits from now on."""

    delay_ms: Annotated[int, Bounds(LIFT_DELAY_MS_MIN, 30 * DAY_MS)]


class SetPeg(NamedTuple):
    """By the venue, TIMELOCKED: an asset is worth `anchor` of a feed, give or take `deviation_ppm`; off it,
    collateral in it counts for `haircut_ppm` less. Anchor 0: no such rule."""

    asset: AssetId
    feed: FeedId
    anchor: Annotated[int, Bounds(0, VALUE_MAX)]
    deviation_ppm: Share
    haircut_ppm: Annotated[int, Bounds(0, PPM)]


class SetOutflowLimit(NamedTuple):
    """By the venue, TIMELOCKED: how much of an asset may leave, see `outflows`. Cap 0: no limit."""

    asset: AssetId
    cap: Annotated[int, Bounds(0, AMOUNT_MAX)]
    refill_per_hour: Annotated[int, Bounds(0, AMOUNT_MAX)]
    deposit_share_ppm: Annotated[int, Bounds(0, PPM)]


class PauseWithdrawals(NamedTuple):
    """By a guardian, at once: nothing of an asset, or of any (65535), leaves until the venue resumes."""

    asset: AssetOrAll


class ResumeWithdrawals(NamedTuple):
    """By the venue, after the lift delay: end a pause, if none was ordered after the one of this number."""

    asset: AssetOrAll
    pause: Number
