"""Netting and gridlocks against trying all there is; and a ledger whose agents repeat themselves."""

import os
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.commands import Deposit, OpenAccount, RegisterAsset, Transfer
from engine.records import Code, Kind, SettlementLine
from engine.settlement.commands import (
    AllowSettlementAgent,
    CancelObligation,
    SetSettlementAgent,
    SetSettlementCycle,
    SubmitObligation,
)
from engine.settlement.netting import Due, compute_net, find_funded
from tests.helpers.slow_settlement import find_largest, settle_first_in_first_out
from tests.helpers.venue import START_MS, Venue, signer

EXAMPLES = int(os.environ.get("KONTOR_EXAMPLES", "300"))
ACCOUNTS = 4
PERIOD = 10_000


def _dues(accounts: int, most: int) -> st.SearchStrategy:
    pairs = st.tuples(st.integers(0, accounts - 1), st.integers(0, accounts - 1)).filter(
        lambda p: p[0] != p[1]
    )
    return st.lists(st.builds(lambda p, a: Due(*p, a), pairs, st.integers(1, 9)), max_size=most)


@settings(max_examples=EXAMPLES, deadline=None)
@given(_dues(4, 9), st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_the_largest_set_that_is_funded_and_keeps_the_order_settles(queue, funds):
    have = dict(enumerate(funds))
    found = set(find_funded(queue, have))
    assert found == find_largest(queue, have)
    assert found >= settle_first_in_first_out(queue, have)


@settings(max_examples=EXAMPLES, deadline=None)
@given(_dues(12, 80), st.lists(st.integers(0, 12), min_size=12, max_size=12))
def test_netting_leaves_net_positions_as_they_were_and_nobody_short(queue, funds):
    have = dict(enumerate(funds))
    places = find_funded(queue, have)
    assert set(places) >= settle_first_in_first_out(queue, have)
    net, gross = compute_net([queue[place] for place in places]), defaultdict(int)
    for place in places:
        gross[queue[place].debtor] -= queue[place].amount
        gross[queue[place].creditor] += queue[place].amount
    assert net == dict(gross) and sum(net.values()) == 0
    assert all(have[account] + change >= 0 for account, change in net.items())
    for account in have:
        owed = [place for place, due in enumerate(queue) if due.debtor == account]
        settled = [place for place in owed if place in places]
        assert settled == owed[: len(settled)]


def test_a_ring_settles_though_none_of_it_could_alone():
    queue = [Due(0, 1, 100), Due(1, 2, 100), Due(2, 0, 99)]
    assert settle_first_in_first_out(queue, {0: 1, 1: 0, 2: 0}) == set()
    assert find_funded(queue, {0: 1, 1: 0, 2: 0}) == [0, 1, 2]
    assert find_funded(queue, {0: 0, 1: 0, 2: 0}) == []


class SlowSettlement:
    """The same rules over dicts, first-in-first-out queues per asset, one agent."""

    def __init__(self) -> None:
        self.have: defaultdict[tuple[int, int], int] = defaultdict(int)
        self.queue: dict[int, tuple[Due, int]] = {}  # by number: what is owed, in which asset
        self.known: dict[int, tuple[int, ...]] = {}
        self.cancels: defaultdict[int, set[int]] = defaultdict(set)
        self.count = 0

    def submit(self, command: SubmitObligation) -> Code:
        said = tuple(command[2:])
        if command.instruction in self.known:
            same = self.known[command.instruction] == said
            return Code.INSTRUCTION_REPEATED if same else Code.INSTRUCTION_CHANGED
        if command.debtor == command.creditor:
            return Code.BAD_ARGUMENT
        self.known[command.instruction] = said
        self.count += 1
        self.queue[self.count] = (Due(command.debtor, command.creditor, command.amount), command.asset)
        return Code.OK

    def cancel(self, account: int, number: int) -> Code:
        if number not in self.queue or account not in self.queue[number][0][:2]:
            return Code.UNKNOWN_OBLIGATION
        if account in self.cancels[number]:
            return Code.NOTHING_TO_DO
        self.cancels[number].add(account)
        if len(self.cancels[number]) == 2:
            del self.queue[number]
        return Code.OK

    def cycle(self) -> list[int]:
        """Numbers settled, by asset, then age."""
        done = []
        for asset in (0, 1):
            numbers = [number for number, (_, at) in self.queue.items() if at == asset]
            dues = [self.queue[number][0] for number in numbers]
            funds = {account: self.have[account, asset] for account in range(ACCOUNTS + 1)}
            for place in sorted(_by_fixed_point(dues, funds)):
                due = dues[place]
                self.have[due.debtor, asset] -= due.amount
                self.have[due.creditor, asset] += due.amount
                done.append(numbers[place])
                del self.queue[numbers[place]]
        assert min(self.have.values()) >= 0
        return done


def _by_fixed_point(queue: list[Due], funds: dict[int, int]) -> set[int]:
    """Sweep over everybody again and again: whoever is short loses its last."""
    chosen = list(range(len(queue)))
    while True:
        have = dict(funds)
        for place in chosen:
            have[queue[place].debtor] -= queue[place].amount
            have[queue[place].creditor] += queue[place].amount
        short = {account for account, rest in have.items() if rest < 0}
        if not short:
            return set(chosen)
        for account in sorted(short, reverse=True):
            chosen.remove(max(place for place in chosen if queue[place].debtor == account))


_COMMANDS = st.one_of(
    st.builds(
        SubmitObligation,
        st.just(0),
        st.integers(1, 30),
        st.integers(1, ACCOUNTS),
        st.integers(1, ACCOUNTS),
        st.integers(0, 1),
        st.integers(1, 60),
    ),
    st.builds(CancelObligation, st.integers(1, ACCOUNTS), st.integers(1, 12)),
    st.builds(
        Transfer, st.integers(1, ACCOUNTS), st.integers(1, ACCOUNTS), st.integers(0, 1), st.integers(1, 40)
    ),
)


@settings(max_examples=EXAMPLES // 6, deadline=None)
@given(st.lists(st.lists(_COMMANDS, min_size=1, max_size=12), min_size=1, max_size=6), st.data())
def test_a_ledger_settles_what_the_slow_twin_settles_and_no_instruction_twice(blocks, data):
    venue, slow = Venue(), SlowSettlement()
    keys = [signer(f"settler {number}") for number in range(ACCOUNTS)]
    venue.commands(
        RegisterAsset("A", 0, 0),
        RegisterAsset("B", 0, 0),
        *[OpenAccount(key.public_key) for key in keys],
        *[Deposit(account, asset, 50) for account in (1, 2) for asset in (0, 1)],
        SetSettlementAgent(0, 1),
        SetSettlementCycle(PERIOD),
    )
    for account, key in enumerate(keys, 1):
        venue.commands(AllowSettlementAgent(account, 0, 1), by=key, account=account)
    assert venue.block(time_ms=START_MS).counts.rejected == 0
    for account in (1, 2):
        for asset in (0, 1):
            slow.have[account, asset] = 50
    sent: list = []
    for number, commands in enumerate(blocks, 1):
        expected = []
        again = data.draw(st.lists(st.sampled_from(sent), max_size=3)) if sent else []
        for command in [*commands, *again]:
            if isinstance(command, SubmitObligation):
                venue.commands(command)
                sent.append(command)
                expected.append(slow.submit(command))
            elif isinstance(command, CancelObligation):
                venue.commands(command, by=keys[command.account - 1], account=command.account)
                expected.append(slow.cancel(*command))
            else:
                venue.commands(command, by=keys[command.source - 1], account=command.source)
                expected.append(_transfer(slow, command))
        due = data.draw(st.booleans())
        time_ms = START_MS + number * PERIOD * 2 if due else venue.machine.time_ms
        journal = venue.block(time_ms=time_ms).journal
        assert journal["code"][journal["kind"] == Kind.COMMAND].tolist() == expected
        told = journal[(journal["kind"] == Kind.SETTLEMENT) & (journal["op"] == SettlementLine.SETTLED)]
        assert told["detail"].tolist() == (slow.cycle() if due else [])
        balances = venue.machine.state.balances.data[: venue.machine.state.count["balances"]]
        for row in balances:
            assert row["available"] == slow.have[int(row["account"]), int(row["asset"])]
        venue.machine.check_conservation()


def _transfer(slow: SlowSettlement, command: Transfer) -> Code:
    if command.source == command.target:
        return Code.BAD_ARGUMENT
    if slow.have[command.source, command.asset] < command.amount:
        return Code.INSUFFICIENT_FUNDS
    slow.have[command.source, command.asset] -= command.amount
    slow.have[command.target, command.asset] += command.amount
    return Code.OK
