"""`Explainer`: executes blocks as the machine does, and says why each order operation came out as it did."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from engine import block
from engine.explain.look import Look
from engine.explain.sentences import SENTENCES
from engine.explain.stepping import Stepper
from engine.fixed_point import E6
from engine.journal import BlockResult
from engine.layout import Core, MarketKind
from engine.machine import Machine
from engine.records import AUCTION_FILL, JOURNAL, ORDER_OP, Code, Kind, Op, Side
from engine.state import unpack_name

_ENTERING = (Op.NEW, Op.REPLACE)
_NOBODY = np.zeros(1, dtype=ORDER_OP)[0]


@dataclass(frozen=True)
class Trade:
    """One fill, from one side's point of view."""

    counter_account: int
    counter_order: int
    price: int  # ticks
    qty: int  # lots
    fee: str  # what this side paid, and how it was rounded
    place: str  # where in the queue whoever rested stood

    def __str__(self) -> str:
        return (
            f"{self.qty} lots at {self.price} with account {self.counter_account}, order"
            f" {self.counter_order}: {self.place}; fee {self.fee}"
        )


@dataclass(frozen=True)
class Explained:
    """What became of one operation, of a resting order that somebody else's operation reached, or of an
    envelope."""

    height: int
    time_ms: int
    account: int
    order: int
    market: str
    what: str  # the operation, in words
    outcome: str  # filled, partly filled, resting, rejected, cancelled, done
    code: str
    why: list[str]
    trades: list[Trade] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Wanted:
    """Whose operations are explained; None: everybody's."""

    account: int | None = None
    order: int | None = None

    def matches(self, account: int, order: int) -> bool:
        """Whether an operation or line of these names is wanted."""
        return self.account in (None, account) and self.order in (None, order)


