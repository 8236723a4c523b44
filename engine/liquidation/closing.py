"""One stage each: the book, backstops, deleveraging, the insurance fund. Each moves value, none makes any."""

from typing import NamedTuple

import numpy as np

from engine.breakers.triggers import add_liquidated
from engine.fixed_point import E6
from engine.layout import NONE, PositionFlag
from engine.liquidation.kernels import cover_debt, maintenance_of, rank, sell
from engine.liquidation.prices import Lots, limit_price
from engine.liquidation.tables import Stage
from engine.margin.account import Change, assess
from engine.matching.admit import FILLS_PER_ORDER_MAX
from engine.perpetuals.listing import perpetual_row
from engine.perpetuals.positions import can_open_position, find_or_open_position
from engine.perpetuals.trades import change_hands
from engine.plugin import Context
from engine.records import ORDER_OP, REDUCE_ONLY, STP_SHIFT, TIF_SHIFT, Kind, SelfTrade, Side, TimeInForce
from engine.state import State
from engine.tables.table import kernel_view

HALVINGS_MAX = 32  # of what a backstop is asked to take, until its margin is enough
_IOC = int(TimeInForce.IOC) << TIF_SHIFT | int(SelfTrade.CANCEL_MAKER) << STP_SHIFT | REDUCE_ONLY


class Closing(NamedTuple):
    """A position that is closed, and what it is closed under."""

    state: State
    context: Context
    pool: int
    row: int  # of the position
    account: int
    market: int
    equity: int  # of its unit, quote units
    maintenance: int  # sum over the unit's positions

    def column(self, name: str) -> int:
        """Of the position, now."""
        return int(self.state.positions.columns[name][self.row])

    def market_column(self, name: str) -> int:
        return int(self.state.markets.columns[name][self.market])

    def lots(self) -> Lots:
        """The position as prices see it."""
        return Lots(
            self.column("qty"),
            self.market_column("mark_price"),
            self.market_column("quote_per_lot_tick"),
            self.market_column("price_max"),
            int(maintenance_of(self.state.core(), self.row)),
        )

    def tell(self, stage: Stage, counter_account: int, **fields: int) -> None:
        """Write a LIQUIDATION line."""
        self.context.events.add(
            Kind.LIQUIDATION,
            op=stage,
            market=self.market,
            account=self.account,
            counter_account=counter_account,
            side=Side.SELL if self.column("qty") > 0 else Side.BUY,
            **fields,
        )


