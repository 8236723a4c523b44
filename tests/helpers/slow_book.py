"""The rulebook of matching and clearing once more: plain Python integers, dicts and lists.

Written for reading, not for speed, and sharing nothing with the kernels but the wire's numbers: orders of
a market are one list, the best maker is found by looking at all of them, and fees use exact
division. `SlowVenue.execute` takes the tuples of `make_ops` and gives journal lines as tuples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from engine.markets.states import MarketStatus
from engine.records import (
    AMOUNT_MAX,
    EVERY_MARKET,
    REDUCE_ONLY,
    SLIDE,
    TERMS_MAX,
    CancelSides,
    Code,
    Kind,
    Op,
    Reference,
    SelfTrade,
    Side,
    Term,
    TimeInForce,
)
from engine.state import OPEN_ORDERS_DEFAULT

FILLS_MAX = 1024
TAKING_ORDERS = (MarketStatus.OPEN, MarketStatus.PRE_OPEN, MarketStatus.AUCTION)
LOOKS_MAX = 1024  # of one CANCEL_ALL, in one pass


class Line(NamedTuple):
    """One journal line; fields in the order of JOURNAL's."""

    kind: int
    code: int
    side: int
    flags: int
    market: int
    op: int
    account: int
    counter_account: int
    client_order_id: int
    counter_order_id: int
    price: int
    qty: int
    fee: int = 0
    detail: int = 0


@dataclass
class Request:
    """One decoded order operation."""

    op: int
    flags: int
    market: int
    account: int
    client_order_id: int
    price: int
    qty: int

    @property
    def side(self) -> int:
        return self.flags % 2

    @property
    def tif(self) -> int:
        return self.flags // 2 % 8

    @property
    def mode(self) -> int:
        return self.flags // 16 % 4


class Terms(NamedTuple):
    """What an order's TERMS say; 0 where they say nothing."""

    display: int = 0
    expiry_ms: int = 0
    trigger: int = 0
    reference: int = 0
    becomes: int = 0


@dataclass
class Resting:
    """One live order."""

    account: int
    client_order_id: int
    market: int
    side: int
    price: int
    leaves: int
    filled: int
    arrival: int
    hidden: int
    display: int
    expiry_ms: int
    trigger: int  # 0: it is on the book
    reference: int
    becomes: int  # flags of its NEW
    place: int  # among the account's own orders: the highest is the first that CANCEL_ALL looks at
    reduce_only: bool = False


