"""Validators change while the network runs: real nodes, links, disks and keys."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from consensus.certificates import PREPARE
from consensus.effects import Blame
from consensus.messages import Prepare
from consensus.proofs import signing_digest
from engine.commands import AddValidator, RemoveValidator, Wedge
from node import versions
from node.client import Client, NotConnected, Refused, open_client
from node.keys import load_certificate, load_signer
from node.network import Rules, load_entry
from node.signer.record import SigningRecord
from node.start import run_node
from node.versions import WrongVersion
from ops import cli
from tests.helpers.local_cluster import LocalCluster, free_ports, local_cluster
from tests.helpers.venue import new

pytestmark = pytest.mark.trio
RULES = Rules(window=16, checkpoint_interval=4)


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for what several nodes do; bounded by the cluster's own deadline."""
    while not condition():
        await trio.sleep(0.005)


async def _until_answered(client: Client, node: int) -> None:
    """Until a client knows how to reach a validator."""
    while True:
        try:
            assert (await client.status(node)).replica == node
            return
        except NotConnected:
            await trio.sleep(0.005)


def _make_home(cluster: LocalCluster, root: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """A home for a validator to come, and the entry that its operator would hand to an admin."""
    peer, client = free_ports(2)
    home, network = str(root / "joiner"), str(cluster.homes.network_file)
    capsys.readouterr()
    arguments = ["init", "--home", home, "--join", network, "--as-validator"]
    arguments += ["--peer", f"127.0.0.1:{peer}", "--client", f"127.0.0.1:{client}"]
    assert cli.main(arguments) == 0
    entry = root / "entry.toml"
    entry.write_text(capsys.readouterr().out, "utf-8")
    found = load_entry(entry)
    endpoint = (found.tls_certificate, str(found.peer_address), str(found.client_address))
    return SimpleNamespace(root=Path(home), entry=entry, key=found.consensus_key, endpoint=endpoint)


async def _kontor(
    cluster: LocalCluster, capsys: pytest.CaptureFixture[str], *arguments: str, by_admin: bool = False
) -> str:
    """What `kontor validator …` prints."""
    line = ["validator", *arguments, "--network", str(cluster.homes.network_file), "--json"]
    line += ["--admin", str(cluster.homes.admin_seed)] if by_admin else []
    capsys.readouterr()
    assert await trio.to_thread.run_sync(cli.main, line) == 0
    return capsys.readouterr().out


async def test_a_validator_is_replaced_and_its_successor_carries_the_quorum(tmp_path, capsys):
    async with local_cluster(tmp_path, rules=RULES) as cluster:
        await cluster.submit(cluster.listing())
        joiner = _make_home(cluster, tmp_path, capsys)
        async with trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[Any]) -> None:
                await run_node(joiner.root, task_status=task_status)

            # It waits to be added: its operator need not know when that happens.
            ready: list[Any] = []

            async def start() -> None:
                ready.append(await nursery.start(run))

            nursery.start_soon(start)
            entry = ["--entry", str(joiner.entry)]
            told = json.loads(await _kontor(cluster, capsys, "replace", "3", *entry, by_admin=True))
            assert (told["epoch"], told["validator"]) == (1, 4)
            shown = json.loads(await _kontor(cluster, capsys, "list"))
            assert [row["status"] for row in shown["validators"]] == [2, 2, 2, 4, 2]
            assert shown["membership"]["epoch"] == 1
            await _until(lambda: bool(ready))
            nodes = [*cluster.nodes.values(), ready[0]]
            assert ready[0].replica_id == 4
            await _until(lambda: all(node.status().epoch == 1 for node in nodes))
            status = ready[0].status()
            assert status.votes and not cluster.nodes[3].status().votes
            # Two of the old ones are gone now, which the network survives only by the newcomer's votes.
            await cluster.stop(3)
            await cluster.stop(0)
            await cluster.submit(cluster.orders(new(0, 0, 1, 0, 100, 5)), to=1)
            await cluster.submit(cluster.orders(new(0, 1, 2, 1, 100, 5)), to=2)
            height = cluster.nodes[1].status().executed
            await _until(lambda: ready[0].status().executed >= height)
            roots = [await node.query(lambda m: m.state_root()) for node in (cluster.nodes[1], ready[0])]
            assert roots[0] == roots[1]
            # A client that knows the founders alone finds the newcomer.
            async with open_client(cluster.network, cluster.homes.admin_seed) as client:
                assert (await client.sync_epochs()).number == 1
                await _until_answered(client, 4)
            nursery.cancel_scope.cancel()


