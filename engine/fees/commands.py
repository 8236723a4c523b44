"""The fee plugin's commands. Those marked TIMELOCKED wait as `engine.timelock` says."""

from typing import Annotated, NamedTuple

from engine.commands import FEE_E6_MAX, AccountId, Amount, Bounds, Fee, MarketId
from engine.fees.tables import DISCOUNT_E6_MAX, FEE_ASSETS_MAX, REFERRAL_SHARE_E6_MAX
from engine.layout import FEE_SCHEDULES, FEE_TIERS


class SetFeeRates(NamedTuple):
    """By the venue, TIMELOCKED: what accounts in `tier` and above pay in markets of `schedule`: set tier 0
    first. A negative maker's fee is a rebate; no tier's may be above any tier's taker fee, which pays it."""

    schedule: Annotated[int, Bounds(1, FEE_SCHEDULES - 1)]
    tier: Annotated[int, Bounds(0, FEE_TIERS - 1)]
    maker_fee_e6: Annotated[int, Bounds(-FEE_E6_MAX, FEE_E6_MAX)]
    taker_fee_e6: Fee


class SetFeeTier(NamedTuple):
    """By the venue, TIMELOCKED: the volume of the last 30 days from which on an account is in `tier`, unless
    a higher one fits too. 0: nobody is."""

    tier: Annotated[int, Bounds(1, FEE_TIERS - 1)]
    volume_from: Annotated[int, Bounds(0, 2**55)]


class SetMarketSchedule(NamedTuple):
    """By the venue, TIMELOCKED: a market's fees by tier, and what it counts for: a unit of volume per
    `quote_per_unit`, rounded down for each trade. Schedule 0: its own two fees, and no volume."""

    market: MarketId
    schedule: Annotated[int, Bounds(0, FEE_SCHEDULES - 1)]
    quote_per_unit: Amount


class SetFeeAsset(NamedTuple):
    """By the venue, TIMELOCKED: fees may be paid in the base asset of `market`, valued by its index, for so
    much less. `place` numbers the assets to choose from."""

    place: Annotated[int, Bounds(0, FEE_ASSETS_MAX - 1)]
    market: MarketId
    discount_e6: Annotated[int, Bounds(0, DISCOUNT_E6_MAX)]


class SetReferralShare(NamedTuple):
    """By the venue, TIMELOCKED: the referrers' share of the fees that it gets."""

    share_e6: Annotated[int, Bounds(0, REFERRAL_SHARE_E6_MAX)]


class ChooseFeeAsset(NamedTuple):
    """By a TRANSFER key of `account`: pay fees in the asset at `choice` − 1; 0: as they come."""

    account: AccountId
    choice: Annotated[int, Bounds(0, FEE_ASSETS_MAX)]


class SetReferrer(NamedTuple):
    """By an ADMIN key of `account`, once: who brought it here. Its referrer's referrer gets nothing."""

    account: AccountId
    referrer: AccountId
