"""The whole replicated state: the tables of the core and of plugins, and the lookups derived from them.

Nothing is kept outside the tables that could not be rebuilt from them. Row counts live in the
one row of `counters`, where kernels find them too.
"""

from collections.abc import Sequence

import numpy as np

from consensus.primitives.errors import ensure
from engine.genesis import (
    COLLATERALS_MAX,
    EVIDENCE_MAX,
    POOLS_MAX,
    POSITIONS_MAX,
    VALIDATOR_KEYS_MAX,
    VALIDATORS_MAX,
    Capacity,
)
from engine.layout import (
    ACCOUNT,
    ALARM,
    ASSET,
    BALANCE,
    CHANGE,
    COLLATERAL,
    COUNTERS,
    EVIDENCE,
    FEE_RATE,
    FEE_SCHEDULES,
    FEE_TIERS,
    GRANT,
    KEY,
    LEVEL,
    MARKET,
    NONCES,
    NONE,
    ORDER,
    PERPETUAL,
    PLUGIN_TABLES_MAX,
    POOL,
    POSITION,
    TERMS,
    TIER,
    TIERS_MAX,
    TRIGGER,
    VALIDATOR,
    VALIDATOR_KEY,
    Core,
    PriceStatus,
)
from engine.matching.ladder import new_ladder, rebuild_ladder
from engine.records import Reference
from engine.tables.index import (
    find_balance,
    find_grant,
    find_position,
    hash_pair,
    index_insert,
    new_index,
    rebuild_balance_index,
    rebuild_grant_index,
    rebuild_order_index,
    rebuild_position_index,
)
from engine.tables.table import Table, TableSpec

NAME_BYTES = 16
_GRANT_CACHE_MAX = 1 << 16
OPEN_ORDERS_DEFAULT = 65_536  # of an account of which nobody said otherwise
# which counter says how many rows of a table are in use; the order is that of the state root
_ROW_COUNTERS = {
    "counters": None,
    "accounts": "accounts",
    "assets": "assets",
    "balances": "balances",
    "markets": "markets",
    "levels": "levels",
    "orders": "orders_used",
    "terms": "orders_used",
    "triggers": "triggers",
    "alarms": "alarms",
    "keys": "keys",
    "nonces": "keys",
    "grants": "grants",
    "positions": "positions_used",
    "perpetuals": "perpetuals",
    "tiers": "tiers",
    "pools": "pools",
    "collaterals": "collaterals",
    "validators": "validators",
    "validator_keys": "validator_keys",
    "change": None,
    "evidence": "evidence",
    "fee_rates": "fee_rates",
}


class Counts:
    """The counters row as Python integers by name."""

    def __init__(self, counters: Table) -> None:
        self._columns = counters.columns  # a row of one page: this table never grows
        self._dirty = counters.dirty

    def __getitem__(self, name: str) -> int:
        return self._columns[name].item(0)

    def __setitem__(self, name: str, value: int) -> None:
        self._columns[name][0] = value
        self._dirty[0] = 1


