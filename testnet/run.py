"""`kontor testnet run`: a bounded load on real processes, with faults, and a verdict from the disks.

The verdict does not trust what nodes say: after the load every node is stopped, its ledger audited,
and the findings compared with one another and with what clients were told.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from consensus.primitives.errors import LedgerError
from node.setup import NetworkHomes
from node.views import StatusView
from testnet.audit import Audit, audit_home
from testnet.launcher import Launcher
from testnet.load import Pace, Tally, percentiles_ms
from testnet.replacement import Replaced, replace_validator
from testnet.session import Session, open_network, run_session
from testnet.sources import Source

Report = Callable[[str], None]
SETTLE_SECONDS = 60.0
POLL_SECONDS = 0.05
AFTER_SECONDS = 1.0  # of load, after a validator was replaced
STEADY_POLLS = 3  # equal answers in a row before a height counts as final


@dataclass(frozen=True)
class RunPlan:
    """What to do."""

    nodes: int = 4
    seconds: float | None = None  # stop sending then; None: when the source is exhausted
    kill_primary_at: float | None = None  # seconds after the load began
    restart_at: float | None = None
    replace_at: float | None = None  # when a validator is replaced
    replace_primary: bool = False
    until_replaced: bool = False  # stop sending a moment after that
    pace: Pace = field(default_factory=Pace)
    fills_expected: int | None = None  # of a recorded flow, replayed in full
    root: Path | None = None  # a directory that does not hold a network yet; None: a temporary one


@dataclass
class RunReport:
    """What came of it."""

    nodes: int
    tally: Tally
    audits: list[Audit]
    height: int
    view_changes: int
    killed: int | None = None
    recovery_ms: float | None = None  # the longest wait for an answer, where a fault or a change was planned
    replaced: Replaced | None = None
    faults: list[str] = field(default_factory=list)  # every reason why the run is not a success

    @property
    def is_good(self) -> bool:
        """Whether everything agreed."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """The documented fields."""
        first = next((audit for audit in self.audits if audit.is_whole), self.audits[0])
        latencies = percentiles_ms(self.tally.latencies_s)
        return {
            "nodes": self.nodes,
            "orders_sent": self.tally.orders_sent,
            "orders_committed": first.orders,
            "fills": first.fills,
            "rejected": first.rejected,
            "seconds": round(self.tally.seconds, 3),
            "orders_per_second": round(self.tally.orders_per_second),
            "latency_ms": latencies,
            "height": self.height,
            "view_changes": self.view_changes,
            "state_roots": {str(audit.node): audit.state_root.hex() for audit in self.audits},
            "journal_root": first.journal_root.hex(),
            "agreement": agree(self.audits),
            "conserved": all(audit.conserved for audit in self.audits),
            "acknowledged_lost": len(find_lost(self.tally, self.audits)),
            "executed_twice": len(find_doubled(self.audits)),
            "killed": self.killed,
            "replaced": self.replaced.to_json() if self.replaced else None,
            "longest_wait_ms": self.recovery_ms,
            "faults": self.faults,
        }


async def run_bounded(plan: RunPlan, source: Source, report: Report) -> RunReport:
    """Carry out `plan` and judge it."""
    async with AsyncExitStack() as stack:
        root = plan.root
        if root is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kontor-run-")))
        homes = open_network(root, plan.nodes)
        tally = Tally()
        async with run_session(homes, source, report) as session:
            report("sending orders")
            killed, was_late, replaced = await _load_with_faults(session, plan, tally, report)
            report(f"{tally.orders_committed:,} orders committed; waiting until all nodes are level")
            living = session.launcher.living()
            statuses = await wait_level(session.launcher)
            report("stopping")
            await session.launcher.stop()
        report("auditing the ledgers")
        audits = await audit_all(session.launcher.homes, living)
        result = judge(plan, tally, audits, statuses, killed)
        result.replaced = replaced
        if replaced:
            result.recovery_ms = replaced.longest_wait_ms
        if was_late:
            result.faults.append("the load had ended before the last fault or change: send more --orders")
        return result


async def wait_level(launcher: Launcher, seconds: float = SETTLE_SECONDS) -> dict[int, StatusView]:
    """Wait until all living nodes have executed the same, last height; return what they say."""
    living = launcher.living()
    if not living:
        raise LedgerError("no node is alive: there is nothing to compare")
    before: list[tuple[int, bytes]] = []
    steady = 0
    with trio.move_on_after(seconds):
        while True:
            launcher.check_alive(living)
            answers = {node: item for node, item in (await launcher.statuses(living)).items() if item}
            places = [(item.executed, item.journal_root) for item in answers.values()]
            is_level = len(answers) == len(living) and len(set(places)) == 1
            is_level = is_level and all(item.committed == item.executed for item in answers.values())
            steady = steady + 1 if is_level and places == before else 0
            if steady >= STEADY_POLLS:
                return answers
            before = places
            await trio.sleep(POLL_SECONDS)
    heights = {
        node: item.executed if item else None for node, item in (await launcher.statuses(living)).items()
    }
    raise LedgerError(f"the nodes are not level after {seconds:.0f} s; heights {heights}: look at their logs")


async def audit_all(homes: NetworkHomes, nodes: Sequence[int]) -> list[Audit]:
    """Audit stopped nodes, one after the other."""
    return [await trio.to_thread.run_sync(audit_home, homes.nodes[node]) for node in nodes]


def judge(
    plan: RunPlan, tally: Tally, audits: list[Audit], statuses: dict[int, StatusView], killed: int | None
) -> RunReport:
    """Compare what clients were told with what every ledger holds."""
    result = RunReport(
        nodes=plan.nodes,
        tally=tally,
        audits=audits,
        height=max(audit.height for audit in audits),
        view_changes=max(status.view_changes for status in statuses.values()),
        killed=killed,
    )
    if killed is not None:
        result.recovery_ms = round(1000 * max(tally.latencies_s, default=0.0), 1)
    if not agree(audits):
        result.faults.append("nodes disagree about height, state root or journal root")
    result.faults += [f"node {audit.node}: {audit.problem}" for audit in audits if not audit.conserved]
    if lost := find_lost(tally, audits):
        result.faults.append(f"{len(lost)} acknowledged envelopes are missing, {lost[0].hex()[:16]} first")
    if doubled := find_doubled(audits):
        result.faults.append(f"{len(doubled)} envelopes took effect twice, {doubled[0].hex()[:16]} first")
    if tally.refused:
        result.faults.append(f"envelopes were refused: {tally.refused}")
    wrong = [audit.fills for audit in audits if audit.is_whole and audit.fills != plan.fills_expected]
    if plan.fills_expected is not None and wrong:
        result.faults.append(f"{wrong[0]} fills where the flow expects {plan.fills_expected}")
    if not tally.acknowledged:
        result.faults.append("no envelope was acknowledged")
    return result


def agree(audits: Sequence[Audit]) -> bool:
    """Whether all ledgers lead to the same height, state and journal."""
    return len({(audit.height, audit.state_root, audit.journal_root) for audit in audits}) == 1


def find_lost(tally: Tally, audits: Sequence[Audit]) -> list[bytes]:
    """Acknowledged envelopes that some ledger did not execute, as far as it tells."""
    return [
        name
        for name, height in tally.acknowledged.items()
        if any(height > audit.base and not audit.executed.get(name) for audit in audits)
    ]


def find_doubled(audits: Sequence[Audit]) -> list[bytes]:
    """Envelopes that took effect more than once in some ledger."""
    return [name for audit in audits for name, times in audit.executed.items() if times > 1]


async def _load_with_faults(
    session: Session, plan: RunPlan, tally: Tally, report: Report
) -> tuple[int | None, bool, Replaced | None]:
    """Run the load, and the faults beside it; returns the node that was killed, whether anything came too
    late, and the validator that was replaced."""
    killed: list[int] = []
    late: list[int] = []
    replaced: list[Replaced] = []
    load_ended = trio.Event()
    load_scope = trio.CancelScope(
        deadline=trio.current_time() + (plan.seconds if plan.seconds is not None else float("inf"))
    )
    async with trio.open_nursery() as nursery:

        async def load() -> None:
            with load_scope:
                await session.load(plan.pace, tally)
            load_ended.set()

        async def fail() -> None:
            if plan.kill_primary_at is None:
                return
            await trio.sleep(plan.kill_primary_at)
            primary = await find_primary(session.launcher)
            await session.launcher.kill(primary)
            killed.append(primary)
            if load_ended.is_set():
                late.append(primary)
            report(f"killed node {primary}, the primary")
            if plan.restart_at is not None:
                await trio.sleep(plan.restart_at - plan.kill_primary_at)
                await session.launcher.start(primary)
                report(f"restarted node {primary}")
                await session.launcher.wait_ready([primary])

        async def change() -> None:
            if plan.replace_at is None:
                return
            await trio.sleep(plan.replace_at)
            primary = await find_primary(session.launcher)
            old = primary if plan.replace_primary else max(set(session.launcher.living()) - {primary})
            replaced.append(await replace_validator(session.launcher, old, tally, report))
            if load_ended.is_set():
                late.append(old)
            if plan.until_replaced:
                await trio.sleep(AFTER_SECONDS)
                load_scope.cancel()

        nursery.start_soon(load)
        nursery.start_soon(fail)
        nursery.start_soon(change)
    return (killed[0] if killed else None), bool(late), (replaced[0] if replaced else None)


async def find_primary(launcher: Launcher) -> int:
    """The primary of the highest view that a living node is in."""
    views = [status.view for status in (await launcher.statuses()).values() if status]
    return launcher.network.replicas.primary(max(views))
