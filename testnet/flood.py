"""Who floods a running network: a validator that lies with its real key, clients, and silent strangers.

    python -m testnet.flood DIR     as the last validator of the network in DIR, until standard input ends

Then it prints what it sent, as JSON. A process of its own, so that honest clients share no loop with it.
"""

import json
import random
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import trio

from consensus.messages import (
    CODEC,
    Ack,
    Arrival,
    Attest,
    BatchPayload,
    Block,
    Commit,
    Complain,
    FetchBatches,
    FetchBlocks,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
)
from consensus.primitives.crypto import Ed25519Signer
from consensus.proofs import signing_digest
from engine.batch import encode_batch
from engine.commands import EXPIRY_NEVER
from engine.envelope import encode_orders, orders_array
from engine.machine import Machine
from node.config import Home, PeerSettings
from node.keys import load_signer
from node.network import Network
from node.setup import find_network
from node.telemetry import Log, Metrics
from node.tls import client_context
from node.transport import Transport
from node.validators import read_validators
from node.wire import LENGTH_SIZE, VERSION, Detail, Request, encode_request, frame

QUEUED_BYTES = 256 << 10  # under way to one peer: as fast as it reads
SEQS_AHEAD = 400
FAR = 1 << 40  # seqs and views that no window reaches
GARBAGE_ONE_IN = 2000  # rounds of lies: it costs the liar its link
ORDER = (1, 0, 0, 0, 1, 100, 1)
READ_BYTES = 1 << 16
PAUSE_SECONDS = 0.02
SILENT = 80  # connections to each port
CLIENTS = 2  # that flood each node


class LyingValidator:
    """Speaks for a stopped validator: authenticated links, valid signatures, useless messages."""

    def __init__(self, home: Home, network: Network, replica: int) -> None:
        self.sent: dict[str, int] = {}
        self._network = network
        self._replica = replica
        self._signer = load_signer(home.consensus_seed)
        self._rng = random.Random(replica)
        self._seq = 1
        self._view = 0
        self._listen = network.validators[replica].peer_address
        validators = read_validators(Machine(network.genesis), network)
        self._transport = Transport(
            home,
            network,
            replica,
            validators,
            PeerSettings(),
            self._hear,
            lambda peer: None,
            Metrics(),
            Log(StringIO(), "error"),
        )

    async def run(self) -> None:
        """Flood until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._transport.run, self._listen)
            while True:
                for peer in self._transport.connected:
                    while self._transport.queued_bytes(peer) < QUEUED_BYTES:
                        for message in (*self._invent(), *self._invent_invalid()):
                            self._send(peer, message)
                        if self._rng.randrange(GARBAGE_ONE_IN) == 0:
                            self._send_garbage(peer)
                await trio.sleep(PAUSE_SECONDS)

    async def _hear(self, peer: int, frames: list[bytes]) -> None:
        """Learn where the others stand, so that the lies are near the truth."""
        for body in frames:
            message = CODEC.decode(body)
            if isinstance(message, Commit):
                self._seq, self._view = max(self._seq, message.seq), max(self._view, message.view)

    def _send(self, peer: int, message: Message) -> None:
        self._count(type(message).__name__)
        self._transport.send(peer, frame(CODEC.encode(message)))

    def _send_garbage(self, peer: int) -> None:
        self._count("garbage")
        self._transport.send(peer, frame(self._rng.randbytes(self._rng.randrange(1, 1 << 16))))

    def _count(self, kind: str) -> None:
        self.sent[kind] = self.sent.get(kind, 0) + 1

    def _invent_invalid(self) -> Iterator[Message]:
        """What no validator may send: forged signatures, and places far from any window."""
        rng, me, name = self._rng, self._replica, self._rng.randbytes(32)
        view, seq, forged = self._view, self._seq + rng.randint(1, SEQS_AHEAD), rng.randbytes(64)
        yield Prepare(view, seq, name, me, forged)
        yield Commit(view, seq, name, rng.randrange(me), forged)  # in another's name
        yield PrePrepare(view, Block(seq, 1, (name,)), forged)
        for far_view, far_seq in ((view, seq + FAR), (view + FAR, seq)):
            yield Prepare(far_view, far_seq, name, me, self._sign("prepare", far_view, far_seq, name))
        yield Attest(seq + FAR, name, name, None, me, forged)
        yield FetchBlocks(seq + FAR, seq + FAR)
        yield Ack((Arrival(name, seq),), me, forged)
        envelope = bytearray(self._envelope())
        envelope[-1] ^= 1
        yield BatchPayload(encode_batch([bytes(envelope)]))
        yield BatchPayload(name)

    def _invent(self) -> Iterator[Message]:
        """One of each kind, all different from those before."""
        rng, me, none = self._rng, self._replica, b""
        view, seq = self._view + rng.choice((0, 0, 1, 7)), self._seq + rng.randint(0, SEQS_AHEAD)
        name, root = rng.randbytes(32), rng.randbytes(32)
        prepare = Prepare(view, seq, name, me, none)
        yield replace(prepare, signature=self._sign("prepare", view, seq, name))
        yield Commit(view, seq, name, me, self._sign("commit", view, seq, name))
        yield PrePrepare(view, Block(seq, 1, (name,)), self._sign("pre-prepare", view, seq, name))
        attest = Attest(seq | 1, name, root, None, me, none)
        yield replace(attest, signature=self._sign("attest", 0, attest.seq, attest.result_digest))
        later = self._view + rng.randint(1, 1 << 20)
        yield Complain(later, me, self._sign("complain", later, 0, b""))
        change = ViewChange(later, None, (), (), me, none)
        yield replace(change, signature=self._sign("view-change", later, 0, change.body_digest))
        started = NewView(later, (change,), (), me, none)
        yield replace(started, signature=self._sign("new-view", later, 0, started.body_digest))
        ack = Ack(tuple(Arrival(rng.randbytes(32), seq) for _ in range(64)), me, none)
        yield replace(ack, signature=self._sign("ack", 0, 0, ack.items_digest))
        yield Status(0, True, 0, None, True)
        yield FetchBlocks(1, 1000)
        yield FetchBatches((name,))
        yield BatchPayload(encode_batch([self._envelope()]))

    def _envelope(self) -> bytes:
        """A valid signature of a key that nobody knows."""
        signer = Ed25519Signer(self._rng.randbytes(32))
        return encode_orders(
            signer, self._network.chain_id, 0, self._rng.getrandbits(40), EXPIRY_NEVER, orders_array([ORDER])
        )

    def _sign(self, kind: str, view: int, seq: int, body: bytes) -> bytes:
        chain_id = self._network.chain_id
        return self._signer.sign(signing_digest(chain_id, 0, kind, view, seq, body))


class FloodingClients:
    """Clients that send strangers' orders, forged signatures and garbage, and come back when cut off."""

    def __init__(self, network: Network) -> None:
        self.sent = self.cut_off = 0
        self._network = network

    async def run(self, node: int, seed: int) -> None:
        """Flood one node's client port until cancelled."""
        rng = random.Random(seed)
        while True:
            try:
                await self._visit(node, rng)
            except* (OSError, ssl.SSLError, trio.BrokenResourceError, trio.ClosedResourceError):
                self.cut_off += 1
            await trio.sleep(PAUSE_SECONDS)

    async def _visit(self, node: int, rng: random.Random) -> None:
        validator = self._network.validators[node]
        address = validator.client_address
        tcp = await trio.open_tcp_stream(address.host, address.port)
        tls = trio.SSLStream(tcp, client_context(validator.tls_certificate), https_compatible=True)
        try:
            await tls.send_all(encode_request(Request(1, "hello", [VERSION, self._network.chain_id])))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read_all, tls, nursery.cancel_scope)
                for number in range(2, 1 << 20):
                    await tls.send_all(self._lie(number, rng))
                    self.sent += 1
                    await trio.sleep(PAUSE_SECONDS / 10)
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(tls)

    def _lie(self, number: int, rng: random.Random) -> bytes:
        signer = Ed25519Signer(rng.randbytes(32))
        chain_id, nonce = self._network.chain_id, rng.getrandbits(40)
        envelope = bytearray(encode_orders(signer, chain_id, 0, nonce, EXPIRY_NEVER, orders_array([ORDER])))
        match rng.randrange(40):
            case 0:
                envelope[-1] ^= 1
            case 1:
                return rng.randbytes(LENGTH_SIZE + rng.randrange(64))
            case _:
                pass
        return encode_request(Request(number, "submit", [bytes(envelope), Detail.SUMMARY.value]))


