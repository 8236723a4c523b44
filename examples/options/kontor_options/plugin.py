"""The options plugin: `validate` refuses and writes nothing, `apply` cannot fail, settlement is bounded."""

from collections.abc import Sequence

import numpy as np

from consensus.primitives.crypto import digest
from consensus.primitives.errors import ensure
from engine.accounts.funds import check_available, check_room_for_balance, move
from engine.authority import has_scope, is_venue
from engine.genesis import Genesis
from engine.layout import PriceStatus, Scope
from engine.plugin import Context, Entry, Handler, Plugin
from engine.records import AMOUNT_MAX, Code, Kind
from engine.state import State
from kontor_options.commands import ListOptions, OfferOptions, OptionsLine, TakeOptions, WithdrawOffer
from kontor_options.tables import SPECS, Rows, Status

SETTLEMENTS_PER_BLOCK_MAX = 4096  # offers and positions of all series; the rest waits for the next block
PRICE_GRACE_MS = 3_600_000  # so long a series waits for a mark price; then the last trade's counts
# Nobody has a key to it: it is a digest, and no grant names the account.
ESCROW_OWNER = digest("kontor_options.escrow")


class OptionsPlugin(Plugin):
    """European options, paid for in advance by both sides."""

    name = "options"
    tables = SPECS

    def __init__(self, genesis: Genesis) -> None:
        self.handlers: Sequence[Handler] = (
            Handler(ListOptions, validate_list, apply_list),
            Handler(OfferOptions, validate_offer, apply_offer),
            Handler(WithdrawOffer, validate_withdraw, apply_withdraw),
            Handler(TakeOptions, validate_take, apply_take),
        )

    def on_block_end(self, state: State, context: Context) -> None:
        """Settle what has expired, so much a block."""
        desk = Desk(state)
        columns, used = desk.series.table.columns, desk.series.used
        is_due = (columns["status"][:used] != Status.SETTLED) & (
            columns["expiry_ms"][:used] <= context.time_ms
        )
        budget = SETTLEMENTS_PER_BLOCK_MAX
        for series in np.flatnonzero(is_due).tolist():
            budget -= desk.settle(series, budget, context)

    def check_invariants(self, state: State) -> None:
        """The escrow account holds exactly what open offers and positions may cost their writers."""
        desk = Desk(state)
        owed: dict[int, int] = {}
        for rows in (desk.offers, desk.positions):
            for row in np.flatnonzero(rows.table.columns["lots"][: rows.used]).tolist():
                series = rows.get(row, "series")
                asset = desk.quote_asset(series)
                owed[asset] = owed.get(asset, 0) + rows.get(row, "lots") * desk.width(series)
        for asset in range(state.count["assets"]):
            row = state.balance_row(desk.escrow, asset) if desk.escrow is not None else -1
            held = int(state.balances.columns["available"][row]) if row >= 0 else 0
            ensure(
                held == owed.get(asset, 0),
                f"options escrow holds {held} of asset {asset}, not {owed.get(asset, 0)}",
            )


def validate_list(state: State, command: ListOptions, context: Context) -> Code:
    """The venue lists a series that expires later, on a market that exists."""
    desk = Desk(state)
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if command.market >= state.count["markets"]:
        return Code.UNKNOWN_MARKET
    price_max = int(state.markets.columns["price_max"][command.market])
    if command.strike == command.cap or max(command.strike, command.cap) > price_max:
        return Code.PRICE_OUT_OF_RANGE
    if command.expiry_ms <= context.time_ms:
        return Code.EXPIRED
    has_escrow = desk.escrow is not None or state.has_room(state.accounts)
    return Code.OK if has_escrow and state.has_room(desk.series.table) else Code.LIMIT_REACHED


def apply_list(state: State, command: ListOptions, context: Context) -> Entry:
    """Append the series; with the first one comes the escrow account."""
    desk = Desk(state)
    if desk.escrow is None:
        desk.rows.add()
        desk.rows.set(0, escrow=state.add_account(ESCROW_OWNER) + 1)
    series = desk.series.add()
    desk.series.set(series, **command._asdict())
    return Entry(subject=command.market, qty=command.expiry_ms, detail=series)


def validate_offer(state: State, command: OfferOptions, context: Context) -> Code:
    """A writer has what it may lose, and every product stays below 2^62."""
    desk = Desk(state)
    if command.account >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    if not has_scope(state, context.key, command.account, Scope.TRADE, context.time_ms):
        return Code.NOT_AUTHORISED
    code = desk.check_open(command.series, context)
    if code:
        return code
    cost = command.lots * desk.width(command.series)  # Python integers: no product wraps before it is checked
    if max(cost, command.lots * command.premium) > AMOUNT_MAX:
        return Code.NOTIONAL_TOO_LARGE
    asset = desk.quote_asset(command.series)
    code = check_available(state, command.account, asset, cost)
    if code:
        return code
    if not desk.offers.has_room(desk.rows.get(0, "free_offers")):
        return Code.LIMIT_REACHED
    return check_room_for_balance(state, desk.account(), asset)


