"""The sequential model of what probes do: transfers between a few accounts of one asset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from engine.records import Code


class TransferRequest(NamedTuple):
    """Move `amount` base units from one account to another."""

    source: int
    target: int
    amount: int

    def __str__(self) -> str:
        return f"transfer of {self.amount} from {self.source} to {self.target}"


@dataclass(frozen=True)
class TransferModel:
    """Accounts with balances; who has too little is refused. A state is a tuple of balances, by account."""

    accounts: tuple[int, ...]
    funds_each: int

    def start(self) -> tuple[int, ...]:
        """Everybody has the same."""
        return (self.funds_each,) * len(self.accounts)

    def apply(self, state: tuple[int, ...], request: TransferRequest) -> tuple[tuple[int, ...], Code]:
        """The balances after the transfer, and its code."""
        source, target = self.accounts.index(request.source), self.accounts.index(request.target)
        if state[source] < request.amount:
            return state, Code.INSUFFICIENT_FUNDS
        balances = list(state)
        balances[source] -= request.amount
        balances[target] += request.amount
        return tuple(balances), Code.OK

    def read(self, state: tuple[int, ...]) -> Mapping[int, int]:
        """Balances by account."""
        return dict(zip(self.accounts, state, strict=True))
