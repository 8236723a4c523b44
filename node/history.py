"""Journals and receipts of executed blocks: an index for queries that can always be rebuilt.

It is written behind execution, many blocks a transaction, without fsync: a killed process loses nothing,
since the operating system holds the pages; after a crash of the machine the index is discarded
(`boot` tells) and rebuilt by replaying the ledger.

    headers    height -> msgpack of the result without its journal (see `node.records`)
    journals   height -> journal records
    envelopes  envelope digest -> height (8 bytes), record index (4 bytes), big-endian;
               "refused " digest -> the same for the first copy that had no effect
    proofs     height -> msgpack of f+1 attestations
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgpack

from consensus.messages import CODEC, Attest
from consensus.primitives.errors import StorageError
from node.storage import boot_id, check_damage, is_same_boot, open_environment, storage_errors

_SETTING = "ledger.history_mib"
_CHAIN = b"chain"
_BASE = b"base"
_REFUSED = b"refused "  # before the digests of envelopes that had no effect


@dataclass(frozen=True)
class HistoryBlock:
    """One executed block as the history keeps it. `header` is opaque msgpack of plain values."""

    height: int
    header: bytes
    journal: bytes | memoryview
    envelopes: tuple[tuple[bytes, int], ...]  # executed: (envelope digest, index of its ENVELOPE record)
    refused: tuple[tuple[bytes, int], ...] = ()  # the same for copies that had no effect


class History:
    """The index of one node. Methods may be called from any thread, one writer at a time."""

    def __init__(self, path: Path, chain_id: bytes, map_bytes: int) -> None:
        """Open; an index that may be damaged, or is another chain's, is discarded first."""
        self.path = path
        self._marker = path / "boot"
        if self._marker.exists() and not is_same_boot(self._marker):
            shutil.rmtree(path)
        try:
            self._open(map_bytes)
            if not self._claim(chain_id):
                self._env.close()
                shutil.rmtree(path)
                self._open(map_bytes)
                self._claim(chain_id)
        except StorageError:
            shutil.rmtree(path, ignore_errors=True)
            self._open(map_bytes)
            self._claim(chain_id)
        self._marker.write_text(boot_id(), "ascii")

    def write(self, blocks: Iterable[HistoryBlock], proofs: Iterable[tuple[int, tuple[Attest, ...]]]) -> None:
        """Add blocks and proofs in one transaction. Raises `StorageError`."""
        with storage_errors(self.path, _SETTING), self._env.begin(write=True) as txn:
            for block in blocks:
                key = _height_key(block.height)
                txn.put(key, block.header, db=self._headers)
                txn.put(key, block.journal, db=self._journals)
                for name, index in block.envelopes:
                    txn.put(name, key + index.to_bytes(4, "big"), db=self._envelopes, overwrite=False)
                for name, index in block.refused:
                    place = key + index.to_bytes(4, "big")
                    txn.put(_REFUSED + name, place, db=self._envelopes, overwrite=False)
            for height, attests in proofs:
                data = msgpack.packb([CODEC.encode(attest) for attest in attests])
                txn.put(_height_key(height), data, db=self._proofs)

    def begin(self, height: int) -> None:
        """The state at `height` was fetched from others: blocks up to there may be missing from now on."""
        with storage_errors(self.path, _SETTING), self._env.begin(write=True) as txn:
            txn.put(_BASE, _height_key(height), db=self._meta)

    def base(self) -> int:
        """Blocks up to here may be missing; 0: none is."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._meta) as txn:
            return int.from_bytes(txn.get(_BASE, b""), "big")

    def height(self) -> int:
        """Highest block in the index, or that it begins after; 0 if there is none."""
        base = self.base()
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._headers) as txn:
            cursor = txn.cursor()
            return max(base, int.from_bytes(cursor.key(), "big") if cursor.last() else 0)

    def block(self, height: int) -> tuple[bytes, bytes] | None:
        """(header, journal) of a block."""
        key = _height_key(height)
        with storage_errors(self.path, _SETTING), self._env.begin() as txn:
            header, journal = txn.get(key, db=self._headers), txn.get(key, db=self._journals)
        return None if header is None or journal is None else (header, journal)

    def proof(self, height: int) -> tuple[Attest, ...] | None:
        """The attestations of a block, if they were collected."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._proofs) as txn:
            data = txn.get(_height_key(height))
        return None if data is None else tuple(CODEC.decode(item) for item in msgpack.unpackb(data))

    def find_envelope(self, name: bytes) -> tuple[int, int] | None:
        """(height, record index) of an envelope's execution."""
        return self._find(name)

    def find_refused(self, name: bytes) -> tuple[int, int] | None:
        """The same for its first copy that had no effect; another copy may have been executed."""
        return self._find(_REFUSED + name)

    def _find(self, key: bytes) -> tuple[int, int] | None:
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._envelopes) as txn:
            place = txn.get(key)
        if place is None:
            return None
        check_damage(len(place) == 12, self.path, "an envelope's place is malformed")
        return int.from_bytes(place[:8], "big"), int.from_bytes(place[8:], "big")

    def close(self) -> None:
        """Flush, mark as clean and close."""
        with storage_errors(self.path, _SETTING):
            self._env.sync(True)
        self._env.close()
        self._marker.unlink(missing_ok=True)

    def _open(self, map_bytes: int) -> None:
        self._env = open_environment(self.path, map_bytes, 5, _SETTING, sync=False)
        with storage_errors(self.path, _SETTING):
            self._meta = self._env.open_db(b"meta")
            self._headers = self._env.open_db(b"headers")
            self._journals = self._env.open_db(b"journals")
            self._envelopes = self._env.open_db(b"envelopes")
            self._proofs = self._env.open_db(b"proofs")

    def _claim(self, chain_id: bytes) -> bool:
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._meta, write=True) as txn:
            txn.put(_CHAIN, chain_id, overwrite=False)
            return bool(txn.get(_CHAIN) == chain_id)


def _height_key(height: int) -> bytes:
    return height.to_bytes(8, "big")