def apply_offer(state: State, command: OfferOptions, context: Context) -> Entry:
    """What may be lost goes into escrow, and the offer stands."""
    desk = Desk(state)
    asset, cost = desk.quote_asset(command.series), command.lots * desk.width(command.series)
    move(state, command.account, desk.account(), asset, cost)
    offer = desk.add_offer(command)
    return Entry(asset, command.account, 0, cost, offer)


def validate_withdraw(state: State, command: WithdrawOffer, context: Context) -> Code:
    """Its writer may, until it is gone."""
    desk = Desk(state)
    if not desk.has_offer(command.offer):
        return Code.UNKNOWN_ORDER
    writer = desk.offers.get(command.offer, "writer")
    return (
        Code.OK
        if has_scope(state, context.key, writer, Scope.TRADE, context.time_ms)
        else Code.NOT_AUTHORISED
    )


def apply_withdraw(state: State, command: WithdrawOffer, context: Context) -> Entry:
    """What is left comes back."""
    desk = Desk(state)
    writer, lots = desk.offers.get(command.offer, "writer"), desk.offers.get(command.offer, "lots")
    desk.drop_offer(command.offer)
    return Entry(account=writer, qty=lots, detail=command.offer)


def validate_take(state: State, command: TakeOptions, context: Context) -> Code:
    """A holder other than the writer takes lots that are offered, and has the premium."""
    desk = Desk(state)
    if command.account >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    if not has_scope(state, context.key, command.account, Scope.TRADE, context.time_ms):
        return Code.NOT_AUTHORISED
    if not desk.has_offer(command.offer):
        return Code.UNKNOWN_ORDER
    series, writer = (desk.offers.get(command.offer, name) for name in ("series", "writer"))
    code = desk.check_open(series, context)
    if code:
        return code
    if command.account == writer:
        return Code.SELF_TRADE
    if command.lots > desk.offers.get(command.offer, "lots"):
        return Code.QTY_OUT_OF_RANGE
    asset = desk.quote_asset(series)
    code = check_available(
        state, command.account, asset, command.lots * desk.offers.get(command.offer, "premium")
    )
    if code:
        return code
    return Code.OK if desk.positions.has_room(desk.rows.get(0, "free_positions")) else Code.LIMIT_REACHED


def apply_take(state: State, command: TakeOptions, context: Context) -> Entry:
    """The premium changes hands, lots become a position; what may be lost stays in escrow."""
    desk = Desk(state)
    series, writer, premium = (
        desk.offers.get(command.offer, name) for name in ("series", "writer", "premium")
    )
    if premium:
        move(state, command.account, writer, desk.quote_asset(series), command.lots * premium)
    desk.add_position(series, writer, command.account, command.lots)
    left = desk.offers.get(command.offer, "lots") - command.lots
    if left:
        desk.offers.set(command.offer, lots=left)
    else:
        desk.unlink_offer(command.offer)
    parties = {
        "account": command.account,
        "counter_account": writer,
        "market": desk.series.get(series, "market"),
    }
    context.events.add(
        Kind.FOREIGN, op=OptionsLine.TAKEN, qty=command.lots, price=premium, detail=series, **parties
    )
    return Entry(desk.quote_asset(series), command.account, writer, command.lots * premium, command.offer)


