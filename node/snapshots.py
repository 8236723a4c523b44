"""The newest checkpoint of the state, as pages in an LMDB environment of its own.

A snapshot replaces the pages that changed since the one before it, together with `SnapshotMeta`,
in one transaction: after a crash the old or the new snapshot is there, never a mixture. It has its own
environment because LMDB has one writer at a time, and votes must not wait behind megabytes of pages.

    meta   the encoded `SnapshotMeta`
    pages  table (2 bytes), page (4 bytes), big-endian -> bytes
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from consensus.primitives.codec import Codec
from consensus.primitives.errors import ProtocolError
from consensus.proofs import StateSummary
from node.storage import check_damage, open_environment, storage_errors

_SETTING = "ledger.state_mib"
_META = b"meta"
_PAGE_KEY_SIZE = 6


@dataclass(frozen=True)
class SnapshotMeta:
    """Which state the pages hold."""

    height: int
    block_digest: bytes
    journal_root: bytes
    state: StateSummary


_META_CODEC = Codec(SnapshotMeta)


class Snapshots:
    """Durable pages of one checkpoint. Methods may be called from any thread, one writer at a time."""

    def __init__(self, path: Path, map_bytes: int) -> None:
        self.path = path
        self._env = open_environment(path, map_bytes, 2, _SETTING)
        with storage_errors(path, _SETTING):
            self._meta = self._env.open_db(b"meta")
            self._pages = self._env.open_db(b"pages")

    def meta(self) -> SnapshotMeta | None:
        """What is stored, or None before the first checkpoint."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._meta) as txn:
            data = txn.get(_META)
        if data is None:
            return None
        try:
            return _META_CODEC.decode(data)
        except ProtocolError:
            check_damage(False, self.path, "the checkpoint's description does not decode")
            raise

    def pages(self) -> Iterator[tuple[int, int, bytes]]:
        """(table, page, bytes) of every page, in key order."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._pages) as txn:
            for key, data in txn.cursor():
                check_damage(len(key) == _PAGE_KEY_SIZE, self.path, "a page has a malformed name")
                yield int.from_bytes(key[:2], "big"), int.from_bytes(key[2:], "big"), data

    def write(self, meta: SnapshotMeta, pages: Iterable[tuple[int, int, bytes]]) -> None:
        """Replace changed pages and the description, durably and at once. Raises `StorageError`."""
        with storage_errors(self.path, _SETTING), self._env.begin(write=True) as txn:
            for table, page, data in sorted(pages, key=lambda item: item[:2]):
                txn.put(_page_key(table, page), data, db=self._pages)
            txn.put(_META, _META_CODEC.encode(meta), db=self._meta)

    def close(self) -> None:
        """Close the environment; nothing may be called afterwards."""
        self._env.close()


def _page_key(table: int, page: int) -> bytes:
    return table.to_bytes(2, "big") + page.to_bytes(4, "big")
