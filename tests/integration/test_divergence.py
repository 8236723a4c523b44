"""A node whose state goes wrong stops, says so, keeps what explains it, and is healed from the others."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from consensus.primitives.errors import ConfigError, InputError, StorageError
from engine.machine import Machine
from node.dumps import dump_path, replay_dump
from node.ledger import Ledger
from node.wire import Refused
from ops.cli import main
from ops.debug import heal_home
from tests.helpers.local_cluster import LocalCluster, local_cluster
from tests.integration.test_state_transfer import OFTEN, check_equal, eager, trade

pytestmark = pytest.mark.trio


def flip(machine: Machine) -> None:
    """What no machine can find alone: a unit stands in the wrong balance, and the sum is right."""
    state, columns = machine.state, machine.state.balances.columns
    used = state.used(state.balances)
    same = columns["asset"][:used] == columns["asset"][1]
    other = next(row for row in range(used) if row != 1 and same[row] and columns["available"][row] > 0)
    columns["available"][1] += 1
    columns["available"][other] -= 1
    for row in (1, other):
        state.balances.mark(row)


async def diverge(cluster: LocalCluster, victim: int = 3) -> int:
    """Damage one node's state and trade until it notices; return the block."""
    await cluster.wait_equal()
    await cluster.nodes[victim].query(flip)
    await trade(cluster, 8, 100)
    await cluster.wait_until(lambda node: node.status().halted != "", victim)
    log = cluster.nodes[victim]._replica._state.votes.diverged
    assert log is not None
    path = dump_path(cluster.homes.nodes[victim].data, log.seq)
    await cluster.wait_until(lambda node: (path / "dump.json").exists(), victim)
    return log.seq


