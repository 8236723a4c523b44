"""The ledger: whole turns or nothing, one owner, and damage noticed."""

from pathlib import Path

import lmdb
import pytest

from consensus.messages import CODEC, Block, CommitCert, batch_digest
from consensus.primitives.errors import ConfigError, StorageError
from consensus.proofs import Vote
from node.ledger import Ledger, Turn

CHAIN = bytes([7]) * 32
MIB = 1 << 20


def _cert(seq: int, *batches: bytes) -> CommitCert:
    return CommitCert(0, Block(seq, 1000 + seq, batches), (Vote(0, bytes(64)),))


def _open(path: Path, chain: bytes = CHAIN, replica: int = 0, size: int = 16 * MIB) -> Ledger:
    return Ledger(path / "ledger", chain, replica, size)


def test_a_turn_reads_back_after_reopening(tmp_path: Path) -> None:
    payload = b"some payload"
    name = batch_digest(payload)
    ledger = _open(tmp_path)
    ledger.commit(Turn({b"a": b"1", b"b": b"2"}, [_cert(1, name)], {name: payload}))
    ledger.commit(Turn({b"a": None, b"b": b"3"}))
    ledger.close()
    ledger = _open(tmp_path)
    assert ledger.votes() == {b"b": b"3"}
    assert ledger.block(1) == _cert(1, name)
    assert ledger.block(2) is None
    assert ledger.batch(name) == payload
    assert ledger.has_batches([name, bytes(32)]) == [True, False]


def test_committed_blocks_are_counted_up_to_the_first_gap(tmp_path: Path) -> None:
    ledger = _open(tmp_path)
    ledger.commit(Turn(blocks=[_cert(seq) for seq in (1, 2, 3, 5)]))
    assert ledger.committed_after(0) == 3
    assert ledger.committed_after(2) == 3
    assert ledger.committed_after(3) == 3
    assert ledger.committed_after(4) == 5
    assert [cert.block.seq for cert in ledger.blocks(2, 9)] == [2, 3]


def test_payloads_stay_pending_until_a_block_names_them(tmp_path: Path) -> None:
    ledger = _open(tmp_path)
    payloads = {batch_digest(text): text for text in (b"one", b"two", b"three")}
    first, second, third = payloads
    ledger.commit(Turn(batches=payloads))
    assert ledger.pending() == sorted(payloads)
    ledger.commit(Turn(blocks=[_cert(1, first)], ordered=[second]))
    assert ledger.pending() == [third]
    ledger.commit(Turn(batches={first: b"one"}))  # a late copy
    assert ledger.pending() == [third]


def test_a_full_ledger_keeps_nothing_of_the_turn_and_says_what_to_raise(tmp_path: Path) -> None:
    ledger = _open(tmp_path, size=256 * 1024)
    ledger.commit(Turn({b"vote": b"kept"}))
    big = bytes(1 << 20)
    with pytest.raises(StorageError, match=r"ledger\.blocks_mib"):
        ledger.commit(Turn({b"vote": b"lost", b"other": b"lost"}, [], {batch_digest(big): big}))
    assert ledger.votes() == {b"vote": b"kept"}
    ledger.commit(Turn({b"vote": b"again"}))


def test_a_ledger_of_another_chain_or_validator_is_refused(tmp_path: Path) -> None:
    _open(tmp_path).close()
    with pytest.raises(ConfigError, match="belongs to chain 0707"):
        _open(tmp_path, chain=bytes(32))
    with pytest.raises(ConfigError, match="holds the votes of validator 0"):
        _open(tmp_path, replica=1)
    _open(tmp_path).close()


def test_a_flipped_bit_in_a_vote_stops_the_node(tmp_path: Path) -> None:
    ledger = _open(tmp_path)
    ledger.commit(Turn({b"key": b"value"}))
    ledger.close()
    with lmdb.open(str(tmp_path / "ledger"), max_dbs=8) as env:
        votes = env.open_db(b"votes")
        with env.begin(db=votes, write=True) as txn:
            sealed = bytearray(txn.get(b"key"))
            sealed[-1] ^= 1
            txn.put(b"key", bytes(sealed))
    with pytest.raises(StorageError, match="checksum is wrong"):
        _open(tmp_path).votes()


@pytest.mark.parametrize("data", [b"", b"garbage", CODEC.encode(_cert(2))])
def test_a_block_that_is_not_the_stored_one_stops_the_node(tmp_path: Path, data: bytes) -> None:
    ledger = _open(tmp_path)
    ledger.close()
    with lmdb.open(str(tmp_path / "ledger"), max_dbs=8) as env:
        blocks = env.open_db(b"blocks")
        with env.begin(db=blocks, write=True) as txn:
            txn.put((1).to_bytes(8, "big"), data)
    with pytest.raises(StorageError, match="damaged"):
        _open(tmp_path).block(1)


def test_a_ledger_file_of_garbage_stops_the_node(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "data.mdb").write_bytes(b"x" * 8192)
    with pytest.raises(StorageError, match="damaged"):
        _open(tmp_path)
