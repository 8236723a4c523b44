"""The rulebook of perpetual markets once more: plain Python integers and fractions, positions as dicts.

Sums that kernels keep are counted here each time they are asked for: open lots from the orders, claims and
open interest from the positions. Funding is a fraction per lot, scenario margin looks at all sixteen points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor, trunc
from typing import Any

from engine.genesis import CLEARING_ACCOUNT
from engine.layout import MarginMode, MarketKind, PriceStatus
from engine.perpetuals.commands import (
    AddCollateral,
    ListPerpetual,
    SetDefaultAddon,
    SetIsolation,
    SetMarginMode,
)
from engine.records import REDUCE_ONLY, Code, Side, TimeInForce
from tests.helpers.slow_book import Request, Resting, SlowVenue

E6 = 10**6
POSITIONS_MAX = 16
DAY_MS = 24 * 3600 * 1000


@dataclass
class SlowPosition:
    """One account's lots in one market."""

    qty: int = 0
    entry: int = 0
    unsettled: int = 0
    funding: Fraction = Fraction(0)  # the index when last charged
    collateral: int = 0
    isolated: bool = False

    def is_empty(self) -> bool:
        return not (self.qty or self.unsettled or self.collateral or self.isolated)


@dataclass
class SlowContract:
    """Terms of a market and where its funding stands."""

    terms: ListPerpetual
    next_ms: int
    tiers: list[tuple[int, int, int]] = field(default_factory=list)  # from, initial, maintenance
    status: int = 1
    kind: int = MarketKind.PERPETUAL
    mark: int = 100
    index: int = 100
    price_status: int = PriceStatus.VALID
    last: int = 0
    funding: Fraction = Fraction(0)  # quote units per lot since listing
    lost: Fraction = Fraction(0)  # what rounding took
    net: int = 0
    premium: int = 0
    premium_sum: int = 0
    premium_ms: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terms, name)


@dataclass
class SlowCollateral:
    """An asset that backs positions."""

    asset: int
    market: int
    haircut_ppm: int
    cap: int


