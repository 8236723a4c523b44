"""Bad input on the client port: one precise code each, paid by its sender, and nobody else notices."""

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from consensus.light import LightClient
from consensus.primitives.crypto import digest
from consensus.primitives.errors import InputError, LedgerError, StorageError
from engine.batch import encode_batch
from engine.envelope import decode
from engine.records import Code, Op, Side, TimeInForce
from node import ingress
from node.client import orders
from node.config import AdmissionSettings
from node.receipts import RECEIPTS, Outcome, Receipt, ReceiptVerifier
from node.sockets import keep_alive
from node.wire import REQUEST_BYTES_MAX, VERSION, Detail, Reply, Request, encode_request, frame
from tests.helpers.memory_network import MemoryNetwork, memory_network
from tests.helpers.raw_client import RawClient, raw_client
from tests.helpers.trading_setup import PRICE_MAX, QTY_MAX, TRADERS, Trading
from tests.helpers.venue import signer

pytestmark = pytest.mark.trio


class _Floor:
    """A network with a market, a client that behaves, and the state before a test did anything."""

    def __init__(self, net: MemoryNetwork, bystander: RawClient) -> None:
        self.net = net
        self.trading = Trading(net.ledger)
        self.bystander = bystander
        self.before = net.state()

    def read(self, reply: Reply, data: bytes) -> Outcome:
        """The outcome that a reply to `submit` proves."""
        assert reply.error is None, reply.error
        receipt = RECEIPTS.from_fields(Receipt, reply.result)
        verifier = ReceiptVerifier(LightClient(self.net.network.chain_id, self.net.network.replicas.record))
        return verifier.verify(receipt, decode(data).digest, Detail.RESULTS)

    async def submit(self, client: RawClient, data: bytes) -> Outcome:
        return self.read(await client.ask("submit", data, "results"), data)

    async def check_nothing_happened(self) -> None:
        """The state is as it was, and the bystander is still served."""
        assert self.net.state() == self.before
        assert (await self.bystander.ask("status")).error is None


@pytest.fixture
def open_floor(tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def opened(**settings: int) -> AsyncIterator[_Floor]:
        async with (
            memory_network(tmp_path, settings=AdmissionSettings(**settings)) as net,
            raw_client(net.network) as bystander,
        ):
            yield _Floor(net, bystander)

    return opened


# -- bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame(b"\xc1garbage"), "not msgpack"),
        (frame(b"\x93\xcc\x01\xa6status\x90"), "canonical"),
        (b"\x00\x00\x00\x00", "frame of 0 bytes"),
        ((REQUEST_BYTES_MAX + 1).to_bytes(4, "little"), "frame of 1048577 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "frame of 542393671 bytes"),
    ],
)
async def test_bytes_that_are_no_request_close_their_connection(open_floor, data, why):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        await client.send(data)
        code, message = await client.goodbye()
        assert code == "BAD_FRAME" and why in message
        assert floor.net.refused("BAD_FRAME") == 1
        await floor.check_nothing_happened()


async def test_a_client_without_tls_is_cut_off(open_floor):
    async with open_floor() as floor:
        address = floor.net.network.validators[0].client_address
        stream = await trio.open_tcp_stream(address.host, address.port)
        await stream.send_all(b"\x00" * 100)
        while await stream.receive_some(100):
            pass
        await floor.check_nothing_happened()


async def test_an_older_tls_version_is_refused(open_floor):
    async with open_floor() as floor:
        validator = floor.net.network.validators[0]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        tcp = await trio.open_tcp_stream(validator.client_address.host, validator.client_address.port)
        with pytest.raises(trio.BrokenResourceError):
            await trio.SSLStream(tcp, context).do_handshake()
        await floor.check_nothing_happened()


@pytest.mark.parametrize(
    ("name", "sent", "why"),
    [
        ("GREETING_SECONDS", b"", "no hello"),
        ("FRAME_SECONDS", b"\x10\x00\x00\x00half", "not finished"),
    ],
)
async def test_slow_bytes_close_their_connection(open_floor, monkeypatch, name, sent, why):
    async with open_floor() as floor:
        monkeypatch.setattr(ingress, name, 0.2)
        async with raw_client(floor.net.network, greet=bool(sent)) as client:
            await client.send(sent) if sent else None
            code, message = await client.goodbye()
        assert code == "TOO_SLOW" and why in message
        assert floor.net.refused("TOO_SLOW") == 1
        await floor.check_nothing_happened()


