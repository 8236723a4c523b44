"""Building a node from its home, running it, and closing everything it opened."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from consensus.effects import Connected
from consensus.primitives.crypto import Ed25519Verifier, Verifier
from consensus.primitives.errors import ConfigError, LedgerError
from consensus.replica import Replica, ReplicaConfig
from engine.tables.manifest import table_shapes
from node import faults
from node.answers import Answers
from node.config import Config, Home, load_config
from node.executor import Executor
from node.history import History
from node.inbox import Inbox
from node.ingress import serve_clients
from node.introduction import Introduction, note_addresses
from node.joining import find_id, own_id
from node.ledger import Ledger
from node.memory import limit_heaps, trim_heaps
from node.network import Address, Network, load_network, parse_address
from node.payloads import PayloadIntake
from node.pool import PayloadPool
from node.recent import RecentBlocks
from node.recovery import Recovered, ready_batches, recover
from node.reports import Reports
from node.runtime import Node, Parts
from node.services import VerdictCache, describe_wedge
from node.setup import check_node_identity
from node.signer.opening import NodeSigner, open_signer
from node.signer.ring import KeyRing
from node.snapshots import Snapshots
from node.state_proofs import StateProver
from node.state_sync.fetching import StateFetcher
from node.state_sync.serving import StateServer
from node.state_sync.staging import Staging
from node.state_sync.swap import STAGING, STATE, finish_swap
from node.storage import HomeLock
from node.telemetry import Log, Metrics, serve_metrics
from node.tls import ingress_context
from node.transport import Transport
from node.validators import Endpoint, Membership
from node.versions import check_versions
from node.votes import ProofCollector, RememberingVerifier
from node.warm import warm_kernels

MIB = 1 << 20
# How long a worker thread may keep the interpreter while the loop waits for it. Python's 5 ms are a
# whole round trip of the protocol.
SWITCH_SECONDS = 0.0005
ANY_HOST = ("0.0.0.0", "::")
Report = Callable[[str], None]


@dataclass(frozen=True)
class Stores:
    """The disks of one home, open and locked."""

    ledger: Ledger
    snapshots: Snapshots
    history: History


async def run_node(
    root: Path,
    report: Report = lambda line: None,
    handle_signals: bool = False,
    task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the validator whose home is `root` until cancelled, or until SIGTERM or Ctrl-C if
    `handle_signals`.

    `report` gets lines for the operator while the node prepares. Raises `ConfigError` or
    `StorageError` before it joins; afterwards such trouble halts the node, which stays up for queries.
    """
    home = Home(root)
    config, network = load_config(home.config), load_network(home.network)
    log = _open_log(home, config)
    if faults.INJECTED.path is not None:
        log.warning("faults are injected", path=str(faults.INJECTED.path), faults=str(faults.INJECTED.read()))
    try:
        with (
            _one_error(),
            HomeLock(home.data),
            open_signer(home, config, network) as signer,
        ):
            config = await _identify(home, config, network, signer, report)
            log.close()
            log = _open_log(home, config)  # under the id just found
            with open_stores(home, config, network) as stores:
                signer.bind(stores.ledger)
                await _serve(home, config, network, signer, stores, log, report, handle_signals, task_status)
    finally:
        log.info("stopped")
        log.close()


async def _identify(
    home: Home, config: Config, network: Network, signer: NodeSigner, report: Report
) -> Config:
    """The config with the validator's own id. Raises `ConfigError` where keys and network do not fit."""
    if not config.node.joins:
        check_node_identity(home, network, config.node.id, signer.public_key)
        return config
    # While it waits anyway: it votes soon after the ledger has its key.
    await trio.to_thread.run_sync(warm_kernels, report)
    found = await find_id(home, network, signer.public_key, report, config.peers.known)
    return replace(config, node=replace(config.node, id=found))