class SlowPerpetuals(SlowVenue):
    """Spot markets, then contracts, all settled in asset 1."""

    def __init__(
        self,
        accounts: int,
        markets: Sequence[Any],
        contracts: Sequence[ListPerpetual],
        balances: dict[tuple[int, int], int],
        start_ms: int,
    ) -> None:
        listed = [SlowContract(terms, start_ms + terms.funding_interval_ms) for terms in contracts]
        super().__init__(accounts, [*markets, *listed], balances)
        self.time_ms = start_ms
        self.height = 0
        self.prices: dict[int, tuple[int, int]] = dict.fromkeys(range(len(markets)), (100, 0))
        for contract in listed:
            contract.tiers = [(0, contract.initial_ppm, contract.maintenance_ppm)]
        self.positions: dict[tuple[int, int], SlowPosition] = {}
        self.fees_due = 0
        self.collaterals: list[SlowCollateral] = []
        self.modes: dict[int, int] = {}
        self.addons: dict[int, int] = {}

    # -- what a position is worth, and what it asks for ---------------------------------------------

    def pool(self) -> int:
        return self.available.get((CLEARING_ACCOUNT, 1), 0)

    def claims(self) -> int:
        return sum(max(p.unsettled, 0) for p in self.positions.values())

    def open_interest(self, market: int) -> int:
        return sum(max(p.qty, 0) for (_, m), p in self.positions.items() if m == market)

    def lots(self, account: int, market: int) -> int:
        position = self.positions.get((account, market))
        return position.qty if position else 0

    def open_lots(self, account: int, market: int, side: int) -> tuple[int, int]:
        """(lots, notional) of resting orders that may add to the position."""
        own = [
            (o.leaves + o.hidden, o.price)
            for o in self.orders.values()
            if (o.account, o.market, o.side) == (account, market, side) and not o.reduce_only
        ]
        lot_value = self.markets[market].quote_per_lot_tick
        return sum(qty for qty, _ in own), sum(qty * price * lot_value for qty, price in own)

    def value(self, account: int, market: int) -> int:
        position, contract = self.positions[account, market], self.markets[market]
        value = position.unsettled - ceil(position.qty * (contract.funding - position.funding))
        if contract.mark:
            value += position.qty * contract.mark * contract.quote_per_lot_tick - position.entry
        return value

    def risk(self, market: int, lots: int) -> tuple[int, int]:
        """(initial, maintenance) of so many lots at the mark price."""
        contract = self.markets[market]
        notional = lots * contract.mark * contract.quote_per_lot_tick
        margins = []
        for rate in (1, 2):
            total = 0
            for tier, above in pairwise([*contract.tiers, (2**62, 0, 0)]):
                part = min(notional, above[0]) - tier[0]
                if notional >= tier[0]:
                    total += ceil(Fraction(part * tier[rate], E6))
            margins.append(total)
        scan = ceil(Fraction(notional * contract.scan_ppm, E6))
        return max(margins[0], scan), margins[1]

    def assess(
        self, account: int, order: tuple[int, int, int, int] | None = None, spent: tuple[int, int] = (-1, 0)
    ) -> tuple[int, int, int, bool]:
        """(equity, initial, maintenance, whether all prices are known) of cross positions, as if `order`
        (market, side, qty, price) rested and `spent` (asset, amount) were gone."""
        markets = sorted({m for a, m in self.positions if a == account} | ({order[0]} if order else set()))
        cross = [m for m in markets if not self.position(account, m).isolated]
        cross = [m for m in cross if self.has_risk(account, m) or (order and order[0] == m)]
        equity = self.available.get((account, 1), 0) - (spent[1] if spent[0] == 1 else 0)
        equity += self.collateral_value(account, *spent)
        known = True
        for market in cross:
            if (account, market) in self.positions and self.has_risk(account, market):
                equity += self.value(account, market)
                known = known and self.markets[market].mark > 0
        initial, maintenance = self.margins(account, cross, order)
        return equity, initial, maintenance, known

    def position(self, account: int, market: int) -> SlowPosition:
        return self.positions.get((account, market)) or SlowPosition()

    def has_risk(self, account: int, market: int) -> bool:
        position = self.position(account, market)
        orders = any(self.open_lots(account, market, side)[0] for side in (0, 1))
        return bool(position.qty or position.unsettled or orders)

    def collateral_value(self, account: int, asset: int, amount: int) -> int:
        total = 0
        for item in self.collaterals:
            price, status = self.prices[item.market]
            owned = self.available.get((account, item.asset), 0) - (amount if item.asset == asset else 0)
            if status == PriceStatus.VALID and owned > 0:
                market = self.markets[item.market]
                lots = min(owned, item.cap) // market.base_per_lot
                value = lots * price * market.quote_per_lot_tick
                total += floor(Fraction(value * (E6 - item.haircut_ppm), E6))
        return total

    def margins(self, account: int, markets: list[int], order: tuple[int, int, int, int] | None) -> tuple:
        """(initial, maintenance) over these markets."""
        initial = maintenance = loss = 0
        groups: dict[int, list[tuple[int, int, int]]] = {}
        for market in markets:
            contract, lots = self.markets[market], self.lots(account, market)
            sides = [self.open_lots(account, market, side) for side in (0, 1)]
            own_loss = 0
            mark_value = contract.mark * contract.quote_per_lot_tick
            if order and order[0] == market:
                notional = order[2] * order[3] * contract.quote_per_lot_tick
                own_loss = self._loss(order[1], notional, order[2] * mark_value)
                sides[order[1]] = sides[order[1]][0] + order[2], sides[order[1]][1] + notional
            (buy, buy_notional), (sell, sell_notional) = sides
            initial += max(self.risk(market, abs(n))[0] for n in (lots + buy, lots - sell))
            maintenance += self.risk(market, abs(lots))[1]
            both = self._loss(0, buy_notional, buy * mark_value) + self._loss(
                1, sell_notional, sell * mark_value
            )
            loss += max(both, own_loss)
            if (
                self.modes.get(account) == MarginMode.PORTFOLIO
                and contract.group
                and (account, market) in (self.positions)
            ):
                certain = lots - sell if lots > 0 else lots + buy
                certain = certain if (certain > 0) == (lots > 0) else 0
                sign = 1 if lots > 0 else -1
                groups.setdefault(contract.group, []).append(
                    (
                        sign * self.risk(market, abs(certain))[0],
                        sign * self.risk(market, abs(lots))[1],
                        contract.offset_ppm,
                    )
                )
        for members in groups.values():
            forgiven = min(offset for _, _, offset in members)
            initial -= self._scan_relief([risk for risk, _, _ in members], forgiven)
            maintenance -= self._scan_relief([risk for _, risk, _ in members], forgiven)
        initial += ceil(Fraction(initial * self.addons.get(account, 0), 10**4))
        return initial + loss, maintenance

    @staticmethod
    def _scan_relief(risks: list[int], offset_ppm: int) -> int:
        """Gross risk less the worst of sixteen points at which all move together, as far as that counts."""
        points = [Fraction(k, 8) for k in range(-8, 9) if k]
        assert len(points) == 16
        worst = max(sum(-risk * point for risk in risks) for point in points)
        gross = sum(abs(risk) for risk in risks)
        return floor((gross - worst) * Fraction(offset_ppm, E6))

    @staticmethod
    def _loss(side: int, notional: int, at_mark: int) -> int:
        return max(notional - at_mark if side == Side.BUY else at_mark - notional, 0)

    # -- what matching asks -------------------------------------------------------------------------

    @staticmethod
    def _hold(market: Any, side: int, price: int, qty: int) -> tuple[int, int]:
        if market.kind == MarketKind.PERPETUAL:
            return market.quote_asset, 0
        return SlowVenue._hold(market, side, price, qty)

    def _may_spend(self, account: int, asset: int, amount: int) -> bool:
        if not any(a == account for a, _ in self.positions) or amount <= 0:
            return True
        if asset != 1 and asset not in [item.asset for item in self.collaterals]:
            return True
        equity, initial, _, known = self.assess(account, None, (asset, amount))
        return known and equity >= initial

    def _check_funds(self, request: Request, side: int, replaced: Resting | None) -> Code:
        if self.markets[request.market].kind != MarketKind.PERPETUAL:
            return super()._check_funds(request, side, replaced)
        if replaced:
            if replaced.reduce_only != bool(request.flags & REDUCE_ONLY):
                return Code.BAD_OP
            del self.orders[replaced.account, replaced.client_order_id]
        code = self._check_lots(request, side)
        if replaced:
            self.orders[replaced.account, replaced.client_order_id] = replaced
        return code

    def _check_book(self, request: Request, side: int) -> Code:
        code = super()._check_book(request, side)
        if code == Code.OK and self.markets[request.market].kind == MarketKind.PERPETUAL:
            key = request.account, request.market
            own = [k for k in self.positions if k[0] == request.account and not self._is_gone(k)]
            if key not in self.positions and len(own) >= POSITIONS_MAX:
                return Code.LIMIT_REACHED
            self.positions.setdefault(key, SlowPosition(funding=self.markets[request.market].funding))
        return code

    def _is_gone(self, key: tuple[int, int]) -> bool:
        orders = any(self.open_lots(*key, side)[0] for side in (0, 1))
        return self.positions[key].is_empty() and not orders

    def _check_lots(self, request: Request, side: int) -> Code:
        contract = self.markets[request.market]
        lots = self.lots(request.account, request.market)
        closable = -lots if side == Side.BUY else lots
        if request.flags & REDUCE_ONLY:
            if closable <= 0:
                return Code.WOULD_NOT_REDUCE
            too_much = request.tif == TimeInForce.FOK and request.qty > closable
            return Code.NOT_FILLABLE if too_much else Code.OK
        opened = self.open_lots(request.account, request.market, side)[0] + request.qty
        if opened <= closable:
            return Code.OK
        if contract.mark == 0 or contract.price_status != PriceStatus.VALID:
            return Code.NO_MARK_PRICE
        worst = Fraction(contract.mark * (E6 + (1 - 2 * side) * contract.collar_ppm), E6)
        if request.price > worst if side == Side.BUY else request.price < worst:
            return Code.FAR_FROM_MARK
        if opened - closable > contract.position_max:
            return Code.POSITION_LIMIT
        if self.open_interest(request.market) + request.qty > contract.open_interest_max:
            return Code.OPEN_INTEREST_LIMIT
        order = (request.market, side, request.qty, request.price)
        if self.position(request.account, request.market).isolated:
            equity, initial, known = self._assess_isolated(request.account, request.market, order)
        else:
            equity, initial, _, known = self.assess(request.account, order)
        return Code.OK if known and equity >= initial else Code.MARGIN_TOO_LOW

    def _assess_isolated(self, account: int, market: int, order: tuple | None) -> tuple[int, int, bool]:
        equity = self.position(account, market).collateral + self.value(account, market)
        return equity, self.margins(account, [market], order)[0], self.markets[market].mark > 0

    def _lots_to_take(self, request: Request, side: int) -> int:
        if not request.flags & REDUCE_ONLY:
            return request.qty
        lots = self.lots(request.account, request.market)
        return min(request.qty, -lots if side == Side.BUY else lots)

    def _lots_to_trade(self, request: Request, side: int, maker: Resting, qty: int) -> int:
        if not maker.reduce_only:
            return qty
        lots = self.lots(maker.account, request.market)
        return min(qty, max(lots if side == Side.BUY else -lots, 0))

    def _settle(self, request: Request, side: int, maker: Resting, qty: int) -> tuple[int, int]:
        contract = self.markets[request.market]
        if contract.kind != MarketKind.PERPETUAL:
            return super()._settle(request, side, maker, qty)
        buyer, seller = (request.account, maker.account)
        if side == Side.SELL:
            buyer, seller = seller, buyer
        cost = maker.price * contract.quote_per_lot_tick
        for account, lots in ((buyer, qty), (seller, -qty)):
            self._add_lots(account, request.market, lots, cost)
        for account in (buyer, seller):
            self.settle_cash(account, request.market)
        assert self.open_interest(request.market) <= contract.open_interest_max
        fees = []
        for account, rate in (
            (request.account, contract.taker_fee_e6),
            (maker.account, contract.maker_fee_e6),
        ):
            fee = ceil(Fraction(cost * qty * rate, E6))
            self._charge_fee(account, request.market, fee)
            fees.append(fee)
        contract.last = maker.price
        return fees[0], fees[1]

    def _add_lots(self, account: int, market: int, qty: int, cost: int) -> None:
        position = self.positions[account, market]
        self.charge_funding(account, market)
        closed = min(abs(position.qty), abs(qty)) if position.qty * qty < 0 else 0
        sign = 1 if qty > 0 else -1
        if closed:
            # Signed: a long cost its entry, a short was paid it; the profit is rounded down.
            share = ceil(Fraction(position.entry * closed, abs(position.qty)))
            position.entry -= share
            position.unsettled += -sign * closed * cost - share
        position.qty += qty
        position.entry += sign * (abs(qty) - closed) * cost

    # -- cash ---------------------------------------------------------------------------------------

    def charge_funding(self, account: int, market: int) -> int:
        position, contract = self.positions[account, market], self.markets[market]
        exact = position.qty * (contract.funding - position.funding)
        owed = ceil(exact)
        position.funding = contract.funding
        position.unsettled -= owed
        contract.net += owed
        contract.lost += owed - exact
        return owed

    def settle_cash(self, account: int, market: int) -> int:
        position = self.positions[account, market]
        if position.unsettled > 0:
            moved = min(position.unsettled, self.pool())
        else:
            moved = -min(-position.unsettled, self._cash(account, market))
        position.unsettled -= moved
        self._move(account, market, moved)
        self._add(self.available, CLEARING_ACCOUNT, 1, -moved)
        return moved

    def _charge_fee(self, account: int, market: int, fee: int) -> None:
        paid = min(fee, self._cash(account, market))
        self._move(account, market, -paid)
        self._add(self.available, 0, 1, paid)
        self.positions[account, market].unsettled -= fee - paid
        self.fees_due += fee - paid

    def _cash(self, account: int, market: int) -> int:
        position = self.positions[account, market]
        return position.collateral if position.isolated else self.available.get((account, 1), 0)

    def _move(self, account: int, market: int, amount: int) -> None:
        position = self.positions[account, market]
        if position.isolated:
            position.collateral += amount
            self._add(self.held, CLEARING_ACCOUNT, 1, amount)
        else:
            self._add(self.available, account, 1, amount)

    def command(self, command: Any) -> Code:
        """Commands by a key that may do everything, about accounts and markets that exist."""
        if isinstance(command, SetDefaultAddon):
            self.addons = dict.fromkeys(range(self.accounts), command.addon_bps)
            return Code.OK
        if isinstance(command, SetMarginMode):
            before = self.modes.get(command.account, MarginMode.STANDARD)
            self.modes[command.account] = command.mode
            equity, initial, _, known = self.assess(command.account)
            if command.mode == MarginMode.STANDARD and not (known and equity >= initial):
                self.modes[command.account] = before
                return Code.MARGIN_TOO_LOW
            return Code.OK
        key = command.account, command.market
        if isinstance(command, SetIsolation):
            return self._isolate(key, bool(command.isolated))
        if not self.position(*key).isolated:
            return Code.BAD_ARGUMENT
        if isinstance(command, AddCollateral):
            if self.available.get((command.account, 1), 0) < command.amount:
                return Code.INSUFFICIENT_FUNDS
            if not self._may_spend(command.account, 1, command.amount):
                return Code.MARGIN_TOO_LOW
            self._move_collateral(*key, command.amount)
            return Code.OK
        position, contract = self.positions[key], self.markets[command.market]
        if position.collateral < command.amount:
            return Code.INSUFFICIENT_FUNDS
        if position.qty and contract.price_status != PriceStatus.VALID:
            return Code.NO_MARK_PRICE
        equity, initial, known = self._assess_isolated(*key, None)
        if not (known or not self.has_risk(*key)) or equity - command.amount < initial:
            return Code.MARGIN_TOO_LOW
        self._move_collateral(*key, -command.amount)
        return Code.OK

    def _isolate(self, key: tuple[int, int], isolated: bool) -> Code:
        position = self.positions.get(key)
        if position is None:
            self.positions[key] = SlowPosition(funding=self.markets[key[1]].funding, isolated=isolated)
            return Code.OK
        if position.qty or any(self.open_lots(*key, side)[0] for side in (0, 1)):
            return Code.POSITION_OPEN
        if position.unsettled and isolated:
            return Code.POSITION_OPEN
        if not isolated:
            self._move_collateral(*key, -position.collateral)
        position.isolated = isolated
        return Code.OK

    def _move_collateral(self, account: int, market: int, amount: int) -> None:
        self._add(self.available, account, 1, -amount)
        self._add(self.held, CLEARING_ACCOUNT, 1, amount)
        self.positions[account, market].collateral += amount

    # -- the end of a block -------------------------------------------------------------------------

    def end_block(self, elapsed_ms: int, order_of_visits: Sequence[tuple[int, int]]) -> None:
        """All positions are visited in one block, in the order in which their rows stand."""
        self.time_ms += elapsed_ms
        contracts = [(m, c) for m, c in enumerate(self.markets) if c.kind == MarketKind.PERPETUAL]
        for market, contract in contracts:
            self._sample(market, contract, elapsed_ms)
        funded = False
        for _, contract in contracts:
            if self.time_ms >= contract.next_ms:
                self._fund(contract)
                funded = True
        if funded or self.claims() or self.fees_due:
            for key in order_of_visits:
                self._visit(*key)
            for _, contract in contracts:
                whole = floor(contract.lost)
                contract.lost -= whole
                contract.net -= whole
                self.fees_due += whole
            paid = max(min(self.fees_due, self.pool() - self.claims()), 0)
            self.fees_due -= paid
            self._add(self.available, CLEARING_ACCOUNT, 1, -paid)
            self._add(self.available, 0, 1, paid)
            self.positions = {k: p for k, p in self.positions.items() if not self._is_gone(k)}
        self.height += 1

    def _sample(self, market: int, contract: SlowContract, elapsed_ms: int) -> None:
        if contract.price_status == PriceStatus.VALID:
            counted = min(elapsed_ms, 60_000)
            contract.premium_sum += contract.premium * counted
            contract.premium_ms += counted
        own = [order for order in self.orders.values() if order.market == market]
        bids, asks = ([o.price for o in own if o.side == side] for side in (0, 1))
        middle = Fraction(max(bids) + min(asks), 2) if bids and asks else Fraction(contract.last)
        contract.premium = 0
        if contract.price_status == PriceStatus.VALID and contract.index and middle:
            premium = trunc((middle - contract.index) * E6 / contract.index)
            contract.premium = max(min(premium, 100_000), -100_000)

    def _fund(self, contract: SlowContract) -> None:
        rate = 0
        if contract.price_status == PriceStatus.VALID and contract.premium_ms:
            rate = trunc(Fraction(contract.premium_sum, contract.premium_ms))
            rate = max(min(rate, contract.funding_cap_ppm), -contract.funding_cap_ppm)
        contract.funding += Fraction(rate * contract.index * contract.quote_per_lot_tick, E6)
        contract.premium_sum = contract.premium_ms = 0
        while contract.next_ms <= self.time_ms:
            contract.next_ms += contract.funding_interval_ms

    def _visit(self, account: int, market: int) -> None:
        contract, position = self.markets[market], self.positions[account, market]
        self.charge_funding(account, market)
        if self.claims() > self.pool() and contract.price_status == PriceStatus.VALID and contract.mark:
            lost = position.entry - position.qty * contract.mark * contract.quote_per_lot_tick
            if lost > 0:
                position.entry -= lost
                position.unsettled -= lost
        self.settle_cash(account, market)
