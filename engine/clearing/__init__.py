"""Clearing: nobody trades what they do not have.

    holds      what an open order sets aside, and giving it back
    settle     moving value when a trade happens; fees go to the venue's rows
    balances   balance rows, opened on first use

All are kernels that matching calls inside the block's one compiled loop; the arithmetic of fees is in
`engine.fixed_point`.

Decisions
---------
2026-11-24 Fees are taken from what each side receives, rounded up. A hold is then exactly what the order
can cost, releases telescope, and no rounding dust stays behind on any path. The cost: a buyer pays
the fee in the base asset.
2026-11-24 A taker's two rows and the venue's two rows are written once per order, not once per fill. Sums
are equal because additions commute; a sweep over many makers touches two rows per maker.
"""
