"""A whole cluster in virtual time: real replicas, simulated everything else.

    cluster = Cluster(n=4, seed=7)
    cluster.submit(batches=20)
    cluster.isolate(cluster.primary())
    cluster.run_until_quiet()

Nodes have addresses, replicas have ids: they are equal for everybody but the second of two twins.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from consensus.messages import Message, PrePrepare, batch_digest
from consensus.primitives.crypto import digest
from consensus.primitives.errors import ensure
from consensus.proofs import Epoch
from consensus.quorum import ReplicaSet
from consensus.replica import Replica, ReplicaConfig
from consensus.signing import RecordingSigner, VoteRecord
from consensus.simulator.app import make_change, make_payload
from consensus.simulator.byzantine import LIARS
from consensus.simulator.chance import stream
from consensus.simulator.checker import Checker
from consensus.simulator.checks.violations import LivenessViolation
from consensus.simulator.crypto import SimKeyring
from consensus.simulator.disk import Disk
from consensus.simulator.liar import ByzantineNode, Identity
from consensus.simulator.network import Network
from consensus.simulator.node import SimNode
from consensus.simulator.options import SimOptions
from consensus.simulator.queues import Bounds
from consensus.simulator.scheduler import SECOND_US, Scheduler
from consensus.simulator.site import SendMessage, Site, Timing
from consensus.simulator.snapshot import Library
from consensus.simulator.trace import describe
from consensus.simulator.twins import Funnel, Parting, Schedule, ScheduledReplicas, Sides
from consensus.simulator.unfair import CORES

RETRY_US = 700_000  # a client that got no answer asks somebody else after so long
SLICE_US = 50_000  # how often quietness is looked for
MEND_US = 500_000  # an operator looks after a node that stopped
TRACE_MAX = 200_000
TRANSFER_TIMEOUT_US = 400_000
FINGERPRINT_PRIME = 1_099_511_628_211
FINGERPRINT_MASK = (1 << 64) - 1


class Cluster:
    """n replicas, some of which lie as `options.strategies` says; everything follows from `seed`.

    nodes       every core, by address; `honest` those that follow the protocol
    byzantine   what each lying replica does, by id
    faulty      ids that count against f: liars, bad disks, and whoever lost its memory
    lost        addresses that stay away for good: nothing is expected of them
    leaving     sound validators that may be removed with nobody in their place: f is smaller then
    """

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
        self.seed = seed
        self.rng = stream(seed, "work")
        self.scheduler = Scheduler()
        self._ids_max = n + self.options.spares
        self.keyring = SimKeyring(seed, 2 * self._ids_max)
        self.trace: list[str] = []
        self.fingerprint = 0
        self.submitted: dict[bytes, bytes] = {}
        self.lost: set[int] = set()
        self.leaving: set[int] = set()
        self.counts: dict[str, int] = {}
        self._traces = trace
        self._replica_class = replica_class
        self._batch_count = 0
        self._led: dict[tuple[int, int], dict[int, bytes]] = {}
        self._assign_roles()
        self.replicas = self._make_replicas()
        self.parting = self._make_parting()
        self.network = Network(
            self.scheduler,
            stream(seed, "network"),
            self.options.network,
            len(self._ids),
            self._deliver,
            self._connected,
        )
        self.config = self._make_config()
        self.library = Library()
        bounds = Bounds(self.config, self._ids_max)
        self.checker = Checker(self.replicas, self.keyring, self.options.window, bounds)
        self.checker.suspects |= self.faulty
        self.nodes: list[SimNode] = [self._make_node(address) for address in range(len(self._ids))]
        self.honest = [node for node in self.nodes if node.id not in self.byzantine]
        for node in self.nodes:
            if node.id < n:
                node.start()

    # Building

    def _assign_roles(self) -> None:
        """Who lies, who has a bad disk, and which address each replica id has."""
        options, rng = self.options, stream(self.seed, "roles")
        faulty = rng.sample(range(options.n), len(options.strategies) + options.disk.bad_disks)
        liars, self._bad_disks = faulty[: len(options.strategies)], faulty[len(options.strategies) :]
        self.byzantine = dict(zip(liars, options.strategies, strict=True))
        self.faulty = set(faulty)
        twins = [node_id for node_id in liars if self.byzantine[node_id] == "twins"]
        spares = range(options.n, self._ids_max)
        self._ids = [*range(options.n), *twins, *spares]  # replica id by address
        self._twins = {node_id: options.n + place for place, node_id in enumerate(twins)}
        self._addresses = [
            [address for address, bearer in enumerate(self._ids) if bearer == node_id]
            for node_id in range(self._ids_max)
        ]

    def _make_replicas(self) -> ReplicaSet:
        options, keys = self.options, self.keyring.public_keys[: self.options.n]
        chain_id = digest("kontor.sim-chain", self.seed.to_bytes(8, "little"))
        if not options.twin_views:
            return ReplicaSet.genesis(chain_id, keys)
        rng = stream(self.seed, "leaders")
        leaders = Schedule.draw_leaders(rng, options.n, list(self._twins), options.twin_views)
        return ScheduledReplicas(chain_id, ReplicaSet.genesis(chain_id, keys).record, leaders)

    def _make_parting(self) -> Parting | None:
        rng, count = stream(self.seed, "twins"), len(self._ids)
        if self.options.twin_views:
            kind = Funnel if self.options.funnels else Schedule
            return kind(rng, count, self.options.twin_views)
        return Sides(rng, self.scheduler, self._twins, count) if self._twins else None

    def _make_node(self, address: int) -> SimNode:
        site = self._make_site(address)
        strategy = self.byzantine.get(site.node_id)
        if strategy is None:
            honest = SimNode(site, self._sender, self.checker)
            if self.options.signers_remember:
                honest.signer = RecordingSigner(self.keyring.signers[site.node_id], VoteRecord())
            return honest
        signer = self.keyring.signers[site.node_id]
        rng = stream(self.seed, f"liar {address}")
        identity = Identity(site.node_id, address, self.replicas, signer, rng, self._sender)
        liar = LIARS[strategy](identity)
        node = ByzantineNode(site, liar.send, None)
        node.liar = liar
        return node

    def _make_site(self, address: int) -> Site:
        options, node_id, rng = self.options, self._ids[address], stream(self.seed, f"node {address}")
        faults = options.faults
        skew = rng.randint(-faults.clock_skew_us, faults.clock_skew_us)
        timing = Timing(
            options.commit_us, options.execute_us, skew, faults.timer_late_rate, faults.timer_late_us
        )
        disk = Disk(
            stream(self.seed, f"disk {address}"), options.disk if node_id in self._bad_disks else None
        )
        peers = tuple(peer for peer in range(self._ids_max) if peer != node_id)
        return Site(
            node_id,
            address,
            peers,
            self.scheduler,
            rng,
            timing,
            options.checkpoint_interval,
            options.window,
            self.replicas.record,
            disk,
            options.disk.torn_rate,
            self.library,
            self._make_replica,
            self._on_broken,
        )

    def _make_config(self) -> ReplicaConfig:
        options = self.options
        return ReplicaConfig(
            window=options.window,
            checkpoint_interval=options.checkpoint_interval,
            in_flight_max=options.in_flight_max,
            block_orders_max=options.block_orders_max,
            stash_max=options.stash_max,
            batches_max=options.batches_max,
            catch_up_blocks=options.catch_up_blocks,
            transfer_gap=options.transfer_gap,
            transfer_timeout_us=TRANSFER_TIMEOUT_US,
            request_timeout_us=options.request_timeout_us,
            view_timeout_us=options.view_timeout_us,
        )

    def _make_replica(self, node: SimNode) -> Replica:
        strategy = self.byzantine.get(node.id)
        make = self._replica_class if strategy is None else CORES.get(strategy, Replica)
        return make(
            node.id,
            self.replicas,
            [node.signer or self.keyring.signers[node.id], self.keyring.signers[self._ids_max + node.id]],
            self.keyring,
            self.config,
            durable=node.votes,
            committed=node.disk.committed,
            executed=node.app.height,
            replayed=node.replayed,
            oldest=node.disk.oldest,
            snapshot=node.disk.snapshot[0] if node.disk.snapshot else None,
        )

    # The network's two ends

    @property
    def _sender(self) -> SendMessage:
        """How nodes send: straight to the network, where no message is traced and no id has two addresses."""
        return self._send if self._traces or self.parting else self.network.send

    def _send(self, source: int, to: int, message: Message) -> None:
        if self._traces:
            self.say(f"{source}→{to} {describe(message)}")
        if self.parting is None:
            self.network.send(source, to, message)
            return
        if isinstance(message, PrePrepare) and self._ids[source] in self._twins:
            self._note_leader(source, message)
        for target in self._addresses[to]:
            if self.parting.allows(source, target, message):
                self.network.send(source, target, message)

    def _note_leader(self, source: int, message: PrePrepare) -> None:
        """Two twins that both lead a view, with different proposals for one place, are what Twins is for."""
        led = self._led.setdefault((message.view, message.block.seq), {})
        if self.replicas.primary(message.view) == self._ids[source] and source not in led:
            led[source] = message.block.digest
            if len(set(led.values())) == 2:
                self.count("twins.two_leaders")

    def _deliver(self, source: int, target: int, message: Message) -> None:
        place = (self.scheduler.now_us << 16) + (source << 12) + (target << 8) + len(type(message).__name__)
        self.fingerprint = (self.fingerprint * FINGERPRINT_PRIME + place) & FINGERPRINT_MASK
        self.nodes[target].receive(self._ids[source], message)

    def _connected(self, address: int, peer: int) -> None:
        if self.nodes[peer].up and self._ids[address] != self._ids[peer]:
            self.nodes[address].connected(self._ids[peer])

    def say(self, text: str) -> None:
        """Add a line to the trace, if there is one."""
        if self._traces and len(self.trace) < TRACE_MAX:
            self.trace.append(f"{self.scheduler.now_us / SECOND_US:10.6f} {text}")

    def count(self, name: str) -> None:
        """Note that something happened which no node counts."""
        self.counts[name] = self.counts.get(name, 0) + 1

    # What a test does

    def submit(self, batches: int = 1, to: int | None = None) -> None:
        """Hand new micro-batches to replica `to`, or each to a random live one."""
        for _ in range(batches):
            self._batch_count += 1
            payload = make_payload(self._batch_count, self.rng.randint(1, 8))
            self.submitted[batch_digest(payload)] = payload
            self._submit(payload, to)

    def change(self, *changes: tuple[int, bytes]) -> None:
        """Order other validators: (id, key) to add or to rotate, (id, REMOVED) to remove; none: a wedge."""
        self._batch_count += 1
        payload = make_change(self._batch_count, *changes)
        self.submitted[batch_digest(payload)] = payload
        self._submit(payload, None)

    @property
    def ids_max(self) -> int:
        """All ids are below it: those of the first validators, and of the spares."""
        return self._ids_max

    @property
    def twins(self) -> tuple[int, ...]:
        """Ids that two cores bear."""
        return tuple(self._twins)

    def addresses(self, node_id: int) -> Sequence[int]:
        """Where the cores with this id are."""
        return self._addresses[node_id]

    def key(self, node_id: int, rotated: bool = False) -> bytes:
        """The first key of a node, or its second."""
        return self.keyring.public_keys[node_id + (self._ids_max if rotated else 0)]

    def resume_after(self, height: int) -> None:
        """Operators name the height of a wedge and restart every node."""
        self.name_wedge(height)
        for node in self.nodes:
            self.reboot(node.address)

    def name_wedge(self, height: int) -> None:
        """From its next start on, each node goes on beyond the wedge at `height`."""
        self.config = replace(self.config, resume_after=height)
        self.checker.resume_after(height)

    def reboot(self, address: int) -> None:
        """Stop a node that is up, and start it again."""
        if self.nodes[address].up:
            self.crash(address)
            self.restart(address)

    def epoch(self) -> Epoch:
        """The newest epoch an honest live replica is in."""
        return max((node.replica.replicas.record for node in self.live()), key=lambda epoch: epoch.number)

    def _submit(self, payload: bytes, to: int | None) -> None:
        live = [node.address for node in self.nodes if node.up and node.address not in self.lost]
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
        leading = max(self.live(), key=lambda node: node.replica.view, default=None)
        return leading.replica.primary if leading else 0

    def isolate(self, node_id: int) -> None:
        """Cut one replica off from all others."""
        self.say(f"isolate {node_id}")
        self.network.isolate(node_id)

    def crash(self, address: int) -> None:
        """Stop a node at whatever it is doing."""
        self.say(f"crash {address}")
        self.nodes[address].crash()

    def restart(self, address: int) -> None:
        """Start a stopped node from what it made durable."""
        self.say(f"restart {address}")
        if not self.nodes[address].up and address not in self.lost:
            self.nodes[address].start()
            self.network.connect(address)

    @property
    def least_f(self) -> int:
        """How many may be faulty although every sound validator leaves that was asked to."""
        return (self.options.n - len(self.leaving) - 1) // 3

    def note_leaving(self, node_id: int) -> None:
        """A validator is asked to leave; unless it is faulty, those that remain bear fewer faults."""
        if node_id not in self.faulty:
            self.leaving.add(node_id)

    def may_leave(self, node_id: int) -> bool:
        """Whether those that remain bear all who are faulty, whatever becomes of changes still under way."""
        left = self.options.n - len(self.leaving | {node_id})
        return left > 0 and (node_id in self.faulty or len(self.faulty) <= (left - 1) // 3)

    def may_wipe(self, address: int) -> bool:
        """Whether f allows that this replica forgets all it promised: the protocol bears f such."""
        return self._ids[address] in self.faulty or len(self.faulty) < self.least_f

    def wipe(self, address: int) -> None:
        """Give a node an empty disk. It is down until restarted, and counts as faulty from now on."""
        self.say(f"wipe {address}")
        self.faulty.add(self._ids[address])
        self.nodes[address].wipe()

    def _on_broken(self, node: SimNode) -> None:
        """Its disk gave a damaged record: the operator tries again, and then replaces the disk."""
        self.say(f"stopped {node.address}: {node.broken}")
        ensure(node.id in self.faulty, f"replica {node.id} stopped for a disk that has no faults")
        self.scheduler.after(MEND_US, partial(self._mend, node, node.incarnation))

    def _mend(self, node: SimNode, incarnation: int) -> None:
        if node.up or node.incarnation != incarnation:
            return
        if self.rng.random() < 0.7:
            self.wipe(node.address)
        self.restart(node.address)

    def distrust(self, node_id: int) -> None:
        """From now on no rule is expected to hold for this node."""
        for node in [node for node in self.honest if node.id == node_id]:
            node.observer = None
            self.honest.remove(node)
            self.checker.suspects.add(node_id)

    def heal(self) -> None:
        """Rejoin the network, and stop all that hinders."""
        self.say("heal")
        self.network.heal()
        for node in self.nodes:
            node.soothe()
        if isinstance(self.parting, Schedule):
            self.parting.whole = True

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
                    f"not done {limit_us / SECOND_US:g} s after healing: {self.explain(among)}"
                )
            self.run_for(SLICE_US)

    def is_quiet(self, among: Sequence[int] | None = None) -> bool:
        """Whether all live honest nodes stand at one height and have executed all that was submitted."""
        nodes = self.live(among)
        if len({node.app.height for node in nodes}) > 1:
            return False
        return all(name in node.app.executed for node in nodes for name in self.submitted)

    def live(self, among: Sequence[int] | None = None) -> list[SimNode]:
        """Honest nodes of which something is expected."""
        return [
            node
            for node in self.honest
            if node.up and node.address not in self.lost and (among is None or node.id in among)
        ]

    def explain(self, among: Sequence[int] | None = None) -> str:
        """Where everybody stands, for a failure's message."""
        parts = []
        for node in self.live(among):
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
        sources = [self.network.counters, self.checker.counters, self.counts]
        for node in self.honest:
            sources += [
                node.counters,
                node.disk.counters,
                {f"replica.{name}": value for name, value in node.all_replica_counters().items()},
            ]
        for source in sources:
            for name, value in source.items():
                total[name] = total.get(name, 0) + value
        return dict(sorted(total.items()))


def check_agreement(cluster: Cluster) -> None:
    """All honest nodes share one history, and no block that a client was told of is lost."""
    acknowledged = cluster.checker.acknowledged
    keepers = [node for node in cluster.honest if node.id not in cluster.faulty]
    kept = not acknowledged or any(node.disk.committed >= acknowledged for node in keepers)
    ensure(kept, f"block {acknowledged} was acknowledged, and no sound disk has it")
    for node in cluster.honest:
        for seq, cert in node.disk.blocks.items():
            agreed = cluster.checker.committed[seq].digest
            ensure(cert.block.digest == agreed, f"replica {node.id} stores another block {seq}")
    live = [node for node in cluster.honest if node.up]
    heights = {node.app.height: node.app.journal_root for node in live}
    for node in live:
        ensure(heights[node.app.height] == node.app.journal_root, f"replica {node.id} has another root")
