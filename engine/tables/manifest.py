"""A state in pieces: what somebody who lacks it fetches from others, and checks piece by piece.

A chunk is `CHUNK_PAGES` consecutive pages of one table: one node of level 1 in its page tree. The
manifest holds every table's row count and the digests of its chunks, which suffice to compute the
state root; so one comparison with a certificate proves all of them. A chunk that was never written
is not sent, nor is a page of zeros inside a chunk.

    manifest   magic, layout version (4), tables (2); then each table: rows (8), chunks (4), digests (32 each)
    chunk      which of its pages follow, one bit each (4 bytes); then these pages

Numbers are little-endian. A table's list ends with its last written chunk, so a state has one spelling.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from consensus.primitives.crypto import DIGEST_SIZE
from consensus.primitives.errors import ProtocolError
from consensus.primitives.merkle import hash_leaf
from consensus.primitives.trees import FANOUT, HEIGHT, hash_children, hash_table
from engine.genesis import Genesis
from engine.layout import COUNTERS, LAYOUT_VERSION, PAGE_SIZE
from engine.plugins import new_state
from engine.state import row_counts
from engine.tables.root import ZERO_DIGESTS, hash_state

CHUNK_PAGES = FANOUT
CHUNK_BYTES_MAX = 4 + CHUNK_PAGES * PAGE_SIZE
MAGIC = b"kontor-state-1\0\0"
_HEAD_SIZE = len(MAGIC) + 6
_TABLE_HEAD_SIZE = 12
_ZERO_PAGE = bytes(PAGE_SIZE)
_ZERO_CHUNK = ZERO_DIGESTS[1]

Page = tuple[int, int, bytes]  # table number, page number, PAGE_SIZE bytes


class Shape(NamedTuple):
    """What is fixed about a table."""

    name: str
    row_bytes: int
    pages_max: int

    @property
    def chunks_max(self) -> int:
        """How many chunks it may ever have."""
        return -(-self.pages_max // CHUNK_PAGES)


def table_shapes(genesis: Genesis) -> tuple[Shape, ...]:
    """The tables of a state, in the order of its root."""
    return tuple(
        Shape(table.name, table.dtype.itemsize, -(-table.capacity_max // table.page_rows))
        for table in new_state(genesis).tables
    )


def manifest_bytes_max(genesis: Genesis) -> int:
    """The longest manifest of a ledger with these limits and plugins."""
    shapes = table_shapes(genesis)
    chunks = sum(shape.chunks_max for shape in shapes)
    return _HEAD_SIZE + len(shapes) * _TABLE_HEAD_SIZE + chunks * DIGEST_SIZE


class TableParts(NamedTuple):
    """One table in a manifest."""

    rows: int
    digests: tuple[bytes, ...]  # of chunks 0, 1, …; the last one was written


class ChunkPlace(NamedTuple):
    """Which chunk of which table, and what it must hash to."""

    table: int
    chunk: int
    digest: bytes


@dataclass(frozen=True)
class Manifest:
    """What a state consists of."""

    tables: tuple[TableParts, ...]

    @cached_property
    def places(self) -> tuple[ChunkPlace, ...]:
        """Every chunk that was ever written, in order of table and chunk: what is sent, by index."""
        return tuple(
            ChunkPlace(number, chunk, digest)
            for number, table in enumerate(self.tables)
            for chunk, digest in enumerate(table.digests)
            if digest != _ZERO_CHUNK
        )

    def encode(self) -> bytes:
        """As it travels."""
        head = MAGIC + LAYOUT_VERSION.to_bytes(4, "little") + len(self.tables).to_bytes(2, "little")
        pieces = [head]
        for rows, digests in self.tables:
            pieces += (rows.to_bytes(8, "little"), len(digests).to_bytes(4, "little"), *digests)
        return b"".join(pieces)

    def parts(self, shapes: Sequence[Shape]) -> tuple[bytes, ...]:
        """Each table's root."""
        return tuple(
            hash_table(shape.name, shape.row_bytes, table.rows, _tree_root(table.digests))
            for shape, table in zip(shapes, self.tables, strict=True)
        )


def decode_manifest(data: bytes, shapes: Sequence[Shape]) -> Manifest:
    """Read a manifest. Raises `ProtocolError` unless `data` is one, in its only spelling."""
    if data[: len(MAGIC)] != MAGIC or len(data) < _HEAD_SIZE:
        raise ProtocolError("this is no manifest of a state")
    layout = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 4], "little")
    if layout != LAYOUT_VERSION:
        raise ProtocolError(f"the state has layout {layout}; this version has {LAYOUT_VERSION}")
    count = int.from_bytes(data[_HEAD_SIZE - 2 : _HEAD_SIZE], "little")
    if count != len(shapes):
        raise ProtocolError(f"a manifest of {count} tables; a state has {len(shapes)}")
    tables, start = [], _HEAD_SIZE
    for shape in shapes:
        table, start = _decode_table(data, start, shape)
        tables.append(table)
    if start != len(data):
        raise ProtocolError(f"{len(data) - start} bytes behind the manifest")
    return Manifest(tuple(tables))


