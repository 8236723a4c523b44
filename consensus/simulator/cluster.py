"""A whole cluster in virtual time: real replicas, simulated everything else.

    cluster = Cluster(n=4, seed=7)
    cluster.submit(batches=20)
    cluster.isolate(cluster.primary())
    cluster.run_until_quiet()

`run` is the random version: it draws the faults from the seed, lets them rage, heals a core that
can make progress, and demands that every submitted batch is executed everywhere in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from random import Random
from traceback import extract_tb
from zlib import crc32

from consensus.messages import Message, batch_digest
from consensus.primitives.crypto import digest
from consensus.primitives.errors import InvariantViolation, ensure
from consensus.quorum import ReplicaSet
from consensus.replica import Replica, ReplicaConfig
from consensus.simulator.byzantine import LIARS, ByzantineNode, TwinsNode
from consensus.simulator.checker import Checker, LivenessViolation
from consensus.simulator.crypto import SimKeyring
from consensus.simulator.faults import Nemesis
from consensus.simulator.network import Network
from consensus.simulator.node import SendMessage, SimNode, Site, Timing, make_payload
from consensus.simulator.options import SimOptions, draw_options
from consensus.simulator.scheduler import SECOND_US, Scheduler
from consensus.simulator.trace import describe

RETRY_US = 700_000  # a client that got no answer asks somebody else after so long
SLICE_US = 50_000  # how often quietness is looked for
TRACE_MAX = 200_000

Node = SimNode | TwinsNode


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


class Cluster:
    """n replicas, some of which lie as `options.strategies` says; everything follows from `seed`."""

    def __init__(
        self,
        n: int = 4,
        seed: int = 0,
        options: SimOptions | None = None,
        replica_class: type[Replica] = Replica,
        trace: bool = False,
    ) -> None:
        self.options = options or SimOptions(n=n)
        ensure(self.options.n == n, f"options are for n={self.options.n}, the cluster has n={n}")
        self.rng = Random(seed)
        self.scheduler = Scheduler()
        self.keyring = SimKeyring(seed, n)
        chain_id = digest("kontor.sim-chain", seed.to_bytes(8, "little"))
        self.replicas = ReplicaSet.genesis(chain_id, self.keyring.public_keys)
        self.network = Network(
            self.scheduler, self.rng, self.options.network, n, self._deliver, self._connected
        )
        self.checker = Checker(self.replicas, self.keyring, self.options.window)
        self.trace: list[str] = []
        self.fingerprint = 0
        self._traces = trace
        self._replica_class = replica_class
        self._batch_count = 0
        self.submitted: dict[bytes, bytes] = {}
        liars = self.rng.sample(range(n), len(self.options.strategies))
        self.byzantine = dict(zip(liars, self.options.strategies, strict=True))
        self.nodes: list[Node] = [self._make_node(node_id) for node_id in range(n)]
        self.honest: list[SimNode] = [
            node for node in self.nodes if isinstance(node, SimNode) and node.id not in self.byzantine
        ]
        for node in self.nodes:
            node.start()

    # Building

    def _make_node(self, node_id: int) -> Node:
        strategy = self.byzantine.get(node_id)
        if strategy is None:
            return SimNode(self._make_site(node_id), self._send, self.checker)
        if strategy != "twins":
            return self._make_liar(node_id, strategy, self._send)
        twins = TwinsNode(node_id, self.replicas.n, self.scheduler, self.rng, SECOND_US)
        twins.cores = [self._make_liar(node_id, strategy, twins.filter(core, self._send)) for core in (0, 1)]
        return twins

    def _make_liar(self, node_id: int, strategy: str, send: SendMessage) -> ByzantineNode:
        liar = LIARS[strategy](node_id, self.replicas, self.keyring.signers[node_id], self.rng, send)
        node = ByzantineNode(self._make_site(node_id), liar.send, None)
        node.liar = liar
        return node

    def _make_site(self, node_id: int) -> Site:
        options = self.options
        skew = options.faults.clock_skew_us
        timing = Timing(options.commit_us, options.execute_us, self.rng.randint(-skew, skew))
        peers = tuple(peer for peer in range(options.n) if peer != node_id)
        return Site(
            node_id, peers, self.scheduler, self.rng, timing, options.checkpoint_interval, self._make_replica
        )

    def _make_replica(self, node: SimNode) -> Replica:
        options = self.options
        config = ReplicaConfig(
            window=options.window,
            checkpoint_interval=options.checkpoint_interval,
            in_flight_max=options.in_flight_max,
            block_orders_max=options.block_orders_max,
            request_timeout_us=options.request_timeout_us,
            view_timeout_us=options.view_timeout_us,
        )
        honest = node.id not in self.byzantine
        make = self._replica_class if honest else Replica
        return make(
            node.id,
            self.replicas,
            self.keyring.signers[node.id],
            self.keyring,
            config,
            durable=dict(node.disk.votes),
            committed=node.disk.committed,
            executed=node.app.height,
            replayed=node.replayed,
        )

    # The network's two ends

    def _send(self, sender: int, to: int, message: Message) -> None:
        if self._traces:
            self._say(f"{sender}→{to} {describe(message)}")
        self.network.send(sender, to, message)

    def _deliver(self, sender: int, to: int, message: Message) -> None:
        place = b"%d %d %d %s" % (self.scheduler.now_us, sender, to, type(message).__name__.encode())
        self.fingerprint = crc32(place, self.fingerprint)
        self.nodes[to].receive(sender, message)

    def _connected(self, node_id: int, peer: int) -> None:
        if self.nodes[peer].up:
            self.nodes[node_id].connected(peer)

    def _say(self, text: str) -> None:
        if self._traces and len(self.trace) < TRACE_MAX:
            self.trace.append(f"{self.scheduler.now_us / SECOND_US:10.6f} {text}")

    # What a test does

    def submit(self, batches: int = 1, to: int | None = None) -> None:
        """Hand new micro-batches to replica `to`, or each to a random live one."""
        for _ in range(batches):
            self._batch_count += 1
            payload = make_payload(self._batch_count, self.rng.randint(1, 8))
            self.submitted[batch_digest(payload)] = payload
            self._submit(payload, to)

    def _submit(self, payload: bytes, to: int | None) -> None:
        live = [node.id for node in self.nodes if node.up]
        if to is None and live:
            to = self.rng.choice(live)
        if to is not None:
            self.nodes[to].submit(payload)

    def retry(self) -> None:
        """As a client would: ask somebody else about every batch that f+1 honest nodes have not executed."""
        for name, payload in self.submitted.items():
            holders = sum(name in node.app.executed for node in self.honest)
            if holders < self.replicas.weak_quorum:
                self._submit(payload, None)
        self.scheduler.after(RETRY_US, self.retry)

    def view(self) -> int:
        """The highest view an honest live replica is in."""
        return max((node.replica.view for node in self.honest if node.up), default=0)

    def primary(self) -> int:
        """Who proposes in `view()`."""
        return self.replicas.primary(self.view())

    def isolate(self, node_id: int) -> None:
        """Cut one replica off from all others."""
        self._say(f"isolate {node_id}")
        self.network.isolate(node_id)

    def crash(self, node_id: int) -> None:
        """Stop a node at whatever it is doing."""
        self._say(f"crash {node_id}")
        self.nodes[node_id].crash()

    def restart(self, node_id: int) -> None:
        """Start a stopped node from what it made durable."""
        self._say(f"restart {node_id}")
        if not self.nodes[node_id].up:
            self.nodes[node_id].start()
            self.network.connect(node_id)

    def distrust(self, node_id: int) -> None:
        """From now on no rule is expected to hold for this node."""
        for node in [node for node in self.honest if node.id == node_id]:
            node.observer = None
            self.honest.remove(node)

    def heal(self) -> None:
        """Rejoin the network and stop losing messages."""
        self._say("heal")
        self.network.heal()

    def run_for(self, duration_us: int) -> None:
        """Let virtual time pass."""
        self.scheduler.run_until(self.scheduler.now_us + duration_us)

    def run_until_quiet(self, limit_us: int = 60 * SECOND_US, among: Sequence[int] | None = None) -> None:
        """Run until every submitted batch is executed by all live honest nodes (or those in `among`).

        Raise `LivenessViolation` if that takes longer than `limit_us`.
        """
        deadline = self.scheduler.now_us + limit_us
        while not self.is_quiet(among):
            if self.scheduler.now_us >= deadline:
                raise LivenessViolation(
                    f"not done {limit_us / SECOND_US:g} s after healing: {self._explain(among)}"
                )
            self.run_for(SLICE_US)

    def is_quiet(self, among: Sequence[int] | None = None) -> bool:
        """Whether all live honest nodes stand at one height and have executed all that was submitted."""
        nodes = self._live(among)
        if len({node.app.height for node in nodes}) > 1:
            return False
        return all(name in node.app.executed for node in nodes for name in self.submitted)

    def _live(self, among: Sequence[int] | None) -> list[SimNode]:
        return [node for node in self.honest if node.up and (among is None or node.id in among)]

    def _explain(self, among: Sequence[int] | None) -> str:
        parts = []
        for node in self._live(among):
            missing = sum(name not in node.app.executed for name in self.submitted)
            replica = node.replica
            parts.append(
                f"replica {node.id} is in view {replica.view}, committed {replica.committed},"
                f" executed {node.app.height}, stable {replica.stable_seq}, lacks {missing} batches"
            )
        return "; ".join(parts)

    def counters(self) -> dict[str, int]:
        """Everything that was counted, by replicas and around them."""
        total: dict[str, int] = {}
        sources = [self.network.counters, self.checker.counters]
        for node in self.honest:
            sources += [
                node.counters,
                {f"replica.{name}": value for name, value in node.all_replica_counters().items()},
            ]
        for source in sources:
            for name, value in source.items():
                total[name] = total.get(name, 0) + value
        return dict(sorted(total.items()))

    # The random version

    def rage(self) -> None:
        """Submit the work at random moments while faults strike."""
        options = self.options
        nemesis = Nemesis(
            self.scheduler,
            self.rng,
            options.faults,
            self.network,
            self.nodes,
            self.primary,
            self.restart,
            self._say,
        )
        for _ in range(options.batches):
            self.scheduler.at(self.rng.randrange(options.fault_phase_us), self.submit)
        self.scheduler.after(RETRY_US, self.retry)
        self.run_for(options.fault_phase_us)
        nemesis.stop()
        self.network.counters.update(nemesis.counters)

    def settle(self) -> None:
        """Heal everything but `leave_dead` replicas, add some work, and demand that all of it gets done."""
        self.heal()
        dead = self.rng.sample(self.honest, self.options.leave_dead)
        for node in dead:
            self.crash(node.id)
        for each in self.nodes:
            if each not in dead:
                self.restart(each.id)
        self.submit(batches=3)
        self.run_until_quiet(self.options.recovery_us)


def check_agreement(cluster: Cluster) -> None:
    """All honest nodes share one history: equal blocks at equal heights, equal roots at the end."""
    for node in cluster.honest:
        for seq, cert in node.disk.blocks.items():
            agreed = cluster.checker.committed[seq].digest
            ensure(cert.block.digest == agreed, f"replica {node.id} stores another block {seq}")
    live = [node for node in cluster.honest if node.up]
    heights = {node.app.height: node.app.journal_root for node in live}
    for node in live:
        ensure(heights[node.app.height] == node.app.journal_root, f"replica {node.id} has another root")


def run(
    seed: int,
    n: int = 4,
    options: SimOptions | None = None,
    replica_class: type[Replica] = Replica,
    trace: bool = False,
) -> SimResult:
    """Run one seed. Never raises for what a replica does wrong: the result says it."""
    options = options or draw_options(Random(seed), n)
    result = SimResult(seed, n)
    cluster = Cluster(n, seed, options, replica_class, trace)
    try:
        cluster.rage()
        cluster.settle()
        check_agreement(cluster)
    except Exception as error:
        result.failure = f"{type(error).__name__}: {error}"
        if not isinstance(error, InvariantViolation):
            result.failure += f" ({_origin(error)})"
    result.virtual_us = cluster.scheduler.now_us
    result.events = cluster.scheduler.events
    result.fingerprint = cluster.fingerprint
    result.counters = cluster.counters()
    result.trace = cluster.trace
    return result


def _origin(error: Exception) -> str:
    frame = extract_tb(error.__traceback__)[-1]
    return f"{PurePath(frame.filename).name}:{frame.lineno}"
