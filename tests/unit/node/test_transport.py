"""Links: who may connect, what may flow, and that trouble on one link stays there."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import msgpack
import pytest
import trio

from consensus.primitives.errors import ProtocolError
from engine.layout import LAYOUT_VERSION
from engine.machine import Machine
from node import versions
from node.config import PeerSettings
from node.keys import write_tls_identity
from node.network import Address, Network
from node.setup import NetworkHomes, create_network, with_addresses
from node.telemetry import Log, Metrics
from node.tls import client_context, peer_context
from node.transport import HELLO_BYTES_MAX, Transport
from node.validators import Validators, read_validators
from node.versions import PROTOCOL_VERSION
from node.wire import frame

pytestmark = pytest.mark.trio
SECONDS_MAX = 20
SETTINGS = PeerSettings(reconnect_ms_min=1, reconnect_ms_max=20, handshake_seconds=10)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> NetworkHomes:
    return create_network(tmp_path_factory.mktemp("net") / "net", 4, peer_port=1)


def validators_of(network: Network) -> Validators:
    """The founders, as the ledger knows them at its beginning."""
    return read_validators(Machine(network.genesis), network)


def certificates(network: Network) -> list[bytes]:
    return [item.tls_certificate for item in network.validators]


async def _free_ports(count: int) -> list[int]:
    listeners = [(await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] for _ in range(count)]
    ports = [listener.socket.getsockname()[1] for listener in listeners]
    for listener in listeners:
        await listener.aclose()
    return ports


@dataclass
class _Peer:
    """A transport, what it received, and its counters."""

    id: int
    transport: Transport
    metrics: Metrics
    inbox: trio.MemoryReceiveChannel[tuple[int, bytes]]
    address: Address
    log: StringIO = field(default_factory=StringIO)

    def faults(self, kind: str) -> float:
        return self.metrics.peer_faults.labels(kind)._value.get()


class _Links:
    """Several validators of one network on loopback ports."""

    def __init__(self, homes: NetworkHomes, network: Network, nursery: trio.Nursery) -> None:
        self.homes = homes
        self.network = network
        self.nursery = nursery

    async def start(
        self, replica: int, settings: PeerSettings = SETTINGS, network: Network | None = None
    ) -> _Peer:
        send, receive = trio.open_memory_channel[tuple[int, bytes]](10_000)

        async def deliver(peer: int, frames: list[bytes]) -> None:
            for body in frames:
                if body == b"garbage":
                    raise ProtocolError("not a message")
                await send.send((peer, body))

        network = network or self.network
        metrics, log = Metrics(), StringIO()
        address = network.validators[replica].peer_address
        transport = Transport(
            self.homes.nodes[replica],
            network,
            replica,
            validators_of(network),
            settings,
            deliver,
            lambda peer: None,
            metrics,
            Log(log, "debug"),
        )
        await self.nursery.start(transport.run, address)
        return _Peer(replica, transport, metrics, receive, address, log)


@asynccontextmanager
async def _links(homes: NetworkHomes) -> AsyncIterator[_Links]:
    ports = await _free_ports(4)
    peers = [Address("127.0.0.1", port) for port in ports]
    clients = [Address("127.0.0.1", 20_000 + index) for index in range(4)]
    network = with_addresses(homes.network, peers, clients)
    with trio.fail_after(SECONDS_MAX):
        async with trio.open_nursery() as nursery:
            yield _Links(homes, network, nursery)
            nursery.cancel_scope.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for a counter that only I/O moves; bounded by the fail_after around it."""
    while not condition():
        await trio.sleep(0.001)


async def test_frames_flow_both_ways_in_order(homes: NetworkHomes) -> None:
    async with _links(homes) as links:
        first, second = await links.start(0), await links.start(1)
        for number in range(1000):
            first.transport.send(1, frame(b"%d" % number))
            second.transport.broadcast(frame(b"answer %d" % number))
        for number in range(1000):
            assert await second.inbox.receive() == (0, b"%d" % number)
            assert await first.inbox.receive() == (1, b"answer %d" % number)


