"""Accounts: assets, owners, keys and their grants, replay protection, funds.

    plugin      the commands, in one table
    envelopes   whether an envelope counts
    kernels     whether each order of a block may be given by the key that signed it
    nonces      the sliding window that lets every envelope run once
    keys        opening accounts, granting and revoking keys
    funds       assets; deposits, withdrawals, transfers

Decisions

2026-11-24. An account's root key is a key like any other that holds every scope without expiry,
and cannot lose them. So orders, commands and envelopes ask one question, of one table, and a
kernel can ask it too. Cost: one key row and one grant row per account.

2026-11-24. Revoking empties a grant and keeps its row. Row ids stay stable and the index needs no
deletion; `GRANTS_PER_ACCOUNT_MAX` bounds what an owner can make everyone store.

2026-11-24. An issuer may withdraw from any account that holds its asset: before chain adapters
exist, it is the issuer who pays out and then books it. Transfers need the owner's own key.
"""