async def _serve(
    home: Home,
    config: Config,
    network: Network,
    signer: NodeSigner,
    stores: Stores,
    log: Log,
    report: Report,
    handle_signals: bool,
    task_status: trio.TaskStatus[Node],
) -> None:
    """Bring the state up to date, then take part."""
    if handle_signals:  # the process is ours alone
        limit_heaps()
    report(f"node {config.node.id} of chain {network.chain_id.hex()[:16]}: preparing the engine")
    if not config.node.joins:  # else they were loaded while it asked for its id
        await trio.to_thread.run_sync(warm_kernels, report)
    recovered = await trio.to_thread.run_sync(partial(_recover, network, stores, report))
    log.info("recovered", committed=recovered.committed, executed=recovered.executed)
    async with trio.open_nursery() as nursery:
        if handle_signals:
            sys.setswitchinterval(SWITCH_SECONDS)
            nursery.start_soon(trim_heaps)
            await nursery.start(_stop_on_signal, nursery.cancel_scope, report)
        node = await nursery.start(_run, home, config, network, signer, stores, recovered, log, report)
        report(f"node {config.node.id} at height {recovered.executed}: ready")
        status = node.status()
        if status.wedged:
            report(f"node {config.node.id} waits: {describe_wedge(status.boundary)}")
        task_status.started(node)


@contextmanager
def open_stores(home: Home, config: Config, network: Network) -> Iterator[Stores]:
    """Open the databases of a home and close them again. The caller holds its lock. Raises `WrongVersion`
    before anything is changed."""
    sizes = config.ledger
    ledger = Ledger(home.data / "ledger", network.chain_id, config.node.id, sizes.blocks_mib * MIB)
    try:
        check_versions(ledger, sizes.resume_after)
        finish_swap(home.data, ledger)
        snapshots = Snapshots(home.data / STATE, sizes.state_mib * MIB)
        try:
            history = History(home.data / "history", network.chain_id, sizes.history_mib * MIB)
            try:
                yield Stores(ledger, snapshots, history)
            finally:
                history.close()
        finally:
            snapshots.close()
    finally:
        ledger.close()


async def _run(
    home: Home,
    config: Config,
    network: Network,
    signer: NodeSigner,
    stores: Stores,
    recovered: Recovered,
    log: Log,
    report: Report,
    task_status: trio.TaskStatus[Node],
) -> None:
    node, parts = build_node(home, config, network, signer, stores, recovered, log)
    ready = await trio.to_thread.run_sync(ready_batches, stores.ledger, config.node.id)
    place = parts.membership.current.endpoints.get(config.node.id)
    listen = _listen_address(config.node.peer_listen, place.peer if place else None, "node.peer_listen")
    clients = _listen_address(
        config.node.client_listen, place.client if place else None, "node.client_listen"
    )
    for line in _elsewhere(recovered.executed, place, listen, clients):
        log.warning("listens elsewhere", what=line)
        report(line)
    async with trio.open_nursery() as nursery:
        if config.telemetry.metrics_listen:
            address = parse_address(config.telemetry.metrics_listen, "telemetry.metrics_listen")
            with _listening(address, "telemetry.metrics_listen"):
                await nursery.start(serve_metrics, address, parts.metrics)
        with _listening(listen, "node.peer_listen"):
            await nursery.start(parts.transport.run, listen)
        nursery.start_soon(node.run, ready)
        with _listening(clients, "node.client_listen"):
            await nursery.start(
                serve_clients, node, ingress_context(home), clients, config.admission, parts.metrics, log
            )
        log.info("listening", peers=str(listen), clients=str(clients))
        task_status.started(node)


