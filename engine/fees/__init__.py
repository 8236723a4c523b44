"""Fees: tiers by volume, rebates, paying in another asset, referrals. Every fee has an account.

    rates        which rate a side of a trade pays: what matching and auctions ask
    accounting   the pass over a block's trades: volumes, tiers, other assets, referrals
    schedules    setting rates and tiers, and what accounts choose
    plugin       its turn at a block's end
    tables, commands

A market has either two fees of its own, or a schedule: rates by tier. An account's tier is one number, by
what it traded in the last 30 days in all markets with a schedule, as maker or taker. What it trades in a
block counts from the next block on.

Decisions

2026-11-24. A maker's rebate comes out of the taker's fee of the same trade, so it is in the asset that the
taker receives, and rounded down where that fee is rounded up. A schedule's highest rebate is at most its
lowest taker fee: no pair of tiers can pay out more than came in. In an auction nobody takes,
and of perpetuals takers may owe their fees: rebates are 0 there.

2026-11-24. Trades take their fees as they happen, in the assets that are there anyway. At the block's end a
fee may be swapped against another asset, and a share of it go to a referrer. So matching knows one rate per
account, and what needs an oracle, a third balance row or a journal line stays out of it. The cost: a
venue that spends its fees in the block in which it earned them swaps nothing and pays no referral for them.
Swaps are trade by trade, in order, until the balance does not suffice.

2026-11-24. Volume is counted in units that the venue sets per market, as so much of the quote asset: there is
no other number in which different quote assets could be added. A trade counts in whole units, rounded down.

2026-11-24. Tiers of those who trade are found with their trades, those of others by a sweep that begins
with each day of ledger time and looks at so many accounts a block. Until it comes to an account, that has the
tier of its last trade.

2026-11-24. A referrer is named by the referred, once and for good, and gets nothing of what those it
referred bring in themselves.
"""
