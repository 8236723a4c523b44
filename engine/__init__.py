"""The state machine: ordered bytes in, journal and state root out.

Start with `machine` (how a block is applied), then `layout` and `records` (every row and every line).

    records, layout       wire records, table rows, codes
    genesis               what a ledger starts from
    envelope, batch       signed client input, and how it travels in bulk
    state, tables/        all tables; pages, indexes, state root, snapshots
    machine, block        applying a block; laying out its journal
    commands, plugin      msgpack commands, and who carries them out
    plugins, events       which plugins a ledger has; journal lines that they add
    authority             which key may do what
    accounts/, markets/, lifetimes/, auctions/, conditional/, perpetuals/,
    validators/           the plugins
    oracle/, breakers/    prices by consensus; what stops when they move, or somebody says so
    fees/                 fee tiers, rebates, paying in other assets, referrals
    settlement/           obligations between accounts, netted and settled in cycles
    timelock/             rules change only after a time in which everybody can see it
    matching/, clearing/, margin/   compiled rules of the order path
    compiled, fixed_point what kernels are made with
    journal               what a block did: chunks, roots, proofs
    explain/              why each order came out as it did: a block again, step by step
    conservation          the check of every block: no value was created or lost
    invariants            exact audits of the whole state

Decisions

2026-11-24. Refused envelopes change nothing but their own journal line: no nonce is used up and none of
their operations has a line. A client may repair and resend under the same nonce. Cost: a key's
garbage can be sent again, so admission, not execution, has to make it expensive.

2026-11-24. Commands of a block run before its orders, envelope by envelope, and each envelope is
authorised when its turn comes. A grant works in the block that makes it; so does a revocation,
even for orders that were listed first.

2026-11-24. Orders are authorised by a kernel of their own, before matching. Matching knows accounts
and funds, but no keys; what it refuses and what was refused before meet in one array of codes.

2026-11-24. A table's capacity is no state. Roots cover rows in use and pages ever written, so nodes that
grew, restored or restarted differently agree; limits are genesis limits.
"""
