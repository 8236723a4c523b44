"""Settlement in plain Python: what first-in-first-out settles, and the largest set by trying all."""

from itertools import product

from engine.settlement.netting import Due


def settle_first_in_first_out(queue: list[Due], funds: dict[int, int]) -> set[int]:
    """Places that settle one by one, each debtor's in order, as long as any can."""
    have, settled = dict(funds), set()
    moved = True
    while moved:
        moved, blocked = False, set()
        for place, due in enumerate(queue):
            if place in settled or due.debtor in blocked:
                continue
            if have[due.debtor] < due.amount:
                blocked.add(due.debtor)
                continue
            have[due.debtor] -= due.amount
            have[due.creditor] += due.amount
            settled.add(place)
            moved = True
    return settled


def find_largest(queue: list[Due], funds: dict[int, int]) -> set[int]:
    """Of all sets that keep each debtor's order and leave nobody short, the one with the most obligations."""
    debtors = sorted({due.debtor for due in queue})
    owed = {debtor: [place for place, due in enumerate(queue) if due.debtor == debtor] for debtor in debtors}
    best: set[int] = set()
    for counts in product(*(range(len(owed[debtor]) + 1) for debtor in debtors)):
        chosen = {p for debtor, count in zip(debtors, counts, strict=True) for p in owed[debtor][:count]}
        have = dict(funds)
        for place in chosen:
            have[queue[place].debtor] -= queue[place].amount
            have[queue[place].creditor] += queue[place].amount
        if min(have.values(), default=0) >= 0 and len(chosen) > len(best):
            best = chosen
    return best
