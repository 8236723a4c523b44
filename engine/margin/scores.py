"""Margin add-ons by attested risk scores: they raise initial margin, and nothing else.

Registered scorers attest how much more margin an account should put up, until a height. A higher score
counts at once; a lower one comes down one tier per day of ledger time, so that nobody is let go on a
single attestation; one that nobody renewed comes down by the days since it was attested. Without a fresh
score the venue's default counts as if it were attested. Maintenance margin is never touched: a score can
keep an account from taking more risk, it liquidates nobody.
"""

import numpy as np

from engine.compiled import kernel
from engine.layout import Core

ADDON_BPS_MAX = 5000
ADDON_TIER_BPS = 500
LOWERING_MS = 24 * 3600 * 1000  # of ledger time, a tier


@kernel
def margin_addon_bps(core: Core, account: int) -> int:
    """By how much, in basis points, the account's initial margin is raised now."""
    counters, row = core.counters.rows[0], core.accounts.rows[account]
    target = np.int64(row.score_bps)
    if row.score_expiry < counters.height:
        target = counters.addon_default_bps
    return max(target, lowered_addon_bps(core, account))


@kernel
def lowered_addon_bps(core: Core, account: int) -> int:
    """What the last add-on that was in force has come down to since; may be negative."""
    row = core.accounts.rows[account]
    days = (core.counters.rows[0].time_ms - row.addon_ms) // LOWERING_MS
    return np.int64(row.addon_bps) - days * ADDON_TIER_BPS