async def test_a_client_that_never_shakes_hands_is_cut_off(open_floor, monkeypatch):
    async with open_floor() as floor:
        monkeypatch.setattr(ingress, "GREETING_SECONDS", 0.05)
        address = floor.net.network.validators[0].client_address
        stream = await trio.open_tcp_stream(address.host, address.port)
        while await stream.receive_some(100):
            pass
        await floor.check_nothing_happened()
        assert floor.net.refused("TOO_SLOW") == 1


async def test_a_client_that_does_not_read_its_answers_is_cut_off(open_floor, monkeypatch):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        monkeypatch.setattr(ingress, "WRITE_SECONDS", 0.2)
        data = floor.trading.orders([orders.cancel(0, 1, number) for number in range(4000)])
        name = (await floor.submit(client, data)).envelope_digest
        floor.before = floor.net.state()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.post("receipt", name, "results")
        assert floor.net.refused("TOO_SLOW") == 1
        await floor.check_nothing_happened()


async def _make_long_receipt(floor: _Floor, client: RawClient) -> bytes:
    """The digest of an envelope whose receipt takes some 300 KiB."""
    data = floor.trading.orders([orders.cancel(0, 1, number) for number in range(4000)])
    name = (await floor.submit(client, data)).envelope_digest
    floor.before = floor.net.state()
    return name


async def _ask_without_reading(client: RawClient, name: bytes, count: int) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        for _ in range(count):
            await client.post("receipt", name, "results")


async def test_answers_that_pile_up_close_the_connection_at_once(open_floor, monkeypatch):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        name = await _make_long_receipt(floor, client)
        monkeypatch.setattr(ingress, "REPLY_BYTES_MAX", 1 << 20)
        with trio.fail_after(ingress.WRITE_SECONDS / 2):
            while not floor.net.refused("TOO_SLOW"):
                await _ask_without_reading(client, name, 1)
        await floor.check_nothing_happened()


async def test_who_does_not_read_is_not_read_and_loses_nothing(open_floor, monkeypatch):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        name = await _make_long_receipt(floor, client)
        monkeypatch.setattr(ingress, "UNREAD_BYTES_MAX", 1 << 18)
        port, most = floor.net.ports[0], 0
        count_unread = port.count_unread

        def count(change: int) -> None:
            nonlocal most
            count_unread(change)
            most = max(most, port.unread_bytes)

        monkeypatch.setattr(port, "count_unread", count)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ask_without_reading, client, name, 30)
            replies = [await client.reply(number) for number in range(3, 33)]
        assert all(reply.error is None for reply in replies)
        assert 0 < most <= (1 << 18) + (ingress.QUERIES_MAX + 1) * (400 << 10)
        assert port.unread_bytes == 0


async def test_who_reads_least_makes_room_for_the_answers_of_others(open_floor, monkeypatch):
    async with (
        open_floor() as floor,
        raw_client(floor.net.network) as greedy,
        raw_client(floor.net.network) as modest,
    ):
        name = await _make_long_receipt(floor, modest)
        monkeypatch.setattr(ingress, "REPLIES_BYTES_MAX", 1 << 20)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ask_without_reading, greedy, name, 1 << 20)
            while not floor.net.refused("TOO_SLOW"):
                assert (await modest.ask("receipt", name, "results")).error is None
            nursery.cancel_scope.cancel()
        assert floor.net.ports[0].unread_bytes <= 1 << 20
        assert (await modest.ask("receipt", name, "results")).error is None
        await floor.check_nothing_happened()


