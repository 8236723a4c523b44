"""What every scenario must show, from what clients saw and from what lies on the disks.

- all ledgers lead to one height, state root and journal root, and conserve value;
- nothing a client was told is missing in any ledger, and nothing took effect twice;
- the history of the probes can have happened one operation after the other (`history`);
- whoever asked only a node without a quorum got no answer while it had none, but an error that says so;
- while a quorum was connected, somebody's transfer was answered at least every `WAIT_SECONDS_MAX`;
- nodes halt only where the scenario says so, with a reason, and all end cleanly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from testnet.audit import Audit
from testnet.chaos.history import check_history
from testnet.chaos.probes import TIMEOUT_SECONDS, Record
from testnet.chaos.scenarios import Scenario
from testnet.chaos.wires import Span, Timeline, longest_wait_s
from testnet.load import Tally
from testnet.run import agree, find_doubled, find_lost

STRANDED_SECONDS_MIN = 0.1  # a restart by an operator takes less, and is not worth a line
WAIT_SECONDS_MAX = 10.0  # on a loaded machine; the figure itself is what a run reports


@dataclass
class Evidence:
    """What a scenario left behind. Times are seconds of one monotonic clock."""

    scenario: Scenario
    mode: str
    record: Record
    tally: Tally
    timeline: Timeline
    roles: Mapping[str, int]
    faults_s: Sequence[float]  # when each fault was complete, the last one heals
    ended_s: float  # the probes stopped
    level_s: float | None  # every node was at the head again; None: never
    views: int
    halted: Mapping[int, str]
    exits: Mapping[int, int]
    audits: Sequence[Audit]
    trouble: Sequence[str] = ()  # what kept the run itself from going on


@dataclass
class Finding:
    """The verdict on one run of a scenario."""

    scenario: str
    mode: str
    seconds: float
    transfers: int
    unknown: int  # transfers whose fate no client learnt
    readings: int
    orders: int
    fills: int
    height: int
    view_changes: int
    longest_wait_ms: float  # without an answer, while a quorum was connected
    fault_to_commit_ms: float | None  # from the first fault to the first answer to a later request
    heal_to_level_ms: float | None  # from the last step until every node was at the head
    stranded_seconds: dict[str, float]  # by role: how long it belonged to no connected quorum
    stranded_errors: dict[str, int]  # what those who asked it meanwhile were told
    halted: dict[str, str]
    faults: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether all held."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "passed": self.is_good}


def judge(evidence: Evidence) -> Finding:
    """Compare, measure, and say what is wrong."""
    record, audits = evidence.record, evidence.audits
    stranded = {
        role: evidence.timeline.stranded(node, evidence.ended_s) for role, node in evidence.roles.items()
    }
    finding = Finding(
        scenario=evidence.scenario.name,
        mode=evidence.mode,
        seconds=round(evidence.ended_s - evidence.tally.started_s, 1),
        transfers=len(record.answered()),
        unknown=len(record.unknown()),
        readings=len(record.readings),
        orders=max((audit.orders for audit in audits), default=0),
        fills=max((audit.fills for audit in audits), default=0),
        height=max((audit.height for audit in audits), default=0),
        view_changes=evidence.views,
        longest_wait_ms=_milliseconds(_longest_wait(evidence)),
        fault_to_commit_ms=_fault_to_commit(evidence),
        heal_to_level_ms=None
        if evidence.level_s is None
        else _milliseconds(evidence.level_s - evidence.faults_s[-1]),
        stranded_seconds={
            role: round(_length(spans), 1)
            for role, spans in stranded.items()
            if _length(spans) >= STRANDED_SECONDS_MIN
        },
        stranded_errors=_errors_inside(record, evidence.roles, stranded),
        halted={_role(evidence.roles, node): reason for node, reason in evidence.halted.items()},
    )
    finding.faults += evidence.trouble
    finding.faults += _check_disks(evidence)
    finding.faults += check_history(record.operations(), record.readings, record.model)
    finding.faults += _check_stranded(evidence, stranded, finding.stranded_errors)
    finding.faults += _check_progress(evidence, finding)
    finding.faults += _check_halts(evidence)
    return finding


def _check_disks(evidence: Evidence) -> list[str]:
    audits, faults = evidence.audits, []
    if not audits:
        return ["no ledger was audited"]
    if not agree(audits):
        faults.append("nodes disagree about height, state root or journal root")
    faults += [f"node {audit.node}: {audit.problem}" for audit in audits if not audit.conserved]
    promised = [item.envelope_digest for item in evidence.record.answered()]
    whole = [audit for audit in audits if audit.is_whole]
    missing = [name for name in promised if any(not audit.executed.get(name) for audit in whole)]
    for name in [*missing[:1], *find_lost(evidence.tally, audits)[:1]]:
        faults.append(f"envelope {name.hex()[:16]} was acknowledged, and a ledger lacks it")
    if doubled := find_doubled(audits):
        faults.append(f"{len(doubled)} envelopes took effect twice, {doubled[0].hex()[:16]} first")
    if evidence.tally.refused:
        faults.append(f"envelopes of orders were refused: {evidence.tally.refused}")
    return faults


def _check_stranded(
    evidence: Evidence, stranded: Mapping[str, Sequence[Span]], errors: Mapping[str, int]
) -> list[str]:
    """A node without a quorum proves nothing new, and lets its clients know."""
    faults = []
    for role, spans in stranded.items():
        node = evidence.roles[role]
        asked = [item for item in evidence.record.pending if item.probe == node]
        for item in asked:
            if item.place and any(start <= item.invoked_s and item.returned_s <= end for start, end in spans):
                faults.append(
                    f"node {node} ({role}) proved {item.request} at {item.place} while it had no quorum"
                )
        if any(end - start > 2 * TIMEOUT_SECONDS for start, end in spans) and not errors.get(role):
            faults.append(f"clients of node {node} ({role}), which had no quorum, were told no error")
    return faults


def _check_progress(evidence: Evidence, finding: Finding) -> list[str]:
    faults = []
    if finding.longest_wait_ms > 1000 * WAIT_SECONDS_MAX:
        faults.append(
            f"nothing was answered for {finding.longest_wait_ms:,.0f} ms while a quorum was connected"
        )
    if not finding.transfers:
        faults.append("no transfer was answered")
    if not evidence.tally.acknowledged:
        faults.append("no order was answered")
    return faults


def _check_halts(evidence: Evidence) -> list[str]:
    expected = {evidence.roles[evidence.scenario.halts]} if evidence.scenario.halts else set()
    faults = [
        f"node {node} halted: {reason}" for node, reason in evidence.halted.items() if node not in expected
    ]
    faults += [f"node {node} did not halt" for node in sorted(expected - set(evidence.halted))]
    bad = {node: status for node, status in evidence.exits.items() if status}
    return faults + ([f"nodes ended with other statuses than 0: {bad}"] if bad else [])


def _longest_wait(evidence: Evidence) -> float:
    spans = evidence.timeline.with_quorum(evidence.ended_s)
    return longest_wait_s(spans, [item.returned_s for item in evidence.record.answered()])


def _fault_to_commit(evidence: Evidence) -> float | None:
    if not evidence.faults_s:
        return None
    began = evidence.faults_s[0]
    later = [item.returned_s for item in evidence.record.answered() if item.invoked_s >= began]
    return _milliseconds(min(later) - began) if later else None


def _errors_inside(
    record: Record, roles: Mapping[str, int], stranded: Mapping[str, Sequence[Span]]
) -> dict[str, int]:
    found: dict[str, int] = {}
    for role, spans in stranded.items():
        count = sum(
            any(start <= at <= end for start, end in spans)
            for at, node, _ in record.errors
            if node == roles[role]
        )
        if _length(spans) >= STRANDED_SECONDS_MIN:
            found[role] = count
    return found


def _role(roles: Mapping[str, int], node: int) -> str:
    return next((role for role, number in roles.items() if number == node), str(node))


def _length(spans: Sequence[Span]) -> float:
    return sum(end - start for start, end in spans)


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 1)
