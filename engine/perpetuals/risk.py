"""What the venue and its scorers decide about margin: collateral assets, scorers, scores, add-ons."""

from engine.authority import is_venue
from engine.layout import NONE, MarketKind
from engine.margin.collateral import COLLATERAL_VALUE_MAX
from engine.margin.scores import lowered_addon_bps, margin_addon_bps
from engine.perpetuals.commands import AttestScore, RegisterCollateral, RegisterScorer, SetDefaultAddon
from engine.perpetuals.listing import find_pool
from engine.perpetuals.tables import SCORERS, SCORERS_MAX
from engine.plugin import Context, Entry
from engine.records import Code
from engine.state import State


def validate_register_collateral(state: State, command: RegisterCollateral, context: Context) -> Code:
    """The venue lets an asset back one settlement asset, valued by a spot market between the two."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if command.market >= state.count["markets"]:
        return Code.UNKNOWN_MARKET
    columns = state.markets.columns
    base, quote = int(columns["base_asset"][command.market]), int(columns["quote_asset"][command.market])
    pool = find_pool(state, quote)
    if columns["kind"][command.market] != MarketKind.SPOT or base != command.asset or pool == NONE:
        return Code.BAD_ARGUMENT
    lot_value = int(columns["price_max"][command.market]) * int(columns["quote_per_lot_tick"][command.market])
    if command.cap // int(columns["base_per_lot"][command.market]) * lot_value > COLLATERAL_VALUE_MAX:
        return Code.BAD_ARGUMENT
    if find_pool(state, command.asset) != NONE:
        return Code.ASSET_BACKS_ANOTHER
    row = _find_collateral(state, command.asset)
    if row == NONE:
        return Code.OK if state.has_room(state.collaterals) else Code.LIMIT_REACHED
    same = int(state.collaterals.columns["pool"][row]) == pool
    return Code.OK if same else Code.ASSET_BACKS_ANOTHER


def apply_register_collateral(state: State, command: RegisterCollateral, context: Context) -> Entry:
    """From this block's first order on."""
    row = _find_collateral(state, command.asset)
    if row == NONE:
        row = state.add_collateral()
    columns = state.collaterals.columns
    columns["asset"][row] = command.asset
    columns["pool"][row] = find_pool(state, int(state.markets.columns["quote_asset"][command.market]))
    columns["market"][row] = command.market
    columns["haircut_ppm"][row] = command.haircut_ppm
    columns["cap"][row] = command.cap
    state.collaterals.mark(row)
    return Entry(subject=command.asset, qty=command.cap, detail=command.haircut_ppm)


def validate_register_scorer(state: State, command: RegisterScorer, context: Context) -> Code:
    """The venue names scorers, up to a number of them."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    row = _find_scorer(state, state.key_rows.get(command.public_key, NONE))
    if row != NONE:
        return Code.OK
    table = state.table(SCORERS)
    known = command.public_key in state.key_rows or state.has_room(state.keys)
    return Code.OK if known and state.used(table) < SCORERS_MAX else Code.LIMIT_REACHED


def apply_register_scorer(state: State, command: RegisterScorer, context: Context) -> Entry:
    """From this block's next command on."""
    key = state.add_key(command.public_key)
    table = state.table(SCORERS)
    row = _find_scorer(state, key)
    if row == NONE:
        row = state.add_rows(table)
    table.columns["key"][row] = key
    table.columns["active"][row] = command.active
    table.mark(row)
    return Entry(qty=command.active, detail=row)


def validate_attest_score(state: State, command: AttestScore, context: Context) -> Code:
    """An active scorer attests, about an account that exists."""
    row = _find_scorer(state, context.key)
    if row == NONE or not int(state.table(SCORERS).columns["active"][row]):
        return Code.UNKNOWN_SCORER
    return Code.OK if command.account < state.count["accounts"] else Code.UNKNOWN_ACCOUNT


def apply_attest_score(state: State, command: AttestScore, context: Context) -> Entry:
    """A higher score counts at once. A lower one lets the add-on come down, and begins no step anew that is
    under way: attesting often must not put it off."""
    columns, account = state.accounts.columns, command.account
    now_bps = int(margin_addon_bps(state.core(), account))
    lowered_bps = int(lowered_addon_bps(state.core(), account))
    if command.addon_bps >= now_bps or now_bps > lowered_bps:
        columns["addon_bps"][account] = max(command.addon_bps, now_bps)
        columns["addon_ms"][account] = context.time_ms
    columns["score_bps"][account] = command.addon_bps
    columns["score_expiry"][account] = command.expiry_height
    state.accounts.mark(account)
    return Entry(account=account, qty=command.addon_bps, detail=max(command.addon_bps, now_bps))


def validate_set_default_addon(state: State, command: SetDefaultAddon, context: Context) -> Code:
    """The venue sets the default."""
    return Code.OK if is_venue(state, context.key, context.time_ms) else Code.NOT_AUTHORISED


def apply_set_default_addon(state: State, command: SetDefaultAddon, context: Context) -> Entry:
    """From this block's first order on."""
    state.count["addon_default_bps"] = command.addon_bps
    return Entry(qty=command.addon_bps)


def _find_collateral(state: State, asset: int) -> int:
    assets = state.collaterals.columns["asset"][: state.count["collaterals"]].tolist()
    return assets.index(asset) if asset in assets else NONE


def _find_scorer(state: State, key: int) -> int:
    table = state.table(SCORERS)
    keys = table.columns["key"][: state.used(table)].tolist()
    return keys.index(key) if key in keys else NONE
