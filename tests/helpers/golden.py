"""Scenarios as tables: orders in, fills out, in files that a trader can read and check by hand.

A scenario is a markdown file: prose, then the tables `Markets`, `Funds`, `Orders` (what comes in), and what
the machine made of it: the last columns of `Orders`, then `Events`, `Book`, `Balances`. `run` reads what
comes in, applies it block by block, and writes the whole file anew. A file that is right stays as it is.

    Orders: block  rows of one number are one block, in this order
            time   seconds since the start; without one, a second after the block before
            order  the client order id; terms: time in force, self-trade mode, `show 5`, all by comma
            action buy, sell, cancel, reduce, replace, cancel all; switch (the dead man's);
                   wait (a block that holds nothing); by `venue`: status, call, fees, collar, limits,
                   group, deposit, band (as a breaker would set it)
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.commands import (
    CallAuction,
    CancelAllAfter,
    Deposit,
    ListMarket,
    OpenAccount,
    RegisterAsset,
    SetAccountGroup,
    SetAccountLimits,
    SetCollar,
    SetFees,
    SetMarketStatus,
)
from engine.journal import BlockResult
from engine.markets.states import MarketStatus
from engine.records import (
    AUCTION_FILL,
    EVERY_MARKET,
    SLIDE,
    CancelSides,
    Code,
    Kind,
    Op,
    SelfTrade,
    Side,
    Term,
    TimeInForce,
)
from tests.helpers.trading_floor import balances_of, book_of
from tests.helpers.venue import START_MS, Venue, flags, signer

Row = dict[str, str]
VENUE = "venue"
_TIFS = {tif.name.lower().replace("_", "-"): tif for tif in TimeInForce}
_MODES = {mode.name.lower().replace("_", "-"): mode for mode in SelfTrade}
_OUTCOME = ("code", "done", "left")
_MARKET_COLUMNS = ("lot", "tick", "price max", "qty max", "notional min", "maker fee", "taker fee")


@dataclass
class Scenario:
    """One file: its prose, and the tables of what comes in."""

    prose: str
    markets: list[Row]
    funds: list[Row]
    orders: list[Row]


@dataclass
class Desk:
    """A machine for one scenario, and the names that its file uses."""

    scenario: Scenario
    venue: Venue = field(default_factory=Venue)
    events: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.accounts = [VENUE] + [row["account"] for row in self.scenario.funds]
        self.assets = [name for name in self.scenario.funds[0] if name != "account"]
        self.markets = [row["market"] for row in self.scenario.markets]
        self.seconds = 0
        asset = self.assets.index
        self.venue.commands(
            *[RegisterAsset(name, 0, 0) for name in self.assets],
            *[
                ListMarket(
                    row["market"],
                    *map(asset, row["market"].split("/")),
                    *[_number(row[name].split()[0]) for name in _MARKET_COLUMNS],
                )
                for row in self.scenario.markets
            ],
            *[OpenAccount(signer(name).public_key) for name in self.accounts[1:]],
        )
        self._apply()
        funds = [
            Deposit(account, asset(name), _number(row[name]))
            for account, row in enumerate(self.scenario.funds, 1)
            for name in self.assets
            if _number(row[name])
        ]
        self.venue.commands(*funds)
        self._apply()

    def _apply(self) -> BlockResult:
        result = self.venue.block(time_ms=START_MS + 1000 * self.seconds)
        self.venue.machine.check_conservation()
        assert result.counts.refused_envelopes == 0
        return result

    def run_block(self, rows: list[Row]) -> None:
        """Apply the rows of one block, and note in them what became of each."""
        self.seconds = _number(rows[0].get("time") or str(self.seconds + 1))
        asked = [row for row in rows if row["action"] != "wait"]
        ops = {id(row): self._operations(row) for row in asked}
        for row in asked:
            account = self.accounts.index(row["account"])
            if row["action"] == "switch":
                timeout_ms = 1000 * _number(row["terms"].split()[0])
                by = signer(row["account"])
                self.venue.commands(CancelAllAfter(account, timeout_ms), by=by, account=account)
            elif account:
                self.venue.orders(signer(row["account"]), account, ops[id(row)])
            elif row["action"] == "band":
                self._set_band(row)
            else:
                self.venue.commands(self._command(row))
        result = self._apply()
        answered = [row for row in asked if row["action"] != "band"]
        for row, envelope in zip(answered, result.envelopes, strict=True):
            line = result.journal[envelope.first_result + envelope.lines - 1]
            row["code"] = Code(int(line["code"])).name
            if line["kind"] == Kind.RESULT:
                row["done"], row["left"] = _text(line["qty"]), _text(line["detail"])
        for line in result.journal[result.journal["kind"] >= Kind.FILL]:
            self.events.append({"block": rows[0]["block"]} | self._describe(line))

    # -- what comes in ------------------------------------------------------------------------------

    def _market(self, row: Row) -> int:
        name = row.get("market", "")
        return EVERY_MARKET if name == "all" else self.markets.index(name) if name else 0

    def _operations(self, row: Row) -> list[tuple[int, ...]]:
        if row["account"] == VENUE or row["action"] == "switch":
            return []
        market, account = self._market(row), self.accounts.index(row["account"])
        order, price, qty = (_number(row.get(name, "")) for name in ("order", "price", "qty"))
        tif, mode, more, terms = TimeInForce.GTC, SelfTrade.CANCEL_TAKER, 0, []
        for word in filter(None, map(str.strip, row.get("terms", "").split(","))):
            if word in _TIFS:
                tif = _TIFS[word]
            elif word in _MODES:
                mode = _MODES[word]
            elif word == "slide":
                tif, more = TimeInForce.POST_ONLY, SLIDE
            elif word in ("bids", "asks"):
                qty = CancelSides[word.upper()]
            elif word.startswith("ids "):
                order, price = map(_number, word.split()[1::2])
            else:
                terms.append((Op.TERMS, *_term(word, market, account, order)))
        action = row["action"]
        if action in ("buy", "sell"):
            side = Side[action.upper()]
            return [*terms, (Op.NEW, flags(side, tif, mode) | more, market, account, order, price, qty)]
        op = Op[action.upper().replace(" ", "_")]
        return [(op, flags(0, tif, mode) | more, market, account, order, price, qty)]

    def _command(self, row: Row) -> tuple[Any, ...]:
        market, words = self._market(row), row["terms"].split()
        commands: dict[str, Callable[[], tuple[Any, ...]]] = {
            "status": lambda: SetMarketStatus(market, MarketStatus[words[0].upper().replace("-", "_")]),
            "fees": lambda: SetFees(market, _number(words[1]), _number(words[3])),
            "collar": lambda: SetCollar(market, _number(words[0])),
            "group": lambda: SetAccountGroup(*map(self.accounts.index, row["terms"].split(" with "))),
            "limits": lambda: SetAccountLimits(
                self.accounts.index(words[0]), _number(words[1]), _number(words[3])
            ),
            "call": lambda: CallAuction(
                market, START_MS + 1000 * _number(words[1]), MarketStatus[words[3].upper()]
            ),
            "deposit": lambda: Deposit(
                self.accounts.index(words[3]), self.assets.index(words[1]), _number(words[0])
            ),
        }
        return commands[row["action"]]()

    def _set_band(self, row: Row) -> None:
        """A breaker writes these columns; here the scenario does."""
        table, words = self.venue.machine.state.markets, row["terms"].split()
        market = self._market(row)
        table.columns["band_low"][market], table.columns["band_high"][market] = map(_number, words[::2])
        table.mark(market)

    # -- what comes out -----------------------------------------------------------------------------

    def _describe(self, line: Any) -> Row:
        """A journal line in the words of the table."""
        kind = Kind(int(line["kind"]))
        base, quote = self.markets[line["market"]].split("/")
        row = {"market": self.markets[line["market"]]}
        if kind == Kind.FILL:
            bought = line["side"] == Side.BUY
            got, gave = (base, quote) if bought else (quote, base)
            row |= {"event": "buys" if bought else "sells", "price": _text(line["price"])}
            row |= {"fee": f"{line['fee']:,} {got}", "their fee": f"{line['detail']:,} {gave}"}
            row |= {"note": "at the auction's price"} if line["flags"] == AUCTION_FILL else {}
        elif kind == Kind.CANCELLED:
            row |= {"event": "cancelled", "price": _text(line["price"])}
            why = f"{Code(int(line['code'])).name}, " if line["code"] else ""
            row |= {"note": f"{why}{line['detail']:,} left"}
        elif kind == Kind.AUCTION:
            sides = f"{abs(line['detail']):,} lots {'bid' if line['detail'] > 0 else 'offered'} in vain"
            row |= {"event": "price is fixed" if line["code"] else "would trade"}
            row |= {
                "price": _text(line["price"]),
                "note": sides if line["detail"] else "nothing is left over",
            }
        elif kind == Kind.STATUS:
            return row | {"event": f"market is {MarketStatus(int(line['detail'])).name}"}
        else:
            return row | {"event": kind.name, "note": f"{line['price']}, {line['qty']}, {line['detail']}"}
        row["qty"] = _text(line["qty"])
        if kind in (Kind.FILL, Kind.CANCELLED):
            row |= {"account": self.accounts[line["account"]], "order": _text(line["client_order_id"])}
        if kind == Kind.FILL or (kind == Kind.CANCELLED and line["op"]):
            counter = self.accounts[line["counter_account"]]
            row |= {"with": counter, "their order": _text(line["counter_order_id"])}
        return row

    def book(self) -> list[Row]:
        """Open orders as they stand: asks from the dearest down to the best, then bids."""
        found = []
        for market, name in enumerate(self.markets):
            orders = book_of(self.venue.machine.state, market)
            for side, price, account, order, shown, filled, hidden in sorted(
                orders, key=lambda o: (-o[0], -o[1])
            ):
                row = {"market": name, "side": "ask" if side else "bid", "price": _text(price)}
                row |= {
                    "shown": _text(shown),
                    "hidden": _text(hidden) if hidden else "",
                    "filled": _text(filled),
                }
                found.append(row | {"account": self.accounts[account], "order": _text(order)})
        return found

    def balances(self) -> list[Row]:
        """What everybody has, the venue with its fees included, and all of it together."""
        owned = balances_of(self.venue.machine.state)
        rows, totals = [], dict.fromkeys(self.assets, 0)
        for account, owner in enumerate(self.accounts):
            row = {"account": owner}
            for asset, name in enumerate(self.assets):
                free, held = owned.get((account, asset), (0, 0))
                row |= {name: _text(free), f"held {name}": _text(held)}
                totals[name] += free + held
            rows.append(row)
        return [*rows, {"account": "all", **{name: _text(total) for name, total in totals.items()}}]


def run(text: str) -> str:
    """The file that the machine makes of what comes in according to `text`."""
    scenario = parse(text)
    desk = Desk(scenario)
    blocks: dict[str, list[Row]] = {}
    for row in scenario.orders:
        blocks.setdefault(row["block"], []).append(row)
    for rows in blocks.values():
        desk.run_block(rows)
    several = len(desk.markets) > 1
    place = ["market"] if several else []
    parties = ["account", "order", "with", "their order"]
    entered = [name for name in scenario.orders[0] if name not in _OUTCOME]
    titles = {
        "Markets": (list(scenario.markets[0]), scenario.markets),
        "Funds": (list(scenario.funds[0]), scenario.funds),
        "Orders": ([*entered, *_OUTCOME], scenario.orders),
        "Events": (
            ["block", *place, "event", *parties, "price", "qty", "fee", "their fee", "note"],
            desk.events,
        ),
        "Book": ([*place, "side", "price", "shown", "hidden", "filled", "account", "order"], desk.book()),
        "Balances": (
            ["account", *[f"{held}{name}" for name in desk.assets for held in ("", "held ")]],
            desk.balances(),
        ),
    }
    tables = [f"## {title}\n\n{render(*table)}" for title, table in titles.items()]
    return "\n\n".join([scenario.prose, *tables]) + "\n"


def parse(text: str) -> Scenario:
    """What comes in according to a scenario file."""
    prose, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    tables = {}
    for section in sections:
        title, _, body = section.partition("\n")
        lines = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines() if "|" in line
        ]
        tables[title.strip()] = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    orders = [
        {name: value for name, value in row.items() if name not in _OUTCOME} for row in tables["Orders"]
    ]
    return Scenario(prose.strip(), tables["Markets"], tables["Funds"], orders)


def render(columns: list[str], rows: list[Row]) -> str:
    """A markdown table with its columns in line: numbers to the right."""
    if not rows:
        return "(none)"
    cells = [columns, *[[row.get(name, "") for name in columns] for row in rows]]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    right = [_is_numeric([line[at] for line in cells[1:]]) for at in range(len(columns))]
    lines = [
        [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ]
        for line in cells
    ]
    rule = [
        "-" * (width - 1) + (":" if to_right else "-") for width, to_right in zip(widths, right, strict=True)
    ]
    lines.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_numeric(cells: list[str]) -> bool:
    return any(cells) and all(cell[0].isdigit() for cell in cells if cell)


def _term(word: str, market: int, account: int, order: int) -> tuple[int, ...]:
    name, value = word.split()[0], _number(word.split()[-1])
    if name == "until":
        return (Term.EXPIRE, market, account, order, START_MS + 1000 * value, 0)
    return ({"show": Term.DISPLAY}[name], market, account, order, 0, value)


def _number(text: str) -> int:
    return int(text.replace(",", "")) if text else 0


def _text(value: Any) -> str:
    return f"{int(value):,}"
