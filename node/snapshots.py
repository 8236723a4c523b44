"""The newest checkpoint of the state, as pages in an LMDB environment of its own.

A snapshot replaces the pages that changed since the one before it, together with `SnapshotMeta`,
in one transaction: after a crash the old or the new snapshot is there, never a mixture. It has its own
environment because LMDB has one writer at a time, and votes must not wait behind megabytes of pages.

    meta   the encoded `SnapshotMeta`
    pages  table (2 bytes), page (4 bytes), big-endian -> bytes
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lmdb

from consensus.primitives.codec import Codec
from consensus.primitives.errors import ProtocolError, StorageError
from consensus.primitives.merkle import hash_leaf
from consensus.primitives.trees import PAGE_SIZE
from consensus.proofs import CheckpointCert, StateSummary, Vote
from engine.tables.manifest import (
    CHUNK_PAGES,
    Manifest,
    Page,
    Shape,
    build_manifest,
    check_manifest,
    encode_chunk,
)
from node.storage import check_damage, open_environment, storage_errors

_SETTING = "ledger.state_mib"
_META = b"meta"
_PAGE_KEY_SIZE = 6


@dataclass(frozen=True)
class SnapshotMeta:
    """Which state the pages hold. `votes` make a certificate of it, where one was seen."""

    height: int
    block_digest: bytes
    journal_root: bytes
    state: StateSummary
    votes: tuple[Vote, ...] = ()

    @property
    def cert(self) -> CheckpointCert | None:
        """What proves the state to others."""
        if not self.votes:
            return None
        return CheckpointCert(self.height, self.block_digest, self.journal_root, self.state, self.votes)


_META_CODEC = Codec(SnapshotMeta)


class Snapshots:
    """Durable pages of one checkpoint. Methods may be called from any thread, one writer at a time.

    `sync=False`: a killed process loses nothing, a crash of the machine may lose all; see `sync`.
    `readonly`: nothing is written, not even a name, so it may be a running node's.
    """

    def __init__(self, path: Path, map_bytes: int, sync: bool = True, readonly: bool = False) -> None:
        self._readonly = readonly
        self.path = path
        self._map_bytes = map_bytes
        self._sync = sync
        self._lock = threading.Lock()  # held while the environment is replaced or written
        self._open()

    def _open(self) -> None:
        reads = self._readonly
        self._env = open_environment(self.path, self._map_bytes, 2, _SETTING, self._sync, reads)
        with storage_errors(self.path, _SETTING):
            self._meta = self._env.open_db(b"meta", create=not reads)
            self._pages = self._env.open_db(b"pages", create=not reads)

    def meta(self) -> SnapshotMeta | None:
        """What is stored, or None before the first checkpoint."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._meta) as txn:
            return _read_meta(self.path, txn, self._meta)

    def pages(self) -> Iterator[Page]:
        """(table, page, bytes) of every page, in key order."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._pages) as txn:
            for key, data in txn.cursor():
                check_damage(len(key) == _PAGE_KEY_SIZE, self.path, "a page has a malformed name")
                yield int.from_bytes(key[:2], "big"), int.from_bytes(key[2:], "big"), data

    def write(
        self, meta: SnapshotMeta, pages: Iterable[Page], is_wanted: Callable[[], bool] = lambda: True
    ) -> bool:
        """Replace changed pages and the description, durably and at once. Raises `StorageError`.

        False: `is_wanted` said no, once nobody else was writing.
        """
        with self._lock:
            if not is_wanted():
                return False
            with storage_errors(self.path, _SETTING), self._env.begin(write=True) as txn:
                for table, page, data in sorted(pages, key=lambda item: item[:2]):
                    txn.put(_page_key(table, page), data, db=self._pages)
                txn.put(_META, _META_CODEC.encode(meta), db=self._meta)
            return True

    def replace_ranges(self, ranges: Sequence[tuple[int, int, int, Sequence[Page]]]) -> None:
        """For each (table, first page, count, pages): these are all the pages there from now on. What was
        a whole state before is none until `write` says so."""
        with self._lock, storage_errors(self.path, _SETTING), self._env.begin(write=True) as txn:
            txn.delete(_META, db=self._meta)
            for table, first, count, pages in ranges:
                for page in range(first, first + count):
                    txn.delete(_page_key(table, page), db=self._pages)
                for number, page, data in pages:
                    txn.put(_page_key(number, page), data, db=self._pages)

    def size_bytes(self) -> int:
        """Bytes in use on disk."""
        info = self._env.info()
        return int((info["last_pgno"] + 1) * self._env.stat()["psize"])

    def copy_to(self, path: Path) -> None:
        """Write the state as it is now into a new directory."""
        path.mkdir(exist_ok=True)
        with storage_errors(path, _SETTING):
            self._env.copy(str(path), compact=True)

    def sync(self) -> None:
        """Make everything written durable."""
        with storage_errors(self.path, _SETTING):
            self._env.sync(True)

    def pin(self, height: int | None = None) -> "PinnedSnapshot | None":
        """The newest state as it is now, whatever is written later; None if nothing proves it, or if it is
        not the one at `height`."""
        with storage_errors(self.path, _SETTING):
            txn = self._env.begin(buffers=True)
            meta = _read_meta(self.path, txn, self._meta)
        if meta is None or not meta.votes or height not in (None, meta.height):
            txn.abort()
            return None
        return PinnedSnapshot(self.path, txn, self._pages, meta)

    def take_over(self, swap: Callable[[], None]) -> None:
        """Have the directory replaced by `swap` while nothing in it is open. Nothing may be pinned."""
        with self._lock:
            self._env.close()
            try:
                swap()
            finally:
                self._open()

    def close(self) -> None:
        """Close the environment; nothing may be called afterwards."""
        self._env.close()


class PinnedSnapshot:
    """One state under a read transaction. One thread at a time."""

    def __init__(self, path: Path, txn: lmdb.Transaction, pages: lmdb._Database, meta: SnapshotMeta) -> None:
        self.meta = meta
        self._path = path
        self._txn = txn
        self._pages = pages
        self._manifest: Manifest | None = None

    def manifest(self, shapes: Sequence[Shape]) -> bytes:
        """Its manifest, checked against the state's root. Raises `StorageError` if the pages changed on
        disk by themselves."""
        return self._load(shapes).encode()

    def chunk(self, shapes: Sequence[Shape], index: int) -> bytes:
        """One chunk as it travels; empty if there is no such chunk."""
        places = self._load(shapes).places
        if not 0 <= index < len(places):
            return b""
        place = places[index]
        first = place.chunk * CHUNK_PAGES
        with storage_errors(self._path, _SETTING):
            found = {
                page: self._txn.get(_page_key(place.table, first + page), db=self._pages)
                for page in range(CHUNK_PAGES)
            }
        return encode_chunk({page: bytes(data) for page, data in found.items() if data is not None})

    def page(self, table: int, page: int) -> bytes:
        """One page; zeros if it was never written."""
        with storage_errors(self._path, _SETTING):
            data = self._txn.get(_page_key(table, page), db=self._pages)
        return bytes(PAGE_SIZE) if data is None else bytes(data)

    def leaves(self, table: int) -> Iterator[tuple[int, bytes]]:
        """(page, its digest) of every written page of a table, ascending."""
        start = _page_key(table, 0)
        with storage_errors(self._path, _SETTING), self._txn.cursor(db=self._pages) as cursor:
            if not cursor.set_range(start):
                return
            for key, data in cursor:
                if bytes(key[:2]) != start[:2]:
                    return
                check_damage(len(key) == _PAGE_KEY_SIZE, self._path, "a page has a malformed name")
                yield int.from_bytes(key[2:], "big"), hash_leaf(data)

    def close(self) -> None:
        """Let go of it."""
        self._txn.abort()

    def _load(self, shapes: Sequence[Shape]) -> Manifest:
        if self._manifest is None:
            state = self.meta.state
            try:
                built = build_manifest(shapes, self._all_pages())
                self._manifest = check_manifest(built.encode(), shapes, state.root, state.parts)
            except ProtocolError as error:
                raise StorageError(
                    f"{self._path} is damaged ({error}): stop the node and run `kontor heal`"
                ) from error
        return self._manifest

    def _all_pages(self) -> Iterator[Page]:
        with storage_errors(self._path, _SETTING):
            for key, data in self._txn.cursor(db=self._pages):
                check_damage(len(key) == _PAGE_KEY_SIZE, self._path, "a page has a malformed name")
                yield int.from_bytes(key[:2], "big"), int.from_bytes(key[2:], "big"), bytes(data)


def _read_meta(path: Path, txn: lmdb.Transaction, database: lmdb._Database) -> SnapshotMeta | None:
    data = txn.get(_META, db=database)
    if data is None:
        return None
    try:
        return _META_CODEC.decode(bytes(data))
    except ProtocolError:
        check_damage(False, path, "the checkpoint's description does not decode")
        raise


def _page_key(table: int, page: int) -> bytes:
    return table.to_bytes(2, "big") + page.to_bytes(4, "big")
