"""Exact audits of the whole state: slow, for tests, checkpoints and doubt.

Sums are made of 32-bit halves and joined as Python integers, so an audit cannot wrap where the
rules it checks were broken.
"""

import numpy as np

from consensus.primitives.errors import ensure
from engine.layout import NONE, MarketKind, OrderFlag
from engine.markets.states import ALLOWED, Action
from engine.records import AMOUNT_MAX, Side
from engine.state import State, unpack_name

_LOW_32 = 0xFFFFFFFF


def check_all(state: State) -> None:
    """Every audit of this module."""
    check_conservation(state)
    check_no_negative_balance(state)
    check_books(state)


def check_conservation(state: State) -> None:
    """Per asset: available + held over all accounts == deposited − withdrawn."""
    columns = _used(state, "balances")
    assets = _used(state, "assets")
    count = assets["name"].shape[0]
    held = _exact_sums(columns["asset"], columns["held"], count)
    available = _exact_sums(columns["asset"], columns["available"], count)
    for asset in range(count):
        supply = int(assets["deposited"][asset]) - int(assets["withdrawn"][asset])
        total = available[asset] + held[asset]
        ensure(
            total == supply,
            f"asset {unpack_name(assets['name'][asset])}: accounts own {total}, supply is {supply}",
        )
        ensure(0 <= supply <= AMOUNT_MAX, f"asset {asset}: supply {supply} is out of bounds")


def check_no_negative_balance(state: State) -> None:
    """Nobody has less than nothing, available or held."""
    columns = _used(state, "balances")
    for field in ("available", "held"):
        bad = np.flatnonzero(columns[field] < 0)
        ensure(bad.shape[0] == 0, f"balance row {bad[:1]} has a negative {field} amount")


def check_books(state: State) -> None:
    """Holds, level sums and counts are what the live orders say."""
    rows = state.orders.data[: state.used(state.orders)]
    live = rows[(rows["flags"] & OrderFlag.LIVE) != 0]
    hidden = _hidden_lots(state, rows)
    ensure(bool(np.all(live["leaves"] > 0)), "a live order has nothing left to fill")
    ensure(live.shape[0] == state.count["orders_live"], "live orders do not match their counter")
    _check_holds(state, live, live["leaves"] + hidden)
    _check_levels(state, live, live["leaves"] + hidden)
    _check_own_lists(state, rows)
    for name, field in (("accounts", "account"), ("markets", "market")):
        columns = _used(state, name)
        counts = np.bincount(live[field], minlength=columns["open_orders"].shape[0])
        ensure(
            np.array_equal(counts, columns["open_orders"]),
            f"open orders of {name} do not match their counter",
        )


def _hidden_lots(state: State, rows: np.ndarray) -> np.ndarray:
    """Of each live order: lots that it does not show."""
    has_terms = (rows["flags"] & OrderFlag.HAS_TERMS) != 0
    terms = state.terms.data[: rows.shape[0]]
    hidden, shown = np.where(has_terms, terms["hidden"], 0), rows["leaves"]
    ensure(bool(np.all(hidden >= 0)), "an order hides less than nothing")
    ensure(bool(np.all(shown[hidden > 0] <= terms["display"][hidden > 0])), "an iceberg shows too much")
    return np.asarray(hidden[(rows["flags"] & OrderFlag.LIVE) != 0])


