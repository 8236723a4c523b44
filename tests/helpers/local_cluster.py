"""Real nodes in one trio run: loopback TLS, LMDB in a temporary directory, one engine each."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import trio

from consensus.primitives.crypto import Ed25519Signer
from engine import commands
from engine.batch import decode_batch, encode_batch
from engine.commands import EXPIRY_NEVER
from engine.envelope import encode_commands, encode_orders, orders_array
from node.config import Config
from node.keys import load_signer
from node.network import Rules
from node.runtime import Node
from node.services import ProvenBlock
from node.setup import NetworkHomes, create_network
from node.start import run_node

SECONDS_MAX = 60


class Crashed(Exception):
    """What a test raises inside a node to end it there and then."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on right now."""
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def quick(config: Config) -> Config:
    """Settings for tests: reconnect at once, no metrics port."""
    return replace(
        config,
        peers=replace(config.peers, reconnect_ms_min=5, reconnect_ms_max=100),
        telemetry=replace(config.telemetry, metrics_listen="", log_level="debug"),
    )


@contextmanager
def ended_by_crash() -> Iterator[None]:
    """Let a `Crashed` end the block quietly."""
    try:
        yield
    except* Crashed:
        pass


class LocalCluster:
    """n nodes; each can be stopped and started again on its home."""

    def __init__(self, homes: NetworkHomes, nursery: trio.Nursery) -> None:
        self.homes = homes
        self.network = homes.network
        self.admin: Ed25519Signer = load_signer(homes.admin_seed)
        self.nodes: dict[int, Node] = {}
        self._nursery = nursery
        self._scopes: dict[int, tuple[trio.CancelScope, trio.Event]] = {}
        self._nonce = 0
        self._moved: dict[int, trio.Event] = {}

    async def start(self, *ids: int) -> None:
        """Start nodes side by side, all of them if none is named."""
        async with trio.open_nursery() as nursery:
            for node_id in ids or range(len(self.homes.nodes)):
                nursery.start_soon(self._start, node_id)

    async def _start(self, node_id: int) -> None:
        scope, ended = trio.CancelScope(), trio.Event()
        self._scopes[node_id] = scope, ended

        async def run(task_status: trio.TaskStatus[Node]) -> None:
            try:
                with scope, ended_by_crash():
                    await run_node(self.homes.nodes[node_id].root, task_status=task_status)
            finally:
                ended.set()

        node: Node = await self._nursery.start(run)
        self.nodes[node_id] = node

        def on_proven(block: ProvenBlock) -> None:
            self._moved.setdefault(node_id, trio.Event()).set()

        node.on_proven_block(on_proven)

    async def wait_crashed(self, node_id: int) -> None:
        """Wait until a node has ended by a `Crashed`."""
        _, ended = self._scopes.pop(node_id)
        del self.nodes[node_id]
        await ended.wait()

    async def stop(self, node_id: int) -> None:
        """Stop a node as SIGTERM would, and wait until its home is free."""
        scope, ended = self._scopes.pop(node_id)
        del self.nodes[node_id]
        scope.cancel()
        await ended.wait()

    async def wait_until(self, condition: Callable[[Node], bool], *ids: int) -> None:
        """Wait until `condition` holds for these nodes; it is looked at after every proven block."""
        for node_id in ids or sorted(self.nodes):
            while not condition(self.nodes[node_id]):
                self._moved[node_id] = trio.Event()
                with trio.move_on_after(0.05):  # what is not a proven block moves on, too
                    await self._moved[node_id].wait()

    async def wait_equal(self, *ids: int) -> bytes:
        """Wait until these nodes have executed the same height; return their journal root."""
        names = ids or tuple(sorted(self.nodes))
        target = max(self.nodes[name].status().committed for name in names)
        await self.wait_until(lambda node: node.status().executed >= target, *names)
        roots = {self.nodes[name].status().journal_root for name in names}
        heights = {self.nodes[name].status().executed for name in names}
        assert len(heights) == 1 and len(roots) == 1, (heights, roots)
        return roots.pop()

    async def state_roots(self) -> list[bytes]:
        """State root of every running node."""
        return [await node.query(lambda machine: machine.state_root()) for node in self.nodes.values()]

    def commands(self, *items: tuple[object, ...]) -> bytes:
        """A micro-batch with one envelope of venue commands."""
        self._nonce += 1
        payload = commands.encode(items)
        envelope = encode_commands(self.admin, self.network.chain_id, 0, self._nonce, EXPIRY_NEVER, payload)
        return encode_batch([envelope])

    def orders(self, *items: tuple[int, ...]) -> bytes:
        """A micro-batch with one envelope of order operations, of account 0 or 1."""
        self._nonce += 1
        operations = orders_array(items)
        envelope = encode_orders(self.admin, self.network.chain_id, 0, self._nonce, EXPIRY_NEVER, operations)
        return encode_batch([envelope])

    def listing(self) -> bytes:
        """A micro-batch that lists market 0 and funds accounts 0 and 1, both run by the admin key."""
        return self.commands(
            commands.RegisterAsset("BASE", 0, 0),
            commands.RegisterAsset("QUOTE", 0, 0),
            commands.ListMarket("BASE/QUOTE", 0, 1, 1, 1, 100_000, 1_000_000, 0, 100, 200),
            commands.OpenAccount(self.admin.public_key),
            *[commands.Deposit(account, asset, 10**12) for account in (0, 1) for asset in (0, 1)],
        )

    async def submit(self, payload: bytes, to: int = 0) -> None:
        """Hand a micro-batch to one node and wait until it is proven there."""
        node, done = self.nodes[to], trio.Event()
        name = decode_batch(payload)[0].digest

        def on_proven(block: ProvenBlock) -> None:
            if any(item.digest == name for item in block.result.envelopes):
                done.set()

        node.on_proven_block(on_proven)
        node.submit_batch(payload, 1)
        await done.wait()


@asynccontextmanager
async def local_cluster(
    root: Path,
    n: int = 4,
    rules: Rules | None = None,
    adjust: Callable[[Config], Config] = quick,
    starts: Sequence[int] = (),
) -> AsyncIterator[LocalCluster]:
    """A started network of n nodes under `root`, with a snapshot at every checkpoint unless `rules` say
    otherwise; all start, or those in `starts`. Everything stops at the end, or after `SECONDS_MAX`."""
    ports = free_ports(2 * n)
    rules = rules or Rules(snapshot_seconds=0)
    homes = create_network(
        root / "net", n, rules=rules, adjust=adjust, ports=list(zip(ports[:n], ports[n:], strict=True))
    )
    with trio.fail_after(SECONDS_MAX):
        async with trio.open_nursery() as nursery:
            cluster = LocalCluster(homes, nursery)
            await cluster.start(*starts)
            yield cluster
            for node_id in list(cluster.nodes):
                await cluster.stop(node_id)