# -- requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("status", [], "HELLO_FIRST"),
        ("hello", [VERSION], "BAD_PARAMS"),
        ("hello", [VERSION + 1, b"\0" * 32], "WRONG_VERSION"),
        ("hello", [VERSION, digest("another chain")], "WRONG_CHAIN"),
    ],
)
async def test_a_wrong_greeting_closes_the_connection(open_floor, method, params, code):
    async with open_floor() as floor, raw_client(floor.net.network, greet=False) as client:
        await client.send(encode_request(Request(1, method, params)))
        assert (await client.goodbye())[0] == code
        assert floor.net.refused(code) == 1
        await floor.check_nothing_happened()


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("no_such_method", [], "UNKNOWN_METHOD"),
        ("hello", [VERSION, b""], "UNKNOWN_METHOD"),
        ("status", [1], "BAD_PARAMS"),
        ("account", ["1"], "BAD_PARAMS"),
        ("account", [-1], "BAD_PARAMS"),
        ("account", [99], "NOT_FOUND"),
        ("key", [b"short"], "BAD_PARAMS"),
        ("key", [b"\0" * 32], "NOT_FOUND"),
        ("receipt", [b"short", "summary"], "BAD_PARAMS"),
        ("receipt", [b"\0" * 32, "everything"], "BAD_PARAMS"),
        ("receipt", [b"\0" * 32, "summary"], "NOT_FOUND"),
        ("submit", [b"", "summary"], "MALFORMED"),
        ("submit", [bytes(200), "summary"], "MALFORMED"),
        ("submit", ["text", "summary"], "BAD_PARAMS"),
    ],
)
async def test_a_wrong_request_is_refused_and_the_connection_lives(open_floor, method, params, code):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        assert await client.refusal(method, *params) == code
        assert floor.net.refused(code) == 1
        assert (await client.ask("status")).error is None
        await floor.check_nothing_happened()


async def test_an_id_that_is_still_under_way_closes_the_connection(open_floor):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        await client.send(encode_request(Request(7, "status", [])) * 300)
        code, message = await client.goodbye()
        assert code == "BAD_FRAME" and "request 7 is still under way" in message
        assert floor.net.refused("BAD_FRAME") == 1
        await floor.check_nothing_happened()


async def test_a_client_that_waits_for_room_too_long_is_cut_off(open_floor, monkeypatch):
    async with open_floor(client_queue_bytes=1 << 16) as floor, raw_client(floor.net.network) as client:
        monkeypatch.setattr(ingress, "WRITE_SECONDS", 0.2)
        floor.net.ledger.hold = True
        big = [orders.cancel(0, 1, number) for number in range(4000)]
        await client.post("submit", floor.trading.orders(big), "summary")
        code, message = await client.goodbye()
        assert code == "TOO_SLOW" and "1 requests are under way" in message
        await floor.check_nothing_happened()


async def test_a_client_that_vanished_is_noticed_by_its_socket(open_floor, monkeypatch):
    streams: list[trio.SocketStream] = []
    monkeypatch.setattr(
        ingress, "keep_alive", lambda stream, _: streams.append(stream) or keep_alive(stream, 60)
    )
    async with open_floor():
        assert streams
        assert streams[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_many_bad_requests_in_a_row_cost_the_connection(open_floor):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        for _ in range(ingress.STRIKES_MAX + 1):
            await client.post("no_such_method")
        code, message = await client.goodbye()
        assert code == "MISBEHAVED" and "UNKNOWN_METHOD" in message
        await floor.check_nothing_happened()


async def test_too_many_connections_are_told_so_and_those_before_stay(open_floor):
    async with open_floor(client_connections=1) as floor:
        async with raw_client(floor.net.network, greet=False) as client:
            code, message = await client.goodbye()
        assert code == "TOO_MANY_CONNECTIONS" and "use another node" in message
        await floor.check_nothing_happened()


async def test_a_client_with_many_queries_under_way_waits_and_gets_all_its_answers(open_floor, monkeypatch):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        node = floor.net.nodes[0]
        ready, asked, query = trio.Event(), 0, node.query

        async def slow(read):
            nonlocal asked
            asked += 1
            await ready.wait()
            return await query(read)

        with monkeypatch.context() as patch:
            patch.setattr(node, "query", slow)
            ids = range(10, 50)
            await client.send(b"".join(encode_request(Request(number, "assets", [])) for number in ids))
            while asked < ingress.QUERIES_MAX:
                await trio.sleep(0.01)
            for _ in range(5):
                assert (await floor.bystander.ask("status")).error is None
            assert asked == ingress.QUERIES_MAX
            ready.set()
            for number in ids:
                assert (await client.reply(number)).error is None
        await floor.check_nothing_happened()


# -- envelopes ----------------------------------------------------------------------------------

ORDER = orders.new(0, 1, 1, Side.SELL, 100, 10)


def _flipped(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda t: t.orders([ORDER], chain_id=digest("elsewhere")), "WRONG_CHAIN"),
        (lambda t: t.orders([ORDER], expiry_ms=t.ledger.now_ms), "ENVELOPE_EXPIRED"),
        (lambda t: _flipped(t.orders([ORDER]), 100), "BAD_SIGNATURE"),  # the signature
        (lambda t: _flipped(t.orders([ORDER]), -1), "BAD_SIGNATURE"),  # an order under it
        (lambda t: _flipped(t.orders([ORDER]), 80), "BAD_SIGNATURE"),  # the nonce
        (lambda t: t.orders([ORDER], by=signer("stranger")), "UNKNOWN_KEY"),
        (lambda t: t.orders([ORDER], account=2), "NOT_AUTHORISED"),
        (lambda t: t.orders([ORDER])[:-8], "MALFORMED"),
        (lambda t: t.orders([ORDER]) + bytes(8), "MALFORMED"),
        (lambda t: _flipped(t.orders([ORDER]), 0), "MALFORMED"),
    ],
)
async def test_a_bad_envelope_is_refused_at_the_door(open_floor, make, code):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        assert await client.refusal("submit", make(floor.trading), "summary") == code
        assert floor.net.refused(code) == 1
        assert floor.net.nodes[0].batches == []
        await floor.check_nothing_happened()


