"""Listing perpetual markets, and changing their terms.

Bounds are set here, once, for every product in a kernel: open interest × price_max × quote_per_lot_tick is at
most NOTIONAL_MAX, open interest at most LOTS_MAX, and no position is larger than open interest.
"""

from engine.authority import is_venue
from engine.fixed_point import NOTIONAL_MAX
from engine.genesis import CLEARING_ACCOUNT, VENUE_ACCOUNT
from engine.layout import NONE, TIERS_MAX, MarketKind
from engine.margin.tiers import base_of_next
from engine.markets.states import MarketStatus
from engine.perpetuals.commands import ListPerpetual, SetFunding, SetMarginTier, SetPositionLimits
from engine.plugin import Context, Entry
from engine.records import AMOUNT_MAX, Code
from engine.state import State

_MARKET_FIELDS = ("base_asset", "quote_asset", "base_per_lot", "quote_per_lot_tick", "qty_max")
_LIMITS_AND_FEES = ("notional_min", "maker_fee_e6", "taker_fee_e6")
_TERMS = ("position_max", "open_interest_max", "scan_ppm", "collar_ppm", "group", "offset_ppm")


def validate_list_perpetual(state: State, command: ListPerpetual, context: Context) -> Code:
    """The venue lists contracts, each name once, within exact arithmetic."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if max(command.base_asset, command.quote_asset) >= state.count["assets"]:
        return Code.UNKNOWN_ASSET
    if command.name in state.market_ids:
        return Code.NAME_TAKEN
    if not _is_sound(command):
        return Code.BAD_ARGUMENT
    if command.quote_asset in state.collaterals.columns["asset"][: state.count["collaterals"]]:
        return Code.ASSET_BACKS_ANOTHER
    if not (
        state.has_room(state.markets)
        and state.has_room(state.levels, 2 * (command.price_max + 1))
        and state.has_room(state.balances, 2)
        and (find_pool(state, command.quote_asset) != NONE or state.has_room(state.pools))
    ):
        return Code.LIMIT_REACHED
    return Code.OK


def apply_list_perpetual(state: State, command: ListPerpetual, context: Context) -> Entry:
    """Append market, terms, tiers, and the pool of its settlement asset if it is the first of it."""
    market = state.add_market(command.name, command.price_max + 1)
    row = state.add_perpetual()
    pool = find_pool(state, command.quote_asset)
    if pool == NONE:
        pool = _open_pool(state, command.quote_asset)
    columns = state.markets.columns
    for field in _MARKET_FIELDS + _LIMITS_AND_FEES:
        columns[field][market] = getattr(command, field)
    columns["kind"][market] = MarketKind.PERPETUAL
    columns["perpetual"][market] = row
    fee_row = state.pools.columns["fee_row"][pool]
    columns["fee_base_row"][market] = columns["fee_quote_row"][market] = fee_row
    columns["status"][market] = MarketStatus.OPEN
    terms = state.perpetuals.columns
    for field in _TERMS:
        terms[field][row] = getattr(command, field)
    terms["market"][row], terms["pool"][row] = market, pool
    terms["funding_interval_ms"][row] = command.funding_interval_ms
    terms["funding_cap_ppm"][row] = command.funding_cap_ppm
    terms["funding_next_ms"][row] = context.time_ms + command.funding_interval_ms
    terms["sampled_ms"][row] = context.time_ms
    terms["tiers"][row] = 1
    tier = int(terms["tier_start"][row])
    state.tiers.columns["initial_ppm"][tier] = command.initial_ppm
    state.tiers.columns["maintenance_ppm"][tier] = command.maintenance_ppm
    state.tiers.mark(tier)
    return Entry(subject=market, detail=market)


def validate_set_margin_tier(state: State, command: SetMarginTier, context: Context) -> Code:
    """The venue sets tiers: from nothing upwards, each larger, each asking for as much as the one below."""
    code = check_venue_and_contract(state, command.market, context)
    if code:
        return code
    row = perpetual_row(state, command.market)
    terms = state.perpetuals.columns
    count, start, number = int(terms["tiers"][row]), int(terms["tier_start"][row]), command.number
    if number > count or (command.notional_from > 0) != (number > 0):
        return Code.BAD_ARGUMENT
    if command.maintenance_ppm > command.initial_ppm or command.notional_from > 2 * NOTIONAL_MAX:
        return Code.BAD_ARGUMENT
    if number == 0 and terms["collar_ppm"][row] > command.initial_ppm:
        return Code.BAD_ARGUMENT
    wanted = (command.notional_from, command.initial_ppm, command.maintenance_ppm)
    if number > 0 and not _is_above(wanted, _tier(state, start + number - 1)):
        return Code.BAD_ARGUMENT
    if number + 1 < count and not _is_above(_tier(state, start + number + 1), wanted):
        return Code.BAD_ARGUMENT
    return Code.OK


def apply_set_margin_tier(state: State, command: SetMarginTier, context: Context) -> Entry:
    """Write the tier, and what the parts below ask for into those above."""
    row = perpetual_row(state, command.market)
    terms, tiers = state.perpetuals.columns, state.tiers.columns
    start = int(terms["tier_start"][row])
    terms["tiers"][row] = max(int(terms["tiers"][row]), command.number + 1)
    state.perpetuals.mark(row)
    for field in ("notional_from", "initial_ppm", "maintenance_ppm"):
        tiers[field][start + command.number] = getattr(command, field)
    for tier in range(start, start + int(terms["tiers"][row]) - 1):
        part = int(tiers["notional_from"][tier + 1] - tiers["notional_from"][tier])
        for base, rate in (("initial_base", "initial_ppm"), ("maintenance_base", "maintenance_ppm")):
            tiers[base][tier + 1] = base_of_next(int(tiers[base][tier]), part, int(tiers[rate][tier]))
    for tier in range(start, start + TIERS_MAX):
        state.tiers.mark(tier)
    return Entry(subject=command.market, qty=command.initial_ppm, detail=command.number)


def validate_set_position_limits(state: State, command: SetPositionLimits, context: Context) -> Code:
    """The venue sets limits, within exact arithmetic."""
    code = check_venue_and_contract(state, command.market, context)
    if code:
        return code
    columns = state.markets.columns
    price_max, lot_value = (int(columns[n][command.market]) for n in ("price_max", "quote_per_lot_tick"))
    row = perpetual_row(state, command.market)
    if not _fits(command.position_max, command.open_interest_max, price_max, lot_value):
        return Code.BAD_ARGUMENT
    if columns["qty_max"][command.market] > command.position_max:
        return Code.BAD_ARGUMENT
    initial_ppm = state.tiers.columns["initial_ppm"][state.perpetuals.columns["tier_start"][row]]
    return Code.OK if command.collar_ppm <= initial_ppm else Code.BAD_ARGUMENT


def apply_set_position_limits(state: State, command: SetPositionLimits, context: Context) -> Entry:
    """From this block's first order on."""
    row = perpetual_row(state, command.market)
    for field in ("position_max", "open_interest_max", "scan_ppm", "collar_ppm"):
        state.perpetuals.columns[field][row] = getattr(command, field)
    state.perpetuals.mark(row)
    return Entry(subject=command.market, qty=command.position_max, detail=command.open_interest_max)


