"""Commands about perpetual markets, margin and collateral: arguments and bounds. See `engine.commands`."""

from typing import Annotated, NamedTuple

from engine.commands import PRICE_LEVELS_MAX, AccountId, Amount, AssetId, Bounds, Fee, MarketId
from engine.fixed_point import E6, LOTS_MAX
from engine.layout import TIERS_MAX, MarginMode
from engine.margin.scores import ADDON_BPS_MAX
from engine.perpetuals.funding import FUNDING_CAP_PPM_MAX
from engine.records import AMOUNT_MAX

OFFSET_PPM_MAX = 900_000  # long and short of one underlying never cancel out wholly
_DAY_MS = 24 * 3600 * 1000

Lots = Annotated[int, Bounds(1, LOTS_MAX)]
Rate = Annotated[int, Bounds(1, E6)]
FundingInterval = Annotated[int, Bounds(1000, 7 * _DAY_MS)]
FundingCap = Annotated[int, Bounds(0, FUNDING_CAP_PPM_MAX)]
Bps = Annotated[int, Bounds(0, ADDON_BPS_MAX)]
Flag = Annotated[int, Bounds(0, 1)]


class ListPerpetual(NamedTuple):
    """By the venue: a new market in a linear perpetual contract, open at once, with one margin tier.

    One lot stands for `base_per_lot` units of `base_asset`, the underlying, which is never delivered;
    `quote_asset` is what it is priced, margined and settled in. Markets of one `group` (0: none) have one
    underlying; `offset_ppm` is how much of what long and short of it offset counts in PORTFOLIO mode.
    """

    name: str
    base_asset: AssetId
    quote_asset: AssetId
    base_per_lot: Amount
    quote_per_lot_tick: Amount
    price_max: Annotated[int, Bounds(1, PRICE_LEVELS_MAX - 1)]
    qty_max: Lots
    notional_min: Annotated[int, Bounds(0, AMOUNT_MAX)]
    maker_fee_e6: Fee
    taker_fee_e6: Fee
    initial_ppm: Rate
    maintenance_ppm: Rate
    scan_ppm: Annotated[int, Bounds(0, E6)]
    collar_ppm: Rate
    position_max: Lots
    open_interest_max: Lots
    funding_interval_ms: FundingInterval
    funding_cap_ppm: FundingCap
    group: Annotated[int, Bounds(0, 2**31 - 1)]
    offset_ppm: Annotated[int, Bounds(0, OFFSET_PPM_MAX)]


class SetMarginTier(NamedTuple):
    """By the venue: change a tier, or append the next one: rates of the notional above `notional_from`."""

    market: MarketId
    number: Annotated[int, Bounds(0, TIERS_MAX - 1)]
    notional_from: Annotated[int, Bounds(0, AMOUNT_MAX)]
    initial_ppm: Rate
    maintenance_ppm: Rate


class SetPositionLimits(NamedTuple):
    """By the venue: limits and ranges of a perpetual market. Positions beyond a limit stay."""

    market: MarketId
    position_max: Lots
    open_interest_max: Lots
    scan_ppm: Annotated[int, Bounds(0, E6)]
    collar_ppm: Rate


class SetFunding(NamedTuple):
    """By the venue: how often a market funds from the next time on, and by how much at most."""

    market: MarketId
    interval_ms: FundingInterval
    cap_ppm: FundingCap


class RegisterCollateral(NamedTuple):
    """By the venue: `asset` backs positions settled in the quote asset of `market`, its spot market; or other
    terms for one that does. Up to `cap` base units of an account count."""

    asset: AssetId
    market: MarketId
    haircut_ppm: Annotated[int, Bounds(0, E6)]
    cap: Annotated[int, Bounds(0, AMOUNT_MAX)]


class SetMarginMode(NamedTuple):
    """By a TRADE key of `account`: how its cross positions are margined together."""

    account: AccountId
    mode: Annotated[int, Bounds(0, max(MarginMode))]


class SetIsolation(NamedTuple):
    """By a TRADE key of `account`: whether its position in a market is backed by its own collateral alone.

    Only while it is flat and has no open lots. What collateral is left goes back to the account."""

    account: AccountId
    market: MarketId
    isolated: Flag


class AddCollateral(NamedTuple):
    """By a TRADE key of `account`: set more aside for its isolated position."""

    account: AccountId
    market: MarketId
    amount: Amount


class RemoveCollateral(NamedTuple):
    """By a TRADE key of `account`: take back what its isolated position does not need."""

    account: AccountId
    market: MarketId
    amount: Amount


class RegisterScorer(NamedTuple):
    """By the venue: whether a key may attest risk scores."""

    public_key: bytes
    active: Flag


class AttestScore(NamedTuple):
    """By a scorer: how much more initial margin an account should put up, until a height.

    `model_hash` names the model that says so; it stands in the block for whoever audits scores."""

    account: AccountId
    addon_bps: Bps
    expiry_height: Annotated[int, Bounds(1, 2**62)]
    model_hash: bytes


class SetDefaultAddon(NamedTuple):
    """By the venue: the add-on of accounts without a fresh score."""

    addon_bps: Bps
