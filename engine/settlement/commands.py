"""The settlement plugin's commands."""

from typing import Annotated, NamedTuple

from engine.commands import AccountId, Amount, AssetId, Bounds
from engine.settlement.tables import AGENTS_MAX, PERIOD_MS_MAX

AgentId = Annotated[int, Bounds(0, AGENTS_MAX - 1)]


class SetSettlementAgent(NamedTuple):
    """By the venue: `account` may submit obligations (1), or not any more (0). It gets a number once."""

    account: AccountId
    is_on: Annotated[int, Bounds(0, 1)]


class SetSettlementCycle(NamedTuple):
    """By the venue: a cycle at every ledger time that `period_ms` divides. 0: none."""

    period_ms: Annotated[int, Bounds(0, PERIOD_MS_MAX)]


class AllowSettlementAgent(NamedTuple):
    """By a TRANSFER key of `account`: an agent may submit what it owes (1), or not any more (0)."""

    account: AccountId
    agent: AgentId
    is_on: Annotated[int, Bounds(0, 1)]


class SubmitObligation(NamedTuple):
    """By a TRANSFER key of an agent's account: `debtor` owes `amount` to `creditor`. Each `instruction` id of
    an agent counts once."""

    agent: AgentId
    instruction: Annotated[int, Bounds(1, 2**62)]
    debtor: AccountId
    creditor: AccountId
    asset: AssetId
    amount: Amount


class CancelObligation(NamedTuple):
    """By a TRANSFER key of debtor or creditor: as far as `account` is concerned, it is not owed any more.
    When both have said so, it is gone."""

    account: AccountId
    number: Annotated[int, Bounds(1, 2**62)]
