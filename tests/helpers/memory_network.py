"""Client ports over one ledger in memory: what clients see of a network, without consensus or disks.

All nodes share one machine, so whatever one takes is executed at once for all (or when `hold` ends).
Each node can be told to push back, or to keep its blocks to itself.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TypeVar

import trio

from consensus.messages import Attest, Block, batch_digest
from consensus.primitives.crypto import ZERO_DIGEST, Ed25519Signer, digest
from consensus.primitives.errors import InputError
from consensus.proofs import (
    CHECKPOINT,
    CheckpointCert,
    Epoch,
    EpochProof,
    Member,
    StateSummary,
    Vote,
    signing_digest,
)
from consensus.quorum import ReplicaSet
from engine.machine import Machine
from engine.tables.manifest import table_shapes
from node.config import AdmissionSettings
from node.ingress import ClientPort
from node.keys import load_signer
from node.network import Address, Network
from node.services import BalanceAnswer, NodeStatus, ProvenBlock, ValidatorsAnswer, VerdictCache
from node.setup import NetworkHomes, create_network, with_addresses
from node.snapshots import SnapshotMeta, Snapshots
from node.state_proofs import StateProver
from node.telemetry import Log, Metrics
from node.tls import ingress_context
from node.warm import warm_kernels
from tests.helpers.venue import START_MS
from tests.helpers.votes import attestation_message

T = TypeVar("T")
SECONDS_MAX = 60


class MemoryLedger:
    """The shared state: blocks are made of whatever was submitted, and f+1 nodes attest them."""

    def __init__(self, homes: NetworkHomes) -> None:
        self.homes = homes
        self.network = homes.network
        self.admin: Ed25519Signer = load_signer(homes.admin_seed)
        self.signers = [load_signer(home.consensus_seed) for home in homes.nodes]
        self.machine = Machine(self.network.genesis)
        self.now_ms = START_MS
        self.hold = False
        self.replicas = self.network.replicas
        self.epoch_proofs: list[EpochProof] = []
        self.checkpoint: CheckpointCert | None = None
        self.blocks: dict[int, ProvenBlock] = {}
        self.nodes: list[MemoryNode] = []
        self._snapshots_path = homes.root / "snapshots"
        self._pending: list[bytes] = []

    @cached_property
    def snapshots(self) -> Snapshots:
        """Opened by the first proof of a balance: the others need no disk."""
        return Snapshots(self._snapshots_path, 64 << 20, sync=False)

    @cached_property
    def _prover(self) -> StateProver:
        return StateProver(self.snapshots, table_shapes(self.network.genesis))

    def submit(self, payload: bytes) -> None:
        """Take a micro-batch; run a block at once unless on hold."""
        self._pending.append(payload)
        if not self.hold:
            self.run_block()

    def run_block(self) -> ProvenBlock:
        """Execute what is pending, and tell all nodes."""
        batches, self._pending = self._pending, []
        height = self.machine.height + 1
        agreed = Block(height, self.now_ms, tuple(dict.fromkeys(map(batch_digest, batches))))
        distinct = list(dict.fromkeys(batches))
        result = self.machine.apply(height, agreed.digest, agreed.time_ms, distinct)
        block = ProvenBlock(height, agreed.digest, result.previous_root, result, ())
        block = replace(block, attestations=self.attest(block))
        self.blocks[height] = block
        for node in self.nodes:
            node.tell(block)
        return block

    def replace_validators(self, leaves: int | None = None) -> None:
        """From the next block on, all validators attest with other keys, but who `leaves`; the old ones
        prove it."""
        old, old_signers = self.replicas, dict(zip(self.replicas.ids, self.signers, strict=True))
        stay = [i for i in old.ids if i != leaves]
        self.signers = [Ed25519Signer(digest("test.seed", bytes([old.epoch, i]))) for i in stay]
        members = [Member(i, signer.public_key) for i, signer in zip(stay, self.signers, strict=True)]
        epoch = Epoch(old.epoch + 1, self.machine.height + 1, tuple(members))
        summary = StateSummary(ZERO_DIGEST, (), epoch.digest, 0)
        bare = CheckpointCert(self.machine.height, ZERO_DIGEST, ZERO_DIGEST, summary, ())
        message = signing_digest(old.chain_id, old.epoch, CHECKPOINT, 0, bare.seq, bare.result_digest)
        votes = tuple(Vote(i, old_signers[i].sign(message)) for i in old.ids[: old.quorum])
        self.epoch_proofs.append(EpochProof(epoch, replace(bare, votes=votes)))
        self.replicas = ReplicaSet(old.chain_id, epoch)

    def certify(self) -> CheckpointCert:
        """A quorum's certificate of the state as it is."""
        machine, replicas = self.machine, self.replicas
        summary = machine.summary()
        bare = CheckpointCert(machine.height, ZERO_DIGEST, machine.journal_root, summary, ())
        message = signing_digest(
            replicas.chain_id, replicas.epoch, CHECKPOINT, 0, bare.seq, bare.result_digest
        )
        voters = list(zip(replicas.ids, self.signers, strict=True))[: replicas.quorum]
        return replace(bare, votes=tuple(Vote(replica, signer.sign(message)) for replica, signer in voters))

    def prove_balance(self, account: int, asset: int) -> BalanceAnswer:
        """The balance as it is."""
        self._take_snapshot()
        return self._prover.prove_balance(self.machine.state.balance_row(account, asset))

    def prove_validators(self) -> ValidatorsAnswer:
        """How the present validators are reached."""
        self._take_snapshot()
        return self._prover.prove_validators(self.replicas.ids)

    def _take_snapshot(self) -> None:
        """Every block is a checkpoint, and becomes a snapshot when somebody asks."""
        cert = self.certify()
        meta = SnapshotMeta(cert.seq, cert.block_digest, cert.journal_root, cert.state, cert.votes)
        self.snapshots.write(meta, self.machine.take_pages())

    def attest(self, block: ProvenBlock) -> tuple[Attest, ...]:
        """f+1 attestations of a block."""
        bare = Attest(block.height, block.block_digest, block.result.journal_root, None, 0, b"")
        message = attestation_message(self.replicas, bare)
        voters = list(zip(self.replicas.ids, self.signers, strict=True))[: self.replicas.weak_quorum]
        return tuple(
            replace(bare, replica=replica, signature=signer.sign(message)) for replica, signer in voters
        )