async def test_a_removed_validator_is_let_go_and_the_others_go_on(tmp_path):
    async with local_cluster(tmp_path, n=5, rules=RULES) as cluster:
        await cluster.submit(cluster.listing())
        await cluster.submit(cluster.commands(RemoveValidator(1)))
        others = [node for row, node in cluster.nodes.items() if row != 1]
        await _until(lambda: all(node.status().epoch == 1 for node in others))
        await _until(lambda: not cluster.nodes[1].status().votes)  # it heard that it was removed
        for number in range(RULES.checkpoint_interval):
            await cluster.submit(cluster.orders(new(0, 0, 1 + number, 0, 100, 5)))
        await _until(lambda: all(node.status().peers_connected == 3 for node in others))


async def test_a_founder_moves_to_another_address_and_its_vote_is_needed_there(tmp_path, capsys):
    async with local_cluster(tmp_path, rules=RULES) as cluster:
        await cluster.submit(cluster.listing())
        home, network = cluster.homes.nodes[3], ["--network", str(cluster.homes.network_file)]
        admin = ["--admin", str(cluster.homes.admin_seed)]
        refusals = {
            ("move", "3"): "what changes",
            ("move", "9", "--to-peer", "127.0.0.1:1"): "validator list",
        }
        for line, remedy in refusals.items():
            assert await trio.to_thread.run_sync(cli.main, ["validator", *line, *network, *admin]) == 2
            assert remedy in capsys.readouterr().err
        assert (
            await trio.to_thread.run_sync(cli.main, ["validator", "remove", "3", *network, "--admin", "no"])
            == 2
        )
        assert "admin.seed" in capsys.readouterr().err
        peer, client_port = (f"127.0.0.1:{port}" for port in free_ports(2))
        move = ["move", "3", "--to-peer", peer, "--to-client", client_port]
        assert json.loads(await _kontor(cluster, capsys, *move, by_admin=True))["epoch"] == 1
        rows = json.loads(await _kontor(cluster, capsys, "list"))["validators"]
        assert (rows[3]["peer"], rows[3]["client"]) == (peer, client_port)
        assert bytes.fromhex(rows[3]["certificate"]) == load_certificate(home.tls_certificate)
        await cluster.stop(3)
        await cluster.start(3)  # it listens where the ledger says
        await _until(lambda: cluster.nodes[3].status().epoch == 1)
        await cluster.stop(2)
        await cluster.submit(cluster.orders(new(0, 0, 1, 0, 100, 5)))
        assert cluster.nodes[3].status().votes
        # One part of it alone: what is not named stays.
        await cluster.start(2)
        client_port = f"127.0.0.1:{free_ports(1)[0]}"
        await _kontor(cluster, capsys, "move", "3", "--to-client", client_port, by_admin=True)
        rows = json.loads(await _kontor(cluster, capsys, "list"))["validators"]
        assert (rows[3]["peer"], rows[3]["client"]) == (peer, client_port)


async def test_a_key_is_rotated_while_its_node_runs_and_the_quorum_needs_it(tmp_path, capsys):
    async with local_cluster(tmp_path, rules=RULES) as cluster:
        await cluster.submit(cluster.listing())
        home = cluster.homes.nodes[1]
        old = load_signer(home.consensus_seed).public_key
        rotate = ["rotate", "--home", str(home.root)]
        told = json.loads(await _kontor(cluster, capsys, *rotate, by_admin=True))
        assert (told["epoch"], told["validator"]) == (1, 1)
        await _until(lambda: all(node.status().epoch == 1 for node in cluster.nodes.values()))
        named = cluster.nodes[1]._replica.replicas.keys[1]
        assert named != old and named == load_signer(home.root / "keys" / "consensus-2.seed").public_key
        # Without one other node, nothing is decided unless the new key votes.
        await cluster.stop(3)
        await cluster.submit(cluster.orders(new(0, 0, 1, 0, 100, 5)))
        assert cluster.nodes[1].status().votes
        # It finds both keys when it starts again, and the former record stands as it did.
        await cluster.stop(1)
        assert SigningRecord.open(home.signing_record).public_key == old
        await cluster.start(1)
        await cluster.submit(cluster.orders(new(0, 1, 2, 1, 100, 5)), to=1)
        assert cluster.nodes[1].status().votes