async def test_a_wrong_state_halts_is_replayed_and_is_healed(tmp_path: Path, capsys) -> None:
    async with local_cluster(tmp_path, rules=OFTEN, adjust=eager) as cluster:
        await cluster.submit(cluster.listing())
        await trade(cluster, 10, 1)
        seq = await diverge(cluster)
        node, home = cluster.nodes[3], cluster.homes.nodes[3]
        assert f"block {seq} gave another result" in node.status().halted
        assert await node.query(lambda machine: machine.height) >= seq
        # A restart signs nothing, and still answers.
        await cluster.stop(3)
        await cluster.start(3)
        node = cluster.nodes[3]
        await cluster.wait_until(lambda node: node.status().halted != "", 3)
        assert "kontor heal" in node.status().halted
        assert await node.query(lambda machine: machine.height) > 0
        with pytest.raises(InputError) as refused:
            node.submit_batch(cluster.orders((1, 0, 0, 0, 1, 1, 1)), 1)
        assert refused.value.code == Refused.HALTED
        await cluster.stop(3)
        # The dump leads to what the others say: the fault is not in the program.
        dump = dump_path(home.data, seq)
        replay = await trio.to_thread.run_sync(replay_dump, dump)
        assert (replay.side, replay.blocks[-1].seq, replay.notes) == ("theirs", seq, ())
        assert replay.differing == ("balances",)
        content = json.loads((dump / "dump.json").read_text())
        theirs = content["theirs"]["tables"]
        assert {name: root.hex() for name, root in replay.tables.items()} == theirs
        assert content["base"] > 0 and content["build"]["layout"] > 0
        assert await trio.to_thread.run_sync(main, ["debug", "replay", str(dump), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["side"] == "theirs"
        content["build"]["layout"] += 1
        (dump / "dump.json").write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=r"layout \d+; this version has .* layout \d+: replay it with"):
            replay_dump(dump)
        # Healed, it goes on with the others.
        await trade(cluster, 6, 200)
        assert await trio.to_thread.run_sync(main, ["heal", "--home", str(home.root)]) == 0
        await cluster.start(3)
        await cluster.wait_until(lambda node: node._replica.counters.get("states_installed", 0) > 0, 3)
        await trade(cluster, 6, 300)
        await check_equal(cluster)
        assert dump.exists()
        # It counts again.
        await cluster.stop(2)
        await trade(cluster, 6, 400)
        await cluster.start(2)
        await check_equal(cluster)


async def test_a_node_is_healed_though_the_others_stand_still(tmp_path: Path) -> None:
    """Their newest state lies below blocks that the node holds: it runs those again."""
    async with local_cluster(tmp_path, rules=replace(OFTEN, snapshot_seconds=3600), adjust=eager) as cluster:
        await cluster.submit(cluster.listing())
        await trade(cluster, 10, 1)
        await diverge(cluster)
        await cluster.stop(3)
        await trio.to_thread.run_sync(heal_home, cluster.homes.nodes[3])
        await cluster.start(3)
        await cluster.wait_until(lambda node: node._replica.counters.get("states_installed", 0) > 0, 3)
        await check_equal(cluster)
        await cluster.stop(3)
        await cluster.start(3)
        await trade(cluster, 3, 300)
        await check_equal(cluster)


async def test_blocks_stored_above_a_fetched_state_run_though_nothing_new_is_ordered(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, rules=replace(OFTEN, snapshot_seconds=3600), adjust=eager) as cluster:
        await cluster.submit(cluster.listing())
        await trade(cluster, 10, 1)
        await check_equal(cluster)
        height = cluster.nodes[3].status().executed
        await cluster.stop(3)
        await trio.to_thread.run_sync(heal_home, cluster.homes.nodes[3])
        await cluster.start(3)
        await cluster.wait_until(lambda node: node._replica.counters.get("states_installed", 0) > 0, 3)
        await cluster.wait_until(lambda node: node.status().executed == height, 3)


async def test_stored_blocks_that_recovery_left_run_after_the_start(tmp_path: Path, monkeypatch) -> None:
    async with local_cluster(tmp_path, rules=replace(OFTEN, snapshot_seconds=3600), adjust=eager) as cluster:
        await cluster.submit(cluster.listing())
        await trade(cluster, 10, 1)
        await check_equal(cluster)
        height = cluster.nodes[3].status().executed
        await cluster.stop(3)
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "has_batches", lambda ledger, names: [False for _ in names])
            await cluster.start(3)
        await cluster.wait_until(lambda node: node.status().executed == height, 3)
        await trade(cluster, 3, 300)
        await check_equal(cluster)


async def test_a_dump_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, rules=OFTEN, adjust=eager) as cluster:
        await cluster.submit(cluster.listing())
        await trade(cluster, 10, 1)
        seq = await diverge(cluster)
        dump = dump_path(cluster.homes.nodes[3].data, seq)
    blocks = dump / "blocks"
    whole = blocks.read_bytes()
    blocks.write_bytes(whole[: len(whole) // 2])
    with suppress(StorageError):  # cut inside a record
        assert replay_dump(dump).side == "incomplete"
    middle = len(whole) - 40
    blocks.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(StorageError):
        replay_dump(dump)
    (dump / "dump.json").write_text("{}")
    with pytest.raises(ConfigError, match="no dump"):
        replay_dump(dump)


async def test_a_dump_keeps_its_bound_and_says_what_is_missing(tmp_path: Path) -> None:
    def small(config):
        config = eager(config)
        return replace(config, ledger=replace(config.ledger, dump_mib=1))

    rules = replace(OFTEN, snapshot_seconds=0)
    async with local_cluster(tmp_path, rules=rules, adjust=small) as cluster:
        await cluster.submit(cluster.listing())
        await trade(cluster, 10, 1)
        seq = await diverge(cluster)
        home = cluster.homes.nodes[3]
        dump = dump_path(home.data, seq)
        await cluster.stop(3)
        if not (dump / "base").exists():
            assert "left out" in json.loads((dump / "dump.json").read_text())["notes"][0]
            with pytest.raises(ConfigError, match="base"):
                replay_dump(dump)
        heal_home(home)
        assert (dump / "base").is_dir()
        assert replay_dump(dump).side == "theirs"
