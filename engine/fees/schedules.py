"""Setting what fees are, and what an account chooses."""

from collections.abc import Sequence

from engine.authority import has_scope, is_venue
from engine.fees.commands import (
    ChooseFeeAsset,
    SetFeeAsset,
    SetFeeRates,
    SetFeeTier,
    SetMarketSchedule,
    SetReferralShare,
    SetReferrer,
)
from engine.layout import FEE_TIERS, MarketKind, Scope
from engine.plugin import Context, Entry, Handler
from engine.records import Code
from engine.state import State
from engine.tables.table import Table
from engine.timelock.queue import delay_of_rules

_ADMIN, _TRANSFER = int(Scope.ADMIN), int(Scope.TRANSFER)


def ensure_rows(state: State, name: str, rows: int) -> Table:
    """A table of this plugin, with so many rows in use at least."""
    table = state.table(name)
    missing = rows - state.used(table)
    if missing > 0:
        state.add_rows(table, missing)
    return table


def _check_venue(state: State, context: Context) -> Code:
    return Code.OK if is_venue(state, context.key, context.time_ms) else Code.NOT_AUTHORISED


def validate_set_rates(state: State, command: SetFeeRates, context: Context) -> Code:
    """The venue sets rates, and whoever gets a rebate gets it from a taker who pays at least as much."""
    if code := _check_venue(state, context):
        return code
    first, rates = command.schedule * FEE_TIERS, state.fee_rates.columns
    maker, taker = [0] * FEE_TIERS, [0] * FEE_TIERS
    if state.count["fee_rates"] > first:
        maker = rates["maker_fee_e6"][first : first + FEE_TIERS].tolist()
        taker = rates["taker_fee_e6"][first : first + FEE_TIERS].tolist()
    above = FEE_TIERS - command.tier
    maker[command.tier :] = [command.maker_fee_e6] * above
    taker[command.tier :] = [command.taker_fee_e6] * above
    return Code.OK if -min(maker) <= min(taker) else Code.REBATE_TOO_HIGH


def apply_set_rates(state: State, command: SetFeeRates, context: Context) -> Entry:
    """From the next order on."""
    state.reserve_fee_rates(command.schedule)
    first = command.schedule * FEE_TIERS
    for row in range(first + command.tier, first + FEE_TIERS):
        state.fee_rates.columns["maker_fee_e6"][row] = command.maker_fee_e6
        state.fee_rates.columns["taker_fee_e6"][row] = command.taker_fee_e6
        state.fee_rates.mark(row)
    return Entry(subject=command.schedule, qty=command.taker_fee_e6, detail=command.maker_fee_e6)


def validate_set_tier(state: State, command: SetFeeTier, context: Context) -> Code:
    """The venue sets tiers."""
    return _check_venue(state, context)


def apply_set_tier(state: State, command: SetFeeTier, context: Context) -> Entry:
    """Accounts move as they trade, the others as the sweep that begins here comes to them."""
    table = ensure_rows(state, "fee_tiers", FEE_TIERS)
    table.columns["volume_from"][command.tier] = command.volume_from
    table.mark(command.tier)
    settings = ensure_rows(state, "fee_settings", 1)
    settings.columns["sweep_next"][0] = 0
    settings.mark(0)
    return Entry(subject=command.tier, qty=command.volume_from)


def validate_set_schedule(state: State, command: SetMarketSchedule, context: Context) -> Code:
    """The venue gives markets schedules that exist."""
    if code := _check_venue(state, context):
        return code
    if command.market >= state.count["markets"]:
        return Code.UNKNOWN_MARKET
    known = command.schedule == 0 or state.count["fee_rates"] > command.schedule * FEE_TIERS
    return Code.OK if known else Code.UNKNOWN_SCHEDULE


def apply_set_schedule(state: State, command: SetMarketSchedule, context: Context) -> Entry:
    """From the next order on."""
    state.markets.columns["fee_schedule"][command.market] = command.schedule
    state.markets.mark(command.market)
    table = ensure_rows(state, "fee_markets", state.count["markets"])
    table.columns["quote_per_unit"][command.market] = command.quote_per_unit
    table.mark(command.market)
    return Entry(subject=command.market, qty=command.quote_per_unit, detail=command.schedule)


