"""Commands about liquidation: arguments and bounds. See `engine.commands`."""

from typing import Annotated, NamedTuple

from engine.commands import AccountId, AssetId, Bounds, MarketId
from engine.fixed_point import LOTS_MAX
from engine.records import AMOUNT_MAX

FEE_PPM_MAX = 50_000
COOLDOWN_MS_MAX = 600_000

QuoteUnits = Annotated[int, Bounds(0, AMOUNT_MAX)]


class SetLiquidation(NamedTuple):
    """By the venue: how positions settled in `asset` are liquidated. Waits in the timelock.

    `insurance` is the account whose available balance is the fund; it should hold no positions: while it
    does, it pays nothing. The other arguments are columns of RULES.
    """

    asset: AssetId
    insurance: AccountId
    fee_ppm: Annotated[int, Bounds(0, FEE_PPM_MAX)]
    large_from: QuoteUnits
    cooldown_ms: Annotated[int, Bounds(0, COOLDOWN_MS_MAX)]
    cover_max: QuoteUnits
    alarm_at: QuoteUnits


class RegisterBackstop(NamedTuple):
    """By the venue: an account takes over positions in a market, up to `lots_max` lots of its own, as far as
    its margin allows. 0: no more. Who registered first is asked first. Waits in the timelock."""

    account: AccountId
    market: MarketId
    lots_max: Annotated[int, Bounds(0, LOTS_MAX)]
