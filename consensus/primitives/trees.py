"""How a block's journal and the state are hashed: what it takes to check a line or a page against a root.

    lines ─64 a chunk─▶ Merkle tree over chunks ─▶ chained journal root, attested for every block
    rows ─16 KiB a page─▶ tree of `FANOUT` children a node ─▶ table root, one of a checkpoint's `parts`

Engine, receipts and light client share it: two ways to compute one hash would drift apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

from consensus.primitives import merkle
from consensus.primitives.crypto import DIGEST_SIZE, digest
from consensus.primitives.errors import ProtocolError

CHUNK_RECORDS = 64
RECORD_SIZE = 64
CHUNK_SIZE = CHUNK_RECORDS * RECORD_SIZE

PAGE_SIZE = 16384
FANOUT = 32
HEIGHT = 4  # FANOUT ** HEIGHT pages of 16 KiB: 16 GiB a table
GROUP_SIZE = FANOUT * DIGEST_SIZE


# The journal


def compute_journal_root(
    previous_root: bytes,
    height: int,
    block_digest: bytes,
    time_ms: int,
    record_count: int,
    chunks_root: bytes,
) -> bytes:
    """The chained root after a block."""
    return digest(
        "kontor.journal",
        previous_root,
        height.to_bytes(8, "little"),
        block_digest,
        time_ms.to_bytes(8, "little"),
        record_count.to_bytes(8, "little"),
        chunks_root,
    )


def compute_chunks_root(index: int, chunk: bytes, record_count: int, path: Sequence[bytes]) -> bytes:
    """The root over a journal's chunks that `path` leads to from one of them. Raises `ProtocolError` where
    a journal of so many lines has no such chunk."""
    chunks = -(-record_count // CHUNK_RECORDS)
    lines = min(CHUNK_RECORDS, record_count - index * CHUNK_RECORDS)
    if not 0 <= index < chunks or len(chunk) != lines * RECORD_SIZE:
        raise ProtocolError(f"chunk {index} of {chunks} cannot have {len(chunk)} bytes")
    return merkle.root_of_path(merkle.hash_leaf(chunk), index, chunks, path)


# The state


@dataclass(frozen=True)
class PageProof:
    """One page of a table, and its way to the table's root.

    table      its place among the state's tables, so in a checkpoint's `parts`
    row_size   bytes a row
    rows       rows in use
    path       per level, leaves first: the digests of a node's children, joined; one is ours
    """

    table: int
    name: str
    row_size: int
    rows: int
    page: int
    data: bytes
    path: tuple[bytes, ...]


def hash_children(children: bytes) -> bytes:
    """Digest of an inner node from those of its `FANOUT` children, joined."""
    return blake3(merkle.NODE_PREFIX + children).digest()


def hash_table(name: str, row_bytes: int, rows: int, tree_root: bytes) -> bytes:
    """Root of a table: its name, its layout's row size, its rows in use, and its pages."""
    sizes = (row_bytes.to_bytes(8, "little"), rows.to_bytes(8, "little"))
    return digest("kontor.table", name.encode(), *sizes, tree_root)


def compute_table_root(proof: PageProof) -> bytes:
    """The table's root that `proof` leads to. Raises `ProtocolError` if it leads nowhere."""
    sizes = (proof.page, proof.row_size, proof.rows, proof.table)
    if len(proof.data) != PAGE_SIZE or len(proof.path) != HEIGHT or len(proof.name) > 64:
        raise ProtocolError(f"page of {len(proof.data)} bytes with {len(proof.path)} steps is malformed")
    if not all(0 <= size < 1 << 63 for size in sizes) or proof.page >= FANOUT**HEIGHT:
        raise ProtocolError(f"page {proof.page} of table {proof.table} cannot be")
    node, place = merkle.hash_leaf(proof.data), proof.page
    for group in proof.path:
        at = place % FANOUT * DIGEST_SIZE
        if len(group) != GROUP_SIZE or group[at : at + DIGEST_SIZE] != node:
            raise ProtocolError(f"proof of page {proof.page} does not lead upwards")
        node, place = hash_children(group), place // FANOUT
    return hash_table(proof.name, proof.row_size, proof.rows, node)
