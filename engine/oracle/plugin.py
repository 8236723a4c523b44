"""The oracle plugin: its commands, and its turn at the end of a block."""

from collections.abc import Sequence

import numpy as np

from consensus.primitives.errors import ensure
from engine.genesis import Genesis
from engine.layout import PriceStatus
from engine.oracle import feeds, indexes, reports
from engine.oracle.aggregate import SCRATCH_LENGTH, update_feeds
from engine.oracle.prices import INDEX_SCRATCH, update_prices
from engine.oracle.tables import REPORTERS_PER_FEED_MAX, make_specs
from engine.plugin import Context, Handler, Plugin
from engine.state import State
from engine.tables.table import TableSpec


class OraclePlugin(Plugin):
    """Reporters, feeds, indexes and mark prices."""

    name = "oracle"
    handlers: Sequence[Handler] = (*feeds.HANDLERS, *reports.HANDLERS, *indexes.HANDLERS)

    def __init__(self, genesis: Genesis) -> None:
        self.tables: Sequence[TableSpec] = make_specs(genesis)

    def on_block_end(self, state: State, context: Context) -> None:
        """Aggregate what is due, then price every market that has an index."""
        feed_table, index_table = state.table("feeds"), state.table("indexes")
        used = state.used(feed_table)
        if used == 0:
            return
        views = feed_table.view(), state.table("reports").view()
        scratch = np.zeros(SCRATCH_LENGTH, dtype=np.int64)
        lines = context.events.room(used)
        context.events.took(update_feeds(*views, used, context.time_ms, scratch, lines))
        used = state.used(index_table)
        if used == 0:
            return
        lines = context.events.room(used)
        written = update_prices(
            state.markets.view(),
            index_table.view(),
            state.table("index_feeds").view(),
            feed_table.view(),
            used,
            context.time_ms,
            scratch[:INDEX_SCRATCH],
            lines,
        )
        context.events.took(written)

    def check_invariants(self, state: State) -> None:
        """Slots are counted right, statuses are statuses, and prices fit their books."""
        table, slots = state.table("feeds"), state.table("reports")
        taken = (slots.columns["reporter"][: state.used(slots)] > 0).reshape(-1, REPORTERS_PER_FEED_MAX)
        counted = table.columns["reporters"][: state.used(table)]
        ensure(np.array_equal(taken.sum(axis=1), counted), "reporters of a feed do not match their counter")
        columns = {name: column[: state.count["markets"]] for name, column in state.markets.columns.items()}
        status = columns["price_status"]
        ensure(bool(np.all((status >= 0) & (status <= PriceStatus.NONE))), "a market has no price status")
        for name in ("index_price", "mark_price"):
            price = columns[name]
            fits = (price >= 0) & (price <= columns["price_max"])
            ensure(bool(np.all(fits)), f"a market's {name} is beyond its book")
