"""The SDK against client ports: friendly calls, proofs checked, retries that never execute twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import trio

from consensus.primitives.errors import ConfigError, InputError
from consensus.primitives.trees import compute_journal_root
from consensus.proofs import ATTEST, Vote, compute_result_digest, signing_digest
from engine.batch import encode_batch, split_batch
from engine.commands import ListMarket, RegisterAsset
from engine.envelope import decode, encode_orders, orders_array
from engine.layout import Scope
from engine.records import Code, Side
from node import desk
from node.client import (
    Balance,
    BlockingClient,
    Client,
    NotConnected,
    NotFound,
    OutcomeUnknown,
    Refused,
    Rejected,
    UnitError,
    open_client,
    orders,
)
from node.client import submit as submitting
from node.network import Address
from node.receipts import Receipt
from node.services import ProvenBlock
from node.setup import with_addresses
from node.wire import Detail
from tests.helpers.memory_network import MemoryNetwork, memory_network
from tests.helpers.venue import signer

pytestmark = pytest.mark.trio
TRADER = signer("trader")


@asynccontextmanager
async def _market(tmp_path: Path, n: int = 4) -> AsyncIterator[tuple[MemoryNetwork, Client, Client]]:
    """A network, the venue's client, and the client of account 1, which has 100 BTC and 1,000,000 USD."""
    async with memory_network(tmp_path, n) as net:
        net.ledger.now_ms = 1000  # long before any expiry
        async with (
            open_client(net.network, net.ledger.admin, 0, prefer=0) as venue,
            open_client(net.network, TRADER, 1, prefer=0) as trader,
        ):
            await venue.command(RegisterAsset("BTC", 8, 0))
            await venue.command(RegisterAsset("USD", 2, 0))
            await venue.command(ListMarket("BTC-USD", 0, 1, 10**4, 1, 10**6, 10**9, 0, 100, 200))
            assert await venue.open_account(TRADER.public_key) == 1
            await venue.deposit(1, "BTC", 100)
            await venue.deposit(1, "USD", "1000000")
            yield net, venue, trader


async def test_a_client_trades_with_exact_units_and_proven_outcomes(tmp_path):
    async with _market(tmp_path) as (net, venue, trader):
        sell = await trader.place("BTC-USD", "sell", price="42000", qty="0.25")
        assert (sell.filled, sell.open) == (0, Decimal("0.25"))
        assert (await trader.orders())[0].client_order_id == sell.client_order_id
        assert [(item.best_bid, item.best_ask) for item in await trader.markets()] == [(0, 420)]
        assert (await trader.balances())[0] == Balance("BTC", Decimal("99.75"), Decimal("0.25"))
        await venue.deposit(0, "USD", 100_000)
        buy = await venue.place("BTC-USD", "buy", price="42000", qty="0.1", tif="IOC")
        assert (buy.filled, buy.open) == (Decimal("0.1"), 0)
        assert (await trader.cancel("BTC-USD", sell.client_order_id)).accepted == 1
        assert (await trader.cancel_all()).accepted == 1
        assert await trader.orders() == []
        assert (await trader.receipt(sell.outcome.envelope_digest)).height == sell.outcome.height
        assert (await trader.status()).executed == net.ledger.machine.height
        assert (await trader.key()).envelopes == 3


async def test_what_the_ledger_refuses_is_raised_with_its_code(tmp_path):
    async with _market(tmp_path) as (_, venue, trader):
        with pytest.raises(Rejected) as caught:
            await trader.place("BTC-USD", "sell", price=42000, qty=101)
        assert caught.value.code is Code.INSUFFICIENT_FUNDS
        assert caught.value.outcome.operations == 1
        with pytest.raises(Rejected, match="UNKNOWN_ORDER: the ledger refused the cancel"):
            await trader.cancel("BTC-USD", 5)
        with pytest.raises(Rejected, match="NOT_AUTHORISED: the ledger refused deposit"):
            await trader.deposit(1, "BTC", 1)
        with pytest.raises(Rejected, match="NAME_TAKEN"):
            await venue.command(RegisterAsset("BTC", 8, 0))
        with pytest.raises(UnitError, match="multiple of the tick"):
            await trader.place("BTC-USD", "sell", price="42000.01", qty=1)
        with pytest.raises(UnitError, match="no market"):
            await trader.cancel("DOGE-USD", 1)