async def test_a_wedged_network_stands_still_until_its_operators_name_the_height(tmp_path, monkeypatch):
    async with local_cluster(tmp_path, rules=RULES) as cluster:
        await cluster.submit(cluster.listing())
        await cluster.submit(cluster.commands(Wedge(0)))
        await _until(lambda: all(node.status().wedged for node in cluster.nodes.values()))
        heights = {node.status().executed for node in cluster.nodes.values()}
        (height,) = heights
        assert height % RULES.checkpoint_interval == 0
        async with open_client(cluster.network, cluster.homes.admin_seed) as client:
            with pytest.raises(Refused, match=rf"stopped at block {height} for an upgrade"):
                await client.command(RemoveValidator(3))
        for row in list(cluster.nodes):
            await cluster.stop(row)
        # Upgraded, a node says what it waits for; once it is named, all go on under the new protocol.
        monkeypatch.setattr(versions, "PROTOCOL_VERSION", versions.PROTOCOL_VERSION + 1)
        with pytest.raises(WrongVersion, match=r"ledger\.resume_after"):
            await run_node(cluster.homes.nodes[0].root)
        for home in cluster.homes.nodes:
            text = home.config.read_text("utf-8")
            assert "resume_after = 0" in text
            home.config.write_text(text.replace("resume_after = 0", f"resume_after = {height}"), "utf-8")
        await cluster.start()
        await cluster.submit(cluster.orders(new(0, 0, 1, 0, 100, 5)))
        assert all(not node.status().wedged for node in cluster.nodes.values())


async def test_what_one_node_saw_of_a_liar_stands_on_every_ledger(tmp_path, capsys):
    async with local_cluster(tmp_path) as cluster:
        await cluster.submit(cluster.listing())
        key = load_signer(cluster.homes.nodes[2].consensus_seed)
        halves = []
        for body in (b"a" * 32, b"b" * 32):
            message = signing_digest(cluster.network.chain_id, 0, PREPARE, 0, 3, body)
            halves.append(Prepare(0, 3, body, 2, key.sign(message)))
        cluster.nodes[0]._release(Blame(2, "equivocation", tuple(halves)))
        for node in cluster.nodes.values():
            while not await node.query(lambda m: m.state.count["evidence"]):
                await trio.sleep(0.005)
        network = ["--network", str(cluster.homes.network_file), "--json"]
        capsys.readouterr()
        out = tmp_path / "proofs"
        for line in (["evidence", "list"], ["evidence", "export", "--out", str(out)]):
            assert await trio.to_thread.run_sync(cli.main, line + network) == 0
        (row,), (path,) = map(json.loads, _documents(capsys.readouterr().out))
        assert (row["validator"], row["kind"], row["seq"]) == (2, "prepare", 3)
        assert cli.main(["evidence", "verify", path, *network]) == 0
        # Whoever verifies needs no node, and believes no file that was changed.
        text = Path(path).read_text("ascii").strip()
        Path(path).write_text(text[:-2] + ("00" if text[-2:] != "00" else "01"), "ascii")
        assert cli.main(["evidence", "verify", path, *network]) == 1


def _documents(text: str) -> list[str]:
    """JSON documents printed one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end])
        at = end + 1
    return found


async def test_who_knows_founders_that_left_joins_and_reads_by_one_address_given_by_hand(tmp_path, capsys):
    """The only founder is replaced and gone. A home made from the first network.toml joins all the same."""
    async with local_cluster(tmp_path, n=1, rules=RULES) as cluster:
        await cluster.submit(cluster.listing())
        second, third = (_make_home(cluster, tmp_path / name, capsys) for name in ("second", "third"))
        async with trio.open_nursery() as nursery:
            nodes: dict[int, Any] = {}

            async def start(home: Any) -> None:
                node = await nursery.start(lambda task_status: run_node(home.root, task_status=task_status))
                nodes[node.replica_id] = node

            nursery.start_soon(start, second)
            await _kontor(cluster, capsys, "add", "--entry", str(second.entry), by_admin=True)
            await _kontor(cluster, capsys, "remove", "0", by_admin=True)
            await _until(lambda: 1 in nodes and nodes[1].status().epoch == 2 and nodes[1].status().votes)
            await cluster.stop(0)
            known = f"127.0.0.1:{load_entry(second.entry).client_address.port}"
            # A client without the address is told why; with it, it follows every change since genesis.
            async with open_client(cluster.network, cluster.homes.admin_seed) as client:
                client.timeout_s = 0.2
                with pytest.raises(NotConnected, match="0 of 1 validators said who validates now"):
                    await client.sync_epochs()
            async with open_client(cluster.network, cluster.homes.admin_seed, peers=[known]) as client:
                assert (await client.sync_epochs()).number == 2
                assert client.addresses == [known]
                await client.command(AddValidator(third.key, *third.endpoint))
            # The newcomer is started from a home that names the first founder, and that address.
            config = third.root / "config.toml"
            text = config.read_text("utf-8")
            assert "known = []" in text
            config.write_text(text.replace("known = []", f'known = ["{known}"]'), "utf-8")
            nursery.start_soon(start, third)
            await _until(lambda: 2 in nodes and nodes[2].status().votes)
            await _until(lambda: nodes[2].status().executed >= nodes[1].status().executed)
            assert (await nodes[2].query(lambda m: m.state_root())) == (
                await nodes[1].query(lambda m: m.state_root())
            )
            nursery.cancel_scope.cancel()
