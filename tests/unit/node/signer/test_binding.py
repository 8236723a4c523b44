"""A key votes with one ledger: not with an empty one, not with another, not with an older copy of it."""

import shutil
from pathlib import Path

import pytest

from consensus.certificates import PREPARE
from consensus.primitives.crypto import Ed25519Signer, digest
from consensus.primitives.errors import ConfigError, StorageError
from consensus.proofs import signing_digest
from consensus.signing import Floor, Place
from node.ledger import Ledger, Turn
from node.signer.binding import Standing, check_standing
from node.signer.local import LocalSigner
from node.signer.record import SigningRecord
from tests.helpers.voting_ledger import NEW, VotingLedger

KEY, CHAIN = Ed25519Signer(bytes(32)), digest("test.chain")
TURNS = 5


def open_ledger(path: Path) -> Ledger:
    return Ledger(path, CHAIN, 0, 1 << 20)


def restart(record_path: Path, ledger_path: Path) -> None:
    """What a start asks of the two. Raises `ConfigError`."""
    record, ledger = SigningRecord.open(record_path), open_ledger(ledger_path)
    try:
        record.bind_ledger(Standing(ledger.id, ledger.turns, 0, 0))
    finally:
        ledger.close()
        record.close()


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """A folder with the ledger as it was after 0, 1, …, `TURNS` turns, and the record after the last."""
    SigningRecord.create(tmp_path / "record", KEY.public_key, CHAIN).close()
    record, ledger = SigningRecord.open(tmp_path / "record"), open_ledger(tmp_path / "ledger")
    signer = LocalSigner(KEY, CHAIN, record)
    signer.bind(ledger)
    shutil.copytree(tmp_path / "ledger", tmp_path / "0")
    for turn in range(1, TURNS + 1):
        message = signing_digest(CHAIN, 0, PREPARE, 0, turn, CHAIN)
        signer.sign_vote(PREPARE, 0, 0, turn, CHAIN, message)
        signer.begin()
        ledger.commit(Turn(batches={message: b"payload"}))
        signer.finish()
        shutil.copytree(tmp_path / "ledger", tmp_path / str(turn))
    signer.close()
    ledger.close()
    record.close()
    return tmp_path


@pytest.mark.parametrize("turn", range(TURNS + 1))
def test_an_older_copy_is_refused_from_two_turns_back_on(copies: Path, turn: int) -> None:
    if turn >= TURNS - 1:  # one turn back is what a crash between the two syncs leaves
        restart(copies / "record", copies / str(turn))
        return
    with pytest.raises(ConfigError, match=r"older copy.*kontor recover"):
        restart(copies / "record", copies / str(turn))


def test_a_new_ledger_is_refused_however_long_it_is(copies: Path) -> None:
    with pytest.raises(ConfigError, match=r"not the one the key voted with.*kontor recover"):
        restart(copies / "record", copies / "new")
    ledger = open_ledger(copies / "new")
    for turn in range(2 * TURNS):
        ledger.commit(Turn(batches={bytes([turn]) * 32: b"payload"}))
    ledger.close()
    with pytest.raises(ConfigError, match="not the one"):
        restart(copies / "record", copies / "new")


def test_the_marks_survive_a_rewrite_and_a_restart(tmp_path: Path) -> None:
    record = SigningRecord.create(tmp_path / "record", KEY.public_key, CHAIN)
    record.bind_ledger(NEW)
    record.append([(Place(PREPARE, 0, 1), CHAIN)], None, 7)
    record.append([(Place(PREPARE, 0, 2), CHAIN)], None, 6)
    record._rewrite()
    record.close()
    again = SigningRecord.open(tmp_path / "record")
    assert (again.ledger_id, again.turn) == (NEW.ledger_id, 7)
    again.close()


def test_the_ledger_is_on_disk_before_the_first_signature(tmp_path: Path) -> None:
    record = SigningRecord.create(tmp_path / "record", KEY.public_key, CHAIN)
    with pytest.raises(StorageError, match="knows no ledger"):
        record.append([(Place(PREPARE, 0, 1), CHAIN)])
    signer = LocalSigner(KEY, CHAIN, record)
    signer.bind(VotingLedger())
    again = SigningRecord.open(tmp_path / "record")
    assert again.ledger_id == NEW.ledger_id
    again.close()
    signer.close()
    record.close()


@pytest.mark.parametrize("floor", [Floor(4, 8), Floor(3, 9)])
def test_a_floor_above_the_ledger_is_refused(floor: Floor) -> None:
    standing = Standing(NEW.ledger_id, 9, 3, 8)
    check_standing(NEW.ledger_id, 9, Floor(3, 8), standing)
    with pytest.raises(ConfigError, match=r"knows less.*kontor recover"):
        check_standing(NEW.ledger_id, 9, floor, standing)
