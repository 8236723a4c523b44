"""Recorded market data turned into flows.

    base.py       what every importer makes: steps in order, then `build_flow`
    bitstamp.py   `bitstamp-l3`: order-by-order rows and trades, CSV
    binance.py    `binance-l2`: depth diffs and trades, JSON lines
    itch.py       `itch50`: NASDAQ ITCH 5.0, binary
    messages.py   `matching-messages`: new, cancel, modify for one book, CSV

An importer reads its format into `Step`s. `build_flow` runs them through a plain book, which tells
how many fills to expect, where fences go, who may own which order, and what funds that takes.

Decisions

2026-11-24. Importers decide from the record what each order is (post-only, IOC, …), rather than
replaying plain limit orders and hoping. Bitstamp's feed shows why: 64 % of its orders die in the
millisecond they were born, and a naive replay makes 12,114 fills where the venue printed 284.
"""
