"""The history: an index that may be lost and is then rebuilt."""

from pathlib import Path

from consensus.messages import Attest
from node.history import History, HistoryBlock

CHAIN = bytes([7]) * 32
MIB = 1 << 20


def _history_block(height: int, name: bytes) -> HistoryBlock:
    return HistoryBlock(height, b"header%d" % height, b"journal%d" % height, ((name, 5),))


def test_the_history_finds_blocks_envelopes_and_proofs(tmp_path: Path) -> None:
    history = History(tmp_path / "history", CHAIN, 16 * MIB)
    attest = Attest(1, bytes(32), bytes(32), None, 2, bytes(64))
    history.write([_history_block(1, b"e" * 32), _history_block(2, b"e" * 32)], [(1, (attest,))])
    assert history.height() == 2
    assert history.block(1) == (b"header1", b"journal1")
    assert history.find_envelope(b"e" * 32) == (1, 5)
    assert history.proof(1) == (attest,)
    assert history.proof(2) is None and history.block(3) is None


def test_a_refused_copy_never_hides_an_executed_one(tmp_path: Path) -> None:
    history = History(tmp_path / "history", CHAIN, 16 * MIB)
    refused = HistoryBlock(1, b"header", b"journal", (), ((b"e" * 32, 3),))
    history.write([refused], [])
    assert history.find_envelope(b"e" * 32) is None
    assert history.find_refused(b"e" * 32) == (1, 3)
    history.write([_history_block(2, b"e" * 32)], [])
    assert history.find_envelope(b"e" * 32) == (2, 5)
    assert history.find_refused(b"e" * 32) == (1, 3)


def test_the_history_survives_a_killed_process_but_not_a_restarted_machine(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history = History(path, CHAIN, 16 * MIB)
    history.write([_history_block(1, b"e" * 32)], [])
    history.close()
    History(path, CHAIN, 16 * MIB).close()
    (path / "boot").write_text("not this boot")
    assert History(path, CHAIN, 16 * MIB).height() == 0


def test_a_damaged_or_foreign_history_is_discarded(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history = History(path, CHAIN, 16 * MIB)
    history.write([_history_block(1, b"e" * 32)], [])
    history.close()
    other = History(path, bytes(32), 16 * MIB)
    assert other.height() == 0
    other.close()
    (path / "data.mdb").write_bytes(b"x" * 8192)
    assert History(path, CHAIN, 16 * MIB).height() == 0
