"""A real node with a real `kontor signer` beside it; either may die."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.commands import RegisterAsset
from node.config import Home
from node.signer.migrate import export_record, import_record
from node.signer.record import SigningRecord
from tests.helpers.local_cluster import local_cluster

pytestmark = pytest.mark.trio


def move_key(home: Home, signer: Home) -> None:
    """Take a node's key into a signer's home, as an operator does."""
    export_record(home, signer.root.parent / "record.json")
    signer.consensus_seed.parent.mkdir(parents=True)
    shutil.move(home.consensus_seed, signer.consensus_seed)
    shutil.copy(home.network, signer.network)
    import_record(signer, signer.root.parent / "record.json")
    text = home.config.read_text()
    home.config.write_text(text.replace('socket = ""', f'socket = "{signer.signer_socket}"'))


@contextmanager
def signer_process(home: Home) -> Iterator[subprocess.Popen[str]]:
    """A signer that listens."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ops.cli", "signer", "--home", str(home.root)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert process.stderr is not None
        assert "signing for key" in process.stderr.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_a_node_signs_by_its_signer_halts_without_it_and_goes_on_with_it(tmp_path: Path) -> None:
    signer = Home(tmp_path / "signer")
    async with local_cluster(tmp_path) as cluster:
        await cluster.submit(cluster.listing())
        await cluster.stop(3)
        move_key(cluster.homes.nodes[3], signer)
        with signer_process(signer) as process:
            await cluster.start(3)
            await cluster.stop(2)  # from here on nothing is agreed on without node 3
            await cluster.submit(cluster.commands(RegisterAsset("A1", 0, 0)))
            process.send_signal(signal.SIGKILL)
            await cluster.wait_until(lambda node: "signer" in node.status().halted, 3)
            assert await cluster.nodes[3].query(lambda machine: machine.state_root())
            await cluster.start(2)
            await cluster.submit(cluster.commands(RegisterAsset("A2", 0, 0)))
        await cluster.stop(3)
        with signer_process(signer) as process:
            await cluster.start(3)
            await cluster.stop(1)
            await cluster.submit(cluster.commands(RegisterAsset("A3", 0, 0)))
            assert not cluster.nodes[3].status().halted
            await cluster.stop(3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    record = SigningRecord.open(signer.signing_record)
    assert any(place.kind == "commit" for place in record.votes.places)
    record.close()
