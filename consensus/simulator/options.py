"""What one seed draws: how bad its network, disks and neighbours are.

Swarm testing (Groce et al., ISSTA 2012): every seed switches each fault on or off and draws its
strength, so that a rare fault is not always masked by a common one. Ranges follow TigerBeetle's
VOPR. Whatever may break safety or progress when too many replicas suffer it (lies, lost disks, death)
is drawn within the f replicas that the protocol survives; the rest may strike everybody.
"""

from dataclasses import dataclass, field, replace
from random import Random

MS_US = 1_000
NODES_MIN = 1
NODES_MAX = 13

STRATEGIES = (
    "silent",
    "selective",
    "equivocate",
    "repeat",
    "twins",
    "mutate",
    "replay",
    "stale",
    "forge",
    "flood",
    "withhold",
    "amnesia",
    "split",
    "missync",
    "misdate",
    "frame",
    "misorder",
    "censor",
    "postpone",
    "dawdle",
    "drip",
)

OFTEN = ("twins", "missync")  # drawn twice as often: what they aim at is rare

# What a run is about, by weight; faults are then such that rare paths are met. "": whatever is drawn.
SCENES = {"": 76, "twins": 8, "funnels": 8, "transfers": 8}
LEADING_LIARS = {"twins": "twins", "transfers": "missync"}  # who must be there, by scene


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
    """Mean gaps between faults in µs while the fault phase lasts; 0 switches one off.

    swizzle      a random group is clogged one by one, and unclogged in another order
    clock_jump   a clock leaps by up to `clock_jump_us`, either way; `clock_skew_us` is there from the start
    slow         a node takes `SLOWNESS` times as long to commit and to execute
    wipe         a disk is replaced by an empty one, as far as f allows
    heal         an operator has a node fetch its state from others, though it has one
    timer_late   this share of timers fires up to `timer_late_us` late
    """

    crash_gap_us: int = 0
    down_us: int = 400_000
    partition_gap_us: int = 0
    partition_us: int = 1_000_000
    clog_gap_us: int = 0
    clog_us: int = 500_000
    swizzle_gap_us: int = 0
    swizzle_us: int = 1_000_000
    pause_gap_us: int = 0
    pause_us: int = 300_000
    clock_skew_us: int = 0
    clock_jump_gap_us: int = 0
    clock_jump_us: int = 0
    slow_gap_us: int = 0
    slow_us: int = 1_000_000
    wipe_gap_us: int = 0
    heal_gap_us: int = 0
    timer_late_rate: float = 0.0
    timer_late_us: int = 0


@dataclass(frozen=True)
class DiskOptions:
    """What disks do. `torn_rate`: share of the writes under way that a crash leaves torn.

    `bad_disks` replicas have a bad disk: the rates hold for each read or write of one record there. A
    misdirected write lands on another record. All are detected by checksums when read.
    """

    torn_rate: float = 0.0
    bad_disks: int = 0
    read_fault_rate: float = 0.0
    write_fault_rate: float = 0.0
    misdirect_rate: float = 0.0


@dataclass(frozen=True)
class SimOptions:
    """One run: the cluster, its faults, its work, and how long it may take to recover.

    `strategies` names what the Byzantine replicas do; its length is how many there are, at most f.
    `twin_views`: so many first views follow a drawn schedule of leaders and of partitions in each phase.
    `funnels`: that schedule lets one replica prepare in each view, mostly unheard by the next primary.
    `leave_dead` replicas stay away in the end; more than f allows, and only safety is demanded.
    `spares` nodes with the next ids stay away until they are started: validators to come.
    `changes` of validators are ordered while faults strike: one joins, leaves, is replaced, or has a new key.
    `wedges` stop the chain, until operators name the height; every node is restarted then.
    `signers_remember` gives honest replicas signers that refuse to contradict themselves.
    """

    n: int = 4
    network: NetworkOptions = field(default_factory=NetworkOptions)
    faults: FaultOptions = field(default_factory=FaultOptions)
    disk: DiskOptions = field(default_factory=DiskOptions)
    strategies: tuple[str, ...] = ()
    twin_views: int = 0
    funnels: bool = False
    commit_us: int = 300
    execute_us: int = 200
    batches: int = 40
    fault_phase_us: int = 8_000_000
    recovery_us: int = 60_000_000
    leave_dead: int = 0
    window: int = 16
    checkpoint_interval: int = 4
    in_flight_max: int = 4
    block_orders_max: int = 65536
    stash_max: int = 1024
    batches_max: int = 65536
    catch_up_blocks: int = 64
    transfer_gap: int = 2048
    request_timeout_us: int = 400_000
    view_timeout_us: int = 400_000
    signers_remember: bool = True
    spares: int = 0
    changes: int = 0
    wedges: int = 0

    def calm(self) -> "SimOptions":
        """The same cluster and work without a single fault."""
        return replace(
            self,
            network=NetworkOptions(),
            faults=FaultOptions(),
            disk=DiskOptions(),
            strategies=(),
            twin_views=0,
            funnels=False,
            leave_dead=0,
            changes=0,
            wedges=0,
        )


