"""A record changes its home: one of the two signs, and what was signed is never forgotten."""

import json
import shutil
from pathlib import Path

import pytest

from consensus.certificates import PREPARE
from consensus.primitives.crypto import digest
from consensus.primitives.errors import ConfigError
from consensus.signing import Floor, Place
from node.config import Home
from node.keys import load_signer, new_seed, write_seed
from node.signer.binding import Standing
from node.signer.migrate import _checksum, export_record, import_record
from node.signer.opening import open_record
from node.signer.record import SigningRecord
from tests.helpers.voting_ledger import NEW

CHAIN, A, B = digest("test.chain"), digest("test.a"), digest("test.b")
PLACE = Place(PREPARE, 0, 5)


@pytest.fixture
def old(tmp_path: Path) -> Home:
    """A home that signed."""
    home = Home(tmp_path / "old")
    write_seed(home.consensus_seed, new_seed())
    record = SigningRecord.create(home.signing_record, load_signer(home.consensus_seed).public_key, CHAIN)
    record.bind_ledger(NEW)
    record.close()
    sign(home, PLACE, A, Floor(0, 2))
    return home


@pytest.fixture
def new(tmp_path: Path, old: Home) -> Home:
    """A home with the same seed and no record."""
    home = Home(tmp_path / "new")
    home.consensus_seed.parent.mkdir(parents=True)
    shutil.copy(old.consensus_seed, home.consensus_seed)
    return home


def sign(home: Home, place: Place, message: bytes, floor: Floor | None = None) -> None:
    with open_record(home, CHAIN) as record:
        assert record.votes.check(place, message)
        record.append([(place, message)], floor, 1)


def test_the_new_home_goes_on_where_the_old_one_stood(tmp_path: Path, old: Home, new: Home) -> None:
    summary = export_record(old, tmp_path / "file")
    assert (summary["votes"], summary["floor_seq"]) == (1, 2)
    import_record(new, tmp_path / "file")
    with open_record(new, CHAIN) as record:
        assert record.votes.places == {PLACE: A}
        assert record.votes.floor == Floor(0, 2)
    with pytest.raises(ConfigError, match="exported to another home"), open_record(old, CHAIN):
        pass


def test_the_key_comes_back_with_everything_signed_meanwhile(tmp_path: Path, old: Home, new: Home) -> None:
    export_record(old, tmp_path / "there")
    import_record(new, tmp_path / "there")
    sign(new, Place(PREPARE, 0, 6), B)
    export_record(new, tmp_path / "back")
    import_record(old, tmp_path / "back")
    with open_record(old, CHAIN) as record:
        assert len(record.votes.places) == 2


def test_an_export_can_be_written_again_and_taken_back_by_a_word(tmp_path: Path, old: Home) -> None:
    first, again = export_record(old, tmp_path / "a"), export_record(old, tmp_path / "b")
    assert first == again
    with pytest.raises(ConfigError, match="--undo"):
        import_record(old, tmp_path / "a")
    import_record(old, tmp_path / "a", undo=True)
    sign(old, Place(PREPARE, 0, 6), B)


def test_a_home_that_signs_takes_no_record(tmp_path: Path, old: Home, new: Home) -> None:
    export_record(old, tmp_path / "file")
    import_record(new, tmp_path / "file")
    with pytest.raises(ConfigError, match="signs here"):
        import_record(new, tmp_path / "file")


@pytest.mark.parametrize(
    ("floor", "reason"), [(Floor(0, 5), "has the floor"), (None, "what .* does not know")]
)
def test_an_older_record_never_replaces_a_newer_one(
    tmp_path: Path, old: Home, new: Home, floor: Floor | None, reason: str
) -> None:
    export_record(old, tmp_path / "early")
    import_record(new, tmp_path / "early")
    sign(new, Place(PREPARE, 0, 6), B, floor)
    export_record(new, tmp_path / "late")
    with pytest.raises(ConfigError, match=reason):
        import_record(new, tmp_path / "early")
    import_record(old, tmp_path / "late")


def test_a_record_follows_its_seed(tmp_path: Path, old: Home) -> None:
    stranger = Home(tmp_path / "stranger")
    write_seed(stranger.consensus_seed, new_seed())
    export_record(old, tmp_path / "file")
    with pytest.raises(ConfigError, match="copy the seed"):
        import_record(stranger, tmp_path / "file")


def test_a_damaged_file_is_refused_whatever_byte_changed(tmp_path: Path, old: Home, new: Home) -> None:
    export_record(old, tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    for at in range(len(data) - 1):
        (tmp_path / "file").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ConfigError):
            import_record(new, tmp_path / "file")
    assert not new.signer.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 1),
        ("public_key", "zz"),
        ("ledger", "00"),
        ("turn", -1),
        ("floor", [0]),
        ("floor", [True, 2]),
        ("votes", [["payment", 0, 6, "00" * 32]]),
        ("votes", [["prepare", 0, -6, "00" * 32]]),
        ("votes", [["prepare", 0, 6, "00"]]),
        ("votes", [["prepare", 0, 6, "00" * 32], ["prepare", 0, 6, "11" * 32]]),
        ("votes", {"prepare": 1}),
    ],
)
def test_a_file_with_a_good_checksum_is_still_checked(
    tmp_path: Path, old: Home, new: Home, name: str, value: object
) -> None:
    export_record(old, tmp_path / "file")
    content = json.loads((tmp_path / "file").read_text())
    del content["checksum"]
    content[name] = value
    (tmp_path / "file").write_text(json.dumps({**content, "checksum": _checksum(content)}))
    with pytest.raises(ConfigError):
        import_record(new, tmp_path / "file")
    assert not new.signer.exists()


def test_of_two_homes_with_one_export_only_that_with_the_ledger_signs(
    tmp_path: Path, old: Home, new: Home
) -> None:
    export_record(old, tmp_path / "file")
    import_record(new, tmp_path / "file")
    with open_record(new, CHAIN) as record:
        for standing in (Standing(bytes(16), 0, 0, 0), Standing(bytes(16), 9, 9, 9)):
            with pytest.raises(ConfigError, match="not the one the key voted with"):
                record.bind_ledger(standing)
        record.bind_ledger(Standing(NEW.ledger_id, 1, 0, 2))


def test_a_record_without_a_ledger_is_not_exported(tmp_path: Path) -> None:
    home = Home(tmp_path / "fresh")
    write_seed(home.consensus_seed, new_seed())
    SigningRecord.create(home.signing_record, load_signer(home.consensus_seed).public_key, CHAIN).close()
    with pytest.raises(ConfigError, match="start the node once"):
        export_record(home, tmp_path / "file")
