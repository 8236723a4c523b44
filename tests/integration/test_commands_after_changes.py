"""Commands that know a network file only, after the validators in it were replaced."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from consensus.certificates import PREPARE
from consensus.evidence import encode_evidence, make_evidence
from consensus.messages import Prepare
from consensus.proofs import signing_digest
from consensus.quorum import first_view
from node.setup import write_network
from ops.cli import main
from ops.status import ask_all
from tests.helpers.memory_network import MemoryNetwork, memory_network

pytestmark = pytest.mark.trio


def _evidence(net: MemoryNetwork, key: int) -> bytes:
    """Two votes of validator 1 in epoch 1, with one of the present keys."""
    view, halves = first_view(1), []
    for body in (b"a" * 32, b"b" * 32):
        message = signing_digest(net.network.chain_id, 1, PREPARE, view, 9, body)
        halves.append(Prepare(view, 9, body, 1, net.ledger.signers[key].sign(message)))
    return encode_evidence(make_evidence(1, 1, *halves))


async def _kontor(*words: str) -> int:
    return await trio.to_thread.run_sync(main, list(words))


async def test_evidence_of_a_later_epoch_is_verified_by_the_chain_of_epochs_also_offline(tmp_path, capsys):
    file, saved, proof, lie = (tmp_path / name for name in ("network.toml", "epochs", "proof", "lie"))
    async with memory_network(tmp_path, 4) as net:
        write_network(file, net.network)
        net.ledger.run_block()
        net.ledger.replace_validators()
        proof.write_text(_evidence(net, 1).hex())
        lie.write_text(_evidence(net, 2).hex())
        verify = ["evidence", "verify", "--network", str(file)]
        assert await _kontor(*verify, str(proof), "--json") == 0
        assert json.loads(capsys.readouterr().out)["validator"] == 1
        assert await _kontor(*verify, str(lie)) == 1
        assert await _kontor("evidence", "epochs", "--out", str(saved), "--network", str(file)) == 0
        assert await _kontor("evidence", "epochs", "--out", str(saved), "--network", str(file)) == 2
    verify += ["--epochs", str(saved)]
    assert await _kontor(*verify, str(proof)) == 0
    assert await _kontor(*verify, str(lie)) == 1
    line = saved.read_text()
    changes: Sequence[tuple[str, int, str]] = (
        ("", 2, "ends with 0"),  # too few changes
        (line[:-9] + ("0" if line[-9] != "0" else "1") + line[-8:], 1, "bad-signature"),
        (line[:-5], 2, "cannot be read"),
        ("00\n", 2, "cannot be read"),
    )
    for text, status, why in changes:
        saved.write_text(text)
        capsys.readouterr()
        assert await _kontor(*verify, str(proof)) == status
        assert why in capsys.readouterr().err


async def test_status_asks_whoever_validates_now(tmp_path: Path):
    async with memory_network(tmp_path, 4) as net:
        net.ledger.run_block()
        net.ledger.replace_validators(leaves=3)
        answers = await ask_all(net.network)
        assert list(answers) == [0, 1, 2]
        assert all(not isinstance(answer, str) for answer in answers.values())
