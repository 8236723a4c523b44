"""Balances proved over client ports: what an honest node proves, and that no liar is believed."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from consensus.light import LightClient, Unproven
from consensus.primitives.errors import InputError
from consensus.primitives.trees import GROUP_SIZE, PAGE_SIZE, PageProof
from engine.commands import RegisterAsset
from engine.layout import BALANCE
from node.client import Client, NotConnected, NotFound, ProvenBalance, Refused, open_client
from node.services import BalanceAnswer
from node.setup import write_network
from ops.cli import main
from tests.helpers.local_cluster import local_cluster
from tests.helpers.memory_network import MemoryNetwork, memory_network
from tests.helpers.venue import signer

pytestmark = pytest.mark.trio
ROWS = PAGE_SIZE // BALANCE.itemsize  # on one page
Lie = Callable[[MemoryNetwork], BalanceAnswer]


@asynccontextmanager
async def _bank(tmp_path: Path, n: int = 4) -> AsyncIterator[tuple[MemoryNetwork, Client]]:
    """A network in which account 1 has 5 USD and 7 EUR, and enough others for two pages have 1 USD."""
    async with memory_network(tmp_path, n) as net:
        net.ledger.now_ms = 1000  # long before any expiry
        async with open_client(net.network, net.ledger.admin, 0, prefer=0) as venue:
            await venue.commands([RegisterAsset("USD", 2, 0), RegisterAsset("EUR", 2, 0)])
            await venue.open_account(signer("saver").public_key)
            await venue.deposit(1, "USD", 5)
            await venue.deposit(1, "EUR", 7)
            state = net.ledger.machine.state
            for account in range(2, ROWS + 2):
                row = state.add_balance(account, 0)
                state.balances.columns["available"][row] = 100
                state.balances.mark(row)
                state.assets.columns["deposited"][0] += 100
            net.ledger.run_block()  # which looks at what was written, before anybody hashes it
            yield net, venue


async def test_a_balance_is_proved_with_the_height_of_its_checkpoint(tmp_path):
    async with _bank(tmp_path) as (net, client):
        height = net.ledger.machine.height
        assert await client.prove_balance(1, "EUR") == ProvenBalance(height, "EUR", Decimal(7), Decimal(0))
        on_page_two = await client.prove_balance(ROWS + 1, "USD")
        assert (on_page_two.height, on_page_two.available) == (height, 1)


async def test_newer_snapshots_prove_newer_balances(tmp_path):
    async with _bank(tmp_path) as (net, client):
        before = await client.prove_balance(1, "USD")
        await client.deposit(1, "USD", 3)
        after = await client.prove_balance(1, "USD", since=net.ledger.machine.height)
        assert (before.available, after.available) == (5, 8) and after.height > before.height


async def test_a_balance_that_is_not_there_is_denied_by_f_plus_one_nodes(tmp_path):
    async with _bank(tmp_path) as (net, client):
        with pytest.raises(NotFound, match=f"2 nodes say .* at block {net.ledger.machine.height}"):
            await client.prove_balance(2, "EUR")
        with pytest.raises(Refused, match="BAD_PARAMS"):
            await client.prove_balance(-1, "EUR")


async def test_one_node_that_denies_a_balance_does_not_hide_it(tmp_path):
    async with _bank(tmp_path) as (net, client):
        _lie(net, lambda net: BalanceAnswer(net.ledger.certify(), None))
        assert (await client.prove_balance(1, "USD")).available == 5


def _lie(net: MemoryNetwork, lie: Lie, *nodes: int) -> list[int]:
    """Have nodes (0 if none is named) answer with `lie`; return where they are noted when they do."""
    told: list[int] = []

    async def answer(number: int, account: int, asset: int) -> BalanceAnswer:
        await trio.lowlevel.checkpoint()
        told.append(number)
        return lie(net)

    for number in nodes or (0,):
        net.nodes[number].prove_balance = partial(answer, number)  # type: ignore[method-assign]
    return told


def _refuse() -> NoReturn:
    raise InputError("SYNCING", "ask another node")


def _page(answer: BalanceAnswer) -> PageProof:
    assert answer.page is not None
    return answer.page


def _richer(net: MemoryNetwork) -> BalanceAnswer:
    """The right page with more on it."""
    answer = net.ledger.prove_balance(1, 0)
    page = _page(answer)
    data = page.data[:8] + (10**9).to_bytes(8, "little") + page.data[16:]
    return replace(answer, page=replace(page, data=data))


def _other_page(net: MemoryNetwork) -> BalanceAnswer:
    return net.ledger.prove_balance(ROWS + 1, 0)


def _other_path(net: MemoryNetwork) -> BalanceAnswer:
    answer = net.ledger.prove_balance(1, 0)
    page = _page(answer)
    return replace(answer, page=replace(page, path=(bytes(GROUP_SIZE), *page.path[1:])))


def _few_votes(net: MemoryNetwork) -> BalanceAnswer:
    answer = net.ledger.prove_balance(1, 0)
    return replace(answer, cert=replace(answer.cert, votes=answer.cert.votes[1:]))


def _unsigned_denial(net: MemoryNetwork) -> BalanceAnswer:
    """A checkpoint that nobody signed, long after what the client asks for."""
    return BalanceAnswer(replace(net.ledger.certify(), seq=10**6), None)


LIES: list[tuple[Lie, str]] = [
    (_richer, "page"),
    (_other_page, "no-balance"),
    (_other_path, "page"),
    (_few_votes, "vote-count"),
    (_unsigned_denial, "bad-signature"),
]


@pytest.mark.parametrize(("lie", "why"), LIES)
async def test_a_liar_is_not_believed_and_another_node_is_asked(tmp_path, lie: Lie, why: str):
    async with _bank(tmp_path) as (net, client):
        told = _lie(net, lie)
        assert (await client.prove_balance(1, "USD")).available == 5
        assert told == [0]
        with pytest.raises(NotConnected, match=f"bad proof: {why}"):
            await client.status(0)  # distrusted for a while


async def test_validators_of_an_earlier_epoch_prove_nothing_of_a_later_one(tmp_path):
    async with _bank(tmp_path) as (net, client):
        await client.deposit(1, "USD", 1)  # the epoch ends after this
        old_replicas, old_signers = net.ledger.replicas, net.ledger.signers
        net.ledger.replace_validators()
        await client.deposit(1, "USD", 1)
        await client.sync_epochs()

        def as_removed(net: MemoryNetwork) -> BalanceAnswer:
            now = net.ledger.replicas, net.ledger.signers
            net.ledger.replicas, net.ledger.signers = old_replicas, old_signers
            try:
                return net.ledger.prove_balance(1, 0)
            finally:
                net.ledger.replicas, net.ledger.signers = now

        _lie(net, as_removed)
        assert (await client.prove_balance(1, "USD")).available == 7
        with pytest.raises(NotConnected, match="bad-signature"):
            await client.status(0)


async def test_who_was_a_validator_denies_nothing_and_a_past_checkpoint_shows_nothing(tmp_path):
    """The proofs are sound, and of an epoch that is over: they say nothing of now, and are no lies."""
    async with _bank(tmp_path) as (net, client):
        await client.deposit(1, "USD", 1)
        old = net.ledger.prove_balance(1, 0)
        denied = BalanceAnswer(old.cert, None)
        net.ledger.replace_validators()
        await client.deposit(1, "USD", 1)
        await client.sync_epochs()
        told = _lie(net, lambda _: denied, 0, 1) + _lie(net, lambda _: old, 2)
        assert (await client.prove_balance(1, "USD")).available == 7
        assert (await client.status(0)).replica == 0  # nobody is distrusted for it
        assert set(told) <= {0, 1, 2}
        _lie(net, lambda _: denied, 0, 1, 2, 3)
        client.timeout_s = 0.5
        with pytest.raises(NotConnected, match="past"):
            await client.prove_balance(1, "USD")


async def test_a_balance_is_not_believed_before_a_quorum_said_who_validates_now(tmp_path):
    async with _bank(tmp_path) as (net, _):
        for node in net.nodes[2:]:
            node.epoch_proofs = _refuse  # type: ignore[method-assign]
        async with open_client(net.network, net.ledger.admin, prefer=0) as client:
            client.timeout_s = 1
            with pytest.raises(NotConnected):
                await client.prove_balance(1, 0)


async def test_a_client_of_genesis_follows_new_validators_to_their_proof(tmp_path):
    async with _bank(tmp_path) as (net, client):
        net.ledger.replace_validators()
        net.ledger.run_block()
        assert (await client.prove_balance(1, "USD")).available == 5


async def test_states_older_than_wanted_are_passed_over(tmp_path):
    async with _bank(tmp_path) as (net, client):
        old = net.ledger.prove_balance(1, 0)
        await client.deposit(1, "USD", 3)
        _lie(net, lambda _: old)
        assert (await client.prove_balance(1, "USD")).available == 5
        assert (await client.prove_balance(1, "USD", since=old.cert.seq + 1)).available == 8
        client.timeout_s = 0.3
        with pytest.raises(NotConnected, match="before 1000"):
            await client.prove_balance(1, "USD", since=1000)


async def test_no_mutated_proof_is_believed(tmp_path):
    """Whichever byte of page or path is changed, to whatever else."""
    async with _bank(tmp_path) as (net, _):
        answer = net.ledger.prove_balance(1, 0)
        page, replicas = _page(answer), net.ledger.replicas
        light = LightClient(replicas.chain_id, replicas.record)
        assert light.read_balance(answer.cert, page, 1, 0).available == 500
        flat = page.data + b"".join(page.path)

        @given(st.integers(0, len(flat) - 1), st.integers(1, 255))
        def check(at: int, change: int) -> None:
            bent = flat[:at] + bytes([flat[at] ^ change]) + flat[at + 1 :]
            path = [bent[start : start + GROUP_SIZE] for start in range(PAGE_SIZE, len(bent), GROUP_SIZE)]
            with pytest.raises(Unproven, match="page"):
                light.read_balance(answer.cert, replace(page, data=bent[:PAGE_SIZE], path=tuple(path)), 1, 0)

        check()


async def test_the_command_line_prints_balances_and_proofs(tmp_path, capsys):
    async with _bank(tmp_path) as (net, _):
        file = tmp_path / "network.toml"
        write_network(file, net.network)
        args = ["balance", "--network", str(file), "--account", "1", "--asset", "EUR"]
        assert await trio.to_thread.run_sync(main, [*args, "--prove", "--json"]) == 0
        height = net.ledger.machine.height
        assert capsys.readouterr().out == f'{{"height": {height}, "available": "7.00", "held": "0.00"}}\n'
        assert await trio.to_thread.run_sync(main, args) == 0
        assert "account 1: 7.00 EUR available, 0.00 held (as one node says)" in capsys.readouterr().out
        assert await trio.to_thread.run_sync(main, [*args[:-1], "USD", "--since", "3"]) == 2


async def test_real_nodes_prove_what_their_snapshots_hold(tmp_path):
    async with (
        local_cluster(tmp_path) as cluster,
        open_client(cluster.network, cluster.admin, 0, prefer=1) as venue,
    ):
        await venue.command(RegisterAsset("USD", 2, 0))
        await venue.open_account(signer("saver").public_key)
        interval = cluster.network.rules.checkpoint_interval
        for _ in range(interval):  # each in a block of its own, so that one is a checkpoint
            await venue.deposit(1, "USD", 5)
        proven = await venue.prove_balance(1, "USD")
        assert proven.height % interval == 0 and 0 < proven.available <= 5 * interval
        assert proven.available % 5 == 0
        (balance,) = await venue.balances(1)
        assert balance.available == 5 * interval
