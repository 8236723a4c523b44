"""Margin: what an account has, what its positions ask for, and what it may therefore do.

    account      `assess`: equity, initial and maintenance margin. Read first
    tiers        margin by size of a position
    collateral   other assets as backing, after haircuts
    scores       add-ons to initial margin by attested scores
    spending     what may leave an account

Pure questions: nothing here writes. Liquidation asks `assess` too, or one of its three parts.

Decisions

2026-11-24. Margin of a position is the larger of its tiers' and of its scan range's, so a market can be
margined by size, by scenario, or by both. STANDARD accounts add up markets. PORTFOLIO accounts let long and
short of one group of markets offset: the scenario is that all of them move by their own range together, and
`offset_ppm` says how much of the offset counts, for initial and maintenance margin alike.

2026-11-24. Tiers are marginal, as tax brackets are: no position's margin jumps because it grew by a lot.

2026-11-24. Unrealised profit counts for equity, at the mark price. Only cash that is there can leave,
and only as far as equity stays above initial margin.

2026-11-24. Add-ons raise initial margin only. Maintenance margin never depends on a score, in a grace or
after it: a score may keep an account from new risk, but liquidates nobody.
"""