class State:
    """Owns every table. `core()` is what compiled kernels get.

    Methods that add rows expect that `has_room` was asked first: they reserve, they do not refuse.
    `index_seed` (0..2^62 − 1) is the process's own secret; it changes no result (see tables/index).
    """

    def __init__(self, capacity: Capacity, index_seed: int = 0, specs: Sequence[TableSpec] = ()) -> None:
        self.capacity = capacity
        self._index_seed = index_seed
        self.counters = Table("counters", COUNTERS, 1)
        self.accounts = Table("accounts", ACCOUNT, capacity.accounts)
        self.assets = Table("assets", ASSET, capacity.assets)
        self.balances = Table("balances", BALANCE, capacity.balances)
        self.markets = Table("markets", MARKET, capacity.markets)
        self.levels = Table("levels", LEVEL, 2 * capacity.levels)
        self.orders = Table("orders", ORDER, capacity.orders)
        self.terms = Table("terms", TERMS, capacity.orders)
        self.triggers = Table("triggers", TRIGGER, 2 * len(Reference) * capacity.levels)
        self.alarms = Table("alarms", ALARM, capacity.orders + capacity.accounts)
        self.keys = Table("keys", KEY, capacity.keys)
        self.nonces = Table("nonces", NONCES, capacity.keys)
        self.grants = Table("grants", GRANT, capacity.grants)
        self.positions = Table("positions", POSITION, POSITIONS_MAX)
        self.perpetuals = Table("perpetuals", PERPETUAL, capacity.markets)
        self.tiers = Table("tiers", TIER, TIERS_MAX * capacity.markets)
        self.pools = Table("pools", POOL, POOLS_MAX)
        self.collaterals = Table("collaterals", COLLATERAL, COLLATERALS_MAX)
        self.validators = Table("validators", VALIDATOR, VALIDATORS_MAX)
        self.validator_keys = Table("validator_keys", VALIDATOR_KEY, VALIDATOR_KEYS_MAX)
        self.change = Table("change", CHANGE, 1)
        self.evidence = Table("evidence", EVIDENCE, EVIDENCE_MAX)
        self.fee_rates = Table("fee_rates", FEE_RATE, FEE_SCHEDULES * FEE_TIERS)
        self._owned = {spec.name: Table(*spec) for spec in specs}
        ensure(len(specs) == len(self._owned) <= PLUGIN_TABLES_MAX, f"plugins ask for {len(specs)} tables")
        ensure(not self._owned.keys() & _ROW_COUNTERS.keys(), "a plugin's table has the name of another")
        core = tuple(getattr(self, name) for name in _ROW_COUNTERS)
        self.tables: tuple[Table, ...] = (*core, *self._owned.values())
        self._owned_number = {name: number for number, name in enumerate(self._owned)}
        self.count = Counts(self.counters)
        self.count["orders_free"] = NONE
        self._core: Core | None = None
        self.rebuild_derived()

    # -- what kernels see ---------------------------------------------------------------------

    def core(self) -> Core:
        """The bundle of arrays for compiled kernels; valid until a table grows."""
        if self._core is None:
            self._core = Core(
                counters=self.counters.view(),
                accounts=self.accounts.view(),
                assets=self.assets.view(),
                balances=self.balances.view(),
                markets=self.markets.view(),
                levels=self.levels.view(),
                orders=self.orders.view(),
                terms=self.terms.view(),
                triggers=self.triggers.view(),
                alarms=self.alarms.view(),
                grants=self.grants.view(),
                positions=self.positions.view(),
                perpetuals=self.perpetuals.view(),
                tiers=self.tiers.view(),
                pools=self.pools.view(),
                collaterals=self.collaterals.view(),
                fee_rates=self.fee_rates.view(),
                order_index=self.order_index,
                balance_index=self.balance_index,
                grant_index=self.grant_index,
                position_index=self.position_index,
                ladder_bits=self.ladder_bits,
                trigger_bits=self.trigger_bits,
            )
        return self._core

    def reserve_for_orders(self, op_count: int) -> None:
        """Make room for whatever `op_count` order operations may add: an order, a position and two balances
        each."""
        for table in (self.orders, self.terms):
            self._reserve(table, self.count["orders_used"] + op_count)
        self.reserve_balances(2 * op_count)
        self.reserve_alarms(op_count)
        if self.count["perpetuals"]:
            self.reserve_positions(op_count)

    def reserve_balances(self, rows: int) -> None:
        """Make room for so many more balance rows, as far as genesis allows."""
        self._reserve(self.balances, self.count["balances"] + rows)

    def reserve_fee_rates(self, schedule: int) -> None:
        """Make a fee schedule's rows, and those of the schedules before it, part of the table."""
        rows = (schedule + 1) * FEE_TIERS
        if self.count["fee_rates"] < rows:
            self._reserve(self.fee_rates, rows)
            self.count["fee_rates"] = rows

    def reserve_alarms(self, count: int) -> None:
        """Make room for `count` more entries of the heap."""
        self._reserve(self.alarms, self.count["alarms"] + count)

    def reserve_positions(self, count: int) -> None:
        """Make room for `count` more positions, as far as there may be so many."""
        self._reserve(self.positions, self.count["positions_used"] + count)

    def table(self, name: str) -> Table:
        """The table that a plugin owns under this name."""
        return self._owned[name]

    def used(self, table: Table) -> int:
        """Rows of `table` in use; for orders the high-water mark."""
        number = self._owned_number.get(table.name)
        if number is not None:
            return int(self.counters.columns["plugin_rows"][0, number])
        counter = _ROW_COUNTERS[table.name]
        return 1 if counter is None else self.count[counter]

    def add_rows(self, table: Table, rows: int = 1) -> int:
        """Append `rows` empty rows to a plugin's table; return the first."""
        first = self.used(table)
        ensure(first + rows <= table.capacity_max, f"{table.name}: all {table.capacity_max} rows are taken")
        self._reserve(table, first + rows)
        self.counters.columns["plugin_rows"][0, self._owned_number[table.name]] = first + rows
        self.counters.dirty[0] = 1
        return first

    def has_room(self, table: Table, rows: int = 1) -> bool:
        """Whether genesis allows that many more rows."""
        return self.used(table) + rows <= table.capacity_max

    # -- adding rows --------------------------------------------------------------------------

    def add_account(self, owner: bytes) -> int:
        """Append an account; return its id."""
        row = self._append(self.accounts, "accounts")
        columns = self.accounts.columns
        columns["owner"][row] = owner
        for name in ("first_order", "last_order", "first_position", "group"):
            columns[name][row] = NONE
        columns["open_orders_max"][row] = OPEN_ORDERS_DEFAULT
        return row

    def add_asset(self, name: str, decimals: int, issuer: int) -> int:
        """Append an asset; return its id."""
        row = self._append(self.assets, "assets")
        columns = self.assets.columns
        columns["name"][row] = pack_name(name)
        columns["decimals"][row] = decimals
        columns["issuer"][row] = issuer
        self.asset_ids[name] = row
        return row

    def add_market(self, name: str, level_count: int) -> int:
        """Append a market with `level_count` levels a side; return its id. The caller fills in the rest."""
        first_level = self.count["levels"]
        self.count["levels"] = first_level + 2 * level_count
        self.count["triggers"] = len(Reference) * self.count["levels"]
        self._reserve(self.levels, self.count["levels"])
        self._reserve(self.triggers, self.count["triggers"])
        row = self._append(self.markets, "markets")
        columns = self.markets.columns
        columns["name"][row] = pack_name(name)
        columns["bid_start"][row] = first_level
        columns["ask_start"][row] = first_level + level_count
        columns["price_max"][row] = level_count - 1
        columns["best_ask"][row] = level_count
        columns["price_status"][row] = PriceStatus.NONE
        columns["collar_high"][row] = level_count - 1
        columns["trade_low"][row] = level_count
        self.market_ids[name] = row
        return row

    def add_key(self, public_key: bytes) -> int:
        """Row of a public key, appended at its first mention."""
        row = self.key_rows.get(public_key)
        if row is None:
            row = self._append(self.keys, "keys")
            if row >= self.nonces.capacity:
                self._reserve(self.nonces, row + 1)
            self.keys.columns["public_key"][row] = public_key
            self.key_rows[public_key] = row
        return row

    def add_validator(self) -> int:
        """Append an empty validator; return its id."""
        return self._append(self.validators, "validators")

    def add_validator_key(self, public_key: bytes) -> int:
        """Append a key that was never a validator's; return its row."""
        row = self._append(self.validator_keys, "validator_keys")
        self.validator_keys.columns["public_key"][row] = public_key
        self.validator_key_rows[public_key] = row
        return row

    def add_evidence(self) -> int:
        """Append an empty conviction; return its row."""
        return self._append(self.evidence, "evidence")

    def add_perpetual(self) -> int:
        """Append the terms of a contract, with TIERS_MAX tiers behind one another; return its row."""
        first_tier = self.count["tiers"]
        self._reserve(self.tiers, first_tier + TIERS_MAX)
        self.count["tiers"] = first_tier + TIERS_MAX
        row = self._append(self.perpetuals, "perpetuals")
        self.perpetuals.columns["tier_start"][row] = first_tier
        return row

    def add_pool(self) -> int:
        """Append an empty pool; return its row."""
        return self._append(self.pools, "pools")

    def add_collateral(self) -> int:
        """Append an empty row of collateral terms; return it."""
        return self._append(self.collaterals, "collaterals")

    def add_balance(self, account: int, asset: int) -> int:
        """Row of an account's balance in an asset, appended empty if there is none."""
        row = find_balance(self.balance_index, self.balances.rows, account, asset)
        if row == NONE:
            row = self._append(self.balances, "balances")
            columns = self.balances.columns
            columns["account"][row] = account
            columns["asset"][row] = asset
            index_insert(self.balance_index, hash_pair(self.balance_index, account, asset), row)
        return row

    def set_grant(self, key: int, account: int, scopes: int, expiry_ms: int) -> int:
        """Write what `key` may do for `account`, appending the row at its first mention; return the row."""
        row = self.grant_row(key, account)
        if row == NONE:
            return self.add_grant(key, account, scopes, expiry_ms)
        self.grants.columns["scopes"][row] = scopes
        self.grants.columns["expiry_ms"][row] = expiry_ms
        self.grants.mark(row)
        return row

    def add_grant(self, key: int, account: int, scopes: int, expiry_ms: int) -> int:
        """Append a grant where there is none yet; return its row."""
        row = self._append(self.grants, "grants")
        columns = self.grants.columns
        columns["key"][row] = key
        columns["account"][row] = account
        columns["scopes"][row] = scopes
        columns["expiry_ms"][row] = expiry_ms
        index_insert(self.grant_index, hash_pair(self.grant_index, key, account), row)
        self._remember_grant(key, account, row)
        self.accounts.columns["grants"][account] += 1
        self.accounts.mark(account)
        return row

    # -- lookups ------------------------------------------------------------------------------

    def balance_row(self, account: int, asset: int) -> int:
        """Row of an account's balance in an asset, or NONE."""
        return find_balance(self.balance_index, self.balances.rows, account, asset)

    def position_row(self, account: int, market: int) -> int:
        """Row of an account's position in a market, or NONE."""
        return find_position(self.position_index, self.positions.rows, account, market)

    def grant_row(self, key: int, account: int) -> int:
        """Row of the grant that a key row holds on an account, or NONE. Rows never move: hits are cached."""
        row = self._grant_cache.get(key << 32 | account)
        if row is None:
            row = find_grant(self.grant_index, self.grants.rows, key, account)
            if row != NONE:
                self._remember_grant(key, account, row)
        return row

    def _remember_grant(self, key: int, account: int, row: int) -> None:
        if len(self._grant_cache) >= _GRANT_CACHE_MAX:
            self._grant_cache.clear()
        self._grant_cache[key << 32 | account] = row

    def owner(self, account: int) -> bytes:
        """The account's root public key."""
        return self.accounts.columns["owner"][account].tobytes()

    # -- derived data -------------------------------------------------------------------------

    def rebuild_derived(self) -> None:
        """Recompute everything that is not in a table: indexes, name and key lookups."""
        self._core = None
        self._grant_cache: dict[int, int] = {}
        self.key_rows: dict[bytes, int] = _row_of(self.keys, "public_key", self.used(self.keys))
        keys = self.validator_keys
        self.validator_key_rows: dict[bytes, int] = _row_of(keys, "public_key", self.used(keys))
        self.asset_ids = _names(self.assets, self.used(self.assets))
        self.market_ids = _names(self.markets, self.used(self.markets))
        for table in (self.orders, self.balances, self.grants, self.positions, self.levels, self.triggers):
            self._rebuild_index(table)

    def _rebuild_index(self, table: Table) -> None:
        if table is self.levels:
            self.ladder_bits = new_ladder(table.capacity)
            rebuild_ladder(self.ladder_bits, table.rows, self.used(table))
            return
        if table is self.triggers:
            self.trigger_bits = new_ladder(table.capacity)
            rebuild_ladder(self.trigger_bits, table.rows, self.used(table))
            return
        index = new_index(table.capacity, self._index_seed)
        if table is self.orders:
            self.order_index = index
            rebuild_order_index(index, table.rows, self.used(table))
        elif table is self.balances:
            self.balance_index = index
            rebuild_balance_index(index, table.rows, self.used(table))
        elif table is self.grants:
            self.grant_index = index
            rebuild_grant_index(index, table.rows, self.used(table))
        elif table is self.positions:
            self.position_index = index
            rebuild_position_index(index, table.rows, self.used(table))

    def _reserve(self, table: Table, rows: int) -> None:
        if table.reserve(rows):
            self._core = None
            self._rebuild_index(table)

    def _append(self, table: Table, counter: str) -> int:
        cell = self.counters.columns[counter]
        row: int = cell.item(0)
        if row >= table.capacity:
            ensure(row < table.capacity_max, f"{table.name}: all {table.capacity_max} rows are taken")
            self._reserve(table, row + 1)
        cell[0] = row + 1
        self.counters.dirty[0] = 1
        table.dirty[row // table.page_rows] = 1
        return row


def row_counts(counters: np.void, table_count: int) -> list[int]:
    """Rows in use of each of `table_count` tables, in order, from the record of `counters`."""
    core = [1 if name is None else int(counters[name]) for name in _ROW_COUNTERS.values()]
    return core + counters["plugin_rows"][: table_count - len(core)].tolist()


def pack_name(name: str) -> bytes:
    """A name as a fixed column value: ASCII, padded with zero bytes."""
    return name.encode("ascii").ljust(NAME_BYTES, b"\0")


def unpack_name(value: np.void) -> str:
    """The inverse of `pack_name`."""
    return value.tobytes().rstrip(b"\0").decode("ascii")


def _names(table: Table, used: int) -> dict[str, int]:
    return {unpack_name(value): row for row, value in enumerate(table.columns["name"][:used])}


def _row_of(table: Table, column: str, used: int) -> dict[bytes, int]:
    return dict(zip(table.columns[column][:used].tolist(), range(used), strict=True))
