"""What an operation finds when its turn comes: the market, its account's funds, the book, its own order."""

from typing import Any

import numpy as np

from engine.layout import NONE, OrderFlag
from engine.markets.states import MarketStatus
from engine.records import (
    EVERY_MARKET,
    STP_MASK,
    STP_SHIFT,
    TIF_MASK,
    TIF_SHIFT,
    Op,
    SelfTrade,
    Side,
    TimeInForce,
)
from engine.state import State, unpack_name
from engine.tables.index import find_balance, find_order

AHEAD_MAX = 100_000  # orders of one level that are counted


class Look:
    """The values that sentences name; `None` where there is nothing to see, such as an unknown market's."""

    def __init__(self, state: State, op: np.void) -> None:
        self._state = state
        self.op = op
        self.market = int(op["market"])
        self.account = int(op["account"])
        self.price, self.qty = int(op["price"]), int(op["qty"])
        self.has_market = self.market < state.count["markets"]
        self.has_account = self.account < state.count["accounts"]
        self.row = self._find_own_order()
        self.side = int(op["flags"]) & 1
        if self.row != NONE and op["op"] != Op.NEW:
            self.side = int(state.orders.data["side"][self.row])

    def values(self) -> dict[str, Any]:
        """Every value that a sentence may name."""
        op, state = self.op, self._state
        found: dict[str, Any] = {
            "op": _name(Op, int(op["op"])),
            "flags": int(op["flags"]),
            "market": self.market_name,
            "account": self.account,
            "order": int(op["client_order_id"]),
            "price": self.price,
            "qty": self.qty,
            "side": Side(self.side).name.lower(),
            "other_side": "offer" if self.side == Side.BUY else "bid",
            "time_in_force": _name(TimeInForce, int(op["flags"]) >> TIF_SHIFT & TIF_MASK),
            "self_trade": SelfTrade(int(op["flags"]) >> STP_SHIFT & STP_MASK).name,
            "time_ms": state.count["time_ms"],
            "markets_last": state.count["markets"] - 1,
            "own_order": self.describe_order(self.row) if self.row != NONE else None,
        }
        return found | self._of_market() | self._of_account()

    @property
    def market_name(self) -> str:
        """The market's name; its number where it has none."""
        if not self.has_market:
            return "every market" if self.market == EVERY_MARKET else str(self.market)
        return unpack_name(self._state.markets.columns["name"][self.market])

    def _of_market(self) -> dict[str, Any]:
        names = ("price_max", "qty_max", "band_low", "band_high", "collar_low", "collar_high", "mark_price")
        if not self.has_market:
            return dict.fromkeys((*names, "status", "best", "notional", "notional_min"))
        columns = self._state.markets.columns
        found: dict[str, Any] = {name: int(columns[name][self.market]) for name in names}
        best = int(columns["best_ask" if self.side == Side.BUY else "best_bid"][self.market])
        quote = int(columns["quote_asset"][self.market])
        notional = self.price * self.qty * int(columns["quote_per_lot_tick"][self.market])
        return found | {
            "status": MarketStatus(int(columns["status"][self.market])).name,
            "best": best if 1 <= best <= found["price_max"] else "none",
            "notional": self.amount(notional, quote),
            "notional_min": self.amount(int(columns["notional_min"][self.market]), quote),
        }

    def _of_account(self) -> dict[str, Any]:
        names = ("open_orders", "open_orders_max", "rate_max")
        if not self.has_account:
            return dict.fromkeys((*names, "needed", "available", "released"))
        columns = self._state.accounts.columns
        found: dict[str, Any] = {name: int(columns[name][self.account]) for name in names}
        if not self.has_market:
            return found | dict.fromkeys(("needed", "available", "released"))
        asset = self._pays()
        needed = self._hold(self.price, self.qty)
        released = ""
        if self.op["op"] == Op.REPLACE and self.row != NONE:
            order = self._state.orders.data[self.row]
            freed = self._hold(int(order["price"]), self.open_lots(self.row))
            released = f", with {self.amount(freed, asset)} held by the order it replaces"
        return found | {
            "needed": self.amount(needed, asset),
            "available": self.amount(self.available(asset), asset),
            "released": released,
        }

    def _pays(self) -> int:
        column = "quote_asset" if self.side == Side.BUY else "base_asset"
        return int(self._state.markets.columns[column][self.market])

    def _hold(self, price: int, qty: int) -> int:
        columns = self._state.markets.columns
        if self.side == Side.BUY:
            return price * qty * int(columns["quote_per_lot_tick"][self.market])
        return qty * int(columns["base_per_lot"][self.market])

    def available(self, asset: int) -> int:
        """What the account may spend of an asset."""
        state = self._state
        row = find_balance(state.balance_index, state.core().balances.rows, self.account, asset)
        return 0 if row == NONE else int(state.balances.columns["available"][row])

    def open_lots(self, row: int) -> int:
        """Open lots of an order, hidden ones too."""
        order = self._state.orders.data[row]
        hides = int(order["flags"]) & OrderFlag.HAS_TERMS
        return int(order["leaves"]) + (int(self._state.terms.data["hidden"][row]) if hides else 0)

    def ahead(self) -> tuple[int, int]:
        """(orders, shown lots) in front of the operation's own resting order at its price."""
        state = self._state
        row, orders, lots = self._find_own_order(), 0, 0
        if row == NONE:
            return 0, 0
        row = int(state.orders.data["prev"][row])
        while row != NONE and orders < AHEAD_MAX:
            orders, lots = orders + 1, lots + int(state.orders.data["leaves"][row])
            row = int(state.orders.data["prev"][row])
        return orders, lots

    def describe_order(self, row: int) -> str:
        """A resting order in a few words."""
        order = self._state.orders.data[row]
        side = "buys" if order["side"] == Side.BUY else "sells"
        return f"{side} {self.open_lots(row)} at {order['price']}, {order['filled']} filled before"

    def amount(self, units: int, asset: int) -> str:
        """Base units as people write them, with the asset's name."""
        columns = self._state.assets.columns
        decimals = int(columns["decimals"][asset])
        whole, part = divmod(abs(units), 10**decimals)
        digits = f"{part:0{decimals}d}".rstrip("0") if decimals else ""
        number = f"{'-' if units < 0 else ''}{whole:,}{'.' + digits if digits else ''}"
        return f"{number} {unpack_name(columns['name'][asset])}"

    def _find_own_order(self) -> int:
        if not self.has_account:
            return NONE
        state, op = self._state, self.op
        core = state.core()
        return int(find_order(core.order_index, core.orders.rows, self.account, int(op["client_order_id"])))


def _name(codes: Any, number: int) -> str:
    return str(codes(number).name) if number in codes._value2member_map_ else str(number)
