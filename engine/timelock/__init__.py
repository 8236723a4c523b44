"""The timelock: changes of rules wait, in ledger time, where everybody can see them.

    queue    what waits: add, cancel, take what is due
    plugin   the commands: the delay itself, and cancelling

Sending such a command is proposing it. It is validated at once, so that a mistake is told at once; its
COMMAND line has the number of the change in `detail` and the time it is due in `qty`. At the end of the
first block at or after that time it is validated again, under the key that sent it, and applied or dropped;
an APPLIED line tells which.

Decisions

2026-11-24. There is no command to execute a change: what is due happens by itself, so nobody can wait for a
moment that suits him. A change whose sender lost its grant meanwhile is dropped: a thief's proposals end
with the revocation of the stolen key.

2026-11-24. The delay is 0 on a new ledger, so that a venue can be set up in one block, and changes like any
other rule: raising 0 to a day takes effect at once, every later change of it waits for the delay in force.
A venue that never raises it has no timelock, and everybody can see that.

2026-11-24. Guardians may cancel changes, though they may propose none. One that abuses this loses its grant
by the venue's command, which does not wait.
"""
