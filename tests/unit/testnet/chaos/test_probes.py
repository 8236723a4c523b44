"""Probes on client ports over one ledger in memory: what they write down, and what they make of silence."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from engine.commands import RegisterAsset
from engine.records import Code
from node.client import open_client
from testnet.chaos import probes
from testnet.chaos.history import check_history
from testnet.chaos.probes import Probe, Record, open_probes, settle
from tests.helpers.memory_network import MemoryNetwork, memory_network

pytestmark = pytest.mark.trio


@asynccontextmanager
async def probing(tmp_path) -> AsyncIterator[tuple[MemoryNetwork, Record, list[Probe]]]:
    async with memory_network(tmp_path, 4) as net, open_client(net.network, net.ledger.admin, 0) as venue:
        await venue.command(RegisterAsset("USD", 2, 0))
        async with open_probes(net.network, venue) as (record, clients):
            yield net, record, clients


async def until(nursery: trio.Nursery, done) -> None:
    while not done():
        await trio.sleep(0.005)
    nursery.cancel_scope.cancel()


async def test_what_probes_saw_of_a_correct_ledger_can_have_happened(tmp_path, monkeypatch):
    """Transfers are both accepted and refused, readings are exact, and the history holds."""
    monkeypatch.setattr(probes, "PAUSE_SECONDS", 0.0)
    async with probing(tmp_path) as (_, record, clients):
        async with trio.open_nursery() as nursery:
            for probe in clients:
                nursery.start_soon(probe.run)
            await until(nursery, lambda: len(record.answered()) >= 80 and record.readings)
        answers = {item.answer for item in record.answered()}
        assert answers == {Code.OK, Code.INSUFFICIENT_FUNDS}
        assert {item.probe for item in record.answered()} == {0, 1, 2, 3}
        assert not record.errors
        assert check_history(record.operations(), record.readings, record.model) == []


async def test_a_spoilt_answer_or_reading_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(probes, "PAUSE_SECONDS", 0.0)
    async with probing(tmp_path) as (_, record, clients):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients[0].run)
            await until(nursery, lambda: len(record.answered()) >= 10 and record.readings)
        item = record.answered()[3]
        item.answer = Code.OK if item.answer != Code.OK else Code.INSUFFICIENT_FUNDS
        assert check_history(record.operations(), record.readings, record.model)


async def test_an_outcome_that_stayed_unknown_is_settled_by_asking_all_nodes(tmp_path, monkeypatch):
    """The ledger holds the transfer back until after its probe gave up; later a receipt tells its place."""
    monkeypatch.setattr(probes, "TIMEOUT_SECONDS", 0.2)
    async with probing(tmp_path) as (net, record, clients):
        net.ledger.hold = True
        await clients[2]._transfer()
        assert [kind for _, _, kind in record.errors] == ["OutcomeUnknown"]
        assert len(record.unknown()) == 1 and record.answered() == []
        net.ledger.hold = False
        net.ledger.run_block()
        await settle(net.network, record)
        assert record.unknown() == [] and record.answered()[0].answer in (Code.OK, Code.INSUFFICIENT_FUNDS)
        assert check_history(record.operations(), record.readings, record.model) == []


async def test_a_probe_asks_its_own_node_only(tmp_path):
    async with probing(tmp_path) as (net, record, clients):
        before = [len(node.batches) for node in net.nodes]
        await clients[3]._transfer()
        assert [len(node.batches) - count for node, count in zip(net.nodes, before, strict=True)] == [
            0,
            0,
            0,
            1,
        ]
        assert record.answered()[0].probe == 3


async def test_a_block_in_between_spoils_a_reading(tmp_path, monkeypatch):
    async with probing(tmp_path) as (_, record, clients):
        honest = clients[0]._balance

        async def balance(account: int) -> int:
            found = await honest(account)
            await clients[1]._transfer()
            return found

        monkeypatch.setattr(clients[0], "_balance", balance)
        await clients[0]._read()
        assert record.readings == [] and record.inexact == 1