async def test_an_array_of_orders_has_a_line_each_and_raises_for_none(tmp_path):
    async with _market(tmp_path) as (_, _, trader):
        good = [orders.new(0, 1, number, Side.SELL, 420, 1) for number in range(1, 1001)]
        outcome = await trader.submit_orders(orders_array([*good, good[0]]))
        assert (outcome.operations, outcome.accepted) == (1001, 1000)
        assert outcome.results is not None
        assert outcome.results["code"].tolist() == [Code.OK] * 1000 + [Code.DUPLICATE_ORDER_ID]
        summary = await trader.submit_orders(orders_array([orders.cancel_all(1)]), Detail.SUMMARY)
        assert summary.accepted == 1 and summary.results is None


async def test_cancel_all_goes_on_until_nothing_is_left(tmp_path):
    """More orders than the ledger lets one operation cancel."""
    async with _market(tmp_path) as (_, _, trader):
        many = [orders.new(0, 1, number, Side.SELL, 420, 1) for number in range(1, 2501)]
        assert (await trader.submit_orders(orders_array(many), Detail.SUMMARY)).accepted == 2500
        assert (await trader.cancel_all()).accepted == 1
        assert await trader.orders() == []


async def test_keys_can_be_granted_and_revoked_and_value_moved(tmp_path):
    async with _market(tmp_path) as (net, venue, trader):
        guest = signer("guest")
        await trader.grant_key(guest.public_key, int(Scope.TRADE))
        async with open_client(net.network, guest, 1) as helper:
            assert (await helper.place("BTC-USD", "buy", price=100, qty=1)).open == 1
            with pytest.raises(Rejected, match="NOT_AUTHORISED"):
                await helper.withdraw("BTC", 1)
            await trader.revoke_key(guest.public_key)
            with pytest.raises(Refused) as caught:
                await helper.cancel_all()
            assert caught.value.code == "NOT_AUTHORISED"
        await trader.transfer(0, "BTC", "0.5")
        await trader.withdraw("BTC", "0.5")
        assert (await venue.balances(0))[0].available == Decimal("0.5")
        assert (await trader.balances())[0].available == Decimal(99)


async def test_many_requests_share_one_connection(tmp_path):
    async with _market(tmp_path) as (net, _, trader):
        outcomes = []

        async def place(number: int) -> None:
            order = orders.new(0, 1, number, Side.SELL, 420, 1)
            outcomes.append(await trader.submit_orders(orders_array([order])))

        async with trio.open_nursery() as nursery:
            for number in range(1, 201):
                nursery.start_soon(place, number)
        assert sum(outcome.accepted for outcome in outcomes) == 200
        assert len(net.nodes[0].batches) < 200  # some shared a micro-batch


async def test_clients_that_share_a_key_overtake_one_another_and_go_on(tmp_path):
    async with _market(tmp_path) as (net, _, trader):
        async with open_client(net.network, TRADER, 1, prefer=2) as other:
            other._nonce = trader._nonce + 2000  # as if it had started two milliseconds later
            assert (await other.cancel_all()).accepted == 1
            assert (await trader.cancel_all()).accepted == 1
            assert (await other.cancel_all()).accepted == 1
        assert net.refused("NONCE_TOO_OLD", 0) == net.refused("NONCE_TOO_OLD", 1) == 1


# -- nodes that fail, stall or lie -----------------------------------------------------------------


async def test_a_silent_node_is_left_for_another_and_nothing_runs_twice(tmp_path, monkeypatch):
    async with _market(tmp_path) as (net, _, trader):
        monkeypatch.setattr(submitting, "ATTEMPT_SECONDS", 0.3)
        net.nodes[0].silent = True
        placed = await trader.place("BTC-USD", "sell", price=42000, qty=1)
        assert placed.open == 1
        assert len(net.nodes[0].batches) >= 1  # it took the envelope, and executed it
        assert len(await trader.orders()) == 1
        assert (await trader.balances())[0].held == 1