async def test_replayed_nonces_are_refused_and_reordered_ones_are_not(open_floor):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        first = floor.trading.orders([ORDER], nonce=5000)
        assert (await floor.submit(client, first)).accepted == 1
        after = floor.net.state()
        again = floor.trading.orders([orders.cancel(0, 1, 1)], nonce=5000)
        assert await client.refusal("submit", again, "summary") == "NONCE_USED"
        stale = floor.trading.orders([ORDER], nonce=5000 - 1024)
        assert await client.refusal("submit", stale, "summary") == "NONCE_TOO_OLD"
        assert floor.net.state() == after
        late = floor.trading.orders([orders.cancel(0, 1, 1)], nonce=4999)
        assert (await floor.submit(client, late)).accepted == 1


async def test_the_same_envelope_again_gets_the_same_receipt_and_runs_once(open_floor):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        data = floor.trading.orders([ORDER])
        first = await client.ask("submit", data, "results")
        after = floor.net.state()
        second = await floor.bystander.ask("submit", data, "results")
        third = await client.ask("receipt", decode(data).digest, "results")
        assert first.result == second.result == third.result
        assert floor.net.state() == after


async def test_an_envelope_on_its_way_is_sent_once_and_answers_everybody(open_floor):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        floor.net.ledger.hold = True
        data = floor.trading.orders([ORDER])
        waiting = await client.post("submit", data, "results")
        await floor.net.nodes[0].wait_asked()
        other = await floor.bystander.post("submit", data, "results")
        asked = await floor.bystander.post("receipt", decode(data).digest, "results")
        assert (await floor.bystander.ask("status")).error is None
        floor.net.ledger.run_block()
        outcome = floor.read(await client.reply(waiting), data)
        assert outcome.accepted == 1
        for request_id in (other, asked):
            assert floor.read(await floor.bystander.reply(request_id), data).height == outcome.height
        assert len(floor.net.nodes[0].batches) == 1


async def test_a_copy_that_reaches_a_block_beside_the_first_has_no_effect(open_floor):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        floor.net.ledger.hold = True
        data = floor.trading.orders([ORDER])
        waiting = await client.post("submit", data, "results")
        await floor.net.nodes[0].wait_asked()
        # Another node got it too, and gathered it with something else.
        floor.net.ledger.submit(encode_batch([data, floor.trading.orders([orders.cancel_all(1)])]))
        block = floor.net.ledger.run_block()
        codes = [int(block.result.journal[item.record_index]["code"]) for item in block.result.envelopes]
        assert codes == [Code.OK, Code.NONCE_USED, Code.OK]
        assert floor.read(await client.reply(waiting), data).code is Code.OK


