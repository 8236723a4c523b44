"""Chunks of a state that is being fetched, checked and on disk.

Written without fsync: a killed process loses nothing, and after a crash of the machine the directory
is discarded. What is in it is hashed again whenever a target is set, so that chunks which a former
target, or a former life, has in common with it are kept and all others go.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from consensus.primitives.errors import ProtocolError, StorageError, ensure
from consensus.proofs import CheckpointCert
from engine.genesis import Genesis
from engine.machine import Machine
from engine.tables.manifest import (
    CHUNK_PAGES,
    Manifest,
    Page,
    Shape,
    check_chunk,
    check_manifest,
    group_chunks,
    hash_chunk,
)
from node.snapshots import SnapshotMeta, Snapshots
from node.storage import boot_id, is_same_boot

_BOOT = "boot"


class Staging:
    """One state on its way. Not thread-safe: one caller at a time."""

    def __init__(self, path: Path, map_bytes: int, shapes: Sequence[Shape]) -> None:
        self.path = path
        self._map_bytes = map_bytes
        self._shapes = shapes
        self._store: Snapshots | None = None
        self._manifest: Manifest | None = None
        self.height = 0

    def aim(self, cert: CheckpointCert, data: bytes) -> tuple[int, tuple[int, ...]]:
        """Check the manifest of the state at `cert`; return how many chunks it has, and those held.

        Raises `ProtocolError`, and then nothing has changed.
        """
        manifest = check_manifest(data, self._shapes, cert.state.root, cert.state.parts)
        store = self._open()
        wanted = {(place.table, place.chunk): index for index, place in enumerate(manifest.places)}
        held: list[int] = []
        useless: list[tuple[int, int]] = []
        for table, chunk, pages in group_chunks(store.pages()):
            index = wanted.get((table, chunk))
            if index is not None and hash_chunk(pages) == manifest.places[index].digest:
                held.append(index)
            else:
                useless.append((table, chunk))
        store.replace_ranges([(table, chunk * CHUNK_PAGES, CHUNK_PAGES, ()) for table, chunk in useless])
        self._manifest, self.height = manifest, cert.seq
        return len(manifest.places), tuple(held)

    def keep(self, chunks: Sequence[tuple[int, bytes]]) -> list[bool]:
        """Check (index, data) of chunks and keep the true ones, in one transaction; say which they were."""
        manifest = self._manifest
        if manifest is None:
            raise StorageError(f"{self.path} has no manifest: chunks come after it")
        ranges: list[tuple[int, int, int, Sequence[Page]]] = []
        verdicts = []
        for index, data in chunks:
            try:
                place = manifest.places[index]
                pages = check_chunk(data, place)
            except (ProtocolError, IndexError):
                verdicts.append(False)
                continue
            ranges.append((place.table, place.chunk * CHUNK_PAGES, CHUNK_PAGES, pages))
            verdicts.append(True)
        self._open().replace_ranges(ranges)
        return verdicts

    def finish(self, genesis: Genesis, cert: CheckpointCert, index_seed: int) -> Machine:
        """Make the whole state durable, and a machine of it. Raises `StorageError` if it is not the
        certificate's after all; then it is discarded."""
        store = self._open()
        meta = SnapshotMeta(cert.seq, cert.block_digest, cert.journal_root, cert.state, cert.votes)
        try:
            machine = Machine.restore(genesis, store.pages(), cert.state.root, index_seed=index_seed)
        except ProtocolError as error:
            self.discard()
            raise StorageError(f"{self.path} is damaged ({error}): start the node again") from error
        place = (machine.height, machine.journal_root, machine.summary())
        ensure(place == (cert.seq, cert.journal_root, cert.state), f"the state at {cert.seq} is not its own")
        store.write(meta, ())
        store.sync()
        self.close()
        (self.path / _BOOT).unlink(missing_ok=True)
        return machine

    def close(self) -> None:
        """Close what is open; what is staged stays."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def discard(self) -> None:
        """Forget everything that is staged."""
        self.close()
        self._manifest, self.height = None, 0
        shutil.rmtree(self.path, ignore_errors=True)

    def _open(self) -> Snapshots:
        if self._store is None:
            marker = self.path / _BOOT
            if self.path.exists() and not (marker.exists() and is_same_boot(marker)):
                shutil.rmtree(self.path)
            try:
                self._store = Snapshots(self.path, self._map_bytes, sync=False)
            except StorageError:
                shutil.rmtree(self.path, ignore_errors=True)
                self._store = Snapshots(self.path, self._map_bytes, sync=False)
            marker.write_text(boot_id(), "ascii")
        return self._store

    def pages(self) -> Iterator[Page]:
        """Everything staged, in order."""
        return self._open().pages()
