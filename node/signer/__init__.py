"""Signing safety: one key, one record of what it signed, and no second vote at any place.

Read `consensus.signing` first: the rules. Then

    local      check, note, sign; the record is flushed beside the ledger's transaction
    record     the durable record: entries, whose it is, moved or not
    journal    the file under it: frames, checksums, torn tails
    ring       all keys of a node that signs itself: one for each time it was rotated
    opening    the signer that a home's config.toml names; beginning a record
    server     the signer as a process of its own (`kontor signer`); `wire` is its language
    remote     the node's end of that
    migrate    export and import: how a record changes its home
    binding    which ledger a record belongs to, and how far that had come
    recovery   a new identity for a home whose key is dead

Decisions

2026-11-24. The record is a file of its own, not a database in the ledger. It must survive whatever
becomes of the ledger (restored, copied, rolled back), it moves between machines, and a separate
process owns it. A file of appended, checksummed frames takes one write and one sync a turn, where LMDB
takes two, and can tell every flipped bit; LMDB cannot. It is written full of zeros first, so that a
sync moves data alone: 1.7 instead of 2.9 ms on a busy disk.

2026-11-24. The record is flushed beside the ledger's transaction, in either order: waiting for one after
the other would double the time of a vote. After a crash it may be ahead by one turn. The signer
never takes anything back (it could not tell a crash from a ledger set back by hand); the replica copes
(see `consensus`). Attestations need no transaction of the ledger, so they alone wait for the record,
off the loop. A block that ran while its certificate is still being written is attested ahead: the
record is written beside the certificate, the signature is made again, and leaves, once both are durable.

2026-11-24. A home from a version without records does not start, and no record is made from its vote log:
the log holds only the last vote of each place, and whether it is the newest log cannot be seen from it.
The key is dead, and `kontor recover` makes a new one. Costs such a validator its id.

2026-11-24. A rotated key gets a seed and a record of its own beside the old ones, and a running node opens
them when a checkpoint shows that the ledger names the key. A process of its own holds one key only: a node
that uses one is replaced, not rotated, until its language can name keys.

2026-11-24. Nothing brings a lost record back. An older copy of it, restored together with the ledger of its
time, is the one thing that nobody can notice on one machine: backups must leave `signer/` out.

2026-11-24. A record is bound to one ledger, by an id, before its first signature, and counts that ledger's
transactions: an empty or older ledger has no promises to keep, and the record could not refuse what it
would sign at new places. One transaction of difference is allowed, since a crash leaves that. A node
whose ledger is lost is a new validator (`kontor recover`); fetching a state keeps the ledger.

2026-11-24. An export marks the record as moved before the file is written, and names the ledger. Two homes
can sign with one key only if the operator imports one file twice and copies the ledger, too; the home
that exported it asks for a word (`--undo`).

2026-11-24. The separate signer answers after its disk has the vote, so a node waits a round trip and a
sync for each vote, inside its step. Letting votes of one turn share a sync would need a step that
can be interrupted; that can come when somebody needs the throughput.
"""
