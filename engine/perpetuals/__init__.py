"""Perpetual markets: positions in linear contracts, margined and settled in the quote asset.

    trades      what a fill does to two positions. Read first, then cash
    cash        what positions are owed and owe, and the pool between them
    orders      what an order must satisfy here; reduce-only; limits; what matching asks
    positions   position rows: per account and market, opened and freed
    funding     premium, the funding index, charging positions
    sweep       the round of visits at the end of blocks
    listing     contracts, tiers, limits; accounts: modes, isolated positions; risk: collateral, scores
    commands, plugin, tables, audit

What positions ask for, and what backs them, is `engine.margin`. Matching calls `orders`; the rest is called
from there, from commands and at the end of a block.

Laws, exact after every operation (see `audit`):

    per market   Σ qty = 0, and open interest = Σ long lots
                 10^6 × funding_net − funding_residue + Σ millionths owed for funding and not charged = 0
    per pool     cash = Σ positions (unsettled − entry) + Σ markets funding_net + fees_due
                 isolated collateral = what the pool's balance holds
    per asset    as ever: Σ available + held = deposited − withdrawn, pools included, nothing below zero

A fill adds and takes the same notional from two entries, whatever rounding realises of it: the pool law
holds without a look at it.

Decisions

2026-11-24. Profit is paid from what losses have paid in, never from thin air. Realised PnL stands in the
position (`unsettled`) until there is cash: losers pay at once what they have, winners get what is there. Cash
of one asset can then never be paid out twice, although positions may be backed by other assets. The cost:
a winner may wait until a loser closes, or until the round of visits has called the loser's loss at the
mark price. Margin counts claims and debts in full meanwhile.

2026-11-24. The venue's fees come from the payer's cash at once; where there is none, the venue waits behind
every trader's claim.

2026-11-24. Margin is asked for when an order enters, for the position after the worse side of its open
orders filled, and not again when it is met; the collar keeps any order from losing more against the mark
price than it puts up. Only reduce-only orders are looked at again when they are met.

2026-11-24. An order with a size that can only reduce needs no margin and no mark price, flag or not: nobody
is ever locked into a position.

2026-11-24. Reduce-only orders do not count as open lots and may be larger together than the position: bounded
work at entry, at the price of a look at the position whenever one is met. FOK does not count on them.

2026-11-24. A market's next funding waits until every position was visited for the last one, 256 a block. A
funding payment is then bounded by one interval's cap, and no index difference can overflow.

2026-11-24. Nobody's balances are clearing's: they belong to CLEARING_ACCOUNT, an id that no account can have.
"""
