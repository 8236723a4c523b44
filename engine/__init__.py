"""The state machine: ordered bytes in, journal and state root out.

Start with `machine` (how a block is applied), then `layout` and `records` (every row and every line).

    records, layout     wire records, table rows, codes
    genesis             what a ledger starts from
    envelope, batch     signed client input, and how it travels in bulk
    state, tables/      all tables; pages, indexes, state root, snapshots
    authority           which key may do what
    commands, plugin    msgpack commands, and who carries them out
    accounts/, markets  the plugins of this milestone
    matching/, clearing/  compiled rules of the order path
    journal             what a block did: chunks, roots, proofs
    invariants          exact audits of the whole state
"""
