"""Settlement: who may submit, what is refused, what is remembered, what a cycle tells."""

import pytest

from engine.machine import Machine
from engine.records import Code, Kind, SettlementLine
from engine.settlement import queue, tables
from engine.settlement.commands import (
    AllowSettlementAgent,
    CancelObligation,
    SetSettlementAgent,
    SetSettlementCycle,
    SubmitObligation,
)
from tests.helpers.venue import START_MS, Venue

PERIOD = 60_000


@pytest.fixture
def venue():
    """Account 3 is the agent; 1 and 2 consented."""
    made = Venue()
    made.keys = made.open_market(traders=3, funds=1000)
    assert run(made, SetSettlementAgent(3, 1), SetSettlementCycle(PERIOD)) == [0, 0]
    for account in (1, 2):
        assert run(made, AllowSettlementAgent(account, 0, 1), by=account) == [0]
    return made


def run(venue, *commands, by=0):
    """Codes of an account's commands, in a block of their own."""
    venue.commands(*commands, by=venue.keys[by - 1] if by else None, account=by)
    journal = venue.block().journal
    return journal["code"][journal["kind"] == Kind.COMMAND].tolist()


def submit(instruction=1, debtor=1, creditor=2, asset=0, amount=100, agent=0):
    return SubmitObligation(agent, instruction, debtor, creditor, asset, amount)


def cycle(venue):
    """SETTLEMENT lines of the next cycle: (op, detail)."""
    journal = venue.block(time_ms=venue.machine.time_ms + PERIOD).journal
    venue.machine.check_conservation()
    lines = journal[journal["kind"] == Kind.SETTLEMENT]
    return list(zip(lines["op"].tolist(), lines["detail"].tolist(), strict=True))


def available(venue, account, asset=0):
    state = venue.machine.state
    return int(state.balances.columns["available"][state.balance_row(account, asset)])


def test_only_an_active_agent_with_the_debtors_consent_submits(venue):
    assert run(venue, submit(), by=1) == [Code.NOT_AUTHORISED]
    assert run(venue, submit(agent=1), by=3) == [Code.UNKNOWN_AGENT]
    assert run(venue, submit(debtor=2, creditor=1), submit(instruction=2, debtor=3), by=3) == [0, 0]
    assert run(venue, AllowSettlementAgent(1, 0, 0), by=1) == [0]
    assert run(venue, submit(instruction=3), by=3) == [Code.NO_CONSENT]
    assert run(venue, SetSettlementAgent(3, 0)) == [0]
    assert run(venue, submit(instruction=3, debtor=2), by=3) == [Code.UNKNOWN_AGENT]


def test_what_does_not_exist_is_refused(venue):
    assert run(venue, submit(debtor=99), by=3) == [Code.UNKNOWN_ACCOUNT]
    assert run(venue, submit(creditor=99), by=3) == [Code.UNKNOWN_ACCOUNT]
    assert run(venue, submit(asset=9), by=3) == [Code.UNKNOWN_ASSET]
    assert run(venue, submit(creditor=1), by=3) == [Code.BAD_ARGUMENT]
    assert run(venue, submit(amount=0), by=3) == [Code.BAD_ARGUMENT]
    assert run(venue, AllowSettlementAgent(1, 1, 1), by=1) == [Code.UNKNOWN_AGENT]
    assert run(venue, AllowSettlementAgent(2, 0, 1), by=1) == [Code.NOT_AUTHORISED]
    assert run(venue, SetSettlementAgent(3, 1)) == [Code.NOTHING_TO_DO]
    assert run(venue, SetSettlementAgent(2, 0)) == [Code.NOTHING_TO_DO]
    assert run(venue, SetSettlementAgent(2, 1), SetSettlementCycle(1), by=1) == [Code.NOT_AUTHORISED] * 2


def test_an_instruction_counts_once_however_often_it_is_sent(venue):
    assert run(venue, submit(), submit(), submit(amount=101), by=3) == [
        0,
        Code.INSTRUCTION_REPEATED,
        Code.INSTRUCTION_CHANGED,
    ]
    assert cycle(venue) == [(SettlementLine.SETTLED, 1), (SettlementLine.CYCLE, 1)]
    assert run(venue, submit(), by=3) == [Code.INSTRUCTION_REPEATED]
    assert cycle(venue) == []
    assert (available(venue, 1), available(venue, 2)) == (900, 1100)


