"""Wires through proxies: what is sent arrives in order, unless a direction is held, slow or narrow."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from node.network import Address
from testnet.chaos import proxy
from testnet.chaos.proxy import Direction, ProxyWires, open_proxies

pytestmark = pytest.mark.trio
SECONDS_MAX = 20


class Ends:
    """Validator 0 dials validator 1 through the wire between them."""

    def __init__(self, wires: ProxyWires, accepted: trio.MemoryReceiveChannel[trio.SocketStream]) -> None:
        self.wires = wires
        self.accepted = accepted

    async def connect(self) -> tuple[trio.SocketStream, trio.SocketStream]:
        dialler = await self.dial()
        await dialler.send_all(b"!")
        other = await self.accepted.receive()
        assert await other.receive_some(1) == b"!"
        return dialler, other

    async def dial(self) -> trio.SocketStream:
        (route,) = [text for text in self.wires.routes(0) if text.startswith("1=")]
        host, _, port = route.removeprefix("1=").rpartition(":")
        return await trio.open_tcp_stream(host, int(port))


@asynccontextmanager
async def ends() -> AsyncIterator[Ends]:
    with trio.fail_after(SECONDS_MAX):
        async with open_proxies(3) as wires, trio.open_nursery() as nursery:
            send, receive = trio.open_memory_channel[trio.SocketStream](10)

            async def accept(stream: trio.SocketStream) -> None:
                await send.send(stream)
                await trio.sleep_forever()

            listeners = await nursery.start(trio.serve_tcp, accept, 0)
            port = listeners[0].socket.getsockname()[1]
            wires.lead_to([Address("127.0.0.1", 1), Address("127.0.0.1", port), Address("127.0.0.1", 1)])
            yield Ends(wires, receive)
            nursery.cancel_scope.cancel()


async def receive_exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.receive_some(count - len(data)) or pytest.fail("closed")
    return data


async def nothing_arrives(stream: trio.SocketStream) -> bool:
    """Nothing within a moment in which a free wire carries something many times over."""
    with trio.move_on_after(0.1):
        await stream.receive_some(1)
        return False
    return True


async def test_only_the_lower_id_is_told_to_dial():
    async with open_proxies(3) as wires:
        assert [text.partition("=")[0] for text in wires.routes(0)] == ["1", "2"]
        assert [text.partition("=")[0] for text in wires.routes(1)] == ["2"]
        assert wires.routes(2) == ()


async def test_megabytes_pass_whole_both_ways_at_once():
    async with ends() as net:
        dialler, other = await net.connect()
        data = bytes(range(256)) * (1 << 13)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dialler.send_all, data)
            nursery.start_soon(other.send_all, data[::-1])
            assert await receive_exactly(other, len(data)) == data
            assert await receive_exactly(dialler, len(data)) == data[::-1]


async def test_a_held_direction_keeps_bytes_until_released_and_the_other_goes_on():
    async with ends() as net:
        dialler, other = await net.connect()
        net.wires.hold(0, 1)
        await dialler.send_all(b"late")
        await other.send_all(b"now")
        assert await receive_exactly(dialler, 3) == b"now"
        assert await nothing_arrives(other)
        net.wires.release(0, 1)
        assert await receive_exactly(other, 4) == b"late"


async def test_the_direction_back_is_held_by_itself():
    async with ends() as net:
        dialler, other = await net.connect()
        net.wires.hold(1, 0)
        await other.send_all(b"late")
        await dialler.send_all(b"now")
        assert await receive_exactly(other, 3) == b"now"
        assert await nothing_arrives(dialler)
        net.wires.release(1, 0)
        assert await receive_exactly(dialler, 4) == b"late"


async def test_no_connection_comes_about_while_one_direction_is_held():
    async with ends() as net:
        net.wires.hold(1, 0)
        dialler = await net.dial()
        await dialler.send_all(b"hello")
        with trio.move_on_after(0.1):
            await net.accepted.receive()
            pytest.fail("connected over a held wire")
        net.wires.release(1, 0)
        assert await receive_exactly(await net.accepted.receive(), 5) == b"hello"


async def test_a_reset_ends_both_sides_and_loses_what_was_held():
    async with ends() as net:
        dialler, other = await net.connect()
        net.wires.hold(0, 1)
        await dialler.send_all(b"lost")
        net.wires.reset(1, 0)
        for stream in (dialler, other):
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some(1) or (_ for _ in ()).throw(trio.BrokenResourceError)
        net.wires.release(0, 1)
        await net.connect()


async def test_when_one_end_closes_the_other_is_told():
    async with ends() as net:
        dialler, other = await net.connect()
        await other.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await dialler.receive_some(1) or (_ for _ in ()).throw(trio.BrokenResourceError)


async def test_a_sender_is_not_read_beyond_the_bound_while_its_direction_is_held(monkeypatch):
    """What a held wire takes from its sender is bounded, however much is sent."""
    monkeypatch.setattr(proxy, "PENDING_CHUNKS", 4)
    async with ends() as net:
        dialler, other = await net.connect()
        net.wires.hold(0, 1)
        data = bytes(64 << 20)
        with trio.move_on_after(0.5) as waited:
            await dialler.send_all(data)
        assert waited.cancelled_caught  # the rest stays with the sender
        net.wires.release(0, 1)
        assert await receive_exactly(other, 64 << 10) == bytes(64 << 10)


async def test_connections_of_a_wire_are_bounded(monkeypatch):
    monkeypatch.setattr(proxy, "CONNECTIONS_MAX", 1)
    async with ends() as net:
        await net.connect()
        refused = await net.dial()
        with pytest.raises(trio.BrokenResourceError):
            await refused.receive_some(1) or (_ for _ in ()).throw(trio.BrokenResourceError)


async def test_a_delay_holds_every_byte_so_long_and_keeps_the_order(autojump_clock: MockClock):
    direction = Direction(delay_s=0.2, jitter_s=0.05)
    source, sink = trio.testing.memory_stream_pair()
    far_source, far_sink = trio.testing.memory_stream_pair()
    wire = proxy.Wire.__new__(proxy.Wire)
    wire._rng = proxy.random.Random(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire._carry, sink, far_source, direction, trio.CancelScope())
        began = trio.current_time()
        for number in range(20):
            await source.send_all(b"%c" % number)
            await trio.sleep(0.001)
        assert await receive_exactly(far_sink, 1) == b"\0"
        assert 0.2 <= trio.current_time() - began <= 0.25
        assert await receive_exactly(far_sink, 19) == bytes(range(1, 20))
        assert trio.current_time() - began <= 0.02 + 0.25
        nursery.cancel_scope.cancel()


async def test_a_limit_spreads_bytes_over_time(autojump_clock: MockClock):
    direction = Direction(bytes_per_second=1000.0)
    began = trio.current_time()
    for _ in range(3):
        await direction.wait_turn(500)
    assert trio.current_time() - began == pytest.approx(1.5)