async def test_a_busy_or_halted_node_is_left_for_another(tmp_path):
    async with _market(tmp_path) as (net, _, trader):
        net.nodes[0].refusal = InputError("HALTED", "this node no longer votes")
        assert (await trader.place("BTC-USD", "sell", price=42000, qty=1)).open == 1
        for node in net.nodes:
            node.refusal = net.nodes[0].refusal
        with pytest.raises(Refused) as caught:
            await trader.place("BTC-USD", "sell", price=42000, qty=1)
        assert caught.value.code == "HALTED"


async def test_a_node_that_cannot_be_reached_is_left_for_another(tmp_path):
    async with _market(tmp_path) as (net, _, _):
        peers = [item.peer_address for item in net.network.validators]
        clients = [item.client_address for item in net.network.validators]
        nowhere = Address("127.0.0.1", 1)
        most = with_addresses(net.network, peers, [nowhere, *clients[1:]])
        async with open_client(most, TRADER, 1, prefer=0) as client:
            assert (await client.place("BTC-USD", "sell", price=42000, qty=1)).open == 1
        dead = with_addresses(net.network, peers, [Address("127.0.0.1", port) for port in (1, 2, 3, 4)])
        async with open_client(dead, TRADER, 1) as client:
            client.timeout_s = 0.5
            with pytest.raises(NotConnected, match=r"127\.0\.0\.1"):
                await client.submit_orders(orders_array([orders.cancel_all(1)]))
            with pytest.raises(NotConnected, match="must tell the same markets"):
                await client.listing()


async def test_a_node_with_another_certificate_is_not_talked_to(tmp_path):
    async with _market(tmp_path) as (net, _, _):
        first, *others = net.network.validators
        swapped = replace(first, client_address=others[0].client_address)
        moved = replace(others[0], client_address=first.client_address)
        fake = replace(net.network, validators=(swapped, moved, *others[1:]))
        async with open_client(fake, TRADER, 1) as client:
            with pytest.raises(NotConnected, match=r"(?i)certificate"):
                await client.status(0)


async def test_a_client_of_another_chain_is_told_so(tmp_path):
    async with _market(tmp_path) as (net, _, _):
        other = replace(net.network, name="another")
        async with open_client(other, TRADER, 1) as client:
            with pytest.raises(Refused) as caught:
                await client.submit_orders(orders_array([orders.cancel_all(1)]))
            assert caught.value.code == "WRONG_CHAIN" and "network.toml" in caught.value.message


async def test_a_receipt_that_does_not_verify_is_not_believed(tmp_path, monkeypatch):
    true_build = desk.build_receipt
    lies: list[Receipt] = []

    def lie_once(block: ProvenBlock, index: int, detail: Detail) -> Receipt:
        receipt = true_build(block, index, detail)
        if not lies:
            lies.append(receipt)
            return replace(receipt, time_ms=receipt.time_ms + 1)
        return receipt

    async with _market(tmp_path) as (net, _, trader):
        await trader.listing()
        monkeypatch.setattr(desk, "build_receipt", lie_once)
        placed = await trader.place("BTC-USD", "sell", price=42000, qty=1)
        assert len(lies) == 1 and placed.outcome.time_ms == lies[0].time_ms
        assert len(await trader.orders()) == 1
        with pytest.raises(NotConnected, match="bad receipt"):
            await trader.status(0)  # distrusted for a while
        assert net.ledger.machine.height == placed.outcome.height


async def test_receipts_stay_proven_when_all_validators_have_been_replaced(tmp_path):
    """Twice, while the client was away; it trusts genesis, and each epoch proves the next."""
    async with _market(tmp_path) as (net, venue, trader):
        early = await trader.place("BTC-USD", "sell", price="42000", qty="0.25")
        old = early.outcome.envelope_digest
        net.ledger.replace_validators()
        net.ledger.run_block()
        net.ledger.replace_validators()
        late = await trader.place("BTC-USD", "sell", price="42000", qty="0.25")
        assert late.outcome.height > early.outcome.height
        assert (await trader.receipt(old)).height == early.outcome.height
        assert (await venue.sync_epochs()).number == 2
        assert await venue.sync_epochs() == net.ledger.replicas.record