class MemoryNode:
    """`node.services.Services` over the shared ledger."""

    def __init__(self, ledger: MemoryLedger, replica_id: int) -> None:
        self._ledger = ledger
        self.replica_id = replica_id
        self.verdicts = VerdictCache()
        self.refusal: InputError | None = None  # what `submit_batch` raises
        self.silent = False  # proven blocks are not told to the client port
        self.batches: list[tuple[bytes, int]] = []
        self._callbacks: list[Callable[[ProvenBlock], None]] = []
        self._asked = trio.Event()

    @property
    def network(self) -> Network:
        return self._ledger.network

    def now_ms(self) -> int:
        return self._ledger.now_ms

    async def wait_asked(self) -> None:
        """Until a micro-batch is offered, whether it is taken or not."""
        self._asked = trio.Event()
        await self._asked.wait()

    def submit_batch(self, payload: bytes, orders: int) -> None:
        self._asked.set()
        if self.refusal is not None:
            raise self.refusal
        self.batches.append((payload, orders))
        self._ledger.submit(payload)

    def on_proven_block(self, callback: Callable[[ProvenBlock], None]) -> None:
        self._callbacks.append(callback)

    def tell(self, block: ProvenBlock) -> None:
        """A block is proven."""
        for callback in () if self.silent else self._callbacks:
            callback(block)

    async def query(self, read: Callable[[Machine], T]) -> T:
        await trio.lowlevel.checkpoint()
        return read(self._ledger.machine)

    async def find_envelope(self, envelope_digest: bytes) -> tuple[int, int] | None:
        await trio.lowlevel.checkpoint()
        refused = None
        for height, block in self._ledger.blocks.items():
            for item in block.result.envelopes:
                if item.digest == envelope_digest and item.lines:
                    return height, item.record_index
                if item.digest == envelope_digest:
                    refused = refused or (height, item.record_index)
        return refused

    async def load_block(self, height: int) -> ProvenBlock | None:
        await trio.lowlevel.checkpoint()
        return self._ledger.blocks.get(height)

    async def prove_balance(self, account: int, asset: int) -> BalanceAnswer:
        await trio.lowlevel.checkpoint()
        return self._ledger.prove_balance(account, asset)

    async def prove_validators(self) -> ValidatorsAnswer:
        await trio.lowlevel.checkpoint()
        return self._ledger.prove_validators()

    def epoch_proofs(self) -> Sequence[EpochProof]:
        return self._ledger.epoch_proofs

    def checkpoint(self) -> CheckpointCert | None:
        return self._ledger.checkpoint

    def status(self) -> NodeStatus:
        height = self._ledger.machine.height
        root = self._ledger.machine.journal_root
        return NodeStatus(
            self.replica_id, 0, height, height, height, self._ledger.now_ms, root, 0, b"", 0, "", 0, 0, 0, 0
        )


@dataclass
class MemoryNetwork:
    """A running network: `network` is what clients connect to."""

    ledger: MemoryLedger
    network: Network
    nodes: list[MemoryNode]
    ports: list[ClientPort]
    metrics: list[Metrics]

    def refused(self, code: str, node: int = 0) -> int:
        """How often a node refused somebody with `code`."""
        value = self.metrics[node].registry.get_sample_value("kontor_client_errors_total", {"code": code})
        return int(value or 0)

    def state(self) -> tuple[int, bytes]:
        """Height and state root: what refused input must not change."""
        return self.ledger.machine.height, self.ledger.machine.state_root()


@asynccontextmanager
async def memory_network(
    root: Path, n: int = 1, settings: AdmissionSettings | None = None
) -> AsyncIterator[MemoryNetwork]:
    """Start n client ports over a new ledger; everything stops at the end, or after `SECONDS_MAX`."""
    await trio.to_thread.run_sync(warm_kernels)
    homes = create_network(root / "net", n, peer_port=1, client_port=1000)
    ledger = MemoryLedger(homes)
    ledger.nodes = [MemoryNode(ledger, replica) for replica in range(n)]
    metrics = [Metrics() for _ in range(n)]
    log = Log(StringIO(), "debug")
    with trio.fail_after(SECONDS_MAX):
        async with trio.open_nursery() as nursery:
            ports, addresses = [], []
            for node, home, counts in zip(ledger.nodes, homes.nodes, metrics, strict=True):
                port = ClientPort(node, ingress_context(home), settings or AdmissionSettings(), counts, log)
                listeners: list[trio.SocketListener] = await nursery.start(port.run, Address("127.0.0.1", 0))
                ports.append(port)
                addresses.append(Address("127.0.0.1", listeners[0].socket.getsockname()[1]))
            peers = [item.peer_address for item in homes.network.validators]
            network = with_addresses(homes.network, peers, addresses)
            yield MemoryNetwork(ledger, network, ledger.nodes, ports, metrics)
            nursery.cancel_scope.cancel()