async def test_a_full_queue_says_so_to_who_fills_it_and_drains_afterwards(open_floor):
    async with open_floor(queue_bytes=1 << 20, batch_bytes=1024, batch_ms=0) as floor:
        node = floor.net.nodes[0]
        node.refusal = InputError("OVERLOADED", "the protocol is behind")
        async with raw_client(floor.net.network) as client:
            big = [orders.cancel(0, 1, number) for number in range(4000)]
            envelopes = [floor.trading.orders(big) for _ in range(10)]
            ids = [await client.post("submit", data, "summary") for data in envelopes]
            refused = [await client.reply(request_id) for request_id in ids[8:]]
            assert [reply.error and reply.error[0] for reply in refused] == ["QUEUE_FULL"] * 2
            await floor.check_nothing_happened()
            node.refusal = None
            for request_id in ids[:8]:
                assert (await client.reply(request_id)).error is None
        assert floor.net.refused("QUEUE_FULL") == 2


async def test_a_halted_node_says_so(open_floor):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        floor.net.nodes[0].refusal = InputError("HALTED", "this node no longer votes: use another")
        assert await client.refusal("submit", floor.trading.orders([ORDER]), "summary") == "HALTED"
        await floor.check_nothing_happened()


async def test_a_client_with_too_much_under_way_waits_and_others_do_not(open_floor):
    async with open_floor(client_queue_bytes=1 << 20) as floor, raw_client(floor.net.network) as client:
        floor.net.ledger.hold = True
        big = [orders.cancel(0, 1, number) for number in range(4000)]
        envelopes = [floor.trading.orders(big) for _ in range(20)]
        ids: list[int] = []

        async def post_all() -> None:
            for data in envelopes:
                ids.append(await client.post("submit", data, "summary"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(post_all)
            while len(floor.net.nodes[0].batches) < 4:
                await floor.net.nodes[0].wait_asked()
            assert (await floor.bystander.ask("status")).error is None
            floor.net.ledger.hold = False
            floor.net.ledger.run_block()
        for request_id in ids:
            assert (await client.reply(request_id)).error is None


# -- orders: the ledger itself refuses these, one by one ------------------------------------------


def _order(**change: int) -> tuple[int, ...]:
    fields: dict[str, Any] = {
        "market": 0, "account": 1, "client_order_id": 7, "side": Side.SELL, "price": 100, "qty": 10
    }  # fmt: skip
    return orders.new(**{**fields, **change})


ORDERS = [
    ((9, 0, 0, 1, 7, 100, 10), Code.BAD_OP),
    ((Op.NEW, 255, 0, 1, 7, 100, 10), Code.BAD_OP),
    (_order(market=1), Code.UNKNOWN_MARKET),
    (_order(market=65535), Code.UNKNOWN_MARKET),
    (_order(account=2**32 - 1), Code.UNKNOWN_ACCOUNT),
    (_order(account=2), Code.NOT_AUTHORISED),
    (_order(price=0), Code.PRICE_OUT_OF_RANGE),
    (_order(price=-1), Code.PRICE_OUT_OF_RANGE),
    (_order(price=PRICE_MAX + 1), Code.PRICE_OUT_OF_RANGE),
    (_order(price=2**63 - 1), Code.PRICE_OUT_OF_RANGE),
    (_order(qty=0), Code.QTY_OUT_OF_RANGE),
    (_order(qty=-5), Code.QTY_OUT_OF_RANGE),
    (_order(qty=QTY_MAX + 1), Code.QTY_OUT_OF_RANGE),
    (_order(qty=2**63 - 1), Code.QTY_OUT_OF_RANGE),
    (_order(price=PRICE_MAX, qty=QTY_MAX), Code.NOTIONAL_TOO_LARGE),
    (_order(price=1, qty=1), Code.NOTIONAL_TOO_SMALL),
    (_order(client_order_id=1), Code.DUPLICATE_ORDER_ID),
    (_order(price=10, qty=2**37), Code.INSUFFICIENT_FUNDS),
    (_order(tif=TimeInForce.IOC), Code.NO_LIQUIDITY),
    (_order(tif=TimeInForce.FOK), Code.NOT_FILLABLE),
    (orders.cancel(0, 1, 555), Code.UNKNOWN_ORDER),
    (orders.reduce(0, 1, 555, 1), Code.UNKNOWN_ORDER),
    (orders.replace(0, 1, 555, 100, 1), Code.UNKNOWN_ORDER),
]


async def test_orders_out_of_bounds_are_refused_one_by_one_and_touch_no_table(open_floor):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        assert (await floor.submit(client, floor.trading.orders([ORDER]))).accepted == 1
        machine = floor.net.ledger.machine
        before = machine.table_roots()
        outcome = await floor.submit(client, floor.trading.orders([order for order, _ in ORDERS]))
        assert outcome.code is Code.OK and outcome.accepted == 0
        assert outcome.results is not None
        for line, (order, code) in zip(outcome.results, ORDERS, strict=True):
            assert Code(int(line["code"])) is code, order
        changed = {name for name, root in machine.table_roots().items() if root != before[name]}
        assert changed <= {"counters", "keys", "nonces"}  # height, time, and the nonce that was used
        machine.check_conservation()


async def test_a_bad_order_beside_good_ones_stops_none_of_them(open_floor):
    async with open_floor() as floor, raw_client(floor.net.network) as client:
        data = floor.trading.orders([ORDER, ORDER, _order(price=0), _order(client_order_id=2)])
        outcome = await floor.submit(client, data)
        assert outcome.results is not None
        assert outcome.results["code"].tolist() == [
            Code.OK,
            Code.DUPLICATE_ORDER_ID,
            Code.PRICE_OUT_OF_RANGE,
            Code.OK,
        ]
        other = floor.trading.orders([_order(account=2)], by=TRADERS[1], account=2)
        assert (await floor.submit(floor.bystander, other)).accepted == 1


async def test_a_defect_that_one_client_finds_ends_its_connection_only(open_floor, monkeypatch):
    async with open_floor() as floor, raw_client(floor.net.network) as client:

        def broken(*_):
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(ingress, "find_query", broken)
            await client.send(encode_request(Request(2, "status", [])))
            with pytest.raises((EOFError, trio.BrokenResourceError)):
                await client.goodbye()
        assert floor.net.refused("INTERNAL") == 1
        await floor.check_nothing_happened()


@pytest.mark.parametrize("error", [StorageError("damaged"), OSError(5, "unreadable")])
async def test_a_disk_that_fails_refuses_the_requests_that_need_it_and_no_others(
    open_floor, monkeypatch, error: LedgerError | OSError
):
    async def failing(*_):
        await trio.lowlevel.checkpoint()
        raise error

    async with open_floor() as floor, raw_client(floor.net.network) as client:
        data = floor.trading.orders([ORDER])
        outcome = await floor.submit(client, data)
        floor.before = floor.net.state()
        for name in ("query", "load_block", "find_envelope"):
            with monkeypatch.context() as patch:
                patch.setattr(floor.net.nodes[0], name, failing)
                method, params = (
                    ("assets", []) if name == "query" else ("receipt", [decode(data).digest, "summary"])
                )
                assert await client.refusal(method, *params) == "HALTED"
        with monkeypatch.context() as patch:
            patch.setattr(floor.net.nodes[0], "load_block", failing)
            assert await client.refusal("submit", data, "summary") == "HALTED"
        assert floor.net.refused("INTERNAL") == 0
        assert floor.read(await client.ask("submit", data, "results"), data).height == outcome.height
        await floor.check_nothing_happened()


async def test_a_disk_that_fails_while_a_refused_copy_is_looked_up_stops_nobody(open_floor, monkeypatch):
    async def failing(*_):
        await trio.lowlevel.checkpoint()
        raise StorageError("damaged")

    async with open_floor() as floor, raw_client(floor.net.network) as client:
        floor.net.ledger.hold = True
        floor.net.ledger.submit(encode_batch([floor.trading.orders([orders.cancel_all(1)], nonce=5000)]))
        waiting = await client.post("submit", floor.trading.orders([ORDER], nonce=5000), "results")
        await floor.net.nodes[0].wait_asked()
        monkeypatch.setattr(floor.net.nodes[0], "find_envelope", failing)
        floor.net.ledger.run_block()
        reply = await client.reply(waiting)
        assert reply.error is not None and reply.error[0] == "HALTED"
        assert (await client.ask("status")).error is None
