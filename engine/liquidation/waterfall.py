"""The waterfall: who is looked at, and which stage closes what. Called at the end of every block."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.breakers.triggers import raise_solvency_alarm
from engine.layout import NONE, AssetAlarm, PositionFlag, PriceStatus
from engine.liquidation.closing import Closing, cover, deleverage, give_to_backstops, sell_to_book
from engine.liquidation.kernels import UNITS_OF_ACCOUNT_MAX, find_units, lots_to_recover, maintenance_of
from engine.liquidation.prices import bankruptcy_price
from engine.liquidation.tables import Stage, open_rules
from engine.margin.account import NO_CHANGE, UNKNOWN, Assessment, assess, assess_isolated
from engine.markets.states import Action, allows
from engine.matching.orders import CANCELS_PER_OPERATION_MAX, cancel_all
from engine.perpetuals.cash import settle_cash
from engine.plugin import Context
from engine.records import AMOUNT_MAX, EVERY_MARKET, ORDER_OP, Code, Kind
from engine.state import State
from engine.tables.table import kernel_view

UNITS_PER_BLOCK_MAX = 64
CLOSINGS_PER_BLOCK_MAX = 64  # of positions of the other side
RANKINGS_PER_BLOCK_MAX = 8
PART_PERCENT = 20  # of a large position

_NEEDED = int(Action.LIQUIDATE) | int(Action.MATCH)


@dataclass
class _Left:
    """What may still happen in this block."""

    closings: int = CLOSINGS_PER_BLOCK_MAX
    rankings: int = RANKINGS_PER_BLOCK_MAX
    covered: dict[int, int] = field(default_factory=dict)  # pool to quote units paid


@dataclass
class _Unit:
    """What is backed together: an account's cross positions in one pool, or one isolated position."""

    state: State
    context: Context
    account: int
    pool: int
    isolated_row: int  # or NONE
    left: _Left

    def assess(self) -> Assessment:
        core = self.state.core()
        if self.isolated_row != NONE:
            return Assessment(*(int(n) for n in assess_isolated(core, self.isolated_row, NO_CHANGE)))
        return Assessment(*(int(n) for n in assess(core, self.account, self.pool, NO_CHANGE)))

    def rows(self) -> list[int]:
        """Its position rows, largest maintenance margin first, then by market."""
        if self.isolated_row != NONE:
            return [self.isolated_row]
        columns, found = self.state.positions.columns, []
        row = int(self.state.accounts.columns["first_position"][self.account])
        while row != NONE:
            market = int(columns["market"][row])
            own_pool = int(
                self.state.perpetuals.columns["pool"][int(self.state.markets.columns["perpetual"][market])]
            )
            if own_pool == self.pool and not int(columns["flags"][row]) & PositionFlag.ISOLATED:
                found.append((-int(maintenance_of(self.state.core(), row)), market, row))
            row = int(columns["next_own"][row])
        return [row for _, _, row in sorted(found)]

    def lots(self, row: int) -> int:
        return int(self.state.positions.columns["qty"][row])

    def may_close(self, row: int) -> bool:
        """Whether clearing may close this position now."""
        columns, market = self.state.markets.columns, int(self.state.positions.columns["market"][row])
        return (
            self.lots(row) != 0
            and bool(allows(int(columns["status"][market]), _NEEDED))
            and int(columns["price_status"][market]) == PriceStatus.VALID
            and int(columns["mark_price"][market]) > 0
            and self.context.time_ms >= int(columns["grace_until_ms"][market])
        )

    def closing(self, row: int, equity: int) -> Closing:
        total = sum(int(maintenance_of(self.state.core(), other)) for other in self.rows())
        market = int(self.state.positions.columns["market"][row])
        return Closing(self.state, self.context, self.pool, row, self.account, market, equity, total)

    def rule(self, name: str) -> int:
        return int(self.state.table("liquidation_rules").columns[name][self.pool])

    def fund_row(self) -> int:
        """Balance row of the fund, or NONE: there is none, it is the account's own, or it has positions."""
        fund = self.rule("insurance_plus_one") - 1
        if fund in (NONE, self.account):
            return NONE
        if int(self.state.accounts.columns["first_position"][fund]) != NONE:
            return NONE
        return self.state.balance_row(fund, int(self.state.pools.columns["asset"][self.pool]))

    def fund_left(self) -> int:
        """What the fund may still pay in this block."""
        row = self.fund_row()
        if row == NONE:
            return 0
        available = int(self.state.balances.columns["available"][row])
        return min(available, max(self.rule("cover_max") - self.left.covered.get(self.pool, 0), 0))