class Desk:
    """The plugin's tables, and what several rules do with them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.rows, self.series, self.offers, self.positions = (Rows(state, spec.name) for spec in SPECS)

    @property
    def escrow(self) -> int | None:
        """The escrow account; None before the first series."""
        return self.account() if self.rows.used else None

    def account(self) -> int:
        """The escrow account, which is there once there is a series."""
        return self.rows.get(0, "escrow") - 1

    def check_open(self, series: int, context: Context) -> Code:
        """Whether a series is there and has not expired."""
        if series >= self.series.used:
            return Code.UNKNOWN_MARKET
        return Code.EXPIRED if self.series.get(series, "expiry_ms") <= context.time_ms else Code.OK

    def has_offer(self, offer: int) -> bool:
        """Whether a row is an offer and not free."""
        return offer < self.offers.used and self.offers.get(offer, "lots") > 0

    def width(self, series: int) -> int:
        """The most that a lot may pay, in quote units. Below 2^62: listing a market bounds price × unit."""
        return abs(self.series.get(series, "cap") - self.series.get(series, "strike")) * self._unit(series)

    def payoff(self, series: int) -> int:
        """What a lot pays at the price that was fixed, in quote units: 0..width."""
        strike, cap, price = (self.series.get(series, name) for name in ("strike", "cap", "price"))
        ticks = (
            min(max(price - strike, 0), cap - strike)
            if cap > strike
            else min(max(strike - price, 0), strike - cap)
        )
        return ticks * self._unit(series)

    def quote_asset(self, series: int) -> int:
        """What premiums and payoffs are paid in."""
        return int(self._state.markets.columns["quote_asset"][self.series.get(series, "market")])

    def _unit(self, series: int) -> int:
        return int(self._state.markets.columns["quote_per_lot_tick"][self.series.get(series, "market")])

    # -- rows ---------------------------------------------------------------------------------------

    def add_offer(self, command: OfferOptions) -> int:
        """A row for an offer, at the head of its series' list."""
        offer, head = self._take_row(self.offers, "free_offers"), self.series.get(command.series, "offers")
        terms = {"series": command.series, "writer": command.account, "lots": command.lots}
        self.offers.set(offer, **terms, premium=command.premium, next=head, previous=0)
        if head:
            self.offers.set(head - 1, previous=offer + 1)
        self.series.set(command.series, offers=offer + 1)
        return offer

    def drop_offer(self, offer: int) -> None:
        """Give back what is in escrow for an offer, and free its row."""
        series, writer, lots = (self.offers.get(offer, name) for name in ("series", "writer", "lots"))
        move(self._state, self.account(), writer, self.quote_asset(series), lots * self.width(series))
        self.unlink_offer(offer)

    def unlink_offer(self, offer: int) -> None:
        """Take an offer off its series' list, and free its row."""
        following, previous = self.offers.get(offer, "next"), self.offers.get(offer, "previous")
        if previous:
            self.offers.set(previous - 1, next=following)
        else:
            self.series.set(self.offers.get(offer, "series"), offers=following)
        if following:
            self.offers.set(following - 1, previous=previous)
        self._free_row(self.offers, "free_offers", offer)

    def add_position(self, series: int, writer: int, holder: int, lots: int) -> None:
        """A row for a position, at the head of its series' list."""
        position = self._take_row(self.positions, "free_positions")
        head = self.series.get(series, "positions")
        self.positions.set(position, series=series, writer=writer, holder=holder, lots=lots, next=head)
        self.series.set(series, positions=position + 1)

    def _take_row(self, rows: Rows, free_list: str) -> int:
        head = self.rows.get(0, free_list)
        if not head:
            return rows.add()
        self.rows.set(0, **{free_list: rows.get(head - 1, "next")})
        return head - 1

    def _free_row(self, rows: Rows, free_list: str, row: int) -> None:
        rows.set(row, lots=0, next=self.rows.get(0, free_list))
        self.rows.set(0, **{free_list: row + 1})

    # -- settlement ---------------------------------------------------------------------------------

    def settle(self, series: int, budget: int, context: Context) -> int:
        """Go on with a series that has expired; return how many offers and positions were done."""
        if self.series.get(series, "status") == Status.OPEN and not self._fix_price(series, context):
            return 0
        done = 0
        while done < budget and self.series.get(series, "offers"):
            self.drop_offer(self.series.get(series, "offers") - 1)
            done += 1
        while done < budget and self.series.get(series, "positions"):
            self._pay(series, self.series.get(series, "positions") - 1, context)
            done += 1
        if not self.series.get(series, "offers") and not self.series.get(series, "positions"):
            self.series.set(series, status=Status.SETTLED)
        return done

    def _fix_price(self, series: int, context: Context) -> bool:
        """The mark price while it is valid; after a while without one, the last trade's, 0 if none was."""
        market, columns = self.series.get(series, "market"), self._state.markets.columns
        price = int(columns["mark_price"][market])
        if int(columns["price_status"][market]) != PriceStatus.VALID or not price:
            if context.time_ms < self.series.get(series, "expiry_ms") + PRICE_GRACE_MS:
                return False
            price = int(columns["last_price"][market])
        self.series.set(series, price=price, status=Status.SETTLING)
        context.events.add(Kind.FOREIGN, op=OptionsLine.PRICED, market=market, price=price, detail=series)
        return True

    def _pay(self, series: int, position: int, context: Context) -> None:
        """The holder gets what a lot pays, the writer what is left of the escrow."""
        writer, holder, lots, following = (
            self.positions.get(position, name) for name in ("writer", "holder", "lots", "next")
        )
        asset, paid = self.quote_asset(series), lots * self.payoff(series)
        rest = lots * self.width(series) - paid
        for account, amount in ((holder, paid), (writer, rest)):
            if amount:
                move(self._state, self.account(), account, asset, amount)
        self.series.set(series, positions=following)
        self._free_row(self.positions, "free_positions", position)
        parties = {"account": holder, "counter_account": writer, "market": self.series.get(series, "market")}
        context.events.add(Kind.FOREIGN, op=OptionsLine.PAID, qty=paid, detail=series, **parties)