def validate_set_asset(state: State, command: SetFeeAsset, context: Context) -> Code:
    """The venue names spot markets."""
    if code := _check_venue(state, context):
        return code
    if command.market >= state.count["markets"]:
        return Code.UNKNOWN_MARKET
    is_spot = state.markets.columns["kind"].item(command.market) == MarketKind.SPOT
    return Code.OK if is_spot else Code.BAD_ARGUMENT


def apply_set_asset(state: State, command: SetFeeAsset, context: Context) -> Entry:
    """From this block's trades on. Unused places below it become its copies, so that all name a market."""
    table = state.table("fee_assets")
    first = min(state.used(table), command.place)
    ensure_rows(state, "fee_assets", command.place + 1)
    for row in range(first, command.place + 1):
        table.columns["market"][row] = command.market
        table.columns["discount_e6"][row] = command.discount_e6
        table.mark(row)
    return Entry(subject=command.market, qty=command.discount_e6, detail=command.place)


def validate_set_share(state: State, command: SetReferralShare, context: Context) -> Code:
    """The venue sets the share."""
    return _check_venue(state, context)


def apply_set_share(state: State, command: SetReferralShare, context: Context) -> Entry:
    """From this block's trades on."""
    settings = ensure_rows(state, "fee_settings", 1)
    settings.columns["referral_share_e6"][0] = command.share_e6
    settings.mark(0)
    return Entry(qty=command.share_e6)


def validate_choose(state: State, command: ChooseFeeAsset, context: Context) -> Code:
    """Whoever may spend an account's funds chooses."""
    if command.account >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    if not has_scope(state, context.key, command.account, _TRANSFER, context.time_ms):
        return Code.NOT_AUTHORISED
    known = command.choice <= state.used(state.table("fee_assets"))
    return Code.OK if known else Code.UNKNOWN_FEE_ASSET


def apply_choose(state: State, command: ChooseFeeAsset, context: Context) -> Entry:
    """From this block's trades on."""
    _choose(state, command.account, "fee_asset", command.choice)
    return Entry(account=command.account, detail=command.choice)


def validate_set_referrer(state: State, command: SetReferrer, context: Context) -> Code:
    """An owner names another account, once."""
    if max(command.account, command.referrer) >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    if not has_scope(state, context.key, command.account, _ADMIN, context.time_ms):
        return Code.NOT_AUTHORISED
    if command.account == command.referrer:
        return Code.BAD_ARGUMENT
    table = state.table("fee_accounts")
    known = command.account < state.used(table) and table.columns["referrer"].item(command.account) > 0
    return Code.NOTHING_TO_DO if known else Code.OK


def apply_set_referrer(state: State, command: SetReferrer, context: Context) -> Entry:
    """For good: whoever could change it could sell it."""
    _choose(state, command.account, "referrer", command.referrer + 1)
    return Entry(account=command.account, counter_account=command.referrer)


def _choose(state: State, account: int, field: str, value: int) -> None:
    table = ensure_rows(state, "fee_accounts", account + 1)
    table.columns[field][account] = value
    table.mark(account)
    settings = ensure_rows(state, "fee_settings", 1)
    settings.columns["choices"][0] += 1
    settings.mark(0)


HANDLERS: Sequence[Handler] = (
    Handler(SetFeeRates, validate_set_rates, apply_set_rates, delay_of_rules),
    Handler(SetFeeTier, validate_set_tier, apply_set_tier, delay_of_rules),
    Handler(SetMarketSchedule, validate_set_schedule, apply_set_schedule, delay_of_rules),
    Handler(SetFeeAsset, validate_set_asset, apply_set_asset, delay_of_rules),
    Handler(SetReferralShare, validate_set_share, apply_set_share, delay_of_rules),
    Handler(ChooseFeeAsset, validate_choose, apply_choose),
    Handler(SetReferrer, validate_set_referrer, apply_set_referrer),
)
