"""The auctions plugin: calls by command, by schedule and after a halt, and their turn at a block's end."""

from collections.abc import Sequence

import numpy as np

from engine.auctions.price import Cross, find_cross
from engine.auctions.uncross import LINES_PER_MEETING, uncross
from engine.authority import is_venue
from engine.commands import CallAuction, ScheduleAuctions
from engine.genesis import Genesis
from engine.layout import PriceStatus
from engine.markets.states import MarketStatus
from engine.plugin import Context, Entry, Handler, Plugin
from engine.records import Code, Kind
from engine.state import State
from engine.tables.table import TableSpec

MEETINGS_PER_BLOCK_MAX = 65_536  # of all markets that uncross; the rest waits for the next block
CALL_MS_MAX = 7 * 86_400_000
REOPENING_CALL_MS = 60_000
INDICATION_EVERY_MS = 1000  # of ledger time, and market

AUCTION = np.dtype(
    [
        ("ends_ms", "<i8"),  # of the present call; 0: it has no end yet
        ("then", "<i4"),  # MarketStatus after it
        ("reserved_word", "<i4"),
        ("price", "<i8"),  # UNCROSSING: the price that was fixed
        ("volume", "<i8"),  # UNCROSSING: lots that have still to trade at it
        ("indicated_ms", "<i8"),  # when the indication was told last, and what it was
        ("indicated_price", "<i8"),
        ("indicated_volume", "<i8"),
        ("indicated_surplus", "<i8"),
        ("period_ms", "<i8"),  # schedule; 0: none
        ("offset_ms", "<i8"),
        ("call_ms", "<i8"),
        ("next_ms", "<i8"),  # when the next scheduled call begins
        ("reserved", "u1", (32,)),
    ]
)  # 128 bytes; row = market id

_CALLS = (MarketStatus.AUCTION, MarketStatus.PRE_OPEN)
_STARTS = (MarketStatus.OPEN, MarketStatus.PRE_OPEN, MarketStatus.CLOSED)  # a scheduled call may begin here


class AuctionsPlugin(Plugin):
    """Call auctions of all markets."""

    name = "auctions"

    def __init__(self, genesis: Genesis) -> None:
        self.tables: Sequence[TableSpec] = (TableSpec("auctions", AUCTION, genesis.capacity.markets),)
        self.handlers: Sequence[Handler] = (
            Handler(CallAuction, validate_call_auction, apply_call_auction),
            Handler(ScheduleAuctions, validate_schedule_auctions, apply_schedule_auctions),
        )

    def on_block_end(self, state: State, context: Context) -> None:
        """Begin what is due, tell what is indicated, and uncross what has come to its end."""
        markets = state.count["markets"]
        if state.used(state.table("auctions")) < markets:
            state.add_rows(state.table("auctions"), markets - state.used(state.table("auctions")))
        status = state.markets.columns["status"][:markets]
        next_ms = state.table("auctions").columns["next_ms"][:markets]
        waiting = np.isin(status, (*_CALLS, MarketStatus.HALTED, MarketStatus.UNCROSSING))
        due = (next_ms > 0) & (next_ms <= context.time_ms)
        budget = MEETINGS_PER_BLOCK_MAX
        for market in np.flatnonzero(waiting | due).tolist():
            budget -= _Turn(state, context, market).take(budget)


def validate_call_auction(state: State, command: CallAuction, context: Context) -> Code:
    """The venue calls an auction that ends in this week, on a market that no breaker holds and that is not
    settled for good."""
    code = _check_market(state, command.market, context)
    if code:
        return code
    if int(state.markets.columns["halt_reason"][command.market]):
        return Code.HALTED
    if not context.time_ms < command.ends_ms <= context.time_ms + CALL_MS_MAX:
        return Code.BAD_ARGUMENT
    return Code.OK


def apply_call_auction(state: State, command: CallAuction, context: Context) -> Entry:
    """Begin the call, or give the present one this end."""
    _Turn(state, context, command.market).begin(command.ends_ms, command.then)
    return Entry(subject=command.market, qty=command.ends_ms, detail=command.then)


def validate_schedule_auctions(state: State, command: ScheduleAuctions, context: Context) -> Code:
    """The venue schedules calls that end before the next one begins."""
    code = _check_market(state, command.market, context)
    if code:
        return code
    fits = command.offset_ms < command.period_ms and command.call_ms < command.period_ms
    return Code.OK if fits or command.period_ms == 0 else Code.BAD_ARGUMENT


def apply_schedule_auctions(state: State, command: ScheduleAuctions, context: Context) -> Entry:
    """From the next due time on."""
    turn = _Turn(state, context, command.market)
    for field in ("period_ms", "offset_ms", "call_ms"):
        turn.set(field, getattr(command, field))
    turn.plan_next()
    return Entry(subject=command.market, qty=command.period_ms, detail=command.offset_ms)


