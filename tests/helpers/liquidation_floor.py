"""A floor with perpetual markets where accounts are liquidated at the end of blocks."""

from dataclasses import dataclass

import numpy as np

from engine.events import Events
from engine.layout import NONE
from engine.liquidation.plugin import LiquidationPlugin
from engine.liquidation.tables import TABLES
from engine.perpetuals.plugin import PerpetualsPlugin
from engine.plugin import Context
from engine.records import Code, Kind, Side
from engine.tables.table import TableSpec
from tests.helpers.perpetual_floor import PRICE, PerpetualFloor
from tests.helpers.trading_floor import make_ops, new


@dataclass
class LiquidationFloor(PerpetualFloor):
    """Account 1 makes the other side of every position unless told otherwise."""

    specs: tuple[TableSpec, ...] = (*PerpetualsPlugin.tables, *TABLES)

    def open(self, account: int, lots: int, price: int = PRICE, market: int = 1, other: int = 1) -> None:
        """`account` gets `lots` (negative: short) from account `other`, in fills of at most 1000."""
        self.numbers = getattr(self, "numbers", 0)
        side, against = (Side.BUY, Side.SELL) if lots > 0 else (Side.SELL, Side.BUY)
        for qty in [1000] * (abs(lots) // 1000) + [abs(lots) % 1000] * (abs(lots) % 1000 > 0):
            self.numbers += 1
            ops = make_ops(
                new(other, self.numbers, against, price, qty, market=market),
                new(account, self.numbers, side, price, qty, market=market),
            )
            results, _ = self.execute(ops)
            assert results["code"].tolist() == [0, 0], results["code"].tolist()

    def rest(self, account: int, side: Side, price: int, qty: int, market: int = 1) -> None:
        """An order that rests."""
        self.numbers = getattr(self, "numbers", 0) + 1
        results, _ = self.execute(make_ops(new(account, self.numbers, side, price, qty, market=market)))
        assert results["code"].tolist() == [0], results["code"].tolist()

    def rule(self, command: tuple) -> Code:
        """Carry out a command of the liquidation plugin, or say why not."""
        handler = next(h for h in LiquidationPlugin.handlers if h.command is type(command))
        code = handler.validate(self.state, command, self.context())
        if code == Code.OK:
            handler.apply(self.state, command, self.context())
        return code

    def liquidate(self, elapsed_ms: int = 1000) -> np.ndarray:
        """The end of a block; returns its LIQUIDATION lines."""
        self.state.count["time_ms"] += elapsed_ms
        context = Context(NONE, self.state.count["time_ms"], self.state.count["height"], Events())
        LiquidationPlugin().on_block_end(self.state, context)
        self.state.count["height"] += 1
        self.lines = context.events.lines
        return self.lines[self.lines["kind"] == Kind.LIQUIDATION]

    def set_cash(self, account: int, amount: int, asset: int = 1) -> None:
        """Withdraw or deposit until the account has `amount` available."""
        row = self.state.add_balance(account, asset)
        before = int(self.state.balances.columns["available"][row])
        self.state.balances.columns["available"][row] = amount
        self.state.assets.columns["deposited"][asset] += amount - before

    def cash(self, account: int, asset: int = 1) -> int:
        row = self.state.balance_row(account, asset)
        return 0 if row == NONE else int(self.state.balances.columns["available"][row])

    def total(self, asset: int = 1) -> int:
        """Σ available + held of all balances in an asset."""
        data = self.state.balances.data[: self.state.used(self.state.balances)]
        own = data[data["asset"] == asset]
        return int(own["available"].sum() + own["held"].sum())
