"""A trading floor with perpetual markets: contracts listed, prices set by hand, blocks ended on demand."""

from dataclasses import dataclass, field

import numpy as np

from engine.events import Events
from engine.genesis import CLEARING_ACCOUNT
from engine.layout import NONE, SCOPES_ALL, PositionFlag, PriceStatus
from engine.perpetuals import listing
from engine.perpetuals.commands import ListPerpetual
from engine.perpetuals.plugin import PerpetualsPlugin
from engine.perpetuals.sweep import VISITS_PER_BLOCK, end_block
from engine.plugin import Context
from engine.records import Code
from engine.tables.table import TableSpec
from tests.helpers.trading_floor import Floor

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
PRICE = 100  # ticks, where contracts start


def contract(name: str = "P", **terms) -> ListPerpetual:
    """A contract settled in asset 1, with small defaults: 10 % initial, 5 % maintenance margin."""
    defaults = {
        "base_asset": 0,
        "quote_asset": 1,
        "base_per_lot": 10,
        "quote_per_lot_tick": 3,
        "price_max": 200,
        "qty_max": 1000,
        "notional_min": 0,
        "maker_fee_e6": 1000,
        "taker_fee_e6": 2500,
        "initial_ppm": 100_000,
        "maintenance_ppm": 50_000,
        "scan_ppm": 0,
        "collar_ppm": 100_000,
        "position_max": 5000,
        "open_interest_max": 20_000,
        "funding_interval_ms": HOUR_MS,
        "funding_cap_ppm": 5000,
        "group": 0,
        "offset_ppm": 0,
    }
    return ListPerpetual(name, **(defaults | terms))


@dataclass
class PerpetualFloor(Floor):
    """`contracts` follow the spot markets. All prices start at PRICE, valid."""

    specs: tuple[TableSpec, ...] = tuple(PerpetualsPlugin.tables)
    contracts: tuple[ListPerpetual, ...] = field(default_factory=lambda: (contract(),))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.state.count["time_ms"], self.state.count["height"] = START_MS, 1
        self.key = self.state.add_key(bytes(32))  # may do everything
        for account in range(self.accounts):
            self.state.add_grant(self.key, account, SCOPES_ALL, 2**62)
        for number, command in enumerate(self.contracts):
            listing.apply_list_perpetual(self.state, command._replace(name=f"P{number}"), self.context())
        for market in range(len(self.markets) + len(self.contracts)):
            self.price(market, PRICE)

    def context(self) -> Context:
        """Of a command in the present block."""
        count = self.state.count
        return Context(self.key, count["time_ms"], count["height"], Events())

    def command(self, command: tuple) -> Code:
        """Carry out a command of the perpetuals plugin, or say why not."""
        handler = next(h for h in PerpetualsPlugin.handlers if h.command is type(command))
        code = handler.validate(self.state, command, self.context())
        if code == Code.OK:
            handler.apply(self.state, command, self.context())
        return code

    def price(
        self, market: int, mark: int, index: int | None = None, status: int = PriceStatus.VALID
    ) -> None:
        """Set what the oracle would."""
        columns = self.state.markets.columns
        columns["mark_price"][market] = mark
        columns["index_price"][market] = mark if index is None else index
        columns["price_status"][market] = status

    def end_block(self, elapsed_ms: int = 1000) -> np.ndarray:
        """The end of a block, `elapsed_ms` after the one before; returns its journal lines."""
        self.state.count["time_ms"] += elapsed_ms
        events = Events()
        lines = events.room(self.state.count["perpetuals"] + VISITS_PER_BLOCK)
        events.took(end_block(self.state.core(), lines))
        self.state.count["height"] += 1
        return events.lines

    def position(self, account: int, market: int) -> dict[str, int]:
        """Its columns by name; all zero if there is no row."""
        names = [n for n in self.state.positions.dtype.names or () if n != "reserved"]
        row = self.state.position_row(account, market)
        return {name: 0 if row == NONE else int(self.state.positions.data[name][row]) for name in names}

    def positions(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """(account, market) to (qty, entry, unsettled, collateral, isolated), without what is all zero."""
        data = self.state.positions.data[: self.state.used(self.state.positions)]
        found = {}
        for row in data[data["flags"] & PositionFlag.LIVE != 0]:
            values = [int(row[name]) for name in ("qty", "entry", "unsettled", "collateral")]
            values.append(int(bool(row["flags"] & PositionFlag.ISOLATED)))
            if any(values):
                found[int(row["account"]), int(row["market"])] = tuple(values)
        return found

    def pool(self) -> int:
        """Cash between accounts, of the first settlement asset."""
        row = self.state.balance_row(CLEARING_ACCOUNT, int(self.state.pools.columns["asset"][0]))
        return int(self.state.balances.columns["available"][row])
