"""How long orders live: GTD orders expire, and a dead man's switch cancels all of an account.

    plugin    the commands, and what rings at a block's start
    ringing   taking off the book what is due

Decisions
---------
2026-11-24 What is due rings before a block's commands, in the order of its time: an order that expires at t
does not trade in a block of time t. One block takes at most ALARMS_PER_BLOCK_MAX orders off; if more are
due at once, the rest may still trade until a following block reaches them.
2026-11-24 A switch counts in ledger time and is set again to keep it from ringing. Having rung, it is off.
"""
