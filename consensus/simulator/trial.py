"""The random version of a cluster's life: work and faults, then a core that must get everything done.

The end of every run is the liveness check (TigerBeetle's VOPR): some replicas stay away for good, all
faults stop, and the rest must finish every request. Where it cannot, the run says why before it
fails: a missing quorum or missing data excuse a cluster, anything else is a bug.
"""

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from random import Random
from traceback import extract_tb

from consensus.primitives.errors import InvariantViolation
from consensus.replica import Replica
from consensus.simulator.chance import stream
from consensus.simulator.checks.violations import LivenessViolation
from consensus.simulator.cluster import RETRY_US, Cluster, check_agreement
from consensus.simulator.faults import Nemesis, Ward
from consensus.simulator.operators import Operators
from consensus.simulator.options import SimOptions, draw_options
from consensus.simulator.scheduler import SECOND_US

STUCK_US = 5 * SECOND_US  # how long a cluster without a quorum is watched


@dataclass
class SimResult:
    """What became of one seed. `failure` is empty when all rules held."""

    seed: int
    n: int
    failure: str = ""
    virtual_us: int = 0
    events: int = 0
    fingerprint: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)
    options: SimOptions | None = None


def rage(cluster: Cluster) -> None:
    """Submit the work at random moments while faults strike."""
    options, scheduler = cluster.options, cluster.scheduler
    operators = Operators(cluster, stream(cluster.seed, "operators"))
    ward = Ward(
        cluster.nodes,
        cluster.network,
        cluster.primary,
        cluster.restart,
        cluster.may_wipe,
        cluster.wipe,
        operators.heal,
        cluster.say,
    )
    nemesis = Nemesis(scheduler, stream(cluster.seed, "faults"), options.faults, ward)
    for _ in range(options.batches):
        scheduler.at(cluster.rng.randrange(options.fault_phase_us), cluster.submit)
    for _ in range(options.changes):
        scheduler.at(cluster.rng.randrange(options.fault_phase_us), operators.change)
    for _ in range(options.wedges):
        scheduler.at(cluster.rng.randrange(options.fault_phase_us), operators.wedge)
    scheduler.after(RETRY_US, cluster.retry)
    cluster.run_for(options.fault_phase_us)
    nemesis.stop()
    cluster.counts.update(nemesis.counters)


def settle(cluster: Cluster) -> None:
    """Heal everything but those who stay away, add some work, and demand that all of it gets done."""
    _choose_core(cluster)
    cluster.heal()
    for address in sorted(cluster.lost):
        cluster.network.isolate(address)
    for node in cluster.nodes:
        cluster.restart(node.address)
    reason = find_excuse(cluster)
    cluster.submit(batches=3)
    if reason:
        cluster.count(f"liveness.{reason.replace(' ', '_')}")
        cluster.run_for(STUCK_US)
        return
    try:
        cluster.run_until_quiet(cluster.options.recovery_us)
    except LivenessViolation as stuck:
        raise LivenessViolation(f"{stuck} [{find_excuse(cluster) or 'nothing is missing'}]") from None
    if cluster.lost:
        cluster.count("liveness.with_dead")


def _choose_core(cluster: Cluster) -> None:
    """Pick who stays away: dead, or alive behind a partition. Liars stay, and go on lying, or leave, too."""
    rng = stream(cluster.seed, "core")
    sound = [node for node in cluster.honest if node.id not in cluster.faulty]
    spare = cluster.least_f - len(cluster.faulty)
    wanted = cluster.options.leave_dead
    away = wanted if wanted > cluster.replicas.f else max(0, min(wanted, spare))
    gone = [node.address for node in rng.sample(sound, min(away, len(sound)))]
    gone += [node.address for node in cluster.nodes if node.id in cluster.byzantine and rng.random() < 0.2]
    for address in gone:
        if rng.random() < 0.7:
            cluster.crash(address)
        cluster.lost.add(address)


def find_excuse(cluster: Cluster) -> str:
    """Why this cluster cannot go on whatever its code does; empty if it can.

    missing quorum   fewer honest replicas are left than a view change or a certificate needs
    missing data     a committed block, or a payload of it, is on no disk that is left
    """
    core = [node for node in cluster.honest if node.address not in cluster.lost]
    newest = cluster.checker.newest
    voters = [node for node in core if node.id in newest]
    if len(voters) < max(newest.quorum, newest.collect):
        return "missing quorum"
    lowest = min(node.disk.committed for node in core)
    for seq in sorted(cluster.checker.committed):
        holders = [node for node in core if seq in node.disk.blocks]
        if seq <= lowest or any(node.disk.snapshot and node.disk.snapshot[1].height >= seq for node in core):
            continue
        names = holders[0].disk.blocks[seq].block.batches if holders else ()
        held = all(any(name in node.disk.batches for node in core) for name in names)
        if not holders or not held:
            return "missing data"
    return ""


def run(
    seed: int,
    n: int = 4,
    options: SimOptions | None = None,
    replica_class: type[Replica] = Replica,
    trace: bool = False,
) -> SimResult:
    """Run one seed. Never raises for what a replica does wrong: the result says it."""
    options = options or draw_options(Random(seed), n)
    result = SimResult(seed, n, options=options)
    gc.disable()  # a run's objects live till its end: looking for cycles meanwhile finds none
    try:
        _run(result, options, replica_class, trace)
    finally:
        gc.enable()
    return result


def _run(result: SimResult, options: SimOptions, replica_class: type[Replica], trace: bool) -> None:
    """All that the run made, besides its result, is garbage when this returns."""
    cluster = Cluster(result.n, result.seed, options, replica_class, trace)
    result.failure = _live_through(cluster)
    result.virtual_us = cluster.scheduler.now_us
    result.events = cluster.scheduler.events
    result.fingerprint = cluster.fingerprint
    result.counters = cluster.counters()
    result.trace = cluster.trace


def _live_through(cluster: Cluster) -> str:
    try:
        rage(cluster)
        settle(cluster)
        check_agreement(cluster)
        for node in cluster.live():
            cluster.checker.check_queues(node)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
        return failure if isinstance(error, InvariantViolation) else f"{failure} ({_origin(error)})"
    return ""


def _origin(error: Exception) -> str:
    frame = extract_tb(error.__traceback__)[-1]
    return f"{PurePath(frame.filename).name}:{frame.lineno}"
