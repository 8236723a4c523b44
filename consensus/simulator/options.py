"""What one seed draws: how bad its network, disks and neighbours are.

Swarm testing (Groce et al., ISSTA 2012): every seed switches each fault on or off and draws its
strength, so that a rare fault is not always masked by a common one. Ranges follow
TigerBeetle's VOPR.
"""

from dataclasses import dataclass, replace
from random import Random

MS_US = 1_000
NODES_MIN = 1
NODES_MAX = 13

STRATEGIES = (
    "silent",
    "equivocate",
    "repeat",
    "twins",
    "mutate",
    "replay",
    "forge",
    "flood",
    "withhold",
    "amnesia",
    "split",
)


@dataclass(frozen=True)
class NetworkOptions:
    """Times in µs, rates in 0..1 for each message. `link_capacity` messages may be under way on a link."""

    delay_us: int = 500
    jitter_us: int = 500
    tail_rate: float = 0.0
    tail_us: int = 50_000
    loss_rate: float = 0.0
    duplicate_rate: float = 0.0
    replay_rate: float = 0.0
    reorders: bool = True
    link_capacity: int = 4096
    codec_rate: float = 0.02


@dataclass(frozen=True)
class FaultOptions:
    """Mean gaps between faults in µs while the fault phase lasts; 0 switches one off."""

    crash_gap_us: int = 0
    down_us: int = 400_000
    partition_gap_us: int = 0
    partition_us: int = 1_000_000
    clog_gap_us: int = 0
    clog_us: int = 500_000
    pause_gap_us: int = 0
    pause_us: int = 300_000
    clock_skew_us: int = 0


@dataclass(frozen=True)
class SimOptions:
    """One run: the cluster, its faults, its work, and how long it may take to recover.

    `strategies` names what the Byzantine replicas do; its length is how many there are, at most f.
    """

    n: int = 4
    network: NetworkOptions = NetworkOptions()
    faults: FaultOptions = FaultOptions()
    strategies: tuple[str, ...] = ()
    commit_us: int = 300
    execute_us: int = 200
    batches: int = 40
    fault_phase_us: int = 8_000_000
    recovery_us: int = 30_000_000
    leave_dead: int = 0
    window: int = 16
    checkpoint_interval: int = 4
    in_flight_max: int = 4
    block_orders_max: int = 65536
    request_timeout_us: int = 400_000
    view_timeout_us: int = 400_000

    def calm(self) -> "SimOptions":
        """The same cluster and work without a single fault."""
        return replace(self, network=NetworkOptions(), faults=FaultOptions(), strategies=(), leave_dead=0)


def draw_options(rng: Random, n: int) -> SimOptions:
    """Draw a run's options; uses `rng` only."""
    faulty = (n - 1) // 3
    byzantine = rng.randint(0, faulty) if rng.random() < 0.6 else 0
    strategies = tuple(rng.choice(STRATEGIES) for _ in range(byzantine))
    interval = rng.choice((2, 4, 8))
    return SimOptions(
        n=n,
        network=_draw_network(rng),
        faults=_draw_faults(rng),
        strategies=strategies,
        commit_us=rng.choice((50, 300, 2_000, 10_000)),
        execute_us=rng.choice((20, 200, 5_000)),
        batches=rng.choice((20, 40, 80)),
        fault_phase_us=rng.randint(3, 10) * 1_000 * MS_US,
        leave_dead=rng.randint(0, faulty - byzantine) if rng.random() < 0.3 else 0,
        window=interval * rng.choice((2, 3, 8)),
        checkpoint_interval=interval,
        in_flight_max=rng.choice((1, 4, 8)),
        block_orders_max=rng.choice((8, 64, 65536)),
        request_timeout_us=rng.choice((150, 400, 1_000)) * MS_US,
        view_timeout_us=rng.choice((150, 400, 1_000)) * MS_US,
    )


def _draw_network(rng: Random) -> NetworkOptions:
    return NetworkOptions(
        delay_us=rng.choice((50, 500, 5_000)),
        jitter_us=rng.choice((50, 500, 5_000, 20_000)),
        tail_rate=_maybe(rng, 0.5, 0.05),
        tail_us=rng.choice((10_000, 100_000, 500_000)),
        loss_rate=_maybe(rng, 0.5, 0.3),
        duplicate_rate=_maybe(rng, 0.5, 0.5),
        replay_rate=_maybe(rng, 0.3, 0.1),
        reorders=rng.random() < 0.7,
        link_capacity=rng.choice((20, 200, 4096)),
    )


def _draw_faults(rng: Random) -> FaultOptions:
    return FaultOptions(
        crash_gap_us=_maybe_gap(rng),
        down_us=rng.choice((1, 100, 1_000)) * MS_US,
        partition_gap_us=_maybe_gap(rng),
        partition_us=rng.choice((100, 1_000, 3_000)) * MS_US,
        clog_gap_us=_maybe_gap(rng),
        clog_us=rng.choice((50, 500, 5_000)) * MS_US,
        pause_gap_us=_maybe_gap(rng),
        pause_us=rng.choice((100, 1_000)) * MS_US,
        clock_skew_us=rng.choice((0, 1_000, 200_000)),
    )


def _maybe(rng: Random, chance: float, most: float) -> float:
    return rng.random() * most if rng.random() < chance else 0.0


def _maybe_gap(rng: Random) -> int:
    return rng.choice((300, 1_000, 3_000)) * MS_US if rng.random() < 0.5 else 0
