"""A node whose disk fails stops voting, and goes on otherwise; and its clock."""

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from consensus.effects import Blame, Diverged, SendBatches, SendBlocks
from consensus.evidence import decode_evidence
from consensus.messages import Prepare
from consensus.primitives.crypto import Ed25519Verifier
from consensus.primitives.errors import StorageError
from engine.envelope import decode
from node.reports import Reports
from node.runtime import Node
from node.telemetry import Log, Metrics
from node.validators import Membership
from tests.helpers.venue import CHAIN_ID, Venue, contradiction, validator_key

NOWHERE: Any = SimpleNamespace(validators=())
pytestmark = pytest.mark.trio


async def _failing(*_: Any) -> None:
    await trio.lowlevel.checkpoint()
    raise StorageError("the ledger is damaged")


def _node(data: Path) -> tuple[Node, StringIO]:
    log = StringIO()
    reader = SimpleNamespace(
        send_batches=_failing,
        send_blocks=_failing,
        query=_failing,
        find_envelope=_failing,
        load_block=_failing,
    )
    out = Log(log, "debug")
    membership = Membership(Venue().machine, NOWHERE)
    parts: Any = SimpleNamespace(
        replica=None, signer=SimpleNamespace(), inbox=None, answers=reader, executor=reader, recent=reader,
        home=SimpleNamespace(data=data, network=data / "network.toml"), dump_bytes_max=1,
        ledger=None, snapshots=None, metrics=Metrics(), log=out,
        reports=Reports(data / "evidence", CHAIN_ID, membership, Ed25519Verifier(), out),
    )  # fmt: skip
    return Node(parts), log


@pytest.mark.parametrize("effect", [SendBatches(1, (b"x" * 32,)), SendBlocks(1, 1, 2)])
async def test_a_ledger_that_peers_cannot_be_answered_from_halts_the_node(tmp_path, effect):
    node, _ = _node(tmp_path)
    async with trio.open_nursery() as node._nursery:
        node._release(effect)
    assert node._halted == "the ledger is damaged"


async def test_a_divergence_halts_even_if_its_evidence_cannot_be_written(tmp_path):
    node, log = _node(tmp_path / "missing")
    async with trio.open_nursery() as node._nursery:
        node._release(Diverged(5, b"a" * 32, b"b" * 32))
    assert "block 5 gave another result" in node._halted
    assert "evidence not kept" in log.getvalue()


async def test_blame_counts_even_if_its_evidence_cannot_be_written(tmp_path):
    node, log = _node(tmp_path / "missing")
    proved = decode_evidence(bytes(decode(contradiction(2, validator_key(2), 0, 7)).payload))
    halves = [Prepare(0, 7, item.digest, 2, item.signature) for item in (proved.first, proved.second)]
    node._release(Blame(2, "equivocation", tuple(halves)))
    assert not node._halted
    assert "evidence not kept" in log.getvalue()


async def test_a_question_that_the_disk_cannot_answer_is_logged_and_fails_alone(tmp_path):
    node, log = _node(tmp_path)
    for ask in (lambda: node.query(len), lambda: node.find_envelope(b""), lambda: node.load_block(1)):
        with pytest.raises(StorageError):
            await ask()
    assert not node._halted
    assert log.getvalue().count("query failed") == 3


async def test_a_clock_that_was_wrong_for_a_moment_is_right_again(tmp_path, monkeypatch):
    """It follows the system's clock back: else no proposal is in time until the true time catches up."""
    node, _ = _node(tmp_path)
    for seconds in (1_000, 1_060, 1_001):
        monkeypatch.setattr("node.faults.time.time_ns", lambda at=seconds: at * 10**9)
        assert node.now_ms() == seconds * 1000