def test_a_side_that_resumes_on_a_restored_ledger_applies_each_once(venue):
    run(venue, submit(), submit(2, amount=1), by=3)
    machine = venue.machine
    venue.machine = Machine.restore(venue.genesis, machine.snapshot(), machine.state_root())
    assert run(venue, submit(), submit(2, amount=1), submit(3), by=3) == [115, 115, 0]


def test_ids_older_than_what_is_remembered_are_refused(venue):
    kept = tables.INSTRUCTIONS_KEPT
    assert run(venue, submit(5), submit(5 + kept), by=3) == [0, 0]
    assert run(venue, submit(5), submit(6), by=3) == [Code.INSTRUCTION_TOO_OLD, 0]
    assert run(venue, submit(2**62), submit(2**62 - kept), by=3) == [0, Code.INSTRUCTION_TOO_OLD]


def test_both_parties_cancel_and_nobody_else(venue):
    run(venue, submit(), by=3)
    assert run(venue, CancelObligation(3, 1), by=3) == [Code.UNKNOWN_OBLIGATION]
    assert run(venue, CancelObligation(1, 1), CancelObligation(1, 1), by=1) == [0, Code.NOTHING_TO_DO]
    assert run(venue, CancelObligation(1, 1), by=2) == [Code.NOT_AUTHORISED]
    assert run(venue, CancelObligation(2, 1), CancelObligation(2, 1), by=2) == [0, Code.UNKNOWN_OBLIGATION]
    assert cycle(venue) == []
    assert run(venue, submit(), by=3) == [Code.INSTRUCTION_REPEATED]


def test_what_one_party_cancelled_still_settles(venue):
    run(venue, submit(), by=3)
    run(venue, CancelObligation(2, 1), by=2)
    assert len(cycle(venue)) == 2


def test_what_is_not_funded_waits_in_order(venue):
    run(venue, submit(1, amount=1001), submit(2, amount=1), submit(3, debtor=2, creditor=3, amount=7), by=3)
    assert cycle(venue) == [(SettlementLine.SETTLED, 3), (SettlementLine.CYCLE, 1)]
    run(venue, submit(4, debtor=3, creditor=1, amount=1), by=3)
    lines = cycle(venue)
    assert [detail for op, detail in lines if op == SettlementLine.SETTLED] == [1, 4]
    assert cycle(venue) == []  # number 2: nothing is left
    assert available(venue, 1) == 0


def test_queues_are_bounded_per_debtor_per_agent_and_in_all(venue, monkeypatch):
    monkeypatch.setattr(queue, "OBLIGATIONS_PER_DEBTOR_MAX", 2)
    assert run(venue, *[submit(n) for n in (1, 2, 3)], by=3) == [0, 0, Code.QUEUE_FULL]
    monkeypatch.setattr(queue, "OBLIGATIONS_PER_AGENT_MAX", 3)
    assert run(venue, *[submit(n, debtor=2, creditor=1) for n in (3, 4)], by=3) == [0, Code.QUEUE_FULL]
    monkeypatch.setattr(queue, "OBLIGATIONS_PER_AGENT_MAX", 9)
    monkeypatch.setattr(queue, "OBLIGATIONS_MAX", 4)
    assert run(venue, *[submit(n, debtor=2, creditor=1) for n in (4, 5)], by=3) == [0, Code.QUEUE_FULL]
    cycle(venue)
    assert run(venue, submit(5), by=3) == [0]


def test_cycles_run_at_multiples_of_their_period_and_not_without_one(venue):
    run(venue, submit(), by=3)
    state = venue.machine.state
    next_ms = int(state.table("settlement").columns["next_ms"][0])
    assert next_ms % PERIOD == 0 and next_ms > START_MS
    assert (venue.block(time_ms=next_ms - 1).journal["kind"] != Kind.SETTLEMENT).all()
    run(venue, SetSettlementCycle(0))
    assert (venue.block(time_ms=next_ms + PERIOD).journal["kind"] != Kind.SETTLEMENT).all()
    run(venue, SetSettlementCycle(PERIOD))
    assert len(cycle(venue)) == 2
