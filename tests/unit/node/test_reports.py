"""Evidence is kept, and brought before the ledger until it is there."""

from io import StringIO
from pathlib import Path

import pytest
import trio

from consensus.certificates import PREPARE
from consensus.effects import Blame
from consensus.messages import Prepare
from consensus.primitives.crypto import Ed25519Verifier
from consensus.primitives.errors import InputError, ProtocolError
from consensus.proofs import signing_digest
from engine.batch import decode_batch
from engine.envelope import EnvelopeKind
from node import reports
from node.reports import FILES_PER_REPLICA, Reports, read_proof
from node.setup import create_network
from node.telemetry import Log
from node.validators import Membership
from node.warm import warm_kernels
from node.wire import Refused
from tests.helpers.memory_network import MemoryLedger, MemoryNode

pytestmark = pytest.mark.trio


class _Watcher:
    """A node that saw validator 0 lie."""

    def __init__(self, root: Path) -> None:
        warm_kernels()
        self.ledger = MemoryLedger(create_network(root / "net", 4))
        self.node = MemoryNode(self.ledger, 0)
        self.ledger.nodes.append(self.node)
        self.log = StringIO()
        self.folder = root / "evidence"
        self.reports = self.restart()

    def restart(self) -> Reports:
        membership = Membership(self.ledger.machine, self.ledger.network)
        chain_id = self.ledger.network.chain_id
        return Reports(self.folder, chain_id, membership, Ed25519Verifier(), Log(self.log, "debug"))

    def lie(self, seq: int, liar: int = 0) -> Blame:
        halves = []
        for body in (b"a" * 32, b"b" * 32):
            message = signing_digest(self.ledger.network.chain_id, 0, PREPARE, 0, seq, body)
            halves.append(Prepare(0, seq, body, liar, self.ledger.signers[liar].sign(message)))
        return Blame(liar, "equivocation", tuple(halves))

    def report(self, seq: int, liar: int = 0) -> None:
        self.reports.add(liar, self.lie(seq, liar).evidence)

    @property
    def convicted(self) -> int:
        return self.ledger.machine.state.count["evidence"]


@pytest.fixture
def watcher(tmp_path: Path) -> _Watcher:
    return _Watcher(tmp_path)


async def _run_until(watcher: _Watcher, convicted: int) -> None:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.reports.run, watcher.node)
            while watcher.convicted < convicted:
                await watcher.node.wait_asked()
            nursery.cancel_scope.cancel()


async def test_what_a_node_saw_reaches_the_ledger_once_in_a_batch_of_its_own(watcher):
    watcher.report(7)
    watcher.report(7)
    await _run_until(watcher, 1)
    (batch,) = [decode_batch(payload) for payload, _ in watcher.node.batches]
    assert [item.kind for item in batch] == [EnvelopeKind.EVIDENCE]


async def test_evidence_survives_a_restart_and_is_not_brought_twice(watcher):
    watcher.report(7)
    watcher.reports = watcher.restart()
    await _run_until(watcher, 1)
    watcher.reports = watcher.restart()
    watcher.report(8)
    await _run_until(watcher, 2)
    assert len(watcher.node.batches) == 2


async def test_a_ledger_that_pushes_back_gets_it_later(watcher, monkeypatch):
    monkeypatch.setattr(reports, "RETRY_SECONDS", 0)
    watcher.report(7)
    watcher.node.refusal = InputError(Refused.OVERLOADED, "later")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.reports.run, watcher.node)
            await watcher.node.wait_asked()
            watcher.node.refusal = None
            await watcher.node.wait_asked()
            nursery.cancel_scope.cancel()
    assert watcher.convicted == 1


async def test_what_convinces_nobody_else_is_not_kept(watcher):
    first, second = watcher.lie(7).evidence
    watcher.reports.add(0, (first, first))
    watcher.reports.add(1, (first, second))
    assert not watcher.folder.exists()


async def test_one_liar_leaves_room_for_the_evidence_against_another(watcher):
    for seq in range(1, FILES_PER_REPLICA + 10):
        watcher.report(seq)
    assert len(list(watcher.folder.iterdir())) == FILES_PER_REPLICA
    watcher.report(7, liar=1)
    assert len(list(watcher.folder.iterdir())) == FILES_PER_REPLICA + 1
    await _run_until(watcher, FILES_PER_REPLICA + 1)
    assert watcher.ledger.machine.state.validators.columns["convictions"][:2].tolist() == [
        FILES_PER_REPLICA,
        1,
    ]


async def test_what_the_ledger_has_makes_room_again(watcher, monkeypatch):
    monkeypatch.setattr(reports, "RETRY_SECONDS", 0)
    for seq in range(1, FILES_PER_REPLICA + 1):
        watcher.report(seq)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.reports.run, watcher.node)
            while list(watcher.folder.iterdir()):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert watcher.convicted == FILES_PER_REPLICA
    watcher.report(100)
    assert len(list(watcher.folder.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"zz", b"00", b"ff" * 4000, b"\xff\xfe"])
async def test_a_file_that_is_no_proof_is_told_apart_and_left_alone(watcher, content):
    watcher.report(7)
    path = watcher.folder / "a.hex"
    path.write_bytes(content)
    with pytest.raises(ProtocolError):
        read_proof(path)
    watcher.reports = watcher.restart()
    await _run_until(watcher, 1)
    assert path.read_bytes() == content
    assert "evidence not read" in watcher.log.getvalue()