def sell_to_book(closing: Closing, qty: int, bankrupt: int, fund_row: int, fee_ppm: int) -> int:
    """Send up to `qty` lots to the book; return how many it took.

    The fee goes to the fund: at most what the sale brought more than the bankruptcy price `bankrupt`, and
    what cash there is.
    """
    if qty == 0:
        return 0
    state, lots = closing.state, closing.lots()
    limit = limit_price(lots, closing.equity, closing.maintenance, closing.market_column("taker_fee_e6"))
    if limit == 0:
        return 0
    side = Side.SELL if lots.qty > 0 else Side.BUY
    ops = np.zeros(1, dtype=ORDER_OP)
    ops[0] = (0, int(side) | _IOC, closing.market, closing.account, 0, limit, qty)
    state.reserve_for_orders(1)
    lines = closing.context.events.room(FILLS_PER_ORDER_MAX)
    filled, used = sell(state.core(), kernel_view(ops), closing.row, lines)
    closing.context.events.took(used)
    if filled == 0:
        return 0
    fills = [line for line in lines[:used] if line["kind"] == Kind.FILL]
    notional = lots.lot_tick * sum(int(line["price"]) * int(line["qty"]) for line in fills)
    gained = notional - bankrupt * filled * lots.lot_tick
    gained = (gained if side == Side.SELL else -gained) - sum(int(line["fee"]) for line in fills)
    fee = 0
    if fund_row != NONE:
        fee = min(-(-notional * fee_ppm // E6), max(gained, 0))
        fee = _pay_fee(closing, fund_row, fee)
    add_liquidated(state, closing.market, notional)
    closing.context.events.add(
        Kind.LIQUIDATION,
        op=Stage.BOOK,
        market=closing.market,
        account=closing.account,
        side=side,
        price=limit,
        qty=int(filled),
        fee=fee,
        detail=notional,
    )
    return int(filled)


def give_to_backstops(closing: Closing, qty: int, price: int) -> int:
    """Backstops take up to `qty` lots at `price`, first registered first; how many they took."""
    table = closing.state.table("backstops")
    taken = 0
    for number in range(closing.state.used(table)):
        account, market, lots_max = (int(table.columns[n][number]) for n in ("account", "market", "lots_max"))
        if taken == qty:
            break
        if market == closing.market and account != closing.account:
            part = _lots_for_backstop(closing, account, lots_max, qty - taken, price)
            if part:
                closing.tell(Stage.BACKSTOP, account, price=price, qty=part)
                _change_hands(closing, _open_position(closing, account), part, price)
                taken += part
    return taken


def deleverage(closing: Closing, price: int, must_gain: bool, closings_max: int) -> int:
    """Close the position against the other side's at `price`, highest rank first. Returns how many it took
    positions of, at most `closings_max`."""
    if closings_max == 0 or closing.column("qty") == 0:
        return 0
    ranked = np.zeros((closings_max, 3), dtype=np.int64)
    count = int(rank(closing.state.core(), closing.row, closing.pool, price, must_gain, ranked))
    done = 0
    for _, account, row in ranked[:count].tolist():
        left = abs(closing.column("qty"))
        if left == 0:
            break
        part = min(left, abs(int(closing.state.positions.columns["qty"][row])))
        closing.tell(Stage.DELEVERAGED, account, price=price, qty=part)
        _change_hands(closing, row, part, price)
        done += 1
    return done


def cover(state: State, pool: int, rows: list[int], fund_row: int, amount: int) -> int:
    """The fund pays up to `amount` of what these positions owe; returns what it paid."""
    paid = 0
    for row in rows:
        part = min(amount - paid, max(-int(state.positions.columns["unsettled"][row]), 0))
        if part > 0:
            cover_debt(state.core(), pool, row, fund_row, part)
            paid += part
    return paid


def _change_hands(closing: Closing, other: int, qty: int, price: int) -> None:
    """`qty` lots of the closed position go to position row `other`."""
    buyer, seller = (other, closing.row) if closing.column("qty") > 0 else (closing.row, other)
    change_hands(closing.state.core(), closing.market, buyer, seller, price, qty)
    add_liquidated(closing.state, closing.market, qty * price * closing.market_column("quote_per_lot_tick"))


def _lots_for_backstop(closing: Closing, account: int, lots_max: int, wanted: int, price: int) -> int:
    """How many lots a backstop takes: within its capacity, the market's limit, its margin and the tables."""
    state, is_long = closing.state, closing.column("qty") > 0
    row = state.position_row(account, closing.market)
    own = 0
    if row != NONE:
        if int(state.positions.columns["flags"][row]) & PositionFlag.ISOLATED:
            return 0
        own = int(state.positions.columns["qty"][row]) * (1 if is_long else -1)
    else:
        state.reserve_positions(1)
        if not can_open_position(state.core(), account):
            return 0
        asset = closing.market_column("quote_asset")
        if state.balance_row(account, asset) == NONE and not state.has_room(state.balances):
            return 0
    limit = int(state.perpetuals.columns["position_max"][perpetual_row(state, closing.market)])
    qty = min(wanted, max(min(lots_max, limit) - own, 0))
    side = int(Side.BUY if is_long else Side.SELL)
    for _ in range(HALVINGS_MAX):
        if qty == 0:
            return 0
        change = Change(closing.market, side, qty, price, NONE, 0)
        found = assess(state.core(), account, closing.pool, change)
        if found.equity >= found.initial:
            return qty
        qty //= 2
    return 0


def _open_position(closing: Closing, account: int) -> int:
    state = closing.state
    quote_row = state.add_balance(account, closing.market_column("quote_asset"))
    state.reserve_positions(1)
    return int(find_or_open_position(state.core(), account, closing.market, quote_row))


def _pay_fee(closing: Closing, fund_row: int, fee: int) -> int:
    """Move the liquidation fee from the position's cash to the fund, as far as there is cash."""
    state, row = closing.state, closing.row
    balances = state.balances.columns
    if closing.column("flags") & PositionFlag.ISOLATED:
        fee = min(fee, closing.column("collateral"))
        state.positions.columns["collateral"][row] -= fee
        state.positions.mark(row)
        held_row = int(state.pools.columns["balance_row"][closing.pool])
        balances["held"][held_row] -= fee
        state.balances.mark(held_row)
    else:
        own_row = closing.column("quote_row")
        fee = min(fee, int(balances["available"][own_row]))
        balances["available"][own_row] -= fee
        state.balances.mark(own_row)
    balances["available"][fund_row] += fee
    state.balances.mark(fund_row)
    return fee