def _check_market(state: State, market: int, context: Context) -> Code:
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if market >= state.count["markets"]:
        return Code.UNKNOWN_MARKET
    final = (MarketStatus.DELISTED, MarketStatus.UNCROSSING)
    return Code.MARKET_CLOSED if int(state.markets.columns["status"][market]) in final else Code.OK


class _Turn:
    """One market's turn in one block."""

    def __init__(self, state: State, context: Context, market: int) -> None:
        table = state.table("auctions")
        missing = market + 1 - state.used(table)
        if missing > 0:
            state.add_rows(table, missing)
        self._state = state
        self._context = context
        self._market = market
        self._table = table

    def get(self, field: str) -> int:
        """A column of this market's auction."""
        return int(self._table.columns[field][self._market])

    def set(self, field: str, value: int) -> None:
        """Write a column of this market's auction."""
        self._table.columns[field][self._market] = value
        self._table.mark(self._market)

    @property
    def status(self) -> int:
        """The market's present MarketStatus."""
        return int(self._state.markets.columns["status"][self._market])

    def take(self, budget: int) -> int:
        """Do what is due, with at most `budget` meetings of orders; return how many there were."""
        now = self._context.time_ms
        reopen_ms = int(self._state.markets.columns["reopen_ms"][self._market])
        if self.status == MarketStatus.HALTED and 0 < reopen_ms <= now:
            self.begin(now + (self.get("call_ms") or REOPENING_CALL_MS), MarketStatus.OPEN)
        if 0 < self.get("next_ms") <= now:
            if self.status in _STARTS:
                self.begin(now + self.get("call_ms"), MarketStatus.OPEN)
            self.plan_next()
        if self.status in _CALLS:
            if self.status == MarketStatus.AUCTION and 0 < self.get("ends_ms") <= now:
                self._fix_price()
            else:
                self._indicate()
        return self._uncross(budget) if self.status == MarketStatus.UNCROSSING else 0

    def begin(self, ends_ms: int, then: int) -> None:
        """Orders gather from now on."""
        self.set("ends_ms", ends_ms)
        self.set("then", then)
        self.set("indicated_ms", 0)
        self._change_status(MarketStatus.AUCTION)

    def plan_next(self) -> None:
        """When the next scheduled call begins: after the present block, at its place in the period."""
        period, offset, now = self.get("period_ms"), self.get("offset_ms"), self._context.time_ms
        self.set("next_ms", now + period - (now - offset) % period if period else 0)

    def _cross(self) -> Cross:
        columns = self._state.markets.columns
        reference = int(columns["last_price"][self._market])
        if int(columns["price_status"][self._market]) == PriceStatus.VALID:
            reference = int(columns["mark_price"][self._market]) or reference
        found: Cross = find_cross(self._state.core(), self._market, reference)
        return Cross(*map(int, found))

    def _indicate(self) -> None:
        """Tell at which price the book would uncross now, if that changed and was not told just before."""
        if self._context.time_ms - self.get("indicated_ms") < INDICATION_EVERY_MS:
            return
        cross = self._cross()
        fields = ("indicated_price", "indicated_volume", "indicated_surplus")
        if cross == tuple(self.get(field) for field in fields):
            return
        self.set("indicated_ms", self._context.time_ms)
        for field, value in zip(fields, cross, strict=True):
            self.set(field, value)
        self._tell(0, cross)

    def _fix_price(self) -> None:
        """The call is over: fix the price at which the book uncrosses, or end the auction without trades."""
        cross = self._cross()
        if cross.price == 0:
            self._end()
            return
        self.set("price", cross.price)
        self.set("volume", cross.volume)
        self._tell(1, cross)
        self._change_status(MarketStatus.UNCROSSING)

    def _uncross(self, budget: int) -> int:
        """Trade on at the fixed price; when all is done, end the auction. Returns the meetings."""
        volume, events = self.get("volume"), self._context.events
        lines = events.room(LINES_PER_MEETING * budget)
        done, meetings, used = uncross(
            self._state.core(), self._market, self.get("price"), volume, budget, lines
        )
        events.took(used)
        self.set("volume", volume - done)
        if done == volume or meetings < budget:
            # Cancels between two blocks of one uncrossing may leave a crossed rest: it gets its own price.
            self._fix_price()
        return int(meetings)

    def _end(self) -> None:
        self.set("price", 0)
        self.set("volume", 0)
        self.set("ends_ms", 0)
        self._change_status(self.get("then"))

    def _change_status(self, status: int) -> None:
        if status != self.status:
            self._state.markets.columns["status"][self._market] = status
            self._context.events.add(Kind.STATUS, market=self._market, detail=status)
        self._state.markets.columns["reopen_ms"][self._market] = 0
        self._state.markets.mark(self._market)

    def _tell(self, code: int, cross: Cross) -> None:
        self._context.events.add(
            Kind.AUCTION,
            code=code,
            market=self._market,
            price=cross.price,
            qty=cross.volume,
            detail=cross.surplus,
        )
