"""Prices by consensus: signed reports of many become one value per feed and epoch, and a mark per market.

    ladder      what each status of a price allows: one table. Read it first, then `reports`
    tables      rows, bounds
    commands    what the venue and reporters send
    feeds       reporters, feeds, who reports on what
    reports     a report is taken, or contradicts an earlier one
    aggregate   the reports of an epoch become a value, a confidence and a status
    indexes     which feeds make a market's index
    prices      index, basis and mark of every market, at a block's end
    plugin      all of it in registry order

MARKET.index_price, mark_price and price_status are what others read. They change at the end of blocks
only, so all orders of one block see the same prices.

Decisions

2026-11-24. An epoch is an interval of ledger time; reports are about its beginning and are taken until its
end. It is aggregated at the end of the block in which the last reporter's report came, or of the first
block behind it; the first report of the next epoch also ends it. With all reporters quick, a price is
as old as a round trip, not as an epoch; with some silent, the others wait for them until the epoch ends.

2026-11-24. Besides 2f + 1 reports, f = (n − 1) // 3, more than half of the n reporters are needed: for two or
three reporters f is 0, and one of them alone should not be the price.

2026-11-24. An index of one asset from several sources is their lower weighted median, which bears anything
that less than half the weight says; clamping outliers of a mean does so only up to the clamp. A basket of
several assets has no median worth the name: its index is the weighted mean, and one missing part makes
the whole as bad as that part.

2026-11-24. The limit of a step clamps and says VOLATILE, rather than refusing the aggregate: the price
follows the world as fast as it may, and nothing that touches positions happens until it has caught up. An
error of all reporters in one epoch so costs a step, not a cascade.

2026-11-24. A price at or below zero leaves the last positive value in place, under a status that allows
nothing. Clearing divides by prices and never has to fear that.
"""