class SlowVenue:
    """Accounts' funds and the books of all markets."""

    def __init__(self, accounts: int, markets: Sequence, balances: dict[tuple[int, int], int]) -> None:
        self.accounts = accounts
        self.markets = list(markets)
        self.statuses = [market.status for market in self.markets]
        self.bands = [(0, 0)] * len(self.markets)  # lowest and highest price of a trade; 0: no bound
        self.available = dict(balances)
        self.held: dict[tuple[int, int], int] = {}
        self.orders: dict[tuple[int, int], Resting] = {}
        self.arrivals = 0
        self.places_behind = 0
        self.schedules: dict[int, list[tuple[int, int]]] = {}  # market: (maker, taker) rates of each tier
        self.tiers: dict[int, int] = {}  # by account
        self.events: list[Line] = []
        self.terms: list[Request] | None = None  # of the operation that runs
        self.time_ms = 0
        self.owners = list(range(accounts))  # by account
        self.open_max = [OPEN_ORDERS_DEFAULT] * accounts
        self.rates: dict[int, int] = {}  # operations a second
        self.tokens: dict[int, tuple[int, int]] = {}  # thousandths, when counted
        self.collars: dict[int, tuple[int, int]] = {}  # by market: lowest ask, highest bid
        self.deadlines: dict[int, int] = {}  # by account
        self.touched: list[list[int]] = [[] for _ in self.markets]  # prices that stops have yet to see
        self.prices: dict[tuple[int, int], int] = {}  # marks and indexes that count, by market and Reference

    def execute(self, ops: Sequence[tuple], codes: Sequence[int] | None = None) -> tuple[list, list]:
        """One block; returns (RESULT lines in listing order, FILL and CANCELLED lines as they happen)."""
        requests = [Request(*map(int, op)) for op in ops]
        refused = list(codes or [Code.OK] * len(requests))
        results: list[Line | None] = [None] * len(requests)
        self.events = []
        cancelled = [(Code.OK, 0)] * len(requests)
        for i, request in enumerate(requests):  # who rests already may leave before being hit
            if refused[i] != Code.OK:
                continue
            if request.op in (Op.CANCEL, Op.REDUCE):
                if self._can_take_off(request):
                    results[i] = self._take_off_named(request)
            elif request.op == Op.CANCEL_ALL and self._check_cancel_all(request) == Code.OK:
                cancelled[i] = self._cancel_all(request)
        for i, request in enumerate(requests):
            if results[i] is None:
                self.terms = self._terms(requests, refused, i)
                results[i] = self._run(request, refused[i], *cancelled[i])
        return results, self.events

    def ring(self) -> list[Line]:
        """Take off what is due: by time, orders before accounts. Lines of one moment in any order."""
        self.events = []
        due = sorted(
            (o.expiry_ms, 0, key) for key, o in self.orders.items() if 0 < o.expiry_ms <= self.time_ms
        )
        due += sorted((ms, 1, (account,)) for account, ms in self.deadlines.items() if ms <= self.time_ms)
        for _, is_account, key in sorted(due):
            if is_account:
                own = [o for o in self.orders.values() if o.account == key[0]]
                for order in sorted(own, key=lambda o: -o.place):
                    self._remove(Code.DEAD_MAN, order)
                del self.deadlines[key[0]]
            elif key in self.orders:
                self._remove(Code.EXPIRED, self.orders[key])
        return self.events

    def _remove(self, code: Code, order: Resting) -> None:
        lots, ids = order.leaves + order.hidden, (order.account, order.client_order_id)
        head = (Kind.CANCELLED, code, order.side, 0, order.market, 0)
        self.events.append(Line(*head, ids[0], ids[0], ids[1], ids[1], order.price, lots))
        self._take_off(order, lots)

    def trigger(self, height: int, most: int) -> list[Line]:
        """The end of a block: `most` orders whose trigger was reached enter, market by market."""
        self.events = []
        count = len(self.markets)
        for market in [(height + n) % count for n in range(count)]:
            touched, self.touched[market] = self.touched[market], self.touched[market][-1:]
            if self.statuses[market] != MarketStatus.OPEN:
                if self._due(market, touched):
                    self.touched[market] = touched
                continue
            while most and (due := self._due(market, touched)):
                self._enter_triggered(due[0])
                most -= 1
            if self._due(market, touched):
                self.touched[market] = touched + self.touched[market]
        return self.events

    def _due(self, market: int, touched: list[int]) -> list[Resting]:
        """Whose trigger was reached, in the order in which they enter."""
        found = []
        for order in self.orders.values():
            if order.market == market and order.trigger:
                own = self.prices.get((market, order.reference))
                prices = touched if order.reference == Reference.LAST else [own] if own else []
                sign = 1 if order.side == Side.BUY else -1
                if any(sign * price >= sign * order.trigger for price in prices):
                    found.append((order.reference, order.side, sign * order.trigger, order.arrival, order))
        return [order for *_, order in sorted(found, key=lambda f: f[:4])]

    def _enter_triggered(self, order: Resting) -> None:
        market, side, filled = self.markets[order.market], order.side, order.filled
        request = Request(
            0,
            order.becomes,
            order.market,
            order.account,
            order.client_order_id,
            order.price,
            order.leaves + order.hidden,
        )
        self._take_off(order, request.qty)
        self._slide(request, side)
        low, high = self.collars.get(request.market, (0, market.price_max))
        request.price = min(request.price, high) if side == Side.BUY else max(request.price, low)
        place = len(self.events)
        line = self._result(request, 0, side, request.price)
        code = self._check_terms(request, market, side) or self._check_book(request, side)
        if code == Code.OK:
            line = self._match_and_rest(request, side, filled, Terms(order.display, order.expiry_ms))
            code = Code(line.code)
        line = line._replace(
            kind=Kind.TRIGGERED,
            code=code,
            counter_account=order.account,
            counter_order_id=order.trigger,
        )
        self.events.insert(place, line)

    def balances(self) -> dict[tuple[int, int], tuple[int, int]]:
        """(account, asset) to (available, held), without what is all zero."""
        keys = sorted({*self.available, *self.held})
        rows = {key: (self.available.get(key, 0), self.held.get(key, 0)) for key in keys}
        return {key: row for key, row in rows.items() if any(row)}

    def book(self, market: int) -> list[tuple[int, ...]]:
        """Orders on the book by ascending price, oldest first, with what they hide."""
        own = sorted(
            (o for o in self.orders.values() if o.market == market and not o.trigger),
            key=lambda o: (o.side, o.price, o.arrival),
        )
        return [(o.side, o.price, o.account, o.client_order_id, o.leaves, o.filled, o.hidden) for o in own]

    def waiting(self, market: int) -> list[tuple[int, ...]]:
        """Orders that wait, by reference and ascending trigger, oldest first."""
        own = sorted(
            (o for o in self.orders.values() if o.market == market and o.trigger),
            key=lambda o: (o.side, o.reference, o.trigger, o.arrival),
        )
        return [
            (o.side, o.reference, o.trigger, o.account, o.client_order_id, o.price, o.leaves, o.filled)
            for o in own
        ]

    # -- operations -------------------------------------------------------------------------------

    def _run(self, request: Request, refused: int, early_code: Code, count: int) -> Line:
        if refused != Code.OK:
            return self._result(request, refused, request.side, request.price)
        if request.op == Op.NEW:
            return self._new(request)
        if request.op == Op.TERMS and self.terms is not None:
            return self._result(request, Code.OK, 0, request.price, request.qty)
        if request.op in (Op.CANCEL, Op.REDUCE):
            return self._cancel_or_reduce(request)
        if request.op == Op.REPLACE:
            return self._replace(request)
        if request.op == Op.CANCEL_ALL:
            code = self._check_cancel_all(request) or early_code
            if code == Code.OK:
                code, more = self._cancel_all(request)
                count += more
            return self._result(request, code, 0, 0, count)
        return self._result(request, Code.BAD_OP, 0, request.price)

    def _new(self, request: Request) -> Line:
        def refuse(code: Code) -> Line:
            return self._result(request, code, request.side, request.price)

        code, terms = self._read_terms(request)
        if code != Code.OK:
            return refuse(code)
        if not terms.trigger:
            self._slide(request, request.side)
        code = self._check_names(request) or self._check_account(request, 1)
        if code != Code.OK:
            return refuse(code)
        market = self.markets[request.market]
        code = self._check_terms(request, market, request.side, bool(terms.trigger))
        if code != Code.OK:
            return refuse(code)
        if (request.account, request.client_order_id) in self.orders:
            return refuse(Code.DUPLICATE_ORDER_ID)
        code = self._check_funds(request, request.side, None)
        if code == Code.OK and terms.trigger:
            self._rest(request, request.side, request.qty, 0, terms)
            return self._result(request, Code.OK, request.side, request.price, 0, request.qty)
        code = code or self._check_book(request, request.side)
        if code != Code.OK:
            return refuse(code)
        return self._match_and_rest(request, request.side, 0, terms)

    def _replace(self, request: Request) -> Line:
        side = request.side

        def refuse(code: Code) -> Line:
            return self._result(request, code, side, request.price)

        code = self._check_names(request) or self._check_account(request, 0)
        if code != Code.OK:
            return refuse(code)
        order = self._named(request)
        if order is not None:
            side = order.side
        if request.tif not in (TimeInForce.GTC, TimeInForce.POST_ONLY):
            return refuse(Code.BAD_OP)
        if order is None:
            return refuse(Code.UNKNOWN_ORDER)
        if not order.trigger:
            self._slide(request, side)
        market = self.markets[request.market]
        code = self._check_terms(request, market, side, bool(order.trigger))
        if code != Code.OK:
            return refuse(code)
        code = self._check_funds(request, side, order)
        if not order.trigger:
            code = code or self._check_book(request, side)
        if code != Code.OK:
            return refuse(code)
        opened = order.leaves + order.hidden
        if request.price == order.price and request.qty <= opened:
            self._take_off(order, opened - request.qty)
            return self._result(request, Code.OK, side, request.price, 0, request.qty)
        self._take_off(order, opened)
        terms = Terms(order.display, order.expiry_ms, order.trigger, order.reference, order.becomes)
        if order.trigger:
            self._rest(request, side, request.qty, order.filled, terms)
            return self._result(request, Code.OK, side, request.price, 0, request.qty)
        return self._match_and_rest(request, side, order.filled, terms)

    def _cancel_or_reduce(self, request: Request) -> Line:
        if self._can_take_off(request):
            return self._take_off_named(request)
        code = Code.UNKNOWN_ORDER
        if request.account >= self.accounts:
            code = Code.UNKNOWN_ACCOUNT
        elif self._named(request):
            code = Code.QTY_OUT_OF_RANGE
        return self._result(request, code, request.side, request.price)

    def _cancel_all(self, request: Request) -> tuple[Code, int]:
        """Newest first, LOOKS_MAX orders; what is passed over moves behind those that were not looked at."""
        own = [order for order in self.orders.values() if order.account == request.account]
        own.sort(key=lambda o: -o.place)
        looked_at, others = own[:LOOKS_MAX], own[LOOKS_MAX:]
        count = 0
        for order in looked_at:
            side_meant = request.qty in (CancelSides.BOTH, order.side + 1)
            low, high = request.client_order_id, request.price
            id_meant = (low, high) == (0, 0) or low <= order.client_order_id <= high
            if request.market in (EVERY_MARKET, order.market) and side_meant and id_meant:
                self._cancelled(request, Code.OK, order, order.leaves + order.hidden)
                self._take_off(order, order.leaves + order.hidden)
                count += 1
            elif others:
                self.places_behind -= 1
                order.place = self.places_behind
        return Code.WORK_LIMIT if others else Code.OK, count

    # -- checks -----------------------------------------------------------------------------------

    def _check_names(self, request: Request) -> Code:
        if request.tif > TimeInForce.MARKET:
            return Code.BAD_OP
        if request.flags & SLIDE and request.tif != TimeInForce.POST_ONLY:
            return Code.BAD_OP
        if request.market >= len(self.markets):
            return Code.UNKNOWN_MARKET
        return Code.UNKNOWN_ACCOUNT if request.account >= self.accounts else Code.OK

    def _check_account(self, request: Request, more_orders: int) -> Code:
        account = request.account
        if sum(o.account == account for o in self.orders.values()) + more_orders > self.open_max[account]:
            return Code.TOO_MANY_ORDERS
        rate = self.rates.get(account, 0)
        if rate:
            tokens, since = self.tokens[account]
            tokens = min(tokens + (self.time_ms - since) * rate, 1000 * rate)
            self.tokens[account] = (tokens - 1000 if tokens >= 1000 else tokens, self.time_ms)
            if tokens < 1000:
                return Code.TOO_FAST
        return Code.OK

    def _slide(self, request: Request, side: int) -> None:
        """A post-only order that would cross gets the best price that does not."""
        if not request.flags & SLIDE or request.tif != TimeInForce.POST_ONLY:
            return
        if request.market >= len(self.markets) or self.statuses[request.market] != MarketStatus.OPEN:
            return
        price_max = self.markets[request.market].price_max
        makers = self._makers(request, side)
        if makers and 1 <= request.price <= price_max:
            price = makers[0].price + (1 if side == Side.SELL else -1)
            if 1 <= price <= price_max:
                request.price = price

    def _check_cancel_all(self, request: Request) -> Code:
        if not 0 <= request.qty <= 2:
            return Code.BAD_OP
        if request.market != EVERY_MARKET and request.market >= len(self.markets):
            return Code.UNKNOWN_MARKET
        return Code.UNKNOWN_ACCOUNT if request.account >= self.accounts else Code.OK

    def _check_terms(self, request: Request, market, side: int, waits: bool = False) -> Code:
        notional = request.price * request.qty * market.quote_per_lot_tick
        if self.statuses[request.market] not in TAKING_ORDERS:
            return Code.MARKET_CLOSED
        if not 1 <= request.price <= market.price_max:
            return Code.PRICE_OUT_OF_RANGE
        low, high = self.collars.get(request.market, (0, market.price_max))
        if not waits and (request.price > high if side == Side.BUY else request.price < low):
            return Code.BEYOND_COLLAR
        if not 1 <= request.qty <= market.qty_max:
            return Code.QTY_OUT_OF_RANGE
        if notional > AMOUNT_MAX:
            return Code.NOTIONAL_TOO_LARGE
        return Code.NOTIONAL_TOO_SMALL if notional < market.notional_min else Code.OK

    def _check_funds(self, request: Request, side: int, replaced: Resting | None) -> Code:
        if request.flags & REDUCE_ONLY:
            return Code.BAD_OP
        market = self.markets[request.market]
        asset, hold = self._hold(market, side, request.price, request.qty)
        if replaced:
            hold -= self._hold(market, side, replaced.price, replaced.leaves + replaced.hidden)[1]
        if self.available.get((request.account, asset), 0) < hold:
            return Code.INSUFFICIENT_FUNDS
        return Code.OK if self._may_spend(request.account, asset, hold) else Code.MARGIN_TOO_LOW

    def _may_spend(self, account: int, asset: int, amount: int) -> bool:
        """Positions may have a say in this; see `slow_perpetuals`."""
        return True

    def _check_book(self, request: Request, side: int) -> Code:
        if self.statuses[request.market] != MarketStatus.OPEN:
            return Code.OK if request.tif == TimeInForce.GTC else Code.NOT_IN_A_CALL
        makers = self._makers(request, side)
        if self._limit(request, side) != request.price:
            if request.tif == TimeInForce.FOK:
                return Code.OK if self._would_fill(request, makers) else Code.NOT_FILLABLE
            return Code.OK if makers and request.tif != TimeInForce.POST_ONLY else Code.OUTSIDE_BAND
        if request.tif == TimeInForce.GTC:
            return Code.OK
        if request.tif == TimeInForce.POST_ONLY:
            return Code.WOULD_CROSS if makers else Code.OK
        if request.tif == TimeInForce.FOK:
            return Code.OK if self._would_fill(request, makers) else Code.NOT_FILLABLE
        return Code.OK if makers else Code.NO_LIQUIDITY

    def _would_fill(self, request: Request, makers: list[Resting]) -> bool:
        wanted, met = request.qty, 0
        for _, level in groupby(makers, key=lambda maker: maker.price):
            others = []
            for maker in level:
                met += 1
                if met > FILLS_MAX:
                    return False
                if self._is_left_behind(maker) or maker.reduce_only:
                    continue
                if not self._is_own(request, maker):
                    others.append(maker)
                    wanted -= maker.leaves
                    if wanted <= 0:
                        return True
                elif request.mode != SelfTrade.CANCEL_MAKER:
                    return False
            met += sum(-(-min(maker.hidden, wanted) // maker.display) for maker in others if maker.hidden)
            wanted -= sum(maker.hidden for maker in others)
            if met > FILLS_MAX:
                return False
            if wanted <= 0:
                return True
        return False

    def _terms(self, requests: list[Request], refused: list[int], i: int) -> list[Request] | None:
        """Of a NEW: the TERMS right before it that say something about it. Of TERMS: None unless its NEW
        follows."""

        def names(j: int) -> tuple[int, int, int]:
            return requests[j].account, requests[j].market, requests[j].client_order_id

        if requests[i].op == Op.TERMS:
            j = i
            while j < len(requests) and requests[j].op == Op.TERMS:
                j += 1
            run = range(i, j + 1)
            good = j < len(requests) and requests[j].op == Op.NEW and j - i <= TERMS_MAX
            good = good and all(refused[k] == Code.OK and names(k) == names(i) for k in run)
            return [] if good else None
        found: list[Request] = []
        j = i - 1
        while j >= 0 and len(found) < TERMS_MAX and requests[j].op == Op.TERMS:
            if refused[j] != Code.OK or names(j) != names(i):
                break
            found.append(requests[j])
            j -= 1
        return found

    def _read_terms(self, request: Request) -> tuple[Code, Terms]:
        """Why an order's terms are refused, or what they say."""
        terms = self.terms or []
        kinds = [term.flags for term in terms]
        by_kind = dict(zip(kinds, terms, strict=True))
        good = len(by_kind) == len(terms) and set(kinds) <= set(Term)
        resting = request.tif in (TimeInForce.GTC, TimeInForce.POST_ONLY)
        good = good and (not terms or resting or (Term.STOP in kinds and Term.DISPLAY not in kinds))
        display = by_kind[Term.DISPLAY].qty if Term.DISPLAY in kinds else 0
        expiry_ms = by_kind[Term.EXPIRE].price if Term.EXPIRE in kinds else 0
        good = good and (Term.DISPLAY not in kinds or 1 <= display < request.qty)
        good = good and (Term.EXPIRE not in kinds or expiry_ms >= 1)
        trigger, reference = 0, 0
        if Term.STOP in kinds:
            trigger, reference = by_kind[Term.STOP].price, by_kind[Term.STOP].qty
            known = request.market < len(self.markets) and reference in list(Reference)
            good = good and known and 1 <= trigger <= self.markets[request.market].price_max
        if not good:
            return Code.BAD_TERMS, Terms()
        code = Code.EXPIRED if 0 < expiry_ms <= self.time_ms else Code.OK
        return code, Terms(display, expiry_ms, trigger, reference, request.flags)

    def _is_own(self, request: Request, maker: Resting) -> bool:
        return bool(self.owners[maker.account] == self.owners[request.account])

    def _makers(self, request: Request, side: int) -> list[Resting]:
        """Whom an order would meet, in the order of meeting."""
        sign, limit = 1 if side == Side.BUY else -1, self._limit(request, side)
        crossing = [
            order
            for order in self.orders.values()
            if order.market == request.market
            and not order.trigger
            and order.side != side
            and sign * order.price <= sign * limit
        ]
        return sorted(crossing, key=lambda o: (sign * o.price, o.arrival))

    def _limit(self, request: Request, side: int) -> int:
        """The worst price at which it may trade."""
        low, high = self.bands[request.market]
        if side == Side.BUY:
            return min(request.price, high) if high else request.price
        return max(request.price, low)

    def _is_left_behind(self, maker: Resting) -> bool:
        low, high = self.bands[maker.market]
        return maker.price < low if maker.side == Side.SELL else 0 < high < maker.price

    # -- matching ---------------------------------------------------------------------------------

    def _match_and_rest(self, request: Request, side: int, filled_before: int, terms: Terms) -> Line:
        matches = self.statuses[request.market] == MarketStatus.OPEN
        code, filled, met = Code.OK, 0, 0
        leaves = self._lots_to_take(request, side) if matches else request.qty
        while matches and leaves and (makers := self._makers(request, side)):
            maker = makers[0]
            if met == FILLS_MAX:
                code = Code.FILL_LIMIT
                break
            met += 1
            if self._is_left_behind(maker):
                opened = maker.leaves + maker.hidden
                self._cancelled(request, Code.OUTSIDE_BAND, maker, opened)
                self._take_off(maker, opened)
                continue
            if self._is_own(request, maker):
                leaves = self._prevent_self_trade(request, maker, leaves)
                if leaves == 0:
                    code = Code.SELF_TRADE
                continue
            qty = self._lots_to_trade(request, side, maker, min(leaves, maker.leaves))
            if qty == 0:
                opened = maker.leaves + maker.hidden
                self._cancelled(request, Code.WOULD_NOT_REDUCE, maker, opened)
                self._take_off(maker, opened)
                continue
            self._trade(request, side, maker, qty)
            filled += qty
            leaves -= qty
        if matches and leaves and code == Code.OK and self._limit(request, side) != request.price:
            code = Code.OUTSIDE_BAND
        if code != Code.OK or request.tif not in (TimeInForce.GTC, TimeInForce.POST_ONLY):
            leaves = 0
        if leaves:
            self._rest(request, side, leaves, filled_before + filled, terms)
        elif code == Code.OK and filled == 0:
            code = Code.NO_LIQUIDITY
        return self._result(request, code, side, request.price, filled, leaves)

    def _lots_to_take(self, request: Request, side: int) -> int:
        return request.qty

    def _lots_to_trade(self, request: Request, side: int, maker: Resting, qty: int) -> int:
        return qty

    def _prevent_self_trade(self, request: Request, maker: Resting, leaves: int) -> int:
        opened = maker.leaves + maker.hidden
        overlap = min(leaves, opened)
        maker_loses = {
            SelfTrade.CANCEL_TAKER: 0,
            SelfTrade.CANCEL_MAKER: opened,
            SelfTrade.CANCEL_BOTH: opened,
            SelfTrade.DECREMENT: overlap,
        }[SelfTrade(request.mode)]
        if maker_loses:
            self._cancelled(request, Code.SELF_TRADE, maker, maker_loses)
            self._take_off(maker, maker_loses)
        if request.mode == SelfTrade.CANCEL_MAKER:
            return leaves
        return leaves - overlap if request.mode == SelfTrade.DECREMENT else 0

    def _settle(self, request: Request, side: int, maker: Resting, qty: int) -> tuple[int, int]:
        """Value moves; returns the taker's and the maker's fee, negative if it is a rebate."""
        market = self.markets[request.market]
        base, quote = qty * market.base_per_lot, maker.price * qty * market.quote_per_lot_tick
        taker_gets, maker_gets = (base, quote) if side == Side.BUY else (quote, base)
        base_asset, quote_asset = market.base_asset, market.quote_asset
        got, given = (base_asset, quote_asset) if side == Side.BUY else (quote_asset, base_asset)
        fee = -(-taker_gets * self.fee_rates(request.market, request.account)[1] // 10**6)
        maker_rate = self.fee_rates(request.market, maker.account)[0]
        maker_fee = -(-maker_gets * max(maker_rate, 0) // 10**6)
        rebate = taker_gets * max(-maker_rate, 0) // 10**6
        self._add(self.available, request.account, given, -maker_gets)
        self._add(self.available, request.account, got, taker_gets - fee)
        self._add(self.held, maker.account, got, -taker_gets)
        self._add(self.available, maker.account, given, maker_gets - maker_fee)
        self._add(self.available, maker.account, got, rebate)
        self._add(self.available, 0, got, fee - rebate)
        self._add(self.available, 0, given, maker_fee)
        return fee, maker_fee - rebate

    def _trade(self, request: Request, side: int, maker: Resting, qty: int) -> None:
        fee, maker_fee = self._settle(request, side, maker, qty)
        self.events.append(
            Line(
                Kind.FILL,
                Code.OK,
                side,
                0,
                request.market,
                request.op,
                request.account,
                maker.account,
                request.client_order_id,
                maker.client_order_id,
                maker.price,
                qty,
                fee,
                maker_fee,
            )
        )
        self.touched[request.market].append(maker.price)
        maker.leaves -= qty
        maker.filled += qty
        if maker.leaves == 0:
            self._show_next(maker)

    def fee_rates(self, market: int, account: int) -> tuple[int, int]:
        """What an account pays there in millionths, as maker and as taker."""
        if market in self.schedules:
            return self.schedules[market][self.tiers.get(account, 0)]
        return self.markets[market].maker_fee_e6, self.markets[market].taker_fee_e6

    def _show_next(self, order: Resting) -> None:
        """What an order showed is gone: the next hidden lots go to the back, or the order is done."""
        order.leaves = min(order.hidden, order.display)
        order.hidden -= order.leaves
        self.arrivals += 1
        order.arrival = self.arrivals
        if order.leaves == 0:
            del self.orders[order.account, order.client_order_id]

    def _rest(self, request: Request, side: int, leaves: int, filled: int, terms: Terms) -> None:
        """It rests on the book, or waits for its trigger."""
        shown = min(leaves, terms.display or leaves) if terms.trigger == 0 else leaves
        market = self.markets[request.market]
        asset, hold = self._hold(market, side, request.price, leaves)
        self._add(self.available, request.account, asset, -hold)
        self._add(self.held, request.account, asset, hold)
        self.arrivals += 1
        self.orders[request.account, request.client_order_id] = Resting(
            request.account,
            request.client_order_id,
            request.market,
            side,
            request.price,
            shown,
            filled,
            self.arrivals,
            leaves - shown,
            *terms,
            self.arrivals,
            bool(request.flags & REDUCE_ONLY),
        )

    # -- taking off -------------------------------------------------------------------------------

    def _named(self, request: Request) -> Resting | None:
        order = self.orders.get((request.account, request.client_order_id))
        return order if order and order.market == request.market else None

    def _can_take_off(self, request: Request) -> bool:
        return self._named(request) is not None and (request.op == Op.CANCEL or request.qty >= 1)

    def _take_off_named(self, request: Request) -> Line:
        order = self.orders[request.account, request.client_order_id]
        opened = order.leaves + order.hidden
        qty = opened if request.op == Op.CANCEL else min(request.qty, opened)
        self._take_off(order, qty)
        return self._result(request, Code.OK, order.side, order.price, qty, opened - qty)

    def _take_off(self, order: Resting, qty: int) -> None:
        asset, hold = self._hold(self.markets[order.market], order.side, order.price, qty)
        self._add(self.held, order.account, asset, -hold)
        self._add(self.available, order.account, asset, hold)
        hidden = min(order.hidden, qty)
        order.hidden -= hidden
        order.leaves -= qty - hidden
        if order.leaves == 0:
            del self.orders[order.account, order.client_order_id]

    # -- money and lines --------------------------------------------------------------------------

    @staticmethod
    def _hold(market, side: int, price: int, qty: int) -> tuple[int, int]:
        if side == Side.BUY:
            return market.quote_asset, price * qty * market.quote_per_lot_tick
        return market.base_asset, qty * market.base_per_lot

    @staticmethod
    def _add(rows: dict[tuple[int, int], int], account: int, asset: int, amount: int) -> None:
        rows[account, asset] = rows.get((account, asset), 0) + amount
        assert 0 <= rows[account, asset] <= AMOUNT_MAX

    def _result(
        self, request: Request, code: int, side: int, price: int, qty: int = 0, left: int = 0
    ) -> Line:
        return Line(
            Kind.RESULT,
            code,
            side,
            request.flags,
            request.market,
            request.op,
            request.account,
            0,
            request.client_order_id,
            0,
            price,
            qty,
            0,
            left,
        )

    def _cancelled(self, request: Request, code: Code, order: Resting, qty: int) -> None:
        self.events.append(
            Line(
                Kind.CANCELLED,
                code,
                order.side,
                0,
                order.market,
                request.op,
                order.account,
                request.account,
                order.client_order_id,
                request.client_order_id,
                order.price,
                qty,
                0,
                order.leaves + order.hidden - qty,
            )
        )