class Explainer:
    """Applies blocks to `machine`, which is left as `Machine.apply` would leave it."""

    def __init__(self, machine: Machine, wanted: Wanted | None = None) -> None:
        self._machine = machine
        self._wanted = wanted or Wanted()
        self._found: list[Explained] = []
        self._look: Look | None = None
        self._values: dict[str, Any] = {}
        self._told: set[int] = set()  # numbers of event lines that an operation's explanation covers
        self._block = (0, 0)

    def apply(
        self, height: int, block_digest: bytes, time_ms: int, batches: Sequence[bytes]
    ) -> tuple[BlockResult, list[Explained]]:
        """Execute one block. Returns what it did, and the explanations in the order of execution."""
        machine = self._machine
        self._found, self._told = [], set()
        self._block = (height, max(machine.time_ms, time_ms))
        machine.order_loop, ordinary = self._run_orders, machine.order_loop
        try:
            result = machine.apply(height, block_digest, time_ms, batches)
        finally:
            machine.order_loop = ordinary
        envelopes = [self._refused_envelope(line) for line in result.journal[: result.counts.envelopes]]
        rules = [self._by_rule(line) for line in self._untold(result)]
        return result, [item for item in (*envelopes, *self._found, *rules) if item is not None]

    # -- stepping -----------------------------------------------------------------------------------

    def _run_orders(
        self,
        core: Core,
        ops: np.ndarray,
        codes: np.ndarray,
        head_count: int,
        command_count: int,
        earlier: np.ndarray,
    ) -> np.ndarray:
        """In the place of `block.execute_into_journal`: the same lines, step by step."""
        if not ops.shape[0]:
            return block.execute_into_journal(core, ops, codes, head_count, command_count, earlier)
        stepper = Stepper(core, ops, codes)
        start = head_count + ops.shape[0] + command_count + earlier.shape[0]

        def after(op: np.void, line: np.void, events: np.ndarray) -> None:
            last = start + stepper.events.shape[0]
            self._told.update(range(last - events.shape[0], last))
            self._explain_step(op, line, events)

        wanted = self._wanted
        stepper.run(
            lambda op: wanted.matches(int(op["account"]), int(op["client_order_id"])), self._before, after
        )
        between = np.zeros(command_count, dtype=JOURNAL)
        head = np.zeros(head_count, dtype=JOURNAL)
        return np.concatenate((head, stepper.results, between, earlier, stepper.events))

    def _before(self, op: np.void) -> None:
        self._look = Look(self._machine.state, op)
        self._values = self._look.values()

    def _explain_step(self, op: np.void, line: np.void, events: np.ndarray) -> None:
        assert self._look is not None
        look, values = self._look, self._values
        code = Code(int(line["code"]))
        fills = [event for event in events if event["kind"] == Kind.FILL]
        taken = [event for event in events if event["kind"] == Kind.CANCELLED]
        done, left = int(line["qty"]), int(line["detail"])
        trades = [self._as_taker(event, number) for number, event in enumerate(fills, 1)]
        why = [] if code == Code.OK else [SENTENCES[code].format_map(values)]
        if int(line["price"]) != values["price"] and op["op"] in _ENTERING:
            why.append(f"it slid from {values['price']} to {line['price']}, where it does not trade")
        why += [self._taken_off(event) for event in taken]
        if left and op["op"] in _ENTERING:
            orders, lots = look.ahead()
            why.append(f"{left} lots rest at {line['price']}, behind {orders} orders with {lots} lots shown")
        elif op["op"] in (Op.CANCEL, Op.REDUCE) and code == Code.OK:
            why.append(f"{done} lots were taken off the book, {left} stay; their hold is available again")
        elif op["op"] == Op.CANCEL_ALL and code in (Code.OK, Code.WORK_LIMIT):
            why.append(f"{done} orders were taken off the book")
        elif op["op"] == Op.NEW and code == Code.OK and _is_ioc(values) and done < values["qty"]:
            why.append(f"the other {values['qty'] - done} lots found nobody at {values['price']} or better")
        self._add(op, code, _outcome(op, code, done, left), why, trades)
        for number, event in enumerate(fills, 1):
            self._as_maker(event, number)

    def _add(self, op: np.void, code: Code, outcome: str, why: list[str], trades: list[Trade]) -> None:
        values = self._values
        what = str(values["op"]).lower().replace("_", " ")
        if op["op"] in _ENTERING:
            what = f"{what}: {values['side']} {values['qty']} at {values['price']} {values['time_in_force']}"
        elif op["op"] == Op.REDUCE:
            what = f"{what} by {values['qty']}"
        self._found.append(
            Explained(
                *self._block, values["account"], values["order"], values["market"], what, outcome, code.name,
                why, trades,
            )
        )  # fmt: skip

    # -- events -------------------------------------------------------------------------------------

    def _as_taker(self, event: np.void, number: int) -> Trade:
        place = f"number {number} in the queue, the oldest at the best price"
        return self._trade(event, place, as_taker=True)

    def _as_maker(self, event: np.void, number: int) -> None:
        """The other side of a trade, if it is wanted too."""
        account, order = int(event["counter_account"]), int(event["counter_order_id"])
        if not self._wanted.matches(account, order):
            return
        trade = self._trade(event, f"it was number {number} in the queue", as_taker=False)
        why = [f"account {event['account']}'s order {event['client_order_id']} came in and met it"]
        made = self._explained(event, account, order, "resting order", "filled", Code.OK, why, [trade])
        self._found.append(made)

    def _trade(self, event: np.void, place: str, as_taker: bool) -> Trade:
        columns, market = self._machine.state.markets.columns, int(event["market"])
        quote = int(event["price"]) * int(event["qty"]) * int(columns["quote_per_lot_tick"][market])
        base = int(event["qty"]) * int(columns["base_per_lot"][market])
        bought = (event["side"] == Side.BUY) == as_taker
        if columns["kind"][market] == MarketKind.PERPETUAL:  # settled, and charged, in one asset
            base, bought = quote, False
        gained, asset = (base, "base_asset") if bought else (quote, "quote_asset")
        in_call = bool(event["flags"] & AUCTION_FILL)
        rate = int(columns["taker_fee_e6" if as_taker and not in_call else "maker_fee_e6"][market])
        look = Look(self._machine.state, _NOBODY)
        units = int(event["fee" if as_taker else "detail"])
        received, fee = (look.amount(value, int(columns[asset][market])) for value in (gained, units))
        whole, part = divmod(gained * rate, E6)
        rounded = f"rounded up from {whole}.{part:06d} base units" if part else "exactly"
        how = f"{rate} millionths of {received} received, {rounded}"
        if units != whole + (part > 0):  # charged by another rule than the market's rate
            how = f"of {received} received"
        if units < 0:  # the maker's share of what the taker paid, in the asset that the taker received
            asset = "quote_asset" if asset == "base_asset" else "base_asset"
            if columns["kind"][market] == MarketKind.PERPETUAL:
                asset = "quote_asset"
            fee, how = "none", f"a rebate of {look.amount(-units, int(columns[asset][market]))}"
        other = ("counter_account", "counter_order_id") if as_taker else ("account", "client_order_id")
        account, order = (int(event[name]) for name in other)
        return Trade(
            account,
            order,
            int(event["price"]),
            int(event["qty"]),
            f"{fee}: {how}",
            place,
        )

    def _taken_off(self, event: np.void) -> str:
        code = Code(int(event["code"]))
        reason = f" ({code.name})" if code else ""
        return (
            f"{event['qty']} lots of account {event['account']}'s order {event['client_order_id']} at"
            f" {event['price']} were taken off{reason}, {event['detail']} stay"
        )

    def _untold(self, result: BlockResult) -> list[np.void]:
        """Trades and cancellations that concern who is wanted, and that no explained operation caused."""
        kinds = result.journal["kind"]
        lines = np.flatnonzero((kinds == Kind.FILL) | (kinds == Kind.CANCELLED)).tolist()
        return [result.journal[number] for number in lines if number not in self._told]

    def _by_rule(self, line: np.void) -> Explained | None:
        """A resting order that another's operation, an auction, or a rule reached."""
        own = (int(line["account"]), int(line["client_order_id"]))
        counter = (int(line["counter_account"]), int(line["counter_order_id"]))
        if line["kind"] == Kind.FILL:
            in_call = bool(line["flags"] & AUCTION_FILL)
            is_own = in_call and self._wanted.matches(*own)
            if not is_own and not self._wanted.matches(*counter):
                return None
            place = "at the auction's one price" if in_call else "it was the oldest at the best price"
            trade = self._trade(line, place, as_taker=is_own)
            why = ["the call ended" if in_call else f"account {own[0]}'s order {own[1]} came in and met it"]
            names = own if is_own else counter
            return self._explained(line, *names, "resting order", "filled", Code.OK, why, [trade])
        if not self._wanted.matches(*own):
            return None
        code = Code(int(line["code"]))
        values = Look(self._machine.state, _as_operation(line)).values()
        cause = SENTENCES[code].format_map(values) if code else f"account {counter[0]} cancelled it"
        why = [cause, self._taken_off(line)]
        return self._explained(line, *own, "resting order", "cancelled", code, why, [])

    def _refused_envelope(self, line: np.void) -> Explained | None:
        code, account = Code(int(line["code"])), int(line["account"])
        if code == Code.OK or self._wanted.account not in (None, account):
            return None
        values = Look(self._machine.state, _as_operation(line)).values()
        values["nonce"] = int(line["client_order_id"])
        why = [SENTENCES[code].format_map(values), "none of its operations was looked at"]
        what = f"envelope {values['nonce']}"
        return Explained(*self._block, account, 0, "", what, "rejected", code.name, why)

    def _explained(
        self, line: np.void, account: int, order: int, what: str, outcome: str, code: Code, why: list[str],
        trades: list[Trade],
    ) -> Explained:  # fmt: skip
        market = unpack_name(self._machine.state.markets.columns["name"][int(line["market"])])
        return Explained(*self._block, account, order, market, what, outcome, code.name, why, trades)


