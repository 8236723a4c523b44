"""A node whose disk fails stops voting, and goes on otherwise; and its clock."""

import threading
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from consensus.certificates import ATTEST as ATTESTED
from consensus.effects import Blame, Broadcast, Diverged, SendBatches, SendBlocks
from consensus.evidence import decode_evidence
from consensus.messages import Attest, Complain, Prepare
from consensus.primitives.crypto import Ed25519Signer, Ed25519Verifier, digest
from consensus.primitives.errors import StorageError
from consensus.proofs import signing_digest
from engine.envelope import decode
from node.reports import Reports
from node.runtime import Node
from node.signer.local import LocalSigner
from node.signer.record import SigningRecord
from node.signer.ring import KeyRing
from node.telemetry import Log, Metrics
from node.validators import Membership
from tests.helpers.venue import CHAIN_ID, Venue, contradiction, validator_key
from tests.helpers.voting_ledger import VotingLedger

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


class _SlowSigner:
    """A signer whose record takes as long as the test likes; notes what it was asked, in order."""

    def __init__(self, says: list[str], fails: bool = False) -> None:
        self.is_urgent, self.is_settled = False, False
        self.may_finish = threading.Event()
        self._says, self._fails = says, fails

    def begin(self) -> None:
        self._says.append("begin")

    def finish(self) -> None:
        assert self.may_finish.wait(20)
        if self._fails:
            raise StorageError("the record's disk is full")
        self.is_settled = True
        self._says.append("durable")


def _attesting(tmp_path: Path, fails: bool = False) -> tuple[Node, _SlowSigner, list[str]]:
    node, _ = _node(tmp_path)
    says: list[str] = []
    signer = _SlowSigner(says, fails)
    parts: Any = node._parts
    parts.signer, parts.pool = signer, None
    parts.proofs = SimpleNamespace(on_attest=lambda replica, message: None)
    parts.replica_id = 0
    parts.transport = SimpleNamespace(broadcast=lambda frame: says.append("sent"))
    return node, signer, says


ROOT = digest("test.root")
ATTEST = Attest(1, b"b" * 32, b"j" * 32, None, 0, b"s" * 64)


async def test_an_attestation_waits_for_its_record_and_the_loop_does_not(tmp_path):
    node, signer, says = _attesting(tmp_path)
    with trio.fail_after(30):
        async with trio.open_nursery() as node._nursery:
            await node._carry_out([Broadcast(ATTEST), Broadcast(Complain(0, 0, b"c" * 64))])
            assert says[-1] == "sent"  # the complaint: it is no vote
            await node._carry_out([Broadcast(ATTEST)])
            assert says.count("sent") == 1
            signer.may_finish.set()
    assert says.count("sent") == 3
    assert "durable" in says[: says.index("sent", says.index("sent") + 1)]


async def test_an_attestation_whose_record_cannot_be_written_never_leaves(tmp_path):
    node, signer, says = _attesting(tmp_path, fails=True)
    signer.may_finish.set()
    with trio.fail_after(30):
        async with trio.open_nursery() as node._nursery:
            await node._carry_out([Broadcast(ATTEST)])
    assert "sent" not in says
    assert "the record's disk is full" in node._halted


async def test_votes_without_a_transaction_of_the_ledger_are_durable_before_they_leave(tmp_path):
    """After a restart a node says again what its vote log holds and its record may have lost."""
    node, signer, says = _attesting(tmp_path)
    signer.is_urgent = True
    signer.may_finish.set()
    async with trio.open_nursery() as node._nursery:
        await node._carry_out([Broadcast(ATTEST)])
    assert says == ["begin", "durable", "sent"]


@pytest.mark.parametrize("is_checkpoint", [False, True])
async def test_what_ran_before_it_is_durable_is_written_down_meanwhile(tmp_path, is_checkpoint):
    """Its attestation leaves with the turn it belongs to, and waits for no sync of its own."""
    node, _, says = _attesting(tmp_path)
    key = Ed25519Signer(bytes(32))
    record = SigningRecord.create(tmp_path / "record", key.public_key, CHAIN_ID)
    signer = LocalSigner(key, CHAIN_ID, record)
    parts: Any = node._parts
    parts.signer = KeyRing(parts.home, CHAIN_ID, signer)
    parts.signer.bind(VotingLedger())

    def attest(_: object = None) -> None:
        signer.sign_vote(ATTESTED, 0, 0, 1, ROOT, signing_digest(CHAIN_ID, 0, ATTESTED, 0, 1, ROOT))

    node._replica = parts.replica = SimpleNamespace(foresee=attest)
    node.on_early(SimpleNamespace(state="a summary" if is_checkpoint else None, event=None))  # type: ignore[arg-type]
    parts.signer.finish()
    assert bool(record.votes.places) != is_checkpoint
    attest()  # the step itself
    async with trio.open_nursery() as node._nursery:
        await node._carry_out([Broadcast(ATTEST)])
        assert says == ([] if is_checkpoint else ["sent"])
    signer.close()
    record.close()
