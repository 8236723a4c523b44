"""Which obligations of one asset settle together, and what that moves."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Due(NamedTuple):
    """One obligation; a queue holds them oldest first."""

    debtor: int
    creditor: int
    amount: int  # 1..AMOUNT_MAX


def find_funded(queue: Sequence[Due], funds: Mapping[int, int]) -> list[int]:
    """Places in `queue` of the largest set that settles at once, ascending.

    In it every debtor's obligations are the first of those it has in the queue, and nobody ends with less
    than nothing. `funds`: what each account that occurs has, at least 0. Every step takes one obligation
    away for good, so there are no more steps than obligations.
    """
    position = dict(funds)
    owed: dict[int, list[int]] = {}
    for place, due in enumerate(queue):
        position[due.debtor] -= due.amount
        position[due.creditor] += due.amount
        owed.setdefault(due.debtor, []).append(place)
    short = [account for account in owed if position[account] < 0]
    while short:
        account = short.pop()
        while position[account] < 0:
            due = queue[owed[account].pop()]
            position[account] += due.amount
            position[due.creditor] -= due.amount
            if position[due.creditor] < 0:
                short.append(due.creditor)
    return sorted(place for places in owed.values() for place in places)


def compute_net(settled: Sequence[Due]) -> dict[int, int]:
    """What each account gains, or loses, by all of `settled` together. The sum is 0."""
    net: dict[int, int] = {}
    for due in settled:
        net[due.debtor] = net.get(due.debtor, 0) - due.amount
        net[due.creditor] = net.get(due.creditor, 0) + due.amount
    return net