def _check_holds(state: State, live: np.ndarray, open_lots: np.ndarray) -> None:
    """What is held equals what open orders hold, and what clearing keeps for isolated positions."""
    is_spot = state.markets.columns["kind"][live["market"]] == MarketKind.SPOT
    live, open_lots = live[is_spot], open_lots[is_spot]
    markets, balances = _used(state, "markets"), _used(state, "balances")
    is_buy = live["side"] == Side.BUY
    market = live["market"]
    # Bounded below 2^62 at admission, each factor and product.
    holds = np.where(
        is_buy,
        live["price"] * open_lots * markets["quote_per_lot_tick"][market],
        open_lots * markets["base_per_lot"][market],
    )
    rows = np.where(is_buy, live["quote_row"], live["base_row"])
    expected = _exact_sums(rows, holds, balances["held"].shape[0])
    for balance_row in state.pools.columns["balance_row"][: state.count["pools"]].tolist():
        expected[balance_row] = int(balances["held"][balance_row])  # that is the perpetuals' audit
    wrong = [
        row
        for row, (want, have) in enumerate(zip(expected, balances["held"].tolist(), strict=True))
        if want != have
    ]
    ensure(not wrong, f"balance rows {wrong[:5]} hold something else than their open orders")


def _check_levels(state: State, live: np.ndarray, open_lots: np.ndarray) -> None:
    """The lots of a level, and the best prices, are those of its orders."""
    levels, markets = _used(state, "levels"), _used(state, "markets")
    on_levels = (live["flags"] & OrderFlag.WAITING) == 0
    live, open_lots = live[on_levels], open_lots[on_levels]
    starts = np.where(
        live["side"] == Side.BUY, markets["bid_start"][live["market"]], markets["ask_start"][live["market"]]
    )
    rows = starts + live["price"]
    lots = np.zeros(levels["qty"].shape[0], dtype=np.int64)
    np.add.at(lots, rows, open_lots)
    ensure(np.array_equal(lots, levels["qty"]), "a level's lots are not those of its orders")
    for market in range(markets["best_bid"].shape[0]):
        own = live[live["market"] == market]
        bids, asks = own["price"][own["side"] == Side.BUY], own["price"][own["side"] == Side.SELL]
        bid = int(bids.max()) if bids.shape[0] else 0
        ask = int(asks.min()) if asks.shape[0] else int(markets["price_max"][market]) + 1
        best = (int(markets["best_bid"][market]), int(markets["best_ask"][market]))
        ensure(best == (bid, ask), f"market {market} claims best prices {best}, its orders say {(bid, ask)}")
        matches = ALLOWED[int(markets["status"][market])] & Action.MATCH
        ensure(bid < ask or not matches, f"market {market} is crossed: bid {bid}, ask {ask}")


def _check_own_lists(state: State, rows: np.ndarray) -> None:
    """Each account's live orders hang together: one begins, one ends, and neighbours agree."""
    numbers = np.flatnonzero(rows["flags"] & OrderFlag.LIVE)
    live, columns = rows[numbers], _used(state, "accounts")
    owners = np.flatnonzero(columns["open_orders"])
    for to, back, end in (("next_own", "prev_own", "last_order"), ("prev_own", "next_own", "first_order")):
        linked = live[to] != NONE
        ensure(bool(np.all(live[to] < rows.shape[0])), f"an account's own orders lead nowhere: {to}")
        neighbours = rows[live[to][linked]]
        agree = np.array_equal(neighbours[back], numbers[linked])
        agree &= np.array_equal(neighbours["account"], live["account"][linked])
        ends = np.full(columns[end].shape[0], NONE)
        ends[live["account"][~linked]] = numbers[~linked]
        agree &= np.count_nonzero(~linked) == owners.shape[0] and np.array_equal(ends, columns[end])
        ensure(bool(agree), f"an account's own orders are not linked well: {to}, {end}")


def _used(state: State, name: str) -> dict[str, np.ndarray]:
    table = getattr(state, name)
    used = state.used(table)
    return {field: column[:used] for field, column in table.columns.items()}


def _exact_sums(groups: np.ndarray, values: np.ndarray, count: int) -> list[int]:
    high = np.zeros(count, dtype=np.int64)
    low = np.zeros(count, dtype=np.int64)
    np.add.at(high, groups, values >> 32)
    np.add.at(low, groups, values & _LOW_32)
    return [(upper << 32) + lower for upper, lower in zip(high.tolist(), low.tolist(), strict=True)]