def end_block(state: State, context: Context) -> None:
    """Look at the next accounts, and take the units below maintenance through the stages."""
    rules, rounds = open_rules(state), state.table("liquidation_round")
    if state.used(rounds) == 0:
        state.add_rows(rounds)
    found = np.zeros((UNITS_PER_BLOCK_MAX + UNITS_OF_ACCOUNT_MAX, 3), dtype=np.int64)
    first = int(rounds.columns["next_account"][0])
    following, count = find_units(state.core(), first, found)
    left = _Left()
    for account, pool, row in found[:count].tolist():
        unit = _Unit(state, context, account, pool, row, left)
        _close(unit)
        _note_deficit(unit, rules)
    if following == state.count["accounts"]:
        _end_round(state, rules)
        following = 0
    if following != first:
        rounds.columns["next_account"][0] = following
        rounds.mark(0)


def _close(unit: _Unit) -> None:
    """The stages, as far as they are needed and allowed."""
    found = unit.assess()
    rows = unit.rows()
    if any(unit.lots(row) for row in rows) and not any(unit.may_close(row) for row in rows):
        return
    if not _cancel_orders(unit):
        return
    for row in rows:
        settle_cash(unit.state.core(), unit.pool, row)
    found = unit.assess()
    if found.equity >= found.maintenance:
        return
    if found.equity < 0:
        _wind_up(unit)
    elif 3 * found.equity < 2 * found.maintenance:
        _close_all(unit)
    else:
        _close_part(unit)


def _cancel_orders(unit: _Unit) -> bool:
    """Cancel the account's orders, of an isolated position those in its market. False: some are left."""
    if int(unit.state.accounts.columns["open_orders"][unit.account]) == 0:
        return True
    market = EVERY_MARKET
    if unit.isolated_row != NONE:
        market = int(unit.state.positions.columns["market"][unit.isolated_row])
    ops = np.zeros(1, dtype=ORDER_OP)
    ops[0] = (0, 0, market, unit.account, 0, 0, 0)
    lines = unit.context.events.room(CANCELS_PER_OPERATION_MAX)
    code, _, used = cancel_all(unit.state.core(), kernel_view(ops)[0], lines, 0)
    unit.context.events.took(used)
    return bool(code == Code.OK)


