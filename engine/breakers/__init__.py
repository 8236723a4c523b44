"""Circuit breakers: bands around the consensus price, halts, switches, pegs, and limits of what leaves.

    markets    one market's breaker: band, limit state, halts, reopening. Read it first
    bands      reference, robust sigma, and the band they make
    switches   tripping and lifting by command: markets, withdrawals; and the rules of breakers
    pegs       stable assets off their anchor
    outflows   net outflow of an asset, as a bucket of tokens
    triggers   how clearing and others feed the breakers
    commands   what guardians and the venue send
    tables     rows
    plugin     all of it in registry order

What others read: MARKET.band_low, band_high (matching), halt_reason (markets, auctions), reopen_ms (auctions
begin the call), grace_until_ms (clearing); ASSET.alarms, peg_haircut_ppm (collateral, lending), outflow_left
(accounts). Cancels, deposits and top-ups of margin ask none of these and are always possible.

Decisions

2026-11-24. What is held against the band is the consensus price, not the last trade. Own trades cannot leave
the band anyway, and whoever could halt a market by trading on it would. The cost: a book that is driven to
the end of its band by its own orders alone stays there, without a halt, until somebody takes the other side.

2026-11-24. A price that is not known moves nothing: band, reference and limit state stay as they were, so a
silent oracle leaves a static limit, not none. A halt ends only when there is a VALID price for the auction
to be checked against. The way out of an oracle that stays silent is to remove the market's index, and its
breaker's rules (both timelocked): then it reopens like a market that never had any.

2026-11-24. Guardians trip, the venue lifts, after a delay, naming the trip. One stolen key can then stop the
market or see it stopped, but not run it; and stopping is what can be undone.

2026-11-24. Over a limit of outflow a withdrawal is refused, not queued: who may wait in which order is a
matter for whoever pays out. Small withdrawals can so keep a large one waiting; cut it up.

2026-11-24. Where the venue lists a market while all are switched off, it is born halted.
"""
