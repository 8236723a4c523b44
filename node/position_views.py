"""What a node tells about contracts, positions and margin; views like those of `node.views`."""

from dataclasses import dataclass

import numpy as np

from engine.layout import NONE, PositionFlag
from engine.machine import Machine
from engine.margin.account import NO_CHANGE, UNKNOWN, assess, assess_isolated, unrealised_pnl
from engine.margin.scores import margin_addon_bps
from engine.perpetuals.funding import funding_owed
from engine.state import unpack_name


@dataclass(frozen=True)
class ContractView:
    """A perpetual market's terms and where it stands. Prices are ticks, quantities lots, rates ppm.

    `premium_ppm` is the last sample; `next_funding_ms` is ledger time. Margin rates are the first tier's."""

    market: int
    name: str
    mark_price: int
    index_price: int
    price_status: int
    initial_ppm: int
    maintenance_ppm: int
    scan_ppm: int
    collar_ppm: int
    position_max: int
    open_interest_max: int
    open_interest: int
    funding_interval_ms: int
    funding_next_ms: int
    funding_cap_ppm: int
    premium_ppm: int
    group: int
    offset_ppm: int


@dataclass(frozen=True)
class PositionView:
    """One position of an account: lots, and base units of the quote asset.

    `qty` is negative if short. `entry` is what the open lots were bought for, negative: sold for. `unsettled`
    is profit not paid out yet, negative: a debt. `funding` is owed and not charged yet, negative: due to it.
    `equity`, `initial` and `maintenance` are of isolated positions only, else 0."""

    market: int
    qty: int
    entry: int
    unrealised: int
    unsettled: int
    funding: int
    open_buy: int
    open_sell: int
    isolated: bool
    collateral: int
    equity: int
    initial: int
    maintenance: int


@dataclass(frozen=True)
class MarginView:
    """What an account's cross positions in one settlement asset have behind them and ask for, in base units.

    `known` is false while a position has no mark price: then equity is 0. `mode` is an
    `engine.layout.MarginMode`; initial margin has the add-on in it."""

    asset: int
    known: bool
    equity: int
    initial: int
    maintenance: int
    mode: int
    addon_bps: int


_MARKET_FIELDS = ("mark_price", "index_price", "price_status")
_TIER_FIELDS = ("initial_ppm", "maintenance_ppm")
_TERMS_FIELDS = tuple(ContractView.__dataclass_fields__)[7:]


def view_contracts(machine: Machine) -> list[ContractView]:
    """All perpetual markets, in the order of listing."""
    state = machine.state
    found = []
    for terms in state.perpetuals.data[: state.count["perpetuals"]]:
        row = int(terms["market"])
        market, tier = state.markets.data[row], state.tiers.data[int(terms["tier_start"])]
        values = _ints(market, _MARKET_FIELDS) + _ints(tier, _TIER_FIELDS) + _ints(terms, _TERMS_FIELDS)
        found.append(ContractView(row, unpack_name(market["name"]), *values))
    return found


def view_positions(machine: Machine, account: int) -> list[PositionView]:
    """An account's positions, the one opened last first."""
    state, found = machine.state, []
    row = NONE
    if 0 <= account < state.count["accounts"]:
        row = int(state.accounts.columns["first_position"][account])
    while row != NONE:
        found.append(_view_position(machine, row))
        row = int(state.positions.data["next_own"][row])
    return found


def view_margin(machine: Machine, account: int) -> list[MarginView]:
    """An account's margin, by settlement asset."""
    state = machine.state
    if not 0 <= account < state.count["accounts"]:
        return []
    core, mode = state.core(), int(state.accounts.columns["margin_mode"][account])
    addon_bps = int(margin_addon_bps(core, account))
    found = []
    for pool in range(state.count["pools"]):
        equity, initial, maintenance = map(int, assess(core, account, pool, NO_CHANGE))
        known = equity != UNKNOWN
        asset = int(state.pools.columns["asset"][pool])
        found.append(MarginView(asset, known, equity if known else 0, initial, maintenance, mode, addon_bps))
    return found


def _view_position(machine: Machine, row: int) -> PositionView:
    state = machine.state
    core, position = state.core(), state.positions.rows[row]
    perpetual = state.perpetuals.rows[int(state.markets.columns["perpetual"][position["market"]])]
    isolated = bool(position["flags"] & PositionFlag.ISOLATED)
    own = tuple(map(int, assess_isolated(core, row, NO_CHANGE))) if isolated else (0, 0, 0)
    return PositionView(
        market=int(position["market"]),
        qty=int(position["qty"]),
        entry=int(position["entry"]),
        unrealised=int(unrealised_pnl(core, position)),
        unsettled=int(position["unsettled"]),
        funding=int(funding_owed(perpetual, position)),
        open_buy=int(position["open_buy"]),
        open_sell=int(position["open_sell"]),
        isolated=isolated,
        collateral=int(position["collateral"]),
        equity=own[0],
        initial=own[1],
        maintenance=own[2],
    )


def _ints(record: np.void, names: tuple[str, ...]) -> list[int]:
    return [int(record[name]) for name in names]