async def hold_silent_connections(host: str, port: int, count: int) -> None:
    """Keep `count` connections open that never say a word; renew those that were closed."""
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(_hold, host, port)


async def _hold(host: str, port: int) -> None:
    while True:
        try:
            async with await trio.open_tcp_stream(host, port) as stream:
                while await stream.receive_some(READ_BYTES):
                    pass
        except (OSError, trio.BrokenResourceError):
            pass
        await trio.sleep(PAUSE_SECONDS)


async def _read_all(tls: "trio.SSLStream[trio.SocketStream]", scope: trio.CancelScope) -> None:
    try:
        while await tls.receive_some(READ_BYTES):
            pass
    except (OSError, ssl.SSLError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


async def flood(root: Path, out: Callable[[str], None]) -> None:
    """Flood all but the last node of the network in `root`, in its name, until standard input ends."""
    homes = find_network(root)
    last = len(homes.nodes) - 1
    liar, clients = LyingValidator(homes.nodes[last], homes.network, last), FloodingClients(homes.network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(liar.run)
        for node in range(last):
            validator = homes.network.validators[node]
            for number in range(CLIENTS):
                nursery.start_soon(clients.run, node, number)
            for address in (validator.peer_address, validator.client_address):
                nursery.start_soon(hold_silent_connections, address.host, address.port, SILENT)
        await trio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
    out(json.dumps({"messages": liar.sent, "requests": clients.sent, "cut_off": clients.cut_off}))


def resident_bytes(pid: int) -> int:
    """Memory of a process that lies in RAM and belongs to no file: LMDB maps what it reads. Linux.
    0 if the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")), 0)


if __name__ == "__main__":
    trio.run(flood, Path(sys.argv[1]), print)
