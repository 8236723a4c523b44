"""Validators as the ledger knows them: who votes, what changes next, and who was convicted.

    plugin        the commands, in one table
    changes       when each of them is refused, and what it schedules
    boundary      when a change takes effect, and what happens then
    members       who votes in which epoch, under which key
    convictions   evidence: what counts, what it leaves, who is excluded
    audit         the laws of these tables

A command at block s schedules one change with boundary B, the first checkpoint at or above s + window.
Whoever votes above B then has a stable checkpoint that covers s, so everybody knows of the boundary
before anybody can pass it. After B is executed the next epoch's validators stand here, and B's
checkpoint, signed by the old ones, names them.

Decisions

2026-11-24. Every change starts a new epoch, also one of address or certificate, which changes no vote.
So clients and nodes learn of all of them in one way, by one proof, and consensus knows one kind of
boundary beside the wedge. Cost: a move needs the same few hundred blocks as a replacement.

2026-11-24. A network of four or more never shrinks below four by a command: with three, one crash stops
it, and a mistyped removal could not be undone without the removed. `replace_validator` is the
way there. One that starts below four is a trial, and may change freely down to a single validator.

2026-11-24. Certificates and addresses are opaque here, bounded and distinct. Whether a library can read
them may differ between versions, so each node finds out by itself: an unreadable one is a validator that
cannot be reached, which the protocol tolerates and a move repairs.

2026-11-24. A conviction keeps the whole proof, 192 bytes, in its row: any node can show it to anybody
for as long as the ledger lives, whatever was pruned. `CONVICTIONS_MAX` bounds what one liar makes
everyone store; more would not convict it more.

2026-11-24. Evidence names an epoch, and is judged under the key that the ledger knows for it. Keys of
past and present epochs never change, so whoever checked signatures before, on a worker thread or after a
restart, found what execution would find. Evidence about a future epoch is refused.
"""
