"""The fee plugin: its commands, and its turn at the end of a block."""

from collections.abc import Sequence

import numpy as np

from consensus.primitives.errors import ensure
from engine.fees.accounting import LINES_PER_FILL, account_fills, sweep_tiers
from engine.fees.schedules import HANDLERS, ensure_rows
from engine.fees.tables import DAY_MS, DAY_SLOTS, SWEEP_ROWS_MAX, FeeTables, make_specs
from engine.genesis import Genesis
from engine.layout import FEE_TIERS
from engine.plugin import Context, Handler, Plugin
from engine.records import Kind
from engine.state import State
from engine.tables.table import TableSpec, kernel_view

_CHUNK = 4096  # journal lines looked at a time


class FeesPlugin(Plugin):
    """Fee tiers by volume, fees in other assets, referrals."""

    name = "fees"
    handlers: Sequence[Handler] = HANDLERS

    def __init__(self, genesis: Genesis) -> None:
        self.tables: Sequence[TableSpec] = make_specs(genesis)

    def on_block_end(self, state: State, context: Context) -> None:
        """Account for the block's trades, then go on with the sweep of the day."""
        if state.count["fee_rates"] == 0:
            return
        self._make_rows(state)
        day = context.time_ms // DAY_MS
        for lines in (context.done, context.events.lines):
            for first in range(0, lines.shape[0], _CHUNK):
                self._account(state, context, lines[first : first + _CHUNK], day)
        self._sweep(state, day)

    def check_invariants(self, state: State) -> None:
        """Volumes are the sums of their days, and no rebate is above a taker's fee."""
        accounts, volumes = state.table("fee_accounts"), state.table("fee_volumes")
        used = state.used(accounts)
        rings = volumes.columns["units"][: state.used(volumes)].reshape(-1, DAY_SLOTS)[:used]
        same = np.array_equal(rings.sum(axis=1), accounts.columns["volume"][: rings.shape[0]])
        ensure(same, "an account's volume is not the sum of its days")
        rates = state.fee_rates.data[: state.count["fee_rates"]].reshape(-1, FEE_TIERS)
        funded = -rates["maker_fee_e6"].min(axis=1, initial=0) <= rates["taker_fee_e6"].min(axis=1)
        ensure(bool(np.all(funded)), "a maker's rebate is above a taker's fee")
        tiers = state.accounts.columns["fee_tier"][: state.count["accounts"]]
        ensure(bool(np.all((tiers >= 0) & (tiers < FEE_TIERS))), "an account is in no fee tier")

    def _make_rows(self, state: State) -> None:
        count = state.count["accounts"]
        ensure_rows(state, "fee_accounts", count)
        ensure_rows(state, "fee_volumes", count * DAY_SLOTS)
        ensure_rows(state, "fee_tiers", FEE_TIERS)
        ensure_rows(state, "fee_markets", state.count["markets"])
        ensure_rows(state, "fee_settings", 1)

    def _account(self, state: State, context: Context, lines: np.ndarray, day: int) -> None:
        room = 0
        if state.table("fee_settings").columns["choices"].item(0) > 0:
            fills = int(np.count_nonzero(lines["kind"] == Kind.FILL))
            room = LINES_PER_FILL * fills
            state.reserve_balances(2 * fills)
        told = context.events.room(room)
        used = account_fills(state.core(), self._views(state), kernel_view(lines), day, told)
        context.events.took(used)

    def _sweep(self, state: State, day: int) -> None:
        """Look at the next accounts, so that tiers of those who do not trade fall too."""
        settings = state.table("fee_settings")
        columns = settings.columns
        if columns["day"].item(0) != day:
            columns["day"][0] = day
            columns["sweep_next"][0] = 0
            settings.mark(0)
        first, count = columns["sweep_next"].item(0), state.count["accounts"]
        if first < count:
            end = min(first + SWEEP_ROWS_MAX, count)
            sweep_tiers(state.core(), self._views(state), first, end, day)
            columns["sweep_next"][0] = end
            settings.mark(0)

    def _views(self, state: State) -> FeeTables:
        return FeeTables(*(state.table(spec.name).view() for spec in self.tables))