async def test_f_plus_one_stolen_keys_of_an_epoch_that_is_over_convince_no_client(tmp_path, monkeypatch):
    """The node that is asked first shows what they sign, of a block of their time, and hides the change."""
    async with _market(tmp_path) as (net, _, trader):
        await trader.listing()
        past, replicas = net.ledger.machine.height, net.ledger.replicas
        stolen = dict(zip(replicas.ids[: replicas.weak_quorum], net.ledger.signers, strict=False))
        net.ledger.replace_validators()
        net.nodes[0].epoch_proofs = lambda: ()  # type: ignore[method-assign]
        true_build = desk.build_receipt
        lies: list[Receipt] = []

        def forge_once(block: ProvenBlock, index: int, detail: Detail) -> Receipt:
            receipt = true_build(block, index, detail)
            if lies:
                return receipt
            forged = replace(receipt, height=past, time_ms=1)
            root = compute_journal_root(
                forged.previous_root,
                past,
                forged.block_digest,
                forged.time_ms,
                forged.record_count,
                forged.chunks_root,
            )
            body = compute_result_digest(forged.block_digest, root, b"")
            message = signing_digest(replicas.chain_id, replicas.epoch, ATTEST, 0, past, body)
            votes = tuple(Vote(replica, key.sign(message)) for replica, key in stolen.items())
            lies.append(replace(forged, attestations=votes))
            return lies[0]

        monkeypatch.setattr(desk, "build_receipt", forge_once)
        async with open_client(net.network, TRADER, 1, prefer=0) as client:
            outcome = await client.submit_orders(orders_array([orders.cancel_all(1)]))
        assert len(lies) == 1 and outcome.height == net.ledger.machine.height > past


async def test_a_client_may_start_from_a_later_epoch_that_it_trusts(tmp_path):
    async with _market(tmp_path) as (net, venue, _):
        net.ledger.replace_validators()
        net.ledger.run_block()
        epoch = await venue.sync_epochs()
        net.ledger.epoch_proofs = []
        async with open_client(net.network, TRADER, 1, trusted=epoch) as client:
            await client.place("BTC-USD", "sell", price="42000", qty="0.25")


async def test_a_change_of_validators_that_old_ones_did_not_sign_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(submitting, "ATTEMPT_SECONDS", 0.5)
    async with _market(tmp_path) as (net, _, trader):
        trader.timeout_s = 1.0
        net.ledger.replace_validators()
        (proof,) = net.ledger.epoch_proofs
        few = replace(proof, cert=replace(proof.cert, votes=proof.cert.votes[1:]))
        net.ledger.epoch_proofs = [few]
        with pytest.raises(OutcomeUnknown, match="vote-count"):
            await trader.place("BTC-USD", "sell", price="42000", qty="0.25")
        net.ledger.epoch_proofs = [proof]


async def test_a_proven_refusal_of_a_second_copy_does_not_hide_the_first(tmp_path):
    async with _market(tmp_path) as (net, _, trader):
        placed = await trader.place("BTC-USD", "sell", price=42000, qty=1)
        envelope = net.nodes[0].batches[-1][0]
        net.ledger.run_block()
        # A lying node has the envelope ordered once more, and shows only the copy that was refused.
        net.ledger.submit(encode_batch(_envelopes(envelope) * 2))
        refused = net.ledger.machine.height

        async def show_the_copy(envelope_digest: bytes) -> tuple[int, int]:
            return refused, 0

        net.nodes[0].find_envelope = show_the_copy  # type: ignore[method-assign]
        outcome = await trader.receipt(placed.outcome.envelope_digest)
        assert outcome.code is Code.OK and outcome.height == placed.outcome.height


def _envelopes(payload: bytes) -> list[bytes]:
    return [bytes(piece) for piece in split_batch(payload)]