def build_node(
    home: Home,
    config: Config,
    network: Network,
    signer: NodeSigner,
    stores: Stores,
    recovered: Recovered,
    log: Log,
) -> tuple[Node, Parts]:
    """Wire the parts together; nothing runs yet."""
    replica_id = config.node.id
    metrics, verdicts = Metrics(), VerdictCache()
    pool = PayloadPool(config.peers.pool_bytes)
    verifier = RememberingVerifier(Ed25519Verifier())
    threads = trio.CapacityLimiter(config.node.worker_threads)
    inbox = Inbox()
    membership = Membership(recovered.machine, network)
    # The parts below report to the node, and the node needs them: `late` ties the knot.
    late: list[Node] = []
    replica = _build_replica(config, network, signer, verifier, stores, recovered)
    executor = _build_executor(network, stores, recovered, pool, verdicts, late, metrics, log)
    proofs = ProofCollector(replica.authority, lambda block: late[0].on_proven(block))
    proofs.start_above(recovered.executed)
    transport = Transport(
        home,
        network,
        replica_id,
        membership.current,
        config.peers,
        lambda peer, frames: late[0].deliver(peer, frames),
        lambda peer: inbox.put(Connected(peer)),
        metrics,
        log,
    )
    membership.callbacks.append(transport.follow)
    membership.callbacks.append(partial(note_addresses, home.known_validators))
    if recovered.executed:  # else it knows the network file's, and may have known better before
        note_addresses(home.known_validators, membership.current)
    intake = PayloadIntake(
        network.chain_id,
        membership,
        pool,
        verdicts,
        Ed25519Verifier(),
        threads,
        inbox.put,
        lambda peer, kind: late[0].on_peer_fault(peer, kind),
    )
    metrics.watch_held("payloads", lambda: pool.size_bytes)
    metrics.watch_held("peer_frames", lambda: transport.waiting_bytes)
    metrics.watch_held("signatures", lambda: verdicts.size_bytes + verifier.size_bytes)
    metrics.watch_held("unproven_journals", lambda: proofs.size_bytes)
    shapes = table_shapes(network.genesis)
    staging = Staging(home.data / STAGING, config.ledger.state_mib * MIB, shapes)
    parts = Parts(
        home=home,
        network=network,
        replica_id=replica_id,
        replica=replica,
        signer=signer,
        ledger=stores.ledger,
        executor=executor,
        recent=RecentBlocks(recovered.machine, stores.history, metrics),
        pool=pool,
        intake=intake,
        transport=transport,
        answers=Answers(stores.ledger, pool, transport),
        inbox=inbox,
        snapshots=stores.snapshots,
        history=stores.history,
        server=StateServer(
            stores.snapshots,
            shapes,
            transport,
            config.peers.state_mib_per_second * MIB,
            lambda reason: late[0].halt(reason),
            metrics,
            log,
        ),
        prover=StateProver(stores.snapshots, shapes),
        fetcher=StateFetcher(network.genesis, staging, inbox.put, executor.pause, metrics, log),
        proofs=proofs,
        membership=membership,
        introduction=Introduction(
            home,
            config,
            network,
            membership,
            lambda: transport.connected,
            lambda: replica.replicas,
            log,
        ),
        reports=Reports(home.data / "evidence", network.chain_id, membership, verifier, log),
        verifier=verifier,
        threads=threads,
        dump_bytes_max=config.ledger.dump_mib * MIB,
        verdicts=verdicts,
        metrics=metrics,
        log=log,
    )
    late.append(Node(parts))
    return late[0], parts


def _build_replica(
    config: Config,
    network: Network,
    signer: NodeSigner,
    verifier: Verifier,
    stores: Stores,
    recovered: Recovered,
) -> Replica:
    newest = stores.snapshots.meta()
    return Replica(
        config.node.id,
        network.replicas,
        signer.signers if isinstance(signer, KeyRing) else [signer],
        verifier,
        replica_config(config, network),
        stores.ledger.votes(),
        recovered.committed,
        recovered.executed,
        recovered.results,
        stores.ledger.base() + 1,
        newest.cert if newest else None,
    )


