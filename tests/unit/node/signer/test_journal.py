"""The signer's file: what a torn write leaves is cut off, every other change is noticed."""

import os
from pathlib import Path

import pytest

from consensus.primitives.errors import StorageError
from node.signer import journal as module
from node.signer.journal import BODY_MAX, PAGE, Journal


def body(number: int, length: int = 60) -> bytes:
    return (b"%06d" % number).ljust(length, b"v")


def reopened(path: Path) -> list[bytes]:
    journal, bodies = Journal.open(path)
    journal.close()
    return bodies


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "signer" / "record"


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIZE_MIN", 4 * PAGE)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # slow, and nothing here loses power
    monkeypatch.setattr(os, "fdatasync", lambda handle: None)


def test_what_was_appended_is_read_back_in_order(path: Path) -> None:
    journal = Journal.create(path, [body(0)])
    for number in range(1, 200):
        journal.append([body(number, 20 + number)])
    journal.append([body(200 + number, BODY_MAX) for number in range(3)])
    journal.close()
    assert reopened(path) == [
        body(0),
        *[body(number, 20 + number) for number in range(1, 200)],
        *[body(200 + number, BODY_MAX) for number in range(3)],
    ]


def test_a_file_that_was_read_can_be_appended_to(path: Path) -> None:
    Journal.create(path, [body(0)]).close()
    for number in range(1, 5):
        journal, bodies = Journal.open(path)
        assert bodies == [body(other) for other in range(number)]
        journal.append([body(number)])
        journal.close()


def written(path: Path) -> tuple[bytes, int, int]:
    """A file of three frames that end amid a sector, and where the last one begins and ends."""
    journal = Journal.create(path, [body(0, 400)])
    journal.append([body(1)])
    start = journal._end
    journal.append([body(2, 700)])
    journal.close()
    return path.read_bytes(), start, journal._end


def test_a_write_torn_at_any_byte_is_cut_off(path: Path) -> None:
    """Once as a file that ends there, once as one whose zeros were not overwritten from there on."""
    data, start, end = written(path)
    for cut in range(start, end):
        for torn in (data[:cut], data[:cut] + bytes(len(data) - cut)):
            path.write_bytes(torn)
            journal, bodies = Journal.open(path)
            assert bodies == [body(0, 400), body(1)]
            journal.append([body(3)])
            journal.close()
            assert reopened(path) == [body(0, 400), body(1), body(3)]


@pytest.mark.parametrize("missing", [0, 1])
def test_a_write_of_which_any_sector_is_missing_is_cut_off(path: Path, missing: int) -> None:
    data, start, end = written(path)
    sectors = range(start // 512, (end - 1) // 512 + 1)
    first = max(start, sectors[missing] * 512)
    last = min(end, sectors[missing] * 512 + 512)
    path.write_bytes(data[:first] + bytes(last - first) + data[last:])
    assert reopened(path) == [body(0, 400), body(1)]


def test_every_flipped_bit_of_what_was_written_is_noticed(path: Path) -> None:
    """Also in the last frame, which a torn write could have left: a flip looks different."""
    data, _, end = written(path)
    for at in range(end):
        for bit in (1, 128):
            path.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
            with pytest.raises(StorageError, match="damaged"):
                Journal.open(path)


def test_a_frame_lost_from_the_middle_is_noticed(path: Path) -> None:
    journal = Journal.create(path, [body(0)])
    pages = []
    for number in range(1, 4):
        journal.append([body(number, BODY_MAX)])
        pages.append(journal._end // PAGE)
    journal.close()
    data = path.read_bytes()
    path.write_bytes(data[:PAGE] + bytes(PAGE) + data[2 * PAGE :])
    with pytest.raises(StorageError, match="damaged"):
        Journal.open(path)
    path.write_bytes(data[:PAGE] + data[2 * PAGE : 3 * PAGE] + data[PAGE : 2 * PAGE] + data[3 * PAGE :])
    with pytest.raises(StorageError, match="damaged"):
        Journal.open(path)


@pytest.mark.parametrize("content", [b"", bytes(100), bytes(8 * PAGE), b"hello, this is some other file" * 9])
def test_what_is_no_record_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        Journal.open(path)


def test_a_file_of_absurd_size_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Journal.create(path, [body(0)]).close()
    monkeypatch.setattr(module, "FILE_MAX", PAGE)
    with pytest.raises(StorageError, match="at most"):
        Journal.open(path)


def test_after_a_failed_write_nothing_is_written_any_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system marks pages clean that it failed to sync: a second sync would say yes to nothing."""
    journal = Journal.create(path, [body(0)])

    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            journal.append([body(1)])
    with pytest.raises(StorageError, match="could not be written before"):
        journal.append([body(1)])
    journal.close()


def test_a_frame_is_synced_before_the_next_page_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(path, [body(0)])
    seen: list[str] = []
    write, sync = os.pwrite, os.fdatasync

    def note_write(handle: int, content: bytes, at: int) -> int:
        seen.append(f"page {at // PAGE}")
        return write(handle, content, at)

    def note_sync(handle: int) -> None:
        seen.append("sync")
        sync(handle)

    monkeypatch.setattr(os, "pwrite", note_write)
    monkeypatch.setattr(os, "fdatasync", note_sync)
    journal.append([body(1), body(2, BODY_MAX), body(3, BODY_MAX)])
    journal.close()
    assert seen == ["page 0", "sync", "page 1", "sync", "page 2", "sync"]


def test_a_new_file_replaces_the_old_one_whole(path: Path) -> None:
    Journal.create(path, [body(0)]).close()
    path.with_suffix(".partial").write_bytes(b"left by a crash")
    Journal.create(path, [body(7)]).close()
    assert reopened(path) == [body(7)]
    assert [item.name for item in path.parent.iterdir()] == ["record"]
    assert path.stat().st_mode & 0o777 == 0o600