def validate_set_funding(state: State, command: SetFunding, context: Context) -> Code:
    """The venue sets funding terms."""
    return check_venue_and_contract(state, command.market, context)


def apply_set_funding(state: State, command: SetFunding, context: Context) -> Entry:
    """The interval under way ends when it would have, or earlier if the new one is shorter."""
    row, terms = perpetual_row(state, command.market), state.perpetuals.columns
    terms["funding_interval_ms"][row] = command.interval_ms
    terms["funding_cap_ppm"][row] = command.cap_ppm
    latest = context.time_ms + command.interval_ms
    terms["funding_next_ms"][row] = min(int(terms["funding_next_ms"][row]), latest)
    state.perpetuals.mark(row)
    return Entry(subject=command.market, qty=command.interval_ms, detail=command.cap_ppm)


def find_pool(state: State, asset: int) -> int:
    """Row of the pool of positions settled in `asset`, or NONE."""
    assets = state.pools.columns["asset"][: state.count["pools"]].tolist()
    return assets.index(asset) if asset in assets else NONE


def perpetual_row(state: State, market: int) -> int:
    """Row of a perpetual market's terms."""
    return int(state.markets.columns["perpetual"][market])


def check_contract(state: State, market: int) -> Code:
    """Whether this is a perpetual market."""
    if market >= state.count["markets"]:
        return Code.UNKNOWN_MARKET
    is_perpetual = state.markets.columns["kind"][market] == MarketKind.PERPETUAL
    return Code.OK if is_perpetual else Code.NOT_PERPETUAL


def check_venue_and_contract(state: State, market: int, context: Context) -> Code:
    """The venue speaks, about a perpetual market."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    return check_contract(state, market)


def _is_sound(command: ListPerpetual) -> bool:
    return (
        _fits(command.position_max, command.open_interest_max, command.price_max, command.quote_per_lot_tick)
        and command.base_asset != command.quote_asset
        and command.qty_max * command.base_per_lot <= AMOUNT_MAX
        and command.qty_max <= command.position_max
        and command.maintenance_ppm <= command.initial_ppm
        and command.collar_ppm <= command.initial_ppm
    )


def _fits(position_max: int, open_interest_max: int, price_max: int, lot_value: int) -> bool:
    return (
        position_max <= open_interest_max and open_interest_max * price_max * lot_value <= NOTIONAL_MAX
    )  # Python integers: exact


def _tier(state: State, row: int) -> tuple[int, int, int]:
    columns = state.tiers.columns
    return (
        int(columns["notional_from"][row]),
        int(columns["initial_ppm"][row]),
        int(columns["maintenance_ppm"][row]),
    )


def _is_above(tier: tuple[int, int, int], below: tuple[int, int, int]) -> bool:
    return tier[0] > below[0] and tier[1] >= below[1] and tier[2] >= below[2]


def _open_pool(state: State, asset: int) -> int:
    pool = state.add_pool()
    columns = state.pools.columns
    columns["asset"][pool] = asset
    columns["balance_row"][pool] = state.add_balance(CLEARING_ACCOUNT, asset)
    columns["fee_row"][pool] = state.add_balance(VENUE_ACCOUNT, asset)
    return pool