def _build_executor(
    network: Network,
    stores: Stores,
    recovered: Recovered,
    pool: PayloadPool,
    verdicts: VerdictCache,
    late: list[Node],
    metrics: Metrics,
    log: Log,
) -> Executor:
    return Executor(
        recovered.machine,
        network.rules.checkpoint_interval,
        network.rules.snapshot_seconds,
        stores.ledger,
        stores.snapshots,
        stores.history,
        pool,
        verdicts,
        lambda executed: late[0].on_early(executed),
        lambda executed: late[0].on_executed(executed),
        lambda cert: late[0].on_snapshot(cert),
        recovered.checkpoint_time_ms,
        recovered.snapshot_epoch,
        metrics,
        log,
    )


def replica_config(config: Config, network: Network) -> ReplicaConfig:
    """The protocol's limits: shared rules from the network file, timeouts from our own."""
    rules, own = network.rules, config.consensus
    return ReplicaConfig(
        window=rules.window,
        checkpoint_interval=rules.checkpoint_interval,
        block_orders_max=rules.block_orders_max,
        block_bytes_max=rules.block_bytes_max,
        clock_tolerance_ms=rules.clock_tolerance_ms,
        in_flight_max=own.in_flight_max,
        request_timeout_us=own.request_timeout_ms * 1000,
        view_timeout_us=own.view_timeout_ms * 1000,
        resume_after=config.ledger.resume_after,
        transfer_gap=own.transfer_gap,
        transfer_timeout_us=own.transfer_timeout_ms * 1000,
    )


def _recover(network: Network, stores: Stores, report: Report) -> Recovered:
    return recover(
        network.genesis,
        network.rules,
        stores.ledger,
        stores.snapshots,
        stores.history,
        lambda what, done, total: report(f"{what}: {done} of {total}"),
    )


async def _stop_on_signal(
    scope: trio.CancelScope, report: Report, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            report(f"{signal.Signals(number).name}: stopping")
            scope.cancel()


@contextmanager
def _listening(address: Address, key: str) -> Iterator[None]:
    """Turn what keeps us from listening at `address` into an error that names the setting."""
    try:
        yield
    except* OSError as group:
        reason = group.exceptions[0]
        while isinstance(reason, BaseExceptionGroup):
            reason = reason.exceptions[0]
        raise ConfigError(
            f"cannot listen on {address} ({getattr(reason, 'strerror', reason)}):"
            f" change '{key}' in config.toml,"
            " or stop who uses that port"
        ) from group


@contextmanager
def _one_error() -> Iterator[None]:
    """Let the first error of ours that a nursery collected out as it is."""
    try:
        yield
    except BaseExceptionGroup as group:
        ours = group.subgroup(LedgerError)
        if ours is None:
            raise
        error: BaseException = ours
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group


def _open_log(home: Home, config: Config) -> Log:
    """A node that joins logs without an id until the ledger has given it one."""
    settings = config.telemetry
    context = {} if config.node.joins and not home.validator_id.exists() else {"node": own_id(home, config)}
    if settings.log_to_stderr:
        return Log.to_stderr(settings.log_level, **context)
    return Log.to_file(home.log, settings.log_level, **context)


def _listen_address(text: str, default: Address | None, key: str) -> Address:
    if text:
        return parse_address(text, key)
    if default is None:
        raise ConfigError(f"'{key}' is empty, and the ledger here does not tell where to listen: set it")
    return default


def _elsewhere(height: int, place: Endpoint | None, peers: Address, clients: Address) -> list[str]:
    """What an operator reads where this node listens elsewhere than the ledger tells the others: right behind
    NAT, and a mistake after a move."""
    if place is None:
        return []
    pairs = (("validators", "peer", peers, place.peer), ("clients", "client", clients, place.client))
    return [
        f"this node listens for {who} at {own}; its ledger, up to block {height}, says {told}. That is"
        " right if it was moved since, or something forwards one to the other; else correct"
        f" 'node.{name}_listen', or run `kontor validator move --to-{name}`"
        for who, name, own, told in pairs
        if own.port != told.port or (own.host != told.host and own.host not in ANY_HOST)
    ]