async def test_a_copy_refused_early_does_not_hide_the_one_executed_later(tmp_path):
    async with _market(tmp_path) as (net, _, trader):
        guest = signer("guest")
        array = orders_array([orders.cancel_all(1)])
        expiry_ms = net.ledger.now_ms + 10**12
        data = encode_orders(guest, net.network.chain_id, 1, 1, expiry_ms, array)
        net.ledger.submit(encode_batch([data]))  # by a node that does not look at keys
        with pytest.raises(Rejected, match="UNKNOWN_KEY"):
            await trader.receipt(decode(data).digest)
        await trader.grant_key(guest.public_key)
        outcome = await trader.submit_envelope(data)
        assert outcome.code is Code.OK
        assert (await trader.receipt(decode(data).digest)).height == outcome.height


async def test_an_envelope_refused_by_the_ledger_is_raised_once_enough_nodes_agree(tmp_path):
    async with _market(tmp_path) as (net, _, trader):
        net.ledger.hold = True
        good = orders_array([orders.cancel_all(1)])
        with trio.move_on_after(0.2):
            await trader.submit_orders(good)
        payload = net.nodes[0].batches[-1][0]
        (data,) = _envelopes(payload)
        net.ledger.now_ms = decode(data).expiry_ms + 1  # ordered too late
        net.ledger.run_block()
        with pytest.raises(Rejected) as caught:
            await trader.receipt(decode(data).digest)
        assert caught.value.code is Code.ENVELOPE_EXPIRED


@pytest.mark.parametrize("attempt_s", [0.1, 30.0])
async def test_an_outcome_nobody_tells_is_unknown_and_can_be_asked_later(tmp_path, monkeypatch, attempt_s):
    """Whether several nodes were asked, or our time ran out while the first had it."""
    async with _market(tmp_path) as (net, _, trader):
        monkeypatch.setattr(submitting, "ATTEMPT_SECONDS", attempt_s)
        await trader.listing()
        trader.timeout_s = 0.5
        net.ledger.hold = True
        with pytest.raises(OutcomeUnknown, match="do not sign a new one") as caught:
            await trader.place("BTC-USD", "sell", price=42000, qty=1)
        digest = caught.value.envelope_digest
        with pytest.raises(NotConnected, match="no receipt within"):
            await trader.receipt(digest)  # the nodes still wait for it
        net.ledger.hold = False
        net.ledger.run_block()
        assert (await trader.receipt(digest)).accepted == 1
        assert len(await trader.orders()) == 1


async def test_an_envelope_nobody_executed_is_not_found(tmp_path):
    async with _market(tmp_path) as (_, _, trader):
        with pytest.raises(NotFound, match="2 nodes executed no envelope"):
            await trader.receipt(b"\x07" * 32)


async def test_a_lying_node_cannot_make_up_a_market(tmp_path, monkeypatch):
    async with _market(tmp_path) as (net, _, _):
        true_query = net.nodes[0].query

        async def lie(read):  # type: ignore[no-untyped-def]
            rows = await true_query(read)
            for row in rows:
                if row[1] == "BTC-USD":
                    row[5] = 999
            return rows

        net.nodes[0].query = lie  # type: ignore[method-assign]
        async with open_client(net.network, TRADER, 1, prefer=0) as client:
            assert (await client.listing()).market("BTC-USD").quote_per_lot_tick == 1


# -- blocking facade ---------------------------------------------------------------------------------


async def test_the_blocking_client_does_the_same_without_trio(tmp_path):
    async with _market(tmp_path) as (net, _, _):

        def trade() -> None:
            with BlockingClient(net.network, TRADER, account=1) as client:
                placed = client.place("BTC-USD", "sell", price="42000", qty="0.25")
                assert client.receipt(placed.outcome.envelope_digest).accepted == 1
                assert client.orders()[0].leaves == 2500
                assert client.listing().market("BTC-USD").id == 0
                assert client.cancel("BTC-USD", placed.client_order_id).accepted == 1
                with pytest.raises(Rejected, match="INSUFFICIENT_FUNDS"):
                    client.place("BTC-USD", "sell", price="42000", qty="101")
                assert client.status().replica in range(4)
                assert client.key().nonce_highest > 0

        await trio.to_thread.run_sync(trade)


async def test_the_blocking_client_reports_a_bad_network_file(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        BlockingClient(tmp_path / "network.toml", TRADER)