async def test_a_frame_of_megabytes_arrives_whole(homes: NetworkHomes) -> None:
    async with _links(homes) as links:
        first, second = await links.start(0), await links.start(1)
        body = bytes(range(256)) * (3 << 12)
        await _until(lambda: first.transport.connected == [1])
        first.transport.send(1, frame(body))
        first.transport.send(1, frame(b"next"))
        assert await second.inbox.receive() == (0, body)
        assert await second.inbox.receive() == (0, b"next")


async def test_frames_sent_while_a_peer_is_away_wait_for_it_the_newest_first_kept(
    homes: NetworkHomes,
) -> None:
    async with _links(homes) as links:
        first = await links.start(0)
        first.transport.send(1, frame(bytes(1 << 20)))  # too big to keep beside the next
        first.transport.send(1, frame(b"status"))
        second = await links.start(1)
        assert await second.inbox.receive() == (0, b"status")
        assert first.metrics.peer_drops._value.get() == 1


async def test_a_restarted_peer_is_found_again(homes: NetworkHomes) -> None:
    async with _links(homes) as links:
        first = await links.start(0)
        for generation in range(2):
            async with trio.open_nursery() as nursery:
                second = await _Links(homes, links.network, nursery).start(1)
                second.transport.send(0, frame(b"hello %d" % generation))
                assert await first.inbox.receive() == (1, b"hello %d" % generation)
                nursery.cancel_scope.cancel()
            await _until(lambda: first.transport.connected == [])


async def test_a_route_is_dialled_instead_of_the_address_in_the_network_file(homes: NetworkHomes) -> None:
    """Validator 1 listens where validator 0's network file does not say; only the route leads there."""
    async with _links(homes) as links:
        (elsewhere,) = await _free_ports(1)
        clients = [item.client_address for item in links.network.validators]
        peers = [item.peer_address for item in links.network.validators]
        peers[1] = Address("127.0.0.1", elsewhere)
        second = await links.start(1, network=with_addresses(links.network, peers, clients))
        first = await links.start(0, replace(SETTINGS, routes=(f"1=127.0.0.1:{elsewhere}",)))
        first.transport.send(1, frame(b"around"))
        assert await second.inbox.receive() == (0, b"around")


async def _healthy_link_is_untouched(first: _Peer, second: _Peer) -> None:
    first.transport.send(second.id, frame(b"still here"))
    assert await second.inbox.receive() == (first.id, b"still here")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(600), b""])
async def test_garbage_instead_of_a_handshake_closes_that_connection_only(
    homes: NetworkHomes, data: bytes
) -> None:
    async with _links(homes) as links:
        first, second = await links.start(0), await links.start(1)
        stream = await trio.open_tcp_stream("127.0.0.1", second.address.port)
        if data:
            await stream.send_all(data)
        else:
            await stream.send_eof()
        while await stream.receive_some():
            pass
        await _until(lambda: second.faults("handshake_failed") == 1)
        await _healthy_link_is_untouched(first, second)


async def test_a_connection_that_never_says_hello_is_closed_in_time(homes: NetworkHomes) -> None:
    async with _links(homes) as links:
        first = await links.start(0)
        second = await links.start(1, replace(SETTINGS, handshake_seconds=1))
        stream = await trio.open_tcp_stream("127.0.0.1", second.address.port)
        await stream.send_all(b"\x16")  # the first byte of a handshake, then nothing
        assert await stream.receive_some() == b""
        assert second.faults("handshake_timeout") == 1
        await _healthy_link_is_untouched(first, second)


def _stranger(tmp_path: Path, network: Network) -> ssl.SSLContext:
    write_tls_identity(tmp_path / "s.key", tmp_path / "s.crt", "node0.kontor")
    context = client_context(network.validators[1].tls_certificate)
    context.load_cert_chain(tmp_path / "s.crt", tmp_path / "s.key")
    return context


async def test_a_certificate_of_no_validator_is_refused(homes: NetworkHomes, tmp_path: Path) -> None:
    async with _links(homes) as links:
        first, second = await links.start(0), await links.start(1)
        stream = await trio.open_tcp_stream("127.0.0.1", second.address.port)
        tls = trio.SSLStream(stream, _stranger(tmp_path, links.network))
        with pytest.raises((trio.BrokenResourceError, ssl.SSLError)):
            await tls.do_handshake()
            await tls.receive_some()
        await _until(lambda: second.faults("handshake_failed") == 1)
        await _healthy_link_is_untouched(first, second)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 99}, f"speaks protocol 99; we speak {PROTOCOL_VERSION}"),
        ({"layout": 99}, f"layout 99, ours {LAYOUT_VERSION}"),
    ],
)
async def test_a_hello_of_another_version_is_refused(
    homes: NetworkHomes, changes: dict[str, object], reason: str
) -> None:
    async with _links(homes) as links:
        second = await links.start(1)
        await _greet(homes, second, links.network, _hello(links.network, **changes))
        assert second.faults("other_version") == 1
        assert reason in second.log.getvalue()
        assert second.transport.connected == []


