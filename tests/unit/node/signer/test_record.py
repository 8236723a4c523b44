"""A signer's record: whose it is, what it holds, and when it refuses to serve."""

import os
from pathlib import Path

import pytest

from consensus.certificates import COMMIT, PREPARE, VIEW_CHANGE
from consensus.primitives.crypto import ZERO_DIGEST, digest
from consensus.primitives.errors import ConfigError, StorageError
from consensus.signing import Floor, Place
from node.signer import journal as journal_module
from node.signer.journal import PAGE, Journal
from node.signer.record import KINDS, SigningRecord
from node.versions import WrongVersion
from tests.helpers.voting_ledger import NEW

KEY, OTHER_KEY, CHAIN, OTHER_CHAIN = (digest(f"test.{name}") for name in ("key", "other", "chain", "fork"))
A, B = digest("test.a"), digest("test.b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "signer" / "record"


def make(path: Path) -> SigningRecord:
    record = SigningRecord.create(path, KEY)
    record.bind(CHAIN)
    record.bind_ledger(NEW)
    return record


def test_everything_signed_is_there_after_a_restart(path: Path) -> None:
    record = make(path)
    places = [Place(kind, 0 if kind[1] == "t" else 1, number) for number, kind in enumerate(KINDS, 1)]
    record.append([(place, A) for place in places])
    record.append([(Place(PREPARE, 2, 9), B)], Floor(0, 2))
    votes = record.votes
    record.close()
    again = SigningRecord.open(path)
    again.check_ready(KEY)
    assert (again.public_key, again.chain_id) == (KEY, CHAIN)
    assert (again.votes.floor, again.votes.places) == (votes.floor, votes.places)
    assert Place(PREPARE, 2, 9) in again.votes.places
    again.close()


def test_a_view_change_raises_the_floor_of_the_view_after_a_restart_too(path: Path) -> None:
    record = make(path)
    record.append([(Place(COMMIT, 3, 1), A), (Place(VIEW_CHANGE, 4, 0), A)])
    record.close()
    again = SigningRecord.open(path)
    assert again.votes.floor == Floor(4, 0)
    assert list(again.votes.places) == [Place(VIEW_CHANGE, 4, 0)]
    again.close()


def test_a_full_file_is_written_anew_with_what_still_counts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SIZE_MIN", 4 * PAGE)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(os, "fdatasync", lambda handle: None)
    record = make(path)
    for seq in range(1, 2000):
        record.append([(Place(PREPARE, 0, seq), A)], Floor(0, seq - 10) if seq % 10 == 0 else None)
    assert path.stat().st_size == 4 * PAGE
    record.close()
    again = SigningRecord.open(path)
    assert again.votes.floor == Floor(0, 1980)
    assert list(again.votes.places) == [Place(PREPARE, 0, seq) for seq in range(1981, 2000)]
    again.close()


def test_a_record_is_never_begun_twice(path: Path) -> None:
    make(path).close()
    with pytest.raises(ConfigError, match="never begun twice"):
        SigningRecord.create(path, KEY)


def test_a_key_without_its_record_does_not_sign(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"record is lost.*kontor recover"):
        SigningRecord.open(path)


def test_a_record_of_another_key_is_refused(path: Path) -> None:
    record = make(path)
    with pytest.raises(ConfigError, match="belongs to the key"):
        record.check_ready(OTHER_KEY)
    record.close()


def test_a_record_serves_one_chain(path: Path) -> None:
    make(path).close()
    record = SigningRecord.open(path)
    record.bind(CHAIN)
    with pytest.raises(ConfigError, match="belongs to chain"):
        record.bind(OTHER_CHAIN)
    record.close()


def test_a_record_that_moved_signs_no_more_also_after_a_restart(path: Path) -> None:
    record = make(path)
    record.move(b"e" * 16)
    record.close()
    again = SigningRecord.open(path)
    with pytest.raises(ConfigError, match="exported to another home"):
        again.check_ready(KEY)
    again.close()


HEADER = b"H\x00\x02" + KEY + ZERO_DIGEST
VOTE = b"\x02" + bytes(15) + b"\x01" + bytes(7) + b"\x01"


@pytest.mark.parametrize(
    ("bodies", "reason"),
    [
        ([VOTE[:1] + bytes(8) + (1).to_bytes(8, "big") + A], "begins with no header"),
        ([HEADER, HEADER], "second header"),
        ([HEADER, b"\x99" + A], "does not write"),
        ([HEADER, b"B" + A[:31]], "does not write"),
        ([HEADER, b"\x02" + bytes(15) + b"\x01" + A, b"\x02" + bytes(15) + b"\x01" + B], "signed twice"),
        ([HEADER, b"\x02" + b"\xff" * 16 + A], "signed twice"),
    ],
)
def test_a_file_that_this_version_would_not_write_is_refused(
    path: Path, bodies: list[bytes], reason: str
) -> None:
    Journal.create(path, bodies).close()
    with pytest.raises(StorageError, match=reason):
        SigningRecord.open(path)


def test_a_record_of_another_version_is_left_to_that_version(path: Path) -> None:
    Journal.create(path, [b"H\x00\x01" + KEY + ZERO_DIGEST]).close()
    with pytest.raises(WrongVersion, match=r"has format 1; this version of Kontor reads 2: run the version"):
        SigningRecord.open(path)