def _decode_table(data: bytes, start: int, shape: Shape) -> tuple[TableParts, int]:
    body = start + _TABLE_HEAD_SIZE
    rows = int.from_bytes(data[start : start + 8], "little")
    count = int.from_bytes(data[start + 8 : body], "little")
    end = body + count * DIGEST_SIZE
    if len(data) < end:
        raise ProtocolError(f"the manifest is cut off in {shape.name}")
    if count > shape.chunks_max:
        raise ProtocolError(f"{count} chunks of {shape.name}; it has at most {shape.chunks_max}")
    digests = tuple(data[at : at + DIGEST_SIZE] for at in range(body, end, DIGEST_SIZE))
    if digests and digests[-1] == _ZERO_CHUNK:
        raise ProtocolError(f"the list of {shape.name} ends with a chunk that was never written")
    return TableParts(rows, digests), end


def check_manifest(data: bytes, shapes: Sequence[Shape], root: bytes, parts: Sequence[bytes]) -> Manifest:
    """The manifest of the state that has this root and these tables' roots. Raises `ProtocolError`."""
    manifest = decode_manifest(data, shapes)
    found = manifest.parts(shapes)
    if hash_state(found) != root or found != tuple(parts):
        names = [shape.name for shape, one, other in zip(shapes, found, parts, strict=False) if one != other]
        raise ProtocolError(f"the manifest is of another state; {', '.join(names) or 'its root'} differs")
    return manifest


def build_manifest(shapes: Sequence[Shape], pages: Iterable[Page]) -> Manifest:
    """The manifest of a state from all its pages, in ascending order. Raises `ProtocolError` if the
    counters are missing."""
    digests: list[list[bytes]] = [[] for _ in shapes]
    counters = b""
    for table, chunk, held in group_chunks(pages):
        listed = digests[table]
        listed += [_ZERO_CHUNK] * (chunk - len(listed))
        listed.append(hash_chunk(held))
        if (table, chunk) == (0, 0):
            counters = held.get(0, b"")
    if not counters:
        raise ProtocolError("the state has no counters")
    for listed in digests:
        while listed and listed[-1] == _ZERO_CHUNK:
            listed.pop()
    rows = row_counts(np.frombuffer(counters, dtype=COUNTERS, count=1)[0], len(shapes))
    return Manifest(tuple(TableParts(*item) for item in zip(rows, map(tuple, digests), strict=True)))


def group_chunks(pages: Iterable[Page]) -> Iterator[tuple[int, int, dict[int, bytes]]]:
    """(table, chunk, pages by their place in it) from pages in ascending order."""
    place: tuple[int, int] | None = None
    held: dict[int, bytes] = {}
    for table, page, data in pages:
        here = (table, page // CHUNK_PAGES)
        if here != place:
            if place is not None:
                yield *place, held
            place, held = here, {}
        held[page % CHUNK_PAGES] = data
    if place is not None:
        yield *place, held


def hash_chunk(pages: Mapping[int, bytes]) -> bytes:
    """Digest of a chunk from its pages by place; those that are missing are zeros."""
    leaves = [hash_leaf(pages[place]) if place in pages else ZERO_DIGESTS[0] for place in range(CHUNK_PAGES)]
    return hash_children(b"".join(leaves))


def encode_chunk(pages: Mapping[int, bytes]) -> bytes:
    """A chunk as it travels: without pages of zeros."""
    written = {place: data for place, data in sorted(pages.items()) if data != _ZERO_PAGE}
    mask = sum(1 << place for place in written)
    return b"".join((mask.to_bytes(4, "little"), *written.values()))


def check_chunk(data: bytes, place: ChunkPlace) -> list[Page]:
    """The pages of a chunk, numbered within its table. Raises `ProtocolError` unless it is the one at
    `place`, in its only spelling."""
    mask = int.from_bytes(data[:4], "little")
    count = mask.bit_count()
    if len(data) != 4 + count * PAGE_SIZE or not count:
        raise ProtocolError(f"a chunk of {len(data)} bytes that names {count} pages")
    present = [at for at in range(CHUNK_PAGES) if mask >> at & 1]
    starts = range(4, len(data), PAGE_SIZE)
    pages = {at: data[start : start + PAGE_SIZE] for at, start in zip(present, starts, strict=True)}
    if hash_chunk(pages) != place.digest:
        raise ProtocolError(f"chunk {place.chunk} of table {place.table} has other bytes than it must have")
    if any(page == _ZERO_PAGE for page in pages.values()):
        raise ProtocolError("a page of zeros is sent")
    first = place.chunk * CHUNK_PAGES
    return [(place.table, first + at, page) for at, page in pages.items()]


def _tree_root(digests: Sequence[bytes]) -> bytes:
    """Root of a page tree from its level-1 nodes."""
    level = list(digests)
    for height in range(1, HEIGHT - 1):
        level += [ZERO_DIGESTS[height]] * (-len(level) % FANOUT)
        level = [
            hash_children(b"".join(level[start : start + FANOUT])) for start in range(0, len(level), FANOUT)
        ]
    top = FANOUT
    while top < len(level):
        top *= 2
    return hash_children(b"".join(level + [ZERO_DIGESTS[HEIGHT - 1]] * (top - len(level))))