async def test_peers_of_two_versions_both_say_so_and_connect_once_one_is_upgraded(
    homes: NetworkHomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _links(homes) as links:
        first = await links.start(0)
        async with trio.open_nursery() as nursery:
            with monkeypatch.context() as patch:
                patch.setattr(versions, "PROTOCOL_VERSION", PROTOCOL_VERSION - 1)
                older = await _Links(homes, links.network, nursery).start(1)
            await _until(lambda: min(peer.faults("other_version") for peer in (first, older)) >= 3)
            assert first.transport.connected == older.transport.connected == []
            assert f"protocol {PROTOCOL_VERSION - 1}; we speak {PROTOCOL_VERSION}" in first.log.getvalue()
            assert f"protocol {PROTOCOL_VERSION}; we speak {PROTOCOL_VERSION - 1}" in older.log.getvalue()
            nursery.cancel_scope.cancel()
        second = await links.start(1)
        second.transport.send(0, frame(b"upgraded"))
        assert await first.inbox.receive() == (1, b"upgraded")


async def test_a_node_does_not_talk_to_a_listener_with_another_certificate(homes: NetworkHomes) -> None:
    async with _links(homes) as links:
        network = links.network
        validators = list(network.validators)
        # Validator 1's file says that validator 2 listens where 3 does.
        validators[2] = replace(validators[2], peer_address=validators[3].peer_address)
        validators[3] = replace(validators[3], peer_address=network.validators[2].peer_address)
        await links.start(3)
        confused = await links.start(1, network=replace(network, validators=tuple(validators)))
        await _until(lambda: confused.faults("bad_hello") > 0)
        assert confused.transport.connected == []


async def _greet(homes: NetworkHomes, peer: _Peer, network: Network, hello: bytes) -> bytes:
    """Connect with validator 0's certificate, say `hello`, return what comes after the peer's own."""
    stream = await trio.open_tcp_stream("127.0.0.1", peer.address.port)
    tls = trio.SSLStream(stream, peer_context(homes.nodes[0], certificates(network), server_side=False))
    await tls.send_all(hello)
    received = b""
    try:
        while chunk := await tls.receive_some():
            received += chunk
    except trio.BrokenResourceError:
        pass
    return received


def _hello(network: Network, **changes: object) -> bytes:
    values = {"name": "kontor-peer", "version": PROTOCOL_VERSION, "layout": LAYOUT_VERSION}
    values |= {"chain": network.chain_id, "replica": 0} | changes
    return frame(msgpack.packb(list(values.values())))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chain": bytes(32)}, "another chain"),
        ({"name": "other"}, "another protocol"),
        ({"replica": 2}, "its certificate is that of 0"),
    ],
)
async def test_a_hello_that_does_not_fit_is_refused(
    homes: NetworkHomes, changes: dict[str, object], reason: str
) -> None:
    async with _links(homes) as links:
        second = await links.start(1)
        await _greet(homes, second, links.network, _hello(links.network, **changes))
        assert second.faults("bad_hello") == 1
        assert reason in second.log.getvalue()
        assert second.transport.connected == []


@pytest.mark.parametrize(
    "hello", [frame(b"\xc1"), frame(b"\x91\x01"), (HELLO_BYTES_MAX + 1).to_bytes(4, "little")]
)
async def test_a_hello_that_is_garbage_is_refused(homes: NetworkHomes, hello: bytes) -> None:
    async with _links(homes) as links:
        second = await links.start(1)
        await _greet(homes, second, links.network, hello)
        assert second.faults("bad_hello") == 1


