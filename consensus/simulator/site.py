"""What a simulated node is built from, and who watches it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Protocol

from consensus.effects import Effect, Executed
from consensus.messages import Block, Message
from consensus.proofs import Epoch
from consensus.replica import Replica
from consensus.simulator.disk import Disk
from consensus.simulator.scheduler import Scheduler
from consensus.simulator.snapshot import Library

if TYPE_CHECKING:
    from consensus.simulator.node import SimNode

EPOCH_US = 1_795_000_000 * 1_000_000  # the virtual clock's zero, as a date


class Observer(Protocol):
    """Who watches every step of an honest node; raises when a rule is broken."""

    def on_turn(self, node: "SimNode", effects: Sequence[Effect]) -> None: ...

    def on_durable(self, node: "SimNode", effects: Sequence[Effect]) -> None: ...

    def on_send(self, node: "SimNode", message: Message) -> None: ...

    def on_execute(self, node: "SimNode", block: Block, result: Executed) -> None: ...

    def on_restart(self, node: "SimNode") -> None: ...

    def on_wipe(self, node: "SimNode") -> None: ...


@dataclass(frozen=True)
class Timing:
    """Speeds of one node, µs; `clock_skew_us` may be negative."""

    commit_us: int
    execute_us: int
    clock_skew_us: int
    timer_late_rate: float = 0.0
    timer_late_us: int = 0


MakeReplica = Callable[["SimNode"], Replica]
SendMessage = Callable[[int, int, Message], None]  # from an address, to whoever bears a replica id
Notice = Callable[["SimNode"], None]


@dataclass(frozen=True)
class Site:
    """What a node is built from.

    `address` is its place in the network: twins share an id, never an address. `peers` are the ids a
    broadcast reaches, in order. `on_broken` is told when the node stopped because of its disk.
    """

    node_id: int
    address: int
    peers: tuple[int, ...]
    scheduler: Scheduler
    rng: Random
    timing: Timing
    checkpoint_interval: int
    window: int
    genesis: Epoch
    disk: Disk
    torn_rate: float
    library: Library
    make_replica: MakeReplica
    on_broken: Notice
