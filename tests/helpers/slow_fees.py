"""What the fee plugin does after a block's trades, in plain Python integers and dicts."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from engine.records import AMOUNT_MAX, FeeLine, Kind, Side

DAYS = 30


@dataclass
class SlowFees:
    """Volumes, tiers, choices; `balances` are available amounts by (account, asset)."""

    balances: dict[tuple[int, int], int]
    markets: list[Any]  # base, quote, base_per_lot, quote_per_lot_tick, per_unit, index (0: not valid)
    thresholds: dict[int, int] = field(default_factory=dict)  # by tier
    assets: list[tuple[int, int]] = field(default_factory=list)  # (market, discount)
    share: int = 0
    choices: dict[int, int] = field(default_factory=dict)  # account: place in `assets`
    referrers: dict[int, int] = field(default_factory=dict)
    traded: defaultdict[int, defaultdict[int, int]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(int))
    )

    def tier(self, account: int, day: int) -> int:
        """By what was traded in the last DAYS days."""
        volume = sum(units for at, units in self.traded[account].items() if day - DAYS < at <= day)
        return max([tier for tier, needed in self.thresholds.items() if 0 < needed <= volume], default=0)

    def account(self, fills: list[Any], day: int) -> list[tuple[int, ...]]:
        """Account for FILL lines; returns (op, asset, account, other, qty, fee, detail) of FEE lines."""
        lines: list[tuple[int, ...]] = []
        for fill in fills:
            if fill.kind != Kind.FILL:
                continue
            market = self.markets[fill.market]
            units = fill.price * fill.qty * market.quote_per_lot_tick // market.per_unit
            for account in (fill.account, fill.counter_account):
                self.traded[account][day] += units
            taker_gets, maker_gets = market.base, market.quote
            if fill.side == Side.SELL:
                taker_gets, maker_gets = maker_gets, taker_gets
            self._settle(market, fill.account, taker_gets, fill.fee + min(fill.detail, 0), lines)
            self._settle(market, fill.counter_account, maker_gets, max(fill.detail, 0), lines)
        return lines

    def _settle(self, market: Any, account: int, asset: int, fee: int, lines: list[tuple[int, ...]]) -> None:
        if fee == 0 or self.balances.get((0, asset), 0) < fee:
            return
        if account in self.choices:
            number, discount = self.assets[self.choices[account]]
            other = self.markets[number]
            price = self._price(market, asset, fee, other, discount)
            if price and asset != other.base and self.balances.get((account, other.base), 0) >= price:
                self._move(0, account, asset, fee)
                self._move(account, 0, other.base, price)
                lines.append((FeeLine.CONVERTED, other.base, account, 0, price, fee, asset))
                asset, fee = other.base, price
        share = fee * self.share // 10**6
        if account in self.referrers and share:
            self._move(0, self.referrers[account], asset, share)
            lines.append((FeeLine.REFERRAL, asset, self.referrers[account], account, share, 0, 0))

    @staticmethod
    def _price(market: Any, asset: int, fee: int, other: Any, discount: int) -> int:
        if other.quote != market.quote or not other.index:
            return 0
        value = fee
        if asset == market.base:
            value = -(-fee * market.index * market.quote_per_lot_tick // market.base_per_lot)
            if fee * market.index * market.quote_per_lot_tick > AMOUNT_MAX:
                return 0
        value = -(-value * (10**6 - discount) // 10**6)
        if value * other.base_per_lot > AMOUNT_MAX:
            return 0
        return -(-value * other.base_per_lot // (other.index * other.quote_per_lot_tick))

    def _move(self, source: int, target: int, asset: int, amount: int) -> None:
        self.balances[source, asset] = self.balances.get((source, asset), 0) - amount
        self.balances[target, asset] = self.balances.get((target, asset), 0) + amount
        assert self.balances[source, asset] >= 0