def to_text(item: Explained) -> str:
    """One explanation for people."""
    lines = [
        f"block {item.height}, {item.time_ms} ms: account {item.account}, order {item.order}"
        f"{', ' + item.market if item.market else ''}",
        f"  {item.what}",
        f"  {item.outcome} ({item.code})",
    ]
    lines += [f"    {sentence}" for sentence in item.why]
    lines += [f"    trade: {trade}" for trade in item.trades]
    return "\n".join(lines)


def _outcome(op: np.void, code: Code, done: int, left: int) -> str:
    if op["op"] not in _ENTERING:
        return "done" if code in (Code.OK, Code.WORK_LIMIT) else "rejected"
    if left:
        return "partly filled, the rest stays" if done else "resting"
    if done:
        return "filled" if code == Code.OK else "partly filled, the rest cancelled"
    return "cancelled" if code in (Code.SELF_TRADE, Code.OUTSIDE_BAND) else "rejected"


def _is_ioc(values: dict[str, Any]) -> bool:
    return values["time_in_force"] in ("IOC", "MARKET")


def _as_operation(line: np.void) -> np.void:
    """A line's names as an operation, for a look at what they stand for."""
    made = np.zeros(1, dtype=_NOBODY.dtype)[0]
    for name in ("market", "account", "client_order_id", "price", "qty"):
        made[name] = line[name]
    made["flags"] = line["side"]
    return made