def draw_options(rng: Random, n: int, scene: str | None = None) -> SimOptions:
    """Draw a run's options; uses `rng` only. A cluster of fewer than four has no scene."""
    budget = (n - 1) // 3
    if scene is None:
        scene = rng.choices(list(SCENES), list(SCENES.values()))[0] if budget else ""
    byzantine = rng.randint(0, budget) if rng.random() < 0.6 else 0
    strategies = tuple(rng.choice(STRATEGIES + OFTEN) for _ in range(byzantine))
    if scene in LEADING_LIARS:
        strategies = (LEADING_LIARS[scene], *strategies[1:])
        byzantine = len(strategies)
    bad_disks = rng.randint(0, budget - byzantine) if rng.random() < 0.4 else 0
    spare = budget - byzantine - bad_disks
    interval = rng.choice((2, 4, 8))
    options = SimOptions(
        n=n,
        network=_draw_network(rng),
        faults=_draw_faults(rng, spare),
        disk=_draw_disk(rng, bad_disks),
        strategies=strategies,
        commit_us=rng.choice((50, 300, 2_000, 10_000)),
        execute_us=rng.choice((20, 200, 5_000)),
        batches=rng.choice((20, 40, 80)),
        fault_phase_us=rng.randint(3, 10) * 1_000 * MS_US,
        leave_dead=_draw_dead(rng, n, spare),
        window=interval * rng.choice((2, 3, 8)),
        checkpoint_interval=interval,
        in_flight_max=rng.choice((1, 4, 8)),
        block_orders_max=rng.choice((8, 64, 65536)),
        stash_max=rng.choice((16, 128, 1024)),
        batches_max=rng.choice((16, 65536, 65536)),
        catch_up_blocks=rng.choice((8, 64)),
        transfer_gap=rng.choice((4, 4, 16, 2048)),
        request_timeout_us=rng.choice((150, 400, 1_000)) * MS_US,
        view_timeout_us=rng.choice((150, 400, 1_000)) * MS_US,
    )
    options = _set_scene(rng, scene, options)
    has_twins = "twins" in strategies
    if n > 1 and rng.random() < (0.6 if has_twins else 0.3):
        changes = rng.randint(1, 3)
        wedges = 1 if rng.random() < 0.4 else 0
        options = replace(options, changes=changes, wedges=wedges, spares=changes, leave_dead=0)
    return options


def _set_scene(rng: Random, scene: str, options: SimOptions) -> SimOptions:
    match scene:
        case "twins":
            return _scheduled(rng, options)
        case "funnels":
            return replace(_scheduled(rng, options), funnels=True)
        case "transfers":
            return _transferring(rng, options)
        case _:
            return options


def _scheduled(rng: Random, options: SimOptions) -> SimOptions:
    """A Twins scenario: the schedule is the fault, and the network is otherwise calm."""
    return replace(
        options,
        network=NetworkOptions(),
        faults=FaultOptions(crash_gap_us=options.faults.crash_gap_us, down_us=options.faults.down_us),
        twin_views=rng.randint(2, 10),
        request_timeout_us=150 * MS_US,
        view_timeout_us=150 * MS_US,
        fault_phase_us=rng.randint(2, 5) * 1_000 * MS_US,
        window=64,
        checkpoint_interval=rng.choice((4, 16)),
    )