async def test_a_frame_announced_too_long_closes_the_link_before_it_is_read(homes: NetworkHomes) -> None:
    async with _links(homes) as links:
        second = await links.start(1)
        third = await links.start(2)
        oversized = (links.network.frame_bytes_max_of(len(links.network.validators)) + 1).to_bytes(
            4, "little"
        )
        await _greet(homes, second, links.network, _hello(links.network) + oversized)
        assert second.faults("bad_frame") == 1
        await _healthy_link_is_untouched(second, third)


async def test_a_peer_that_does_not_read_loses_its_link_and_its_queue_stays_bounded(
    homes: NetworkHomes,
) -> None:
    async with _links(homes) as links:
        settings = replace(SETTINGS, queue_bytes=4 << 20)
        second, third = await links.start(1, settings), await links.start(2)
        stream = await trio.open_tcp_stream("127.0.0.1", second.address.port)
        tls = trio.SSLStream(
            stream, peer_context(homes.nodes[0], certificates(links.network), server_side=False)
        )
        await tls.send_all(_hello(links.network))
        await _until(lambda: 0 in second.transport.connected)
        while second.faults("queue_full") == 0:
            second.transport.send(0, frame(bytes(1 << 20)))
            assert second.transport.queued_bytes(0) <= (6 << 20) + links.network.frame_bytes_max_of(
                len(links.network.validators)
            )
            await trio.lowlevel.checkpoint()
        await _until(lambda: 0 not in second.transport.connected)
        await _healthy_link_is_untouched(second, third)


async def test_a_frame_that_is_no_message_closes_the_link_of_its_sender_only(homes: NetworkHomes) -> None:
    async with _links(homes) as links:
        second, third = await links.start(1), await links.start(2)
        await _greet(homes, second, links.network, _hello(links.network) + frame(b"fine") + frame(b"garbage"))
        assert second.faults("bad_frame") == 1
        assert "not a message" in second.log.getvalue()
        await _healthy_link_is_untouched(second, third)


async def test_the_longest_message_passes_the_smallest_queue(homes: NetworkHomes) -> None:
    async with _links(homes) as links:
        settings = replace(SETTINGS, queue_bytes=1 << 20)
        second, third = await links.start(1, settings), await links.start(2)
        await _until(lambda: 2 in second.transport.connected)
        longest = bytes(links.network.frame_bytes_max_of(len(links.network.validators)))
        second.transport.send(2, frame(longest))
        assert await third.inbox.receive() == (1, longest)
        assert second.faults("queue_full") == 0


async def test_who_left_is_dropped_and_who_comes_is_dialled(homes: NetworkHomes) -> None:
    async with _links(homes) as links:
        everybody = validators_of(links.network)
        few = replace(everybody, endpoints={row: everybody.endpoints[row] for row in (0, 1)})
        first, second, third = [await links.start(replica) for replica in (0, 1, 2)]
        await _until(lambda: first.transport.connected == [1, 2] and third.transport.connected == [0, 1])
        first.transport.follow(few)
        await _until(lambda: first.transport.connected == [1] and third.transport.connected == [1])
        first.transport.send(2, frame(b"nobody hears this"))
        first.transport.follow(everybody)
        await _until(lambda: first.transport.connected == [1, 2])
        first.transport.send(2, frame(b"hello again"))
        assert await third.inbox.receive() == (0, b"hello again")
        assert second.transport.connected == [0, 2]


async def test_a_validator_that_moved_is_dialled_at_its_new_address(homes: NetworkHomes) -> None:
    async with _links(homes) as links:
        before = validators_of(links.network)
        nowhere = replace(before.endpoints[1], peer=Address("127.0.0.1", 1))
        first = await links.start(0)
        first.transport.follow(replace(before, endpoints={**before.endpoints, 1: nowhere}))
        await links.start(1)
        first.transport.follow(before)
        await _until(lambda: first.transport.connected == [1])


async def test_an_entry_that_cannot_be_read_makes_its_validator_unreachable_only(homes: NetworkHomes) -> None:
    async with _links(homes) as links:
        everybody = validators_of(links.network)
        others = {row: place for row, place in everybody.endpoints.items() if row != 2}
        first = await links.start(0)
        first.transport.follow(replace(everybody, endpoints=others, unreachable={2: "no certificate"}))
        assert first.faults("unreadable_entry") == 1
        await links.start(1)
        await _until(lambda: first.transport.connected == [1])
