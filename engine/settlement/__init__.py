"""Settlement: what accounts owe one another, netted and settled in cycles.

    netting    which obligations of a queue settle together, and what that moves: pure functions. Read first
    queue      obligations that wait, instructions that are remembered
    commands   what agents, debtors and creditors send
    handlers   validating and applying them
    plugin     the cycle, at the end of a block
    tables     rows

Agents, accounts that the venue registered and debtors consented to, submit obligations under instruction
ids of their own. When a cycle is due, all that wait are taken together, asset by asset; those that are funded
by what debtors have and by what they receive in the same cycle settle at once, the others wait.

Decisions

2026-11-24. Netting and the resolution of gridlocks are one thing: of all obligations that wait, the largest
set is settled that keeps each debtor's order and leaves nobody with less than nothing. It is found by
taking away the last obligation of whoever would be short, until nobody is (Bech & Soramäki, "Gridlock
resolution in interbank payment systems", Bank of Finland 9/2001). That set contains whatever
first-in-first-out alone would settle, is the same in whatever order accounts are looked at, and costs one
step per obligation. An obligation that could be settled by overtaking an earlier one of its debtor waits.

2026-11-24. Nothing settles in part: an obligation is one instruction of somebody else's books, and half of it
would be a third state between done and not done. Whoever wants parts submits parts.

2026-11-24. An agent's last INSTRUCTIONS_KEPT ids are remembered with a digest of what they said. Sent again,
an instruction is refused as known, and with other content as changed; older ids than those are refused
unseen. So a side that was cut off sends all it is unsure of once more, in order, and each counts once.

2026-11-24. Consent of a debtor is for future submissions: what was submitted under it stands when it is
withdrawn, and is cancelled by debtor and creditor together only.

2026-11-24. Whoever has margined positions gives away what it has only if margin lets all of it go, else
nothing but what it receives in the same cycle. How much exactly could go is a question per cycle and account
that only trying answers.
"""
