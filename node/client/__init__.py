"""The client SDK: sign orders and commands, have them executed once, check the proof yourself.

    client    `open_client` and `Client`: start here
    blocking  `BlockingClient`: the same without trio
    orders    order operations for numpy arrays
    units     exact decimals to ticks, lots and base units
    submit    retries over nodes without double execution; when a refusal is final
    balances  balances that are proved
    epochs    following changes of validators, each by its proof
    addresses where newcomers are reached, proved by any one node
    nodes, link   connections
    errors    what can go wrong, and whether the request may still take effect

Decisions

2026-11-24. Nonces start at the clock's microseconds and count up by one. No node has to be asked (or
trusted) for the next one, a restarted client is always ahead of its former self, and consecutive
nonces stay inside the ledger's window when envelopes overtake one another.

2026-11-24. A refusal written in the journal is proof about one copy of an envelope. A lying node could
submit an envelope twice and show only the refused copy, so the SDK reports `Rejected` only when f+1
nodes show no executed copy.

2026-11-24. Of an epoch that is over, f+1 keys may be stolen, so a receipt alone does not say that its
signers were still validators. The SDK asks a quorum of the newest epoch's members before the first receipt
and again every few minutes, beside the request under way, so that a receipt seldom waits for it. A
quorum, not f+1: f+1 thieves would answer for themselves. The price: whoever reaches no quorum of
validators believes no receipt.
"""

from node.client.blocking import BlockingClient
from node.client.client import Balance, Client, Placed, ProvenBalance, open_client
from node.client.errors import (
    ClientError,
    NotConnected,
    NotFound,
    OutcomeUnknown,
    Refused,
    Rejected,
    UnitError,
)

__all__ = [
    "Balance",
    "BlockingClient",
    "Client",
    "ClientError",
    "NotConnected",
    "NotFound",
    "OutcomeUnknown",
    "Placed",
    "ProvenBalance",
    "Refused",
    "Rejected",
    "UnitError",
    "open_client",
]
