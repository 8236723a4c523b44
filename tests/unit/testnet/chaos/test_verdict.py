"""The verdict on hand-made evidence: what is fine passes, and every promise broken is named."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.records import Code
from testnet.audit import Audit
from testnet.chaos.command import describe
from testnet.chaos.probes import Pending, Record
from testnet.chaos.scenarios import SCENARIOS
from testnet.chaos.transfers import TransferModel, TransferRequest
from testnet.chaos.verdict import Evidence, judge
from testnet.chaos.wires import Conditions, Timeline
from testnet.load import Tally

ROLES = {"primary": 0, "second": 1, "third": 2, "fourth": 3}
CUT_S, HEAL_S, END_S = 10.0, 20.0, 30.0


def digest(number: int) -> bytes:
    return bytes([number]) * 32


def transfer(
    number: int, invoked_s: float, returned_s: float, height: int, probe: int = 1, code: Code = Code.OK
) -> Pending:
    request = TransferRequest(7, 8, 10)
    return Pending(probe, request, digest(number), invoked_s, returned_s, (height, 0), code)


def evidence() -> Evidence:
    """The primary was cut off from 10 to 20; transfers went on at the others every 2 s."""
    timeline, conditions = Timeline(), Conditions(3, {0, 1, 2, 3})
    timeline.note(0.0, conditions)
    conditions.held = {(a, b) for a in range(4) for b in range(4) if (a == 0) != (b == 0)}
    timeline.note(CUT_S, conditions)
    conditions.held = set()
    timeline.note(HEAL_S, conditions)
    record = Record(TransferModel((7, 8), 1000), 0)
    record.pending = [transfer(number, 2.0 * number - 1.9, 2.0 * number, number) for number in range(1, 15)]
    record.errors = [(12.0, 0, "OutcomeUnknown"), (1.0, 0, "OutcomeUnknown"), (13.0, 2, "OutcomeUnknown")]
    executed = {item.envelope_digest: 1 for item in record.pending}
    audits = [
        Audit(node, 14, b"s", b"j", True, executed={**executed, b"o": 1}, orders=5) for node in range(4)
    ]
    return Evidence(
        scenario=SCENARIOS["isolate-primary"],
        mode="user",
        record=record,
        tally=Tally(acknowledged={b"o": 3}, started_s=0.0),
        timeline=timeline,
        roles=ROLES,
        faults_s=[CUT_S, HEAL_S],
        ended_s=END_S,
        level_s=20.5,
        views=1,
        halted={},
        exits=dict.fromkeys(range(4), 0),
        audits=audits,
    )


def test_a_run_in_which_all_held_passes_with_its_figures():
    finding = judge(evidence())
    assert finding.faults == [] and finding.is_good
    assert finding.longest_wait_ms == 2000.0
    assert finding.fault_to_commit_ms == 2000.0  # asked for at 10.1, answered at 12
    assert finding.heal_to_level_ms == 500.0
    assert finding.stranded_seconds == {"primary": 10.0}
    assert finding.stranded_errors == {"primary": 1}
    assert finding.to_json()["passed"] is True
    assert "passed" in describe(finding) and "primary had no quorum for 10.0 s" in describe(finding)


def spoil_audit(**values: object) -> Callable[[Evidence], Evidence]:
    return lambda item: replace(item, audits=[replace(item.audits[0], **values), *item.audits[1:]])  # type: ignore[arg-type]


def stranded_answer(item: Evidence) -> Evidence:
    item.record.pending[5] = transfer(6, 10.1, 12.0, 6, probe=0)
    return item


def wrong_answer(item: Evidence) -> Evidence:
    item.record.pending[5] = transfer(6, 10.1, 12.0, 6, code=Code.INSUFFICIENT_FUNDS)
    return item


def silence(item: Evidence) -> Evidence:
    item.record.pending = [one for one in item.record.pending if one.returned_s <= 8 or one.returned_s >= 22]
    return item


def no_errors(item: Evidence) -> Evidence:
    item.record.errors.clear()
    return item


def nothing_answered(item: Evidence) -> Evidence:
    item.record.pending.clear()
    return item


def refused(item: Evidence) -> Evidence:
    item.tally.refused["NONCE_USED"] = 2
    return item


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_audit(state_root=b"other"), "nodes disagree"),
        (spoil_audit(conserved=False, problem="USD: value created or lost"), "node 0: USD: value created"),
        (
            spoil_audit(executed={b"o": 1}),
            "envelope 0101010101010101 was acknowledged, and a ledger lacks it",
        ),
        (spoil_audit(executed={digest(n): 1 for n in range(1, 15)}), "envelope 6f was acknowledged"),
        (
            spoil_audit(executed={**{digest(n): 1 for n in range(1, 15)}, b"o": 2}),
            "1 envelopes took effect twice",
        ),
        (lambda item: replace(item, audits=[]), "no ledger was audited"),
        (
            stranded_answer,
            "node 0 .primary. proved transfer of 10 from 7 to 8 at .6, 0. while it had no quorum",
        ),
        (wrong_answer, "gave 31; by all before it, it should be 0"),
        (silence, "nothing was answered for 14,000 ms while a quorum was connected"),
        (no_errors, "clients of node 0 .primary., which had no quorum, were told no error"),
        (nothing_answered, "no transfer was answered"),
        (refused, "envelopes of orders were refused"),
        (lambda item: replace(item, tally=Tally()), "no order was answered"),
        (lambda item: replace(item, halted={2: "disk"}), "node 2 halted: disk"),
        (lambda item: replace(item, scenario=SCENARIOS["full-disk"]), "node 2 did not halt"),
        (lambda item: replace(item, exits={0: 1, 1: 0}), "other statuses than 0: {0: 1}"),
        (lambda item: replace(item, trouble=["not level"]), "not level"),
    ],
)
def test_whatever_is_wrong_is_said(spoil: Callable[[Evidence], Evidence], message: str):
    finding = judge(spoil(evidence()))
    assert not finding.is_good
    assert any(re.search(message, fault) for fault in finding.faults), finding.faults
    assert "FAILED" in describe(finding)


def test_a_node_that_was_to_halt_may():
    finding = judge(replace(evidence(), scenario=SCENARIOS["full-disk"], halted={2: "the disk is full"}))
    assert finding.is_good and finding.halted == {"third": "the disk is full"}