def _transferring(rng: Random, options: SimOptions) -> SimOptions:
    """States of many pieces are fetched all the time over a poor network, and newer ones replace them."""
    network = replace(options.network, loss_rate=rng.choice((0.0, 0.2, 0.4)), jitter_us=20_000)
    return replace(
        options,
        network=network,
        faults=replace(options.faults, heal_gap_us=300 * MS_US),
        batches=120,
        window=16,
        checkpoint_interval=2,
        transfer_gap=4,
    )


def _draw_dead(rng: Random, n: int, spare: int) -> int:
    """Mostly within what f leaves; now and then so many that nothing may go on."""
    if n >= 4 and rng.random() < 0.03:
        return (n - 1) // 3 + 1
    return rng.randint(0, spare) if rng.random() < 0.4 else 0


def _draw_network(rng: Random) -> NetworkOptions:
    return NetworkOptions(
        delay_us=rng.choice((50, 500, 5_000)),
        jitter_us=rng.choice((50, 500, 5_000, 20_000)),
        tail_rate=_maybe(rng, 0.5, 0.05),
        tail_us=rng.choice((10_000, 100_000, 500_000)),
        loss_rate=_maybe(rng, 0.5, 0.3),
        duplicate_rate=_maybe(rng, 0.3, 0.5),
        replay_rate=_maybe(rng, 0.3, 0.5),
        reorders=rng.random() < 0.7,
        link_capacity=rng.choice((rng.randint(2, 20), 200, 4096)),
    )


def _draw_faults(rng: Random, spare: int) -> FaultOptions:
    return FaultOptions(
        crash_gap_us=_maybe_gap(rng, 0.5),
        down_us=rng.choice((1, 100, 1_000)) * MS_US,
        partition_gap_us=_maybe_gap(rng, 0.5),
        partition_us=rng.choice((100, 1_000, 3_000)) * MS_US,
        clog_gap_us=_maybe_gap(rng, 0.4),
        clog_us=rng.choice((50, 500, 2_500)) * MS_US,
        swizzle_gap_us=_maybe_gap(rng, 0.3),
        swizzle_us=rng.choice((300, 1_000, 2_500)) * MS_US,
        pause_gap_us=_maybe_gap(rng, 0.4),
        pause_us=rng.choice((100, 1_000)) * MS_US,
        clock_skew_us=rng.choice((0, 1_000, 200_000)),
        clock_jump_gap_us=_maybe_gap(rng, 0.25),
        clock_jump_us=rng.choice((100, 1_000, 20_000)) * MS_US,
        slow_gap_us=_maybe_gap(rng, 0.25),
        slow_us=rng.choice((300, 2_000)) * MS_US,
        wipe_gap_us=_maybe_gap(rng, 0.4) if spare else 0,
        timer_late_rate=_maybe(rng, 0.25, 0.5),
        timer_late_us=rng.choice((10, 100, 1_000)) * MS_US,
        heal_gap_us=_maybe_gap(rng, 0.15),
    )


def _draw_disk(rng: Random, bad_disks: int) -> DiskOptions:
    return DiskOptions(
        torn_rate=round(rng.choice((0.0, rng.uniform(0.1, 0.8), rng.uniform(0.8, 1.0))), 3),
        bad_disks=bad_disks,
        read_fault_rate=_maybe_rare(rng) if bad_disks else 0.0,
        write_fault_rate=_maybe_rare(rng) if bad_disks else 0.0,
        misdirect_rate=_maybe_rare(rng) if bad_disks else 0.0,
    )


def _maybe(rng: Random, chance: float, most: float) -> float:
    return round(rng.random() * most, 3) if rng.random() < chance else 0.0


def _maybe_rare(rng: Random) -> float:
    """Between one in a thousand and one in ten: each magnitude as often as the other."""
    return round(10 ** rng.uniform(-3, -1), 4) if rng.random() < 0.6 else 0.0


def _maybe_gap(rng: Random, chance: float) -> int:
    return rng.choice((300, 1_000, 3_000)) * MS_US if rng.random() < chance else 0
