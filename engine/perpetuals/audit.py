"""Exact audit of positions, pools and open interest. Slow: Python integers, over all rows."""

from collections import defaultdict
from typing import Any

from consensus.primitives.errors import ensure
from engine.fixed_point import E6
from engine.layout import NONE, MarketKind, OrderFlag, PositionFlag
from engine.records import Side
from engine.state import State


def check_perpetuals(state: State) -> None:
    """Every law of this package."""
    live = _live(state, state.positions, PositionFlag.LIVE)
    _check_markets(state, live)
    _check_pools(state, live)
    _check_open_lots(state, live)
    _check_lists(state, live)


def _check_markets(state: State, live: list[dict[str, Any]]) -> None:
    """Long lots = short lots = open interest; funding charged, owed and lost in rounding add up to 0."""
    for perpetual in _used(state, state.perpetuals):
        own = [position for position in live if position["market"] == perpetual["market"]]
        market = perpetual["market"]
        ensure(sum(p["qty"] for p in own) == 0, f"market {market}: long and short lots differ")
        longs = sum(max(p["qty"], 0) for p in own)
        ensure(longs == perpetual["open_interest"], f"market {market}: {longs} lots are open")
        index = perpetual["funding_whole"] * E6 + perpetual["funding_part"]
        owed = sum(
            p["qty"] * (index - p["funding_whole"] * E6 - p["funding_part"]) for p in own
        )  # millionths
        total = perpetual["funding_net"] * E6 - perpetual["funding_residue"] + owed
        ensure(total == 0, f"market {market}: funding is off by {total} millionths")
        ensure(perpetual["funding_residue"] >= 0, f"market {market}: rounding gave funding away")


def _check_pools(state: State, live: list[dict[str, Any]]) -> None:
    """Cash of a pool = Σ (unsettled − entry) + Σ funding_net + fees_due; it holds isolated collateral."""
    perpetuals = _used(state, state.perpetuals)
    pool_of = {perpetual["market"]: perpetual["pool"] for perpetual in perpetuals}
    for number, pool in enumerate(_used(state, state.pools)):
        own = [position for position in live if pool_of[position["market"]] == number]
        balance = state.balances.data[pool["balance_row"]]
        cash = sum(p["unsettled"] - p["entry"] for p in own) + pool["fees_due"]
        cash += sum(perpetual["funding_net"] for perpetual in perpetuals if perpetual["pool"] == number)
        ensure(cash == int(balance["available"]), f"pool {number} has {balance['available']}, not {cash}")
        held = sum(p["collateral"] for p in own)
        ensure(held == int(balance["held"]), f"pool {number} holds {balance['held']}, collateral is {held}")
        claims = sum(max(p["unsettled"], 0) for p in own)
        ensure(claims == pool["claims"], f"pool {number}: claims are {claims}, not {pool['claims']}")
    for position in live:
        isolated = position["flags"] & PositionFlag.ISOLATED
        ensure(position["collateral"] >= 0, "a position has less than no collateral")
        ensure(isolated or position["collateral"] == 0, "a cross position has collateral of its own")
        signs = position["entry"] * position["qty"]
        ensure(signs > 0 or position["entry"] == position["qty"] == 0, "lots that cost nothing, or no lots")


def _check_open_lots(state: State, live: list[dict[str, Any]]) -> None:
    """A position's open lots are those of its account's orders that are not reduce-only."""
    kinds = state.markets.columns["kind"]
    terms = state.terms.data["hidden"]
    expected: dict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0])
    for row, order in enumerate(_used(state, state.orders)):
        is_counted = order["flags"] & OrderFlag.LIVE and not order["flags"] & OrderFlag.REDUCE_ONLY
        if not is_counted or kinds[order["market"]] != MarketKind.PERPETUAL:
            continue
        lots = order["leaves"] + (int(terms[row]) if order["flags"] & OrderFlag.HAS_TERMS else 0)
        sums = expected[order["account"], order["market"], order["side"]]
        sums[0] += lots
        lot_value = int(state.markets.columns["quote_per_lot_tick"][order["market"]])
        sums[1] += lots * order["price"] * lot_value
    for position in live:
        for side, lots, notional in (
            (Side.BUY, "open_buy", "buy_notional"),
            (Side.SELL, "open_sell", "sell_notional"),
        ):
            want = expected.pop((position["account"], position["market"], side), [0, 0])
            have = [position[lots], position[notional]]
            ensure(want == have, f"position has open lots {have}, its orders say {want}")
    ensure(not expected, "orders of a perpetual market have no position row")


def _check_lists(state: State, live: list[dict[str, Any]]) -> None:
    """Each account's list leads over its positions and no others; the free list over the other rows."""
    accounts, positions = state.accounts.columns, state.positions.data
    rows = {(p["account"], p["market"]) for p in live}
    ensure(len(rows) == len(live), "an account has two positions in one market")
    met = 0
    for account in range(state.count["accounts"]):
        row, before, count = int(accounts["first_position"][account]), NONE, 0
        while row != NONE:
            ensure(int(positions["account"][row]) == account, "an account's list leads to another's position")
            ensure(int(positions["prev_own"][row]) == before, "an account's positions are not linked well")
            before, row = row, int(positions["next_own"][row])
            count += 1
        ensure(count == int(accounts["positions"][account]), "an account's positions are not all linked")
        met += count
    ensure(met == len(live), "a position is in nobody's list")
    free, row = 0, state.count["positions_free"] - 1
    while row != NONE:
        free, row = free + 1, int(positions["prev_own"][row])
    ensure(free + met == state.count["positions_used"], "a position row is neither live nor free")


def _used(state: State, table: Any) -> list[dict[str, Any]]:
    """Rows in use, as Python integers by column name."""
    names = [name for name in table.dtype.names if table.dtype[name].shape == ()]
    data = table.data[: state.used(table)]
    columns = [data[name].tolist() for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _live(state: State, table: Any, flag: int) -> list[dict[str, Any]]:
    return [row for row in _used(state, table) if row["flags"] & flag]
