"""Matching: price-time priority for a block of order operations in one compiled call.

    kernels    `execute_orders`: two passes over a block, resumable; `run_orders` drives it. Read first
    orders     the operations: admission, entering the book, leaving it
    terms      an order behind TERMS operations; each kind of order in a file of its own:
    iceberg    lots that the book does not show
    replacing  REPLACE: in place if it only shrinks, else as new
    admit      what an order must satisfy, rule by rule
    taking     an incoming order meets the book; fill limit, self-trade prevention
    book       FIFO levels, order rows, each account's own orders
    ladder     which price levels are occupied: a bitmap with summaries
    prefetch   asking for memory some operations ahead
    progress   where a resumable call stands
    records    journal lines

Money moves in `engine.clearing`, called from here. Every kernel runs interpreted too, and
`tests/helpers/slow_book.py` is the same rulebook in plain integers.

Decisions
---------
2026-11-24 The ladder is dense: one level row per tick, fixed at listing. Next-price search is a few words of
a bitmap, however sparse the book; the cost is 16 bytes of address space per tick, of which only
touched pages become memory.
2026-11-24 Cancels and reductions of resting orders run before everything else in a block, then operations in
listing order. CANCEL_ALL takes part in both passes. Whoever replays a recorded stream, in which a
cancel may follow the order that would have hit it, puts a block boundary between them.
2026-11-24 Operations name an order by (account, client order id, market). An id is free again once its order
is gone.
2026-11-24 REPLACE gives a new price and a new open quantity. It keeps its place if the price stays and the
quantity does not grow, else it goes to the back, with its terms. A refused REPLACE changes nothing. Time in
force of a REPLACE is GTC or post-only.
2026-11-24 CANCEL_ALL selects by market, side and a range of client order ids: a session that gives its orders
ids of a range of its own can cancel them alone, and rows need no room for a session.
2026-11-24 Accounts of one group count as one for self-trade prevention. The venue says who is a group: a root
key does not, since a custodian holds many customers' accounts under one. Alone, as nearly all are, an
account costs one comparison; only groups look at the maker's account row.
2026-11-24 A rate counts every well-formed NEW and REPLACE, refused ones too: that is what it is for.
2026-11-24 One order meets at most FILLS_PER_ORDER_MAX resting orders, so that no operation's work is
unbounded; what is left is cancelled with FILL_LIMIT. FOK counts by the same limit and walks instead
of trading and undoing.
2026-11-24 One CANCEL_ALL looks at no more than CANCELS_PER_OPERATION_MAX of the account's own orders in
each pass, newest first. If others are left its code is WORK_LIMIT, its qty what it cancelled, and it
does nothing in the second pass. Orders of other markets that it passed over move to the end of the
account's list, so that whoever repeats it reaches every order.
2026-11-24 A refused operation changes no byte, with one exception, self-trade prevention: an order that
meets only its own account's orders takes them off as its mode says, a REPLACE its original too, and
may then end with NO_LIQUIDITY or SELF_TRADE. IOC and market orders that would meet nobody at all are
refused before a balance row is opened for them. WORK_LIMIT and FILL_LIMIT are no refusals: what was done
up to the limit stands.
2026-11-24 What an order wants beyond price, quantity and time in force stands in TERMS operations before it,
which name it and each say one thing. Plain orders, nearly all, stay 32 bytes and pay one comparison.
Rows of `terms` have the numbers of their orders' rows: no list, no index, and untouched pages cost nothing.
2026-11-24 FOK counts an iceberg's hidden lots behind everybody at its price, and by as many meetings as
they could take at most. At the fill limit it may refuse what would just have filled, never the other way.
2026-11-24 Price bands bound trades, not orders. What would buy above the band or sell below it trades up to
its end, and the rest is cancelled with OUTSIDE_BAND; post-only is refused. It may not rest: a bid above
the band would have to trade before any other, and could not. A resting order that a band has moved past stays
until somebody would meet it, who takes it off (CANCELLED, OUTSIDE_BAND) and goes on; nobody can block a book.
2026-11-24 Post-only asks only whether the price crosses, even if all it would meet is its own account.
"""