def _close_part(unit: _Unit) -> None:
    """A part of each position, until the account has its maintenance margin again."""
    time_ms = unit.context.time_ms
    for row in unit.rows():
        found = unit.assess()
        if found.equity >= found.maintenance or found.equity < 0:
            return
        if not unit.may_close(row) or time_ms < int(unit.state.positions.columns["cooldown_ms"][row]):
            continue
        closing = unit.closing(row, found.equity)
        lots = closing.lots()
        qty = int(lots_to_recover(unit.state.core(), row, found.equity, found.initial))
        large_from = unit.rule("large_from")
        is_large = 0 < large_from <= abs(lots.qty) * lots.mark * lots.lot_tick
        if is_large:
            qty = min(qty, max(abs(lots.qty) * PART_PERCENT // 100, 1))
        bankrupt = bankruptcy_price(lots, found.equity, closing.maintenance)
        taken = sell_to_book(closing, qty, bankrupt, unit.fund_row(), unit.rule("fee_ppm"))
        if taken == 0:
            taken = give_to_backstops(closing, qty, bankrupt)
        if taken and is_large:
            unit.state.positions.columns["cooldown_ms"][row] = time_ms + unit.rule("cooldown_ms")
            unit.state.positions.mark(row)


def _close_all(unit: _Unit) -> None:
    """Backstops take what they can, the book the rest."""
    for row in unit.rows():
        found = unit.assess()
        if found.equity >= found.maintenance or found.equity < 0:
            return
        if unit.may_close(row):
            closing = unit.closing(row, found.equity)
            lots = closing.lots()
            bankrupt = bankruptcy_price(lots, found.equity, closing.maintenance)
            qty = abs(lots.qty)
            qty -= give_to_backstops(closing, qty, bankrupt)
            sell_to_book(closing, qty, bankrupt, unit.fund_row(), unit.rule("fee_ppm"))


def _wind_up(unit: _Unit) -> None:
    """Equity is gone: what the fund promises, backstops and the other side at the price which that allows."""
    for row in unit.rows():
        if not unit.may_close(row):
            continue
        found = unit.assess()
        promised = min(max(-found.equity, 0), unit.fund_left())
        equity = found.equity + promised
        closing = unit.closing(row, equity)
        price = bankruptcy_price(closing.lots(), equity, closing.maintenance)
        if equity >= 0:
            give_to_backstops(closing, abs(closing.lots().qty), price)
        if unit.left.rankings > 0 and unit.lots(row):
            unit.left.rankings -= 1
            unit.left.closings -= deleverage(closing, price, equity < 0, unit.left.closings)
    rows = unit.rows()
    missing = -unit.assess().equity
    if missing <= 0 or any(unit.lots(row) for row in rows):
        return
    fund = unit.rule("insurance_plus_one") - 1
    paid = cover(unit.state, unit.pool, rows, unit.fund_row(), min(missing, unit.fund_left()))
    if paid:
        unit.left.covered[unit.pool] = unit.left.covered.get(unit.pool, 0) + paid
        unit.context.events.add(
            Kind.LIQUIDATION, op=Stage.INSURANCE, account=unit.account, counter_account=fund, qty=paid
        )


def _note_deficit(unit: _Unit, rules: Any) -> None:
    """What is still missing counts, and holds withdrawals at once."""
    equity = unit.assess().equity
    if equity >= 0 or equity == UNKNOWN:
        return
    columns, pool = rules.columns, unit.pool
    columns["deficit_found"][pool] = min(unit.rule("deficit_found") - equity, AMOUNT_MAX)
    unit.context.events.add(Kind.LIQUIDATION, op=Stage.DEFICIT, account=unit.account, qty=-equity)
    _set_deficit(unit.state, rules, pool, max(unit.rule("deficit"), unit.rule("deficit_found")))


def _end_round(state: State, rules: Any) -> None:
    """Every account was seen: what this round found is the deficit."""
    for pool in range(state.used(rules)):
        found = int(rules.columns["deficit_found"][pool])
        if found or int(rules.columns["deficit"][pool]):
            rules.columns["deficit_found"][pool] = 0
            _set_deficit(state, rules, pool, found)


def _set_deficit(state: State, rules: Any, pool: int, amount: int) -> None:
    before, alarm_at = int(rules.columns["deficit"][pool]), int(rules.columns["alarm_at"][pool])
    if before < alarm_at <= amount:
        raise_solvency_alarm(state)
    rules.columns["deficit"][pool] = amount
    rules.mark(pool)
    asset = int(state.pools.columns["asset"][pool])
    alarms = int(state.assets.columns["alarms"][asset]) & ~AssetAlarm.DEFICIT
    state.assets.columns["alarms"][asset] = alarms | (AssetAlarm.DEFICIT if amount else 0)
    state.assets.mark(asset)
