"""Liquidation: positions that their accounts can no longer back are closed, stage by stage.

    waterfall    who is closed how: the stages in order. Read first
    prices       bankruptcy price, fillable price
    closing      one stage each: the book, backstops, deleveraging, the insurance fund
    kernels      finding accounts, selling to the book, ranking
    settings     what the venue decides; commands, tables, plugin

A unit is what is backed together: an account's cross positions in one settlement asset, or one isolated
position. Units are looked at in order of account id, a bounded number a block, from where the last block
stopped. Every stage moves value between two parties and creates none: the pool law of `engine.perpetuals`
and the sum of balances hold after each.

    equity below maintenance             a part is sold to the book, the rest of it to backstops
    below 2/3 of maintenance             backstops take all at the bankruptcy price; the rest goes to the book
    below zero                           the insurance fund promises what is missing; backstops, then
                                         positions of the other side, close the lots; the fund pays once none
                                         are left
    still below zero                     a deficit: withdrawals of the asset wait until it is covered

Decisions

2026-11-24. The fillable price leaves the mark price at twice the rate at which equity falls below
maintenance (dYdX's formula with an adjustment of two and a spread of one): so it meets the bankruptcy price
exactly at 2/3 of maintenance, where backstops may take everything.

2026-11-24. An account's equity is divided among its positions by their maintenance margin. A position closed
at its bankruptcy price costs its part of the equity and no more; the price is rounded so that a rounding
never needs the fund.

2026-11-24. Only positions whose own price is VALID, in open markets without grace, are closed. What an
account holds in other markets counts at their last mark price: else one stale market would shield the
rest.

2026-11-24. Whoever is deleveraged while the fund covers the deficit is closed at the mark price; beyond that,
only positions which still gain at the bankruptcy price are, so nobody pays with money put in.

2026-11-24. The fund pays when the last lot is closed, never into an open position: a price that
comes back would be the account's gain.
"""
