"""Who places which order, when a feed does not say.

Public feeds are anonymous, but a ledger is not: every order needs an account, and two orders of one
account must not trade with each other, or self-trade prevention would change what the feed did.
So accounts are handed out after the fact: each order gets the next account in turn, skipping those of
the orders it trades with.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from consensus.primitives.errors import InputError


def assign_accounts(keys: Sequence[int], trades: Iterable[tuple[int, int]], accounts: int) -> dict[int, int]:
    """Map each order key to 0..accounts−1, so that no pair in `trades` shares an account."""
    partners: dict[int, set[int]] = defaultdict(set)
    for one, other in trades:
        partners[one].add(other)
        partners[other].add(one)
    given: dict[int, int] = {}
    turn = 0
    for key in keys:
        if key in given:
            continue
        taken = {given[partner] for partner in partners.get(key, ()) if partner in given}
        if len(taken) >= accounts:
            raise InputError(
                "TOO_FEW_ACCOUNTS",
                f"order {key} trades with {len(taken)} of {accounts} accounts: give more with --accounts",
            )
        while turn in taken:
            turn = (turn + 1) % accounts
        given[key] = turn
        turn = (turn + 1) % accounts
    return given
