"""Cancel on disconnect: a node submits the signed cancel it holds when a connection ends, and no more."""

import pytest
import trio

from engine.commands import ListMarket, RegisterAsset
from engine.envelope import encode_commands, encode_orders, orders_array
from engine.records import EVERY_MARKET, Op, Side
from node.client import farewell, open_client
from node.wills import WILL_BYTES_MAX
from tests.helpers.memory_network import memory_network
from tests.helpers.raw_client import raw_client
from tests.helpers.venue import NEVER, signer

pytestmark = pytest.mark.trio
TRADER = signer("trader")
CANCEL = (Op.CANCEL_ALL, 0, EVERY_MARKET, 1, 0, 0, 0)


@pytest.fixture
async def floor(tmp_path):
    """A network where account 1 has an order on the book."""
    async with memory_network(tmp_path) as net:
        net.ledger.now_ms = 1000
        async with open_client(net.network, net.ledger.admin, 0, prefer=0) as venue:
            await venue.command(RegisterAsset("BTC", 8, 0))
            await venue.command(RegisterAsset("USD", 2, 0))
            await venue.command(ListMarket("BTC-USD", 0, 1, 10**4, 1, 10**6, 10**9, 0, 100, 200))
            await venue.open_account(TRADER.public_key)
            await venue.deposit(1, "BTC", 100)
            async with open_client(net.network, TRADER, 1, prefer=0) as trader:
                await trader.place("BTC-USD", "sell", price="42000", qty="0.25")
            net.venue = venue
            yield net


async def orders_left(net):
    return len(await net.venue.orders(1))


async def until_gone(net):
    """Until the account has no order left: looked at again after every block."""
    proven = [trio.Event()]

    def on_block(_block):
        proven[0].set()

    net.nodes[0].on_proven_block(on_block)
    with trio.fail_after(20):
        while await orders_left(net):
            await proven[0].wait()
            proven[0] = trio.Event()


def cancels(net, ops=(CANCEL,), nonce=10**18):
    return encode_orders(TRADER, net.network.chain_id, 1, nonce, NEVER, orders_array(list(ops)))


async def test_orders_stay_when_a_client_leaves_that_asked_for_nothing(floor):
    assert await orders_left(floor) == 1


async def test_all_orders_go_when_the_client_goes(floor):
    async with open_client(floor.network, TRADER, 1, prefer=0) as trader:
        await trader.cancel_on_disconnect()
        await trader.place("BTC-USD", "sell", price="42100", qty="0.25")
        assert await orders_left(floor) == 2
    await until_gone(floor)


async def test_who_takes_it_back_keeps_their_orders(floor):
    async with open_client(floor.network, TRADER, 1, prefer=0) as trader:
        await trader.cancel_on_disconnect()
        await trader.stay_on_disconnect()
    async with open_client(floor.network, TRADER, 1, prefer=0) as trader:
        await trader.place("BTC-USD", "sell", price="42100", qty="0.25")
    assert await orders_left(floor) == 2


async def test_it_is_left_anew_before_its_nonce_is_too_old(floor, monkeypatch):
    monkeypatch.setattr(farewell, "_NONCES", 2)
    monkeypatch.setattr(farewell, "LOOK_SECONDS", 0.001)
    async with open_client(floor.network, TRADER, 1, prefer=0) as trader:
        await trader.cancel_on_disconnect()
        held, n = set(), 0
        while len(held) < 2 and n < 200:
            n += 1
            await trader.place("BTC-USD", "sell", price=str(42100 + 100 * n), qty="0.25")
            held |= {bytes(item.will[0]) for item in floor.ports[0]._open if item.will}
    assert len(held) == 2
    await until_gone(floor)


async def test_a_newer_will_takes_the_place_of_an_older_one_and_an_empty_one_ends_it(floor):
    async with raw_client(floor.network) as client:
        assert (await client.ask("will", cancels(floor))).error is None
        assert (await client.ask("will", b"")).error is None
    async with raw_client(floor.network) as client:
        assert (await client.ask("status")).error is None
    assert await orders_left(floor) == 1
    async with raw_client(floor.network) as client:
        assert (await client.ask("will", cancels(floor))).error is None
    await until_gone(floor)


@pytest.mark.parametrize(
    "make",
    [
        lambda net: cancels(net, [CANCEL] * (WILL_BYTES_MAX // 32)),
        lambda net: cancels(net, [CANCEL, (Op.NEW, Side.BUY, 0, 1, 9, 100, 1)]),
        lambda net: encode_commands(TRADER, net.network.chain_id, 1, 1, NEVER, b"\x90"),
        lambda net: encode_orders(TRADER, bytes(32), 1, 1, NEVER, orders_array([CANCEL])),
    ],
)
async def test_nothing_but_a_short_cancel_for_this_chain_may_be_left(floor, make):
    async with raw_client(floor.network) as client:
        reply = await client.ask("will", make(floor))
        assert reply.error is not None and reply.error[0] == "BAD_PARAMS"
    assert await orders_left(floor) == 1


async def test_a_will_that_somebody_else_signed_cancels_nothing(floor):
    data = cancels(floor)
    async with raw_client(floor.network) as client:
        assert (await client.ask("will", data[:-1] + bytes([data[-1] ^ 1]))).error is None
    async with open_client(floor.network, TRADER, 1, prefer=0) as trader:
        await trader.place("BTC-USD", "sell", price="42100", qty="0.25")
    assert await orders_left(floor) == 2
