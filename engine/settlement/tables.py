"""Rows of the settlement plugin's tables, and its bounds."""

import numpy as np

from engine.genesis import Genesis
from engine.tables.table import TableSpec

OBLIGATIONS_MAX = 4096  # that wait, of all accounts: what one cycle may look at
OBLIGATIONS_PER_DEBTOR_MAX = 256
OBLIGATIONS_PER_AGENT_MAX = 1024
AGENTS_MAX = 62  # that ever were: their consents are bits of one int64
INSTRUCTIONS_KEPT = 1024  # ids below an agent's highest that are remembered
PERIOD_MS_MAX = 7 * 86_400_000
DIGEST_BYTES = 16

OBLIGATION = np.dtype(
    [
        ("number", "<i8"),  # counts from 1, in order of submission; 0: the row is free
        ("amount", "<i8"),
        ("instruction", "<i8"),  # the agent's id for it
        ("debtor", "<i4"),
        ("creditor", "<i4"),
        ("asset", "<i4"),
        ("agent", "<i4"),  # number of who submitted it
        ("cancels", "<i4"),  # 1: the debtor wants it cancelled, 2: the creditor does
        ("reserved", "u1", (20,)),
    ]
)  # 64 bytes

AGENT = np.dtype(
    [
        ("account", "<i4"),
        ("is_active", "<i4"),
        ("highest", "<i8"),  # instruction id
        ("pending", "<i8"),  # of its obligations
        ("reserved", "<i8"),
    ]
)  # 32 bytes; row = agent number, never freed

INSTRUCTION = np.dtype(
    [
        ("instruction", "<i8"),  # 0: none yet
        ("number", "<i8"),  # of the obligation that it made
        ("digest", "u1", (DIGEST_BYTES,)),  # of what it said
    ]
)  # 32 bytes; row = agent number × INSTRUCTIONS_KEPT + instruction % INSTRUCTIONS_KEPT

SETTLER = np.dtype(
    [
        ("consents", "<i8"),  # bit n: agent n may submit what this account owes
        ("pending", "<i8"),  # obligations that it owes
    ]
)  # 16 bytes; row = account id

SETTLEMENT = np.dtype(
    [
        ("submitted", "<i8"),  # obligations, ever
        ("pending", "<i8"),
        ("period_ms", "<i8"),  # 0: there are no cycles
        ("next_ms", "<i8"),  # when the next is due
        ("reserved", "u1", (32,)),
    ]
)  # 64 bytes; one row


def make_specs(genesis: Genesis) -> tuple[TableSpec, ...]:
    """The settlement plugin's tables under one genesis."""
    return (
        TableSpec("settlement", SETTLEMENT, 1),
        TableSpec("settlement_agents", AGENT, AGENTS_MAX),
        TableSpec("instructions", INSTRUCTION, AGENTS_MAX * INSTRUCTIONS_KEPT),
        TableSpec("settlers", SETTLER, genesis.capacity.accounts),
        TableSpec("obligations", OBLIGATION, OBLIGATIONS_MAX),
    )
