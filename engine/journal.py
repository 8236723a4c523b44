"""The journal: what every block did, hashed so that one line can be proved to a client.

A block's lines are cut into chunks of 64 lines (4 KiB), a Merkle tree stands over the chunks, and
each block's root chains over the one before: an attested root vouches for all history.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from consensus.primitives import merkle
from consensus.primitives.errors import ProtocolError
from consensus.primitives.trees import CHUNK_RECORDS, CHUNK_SIZE, compute_chunks_root, compute_journal_root
from engine.records import JOURNAL


class EnvelopeResult(NamedTuple):
    """Where an envelope's lines stand in its block's journal."""

    digest: bytes
    record_index: int  # of its ENVELOPE line
    first_result: int  # of its RESULT or COMMAND lines; 0 if it was refused
    lines: int  # how many of those


class Counts(NamedTuple):
    """What a block held."""

    envelopes: int
    refused_envelopes: int
    orders: int  # operations, of all kinds
    commands: int
    fills: int
    rejected: int  # operations and commands


@dataclass(frozen=True)
class BlockResult:
    """All that a block did. `journal` (n,) JOURNAL is not to be written."""

    height: int
    time_ms: int
    block_digest: bytes
    previous_root: bytes
    journal: np.ndarray
    chunk_roots: list[bytes]  # one leaf digest a chunk
    journal_root: bytes
    envelopes: list[EnvelopeResult]
    counts: Counts

    @cached_property
    def tree(self) -> merkle.Tree:
        """Made when the first proof is asked for, then shared by all proofs of the block."""
        return merkle.Tree(self.chunk_roots)


@dataclass(frozen=True)
class JournalProof:
    """One chunk of a block's journal and its way to the chained root. Every field can be sent."""

    height: int
    previous_root: bytes
    block_digest: bytes
    time_ms: int
    record_count: int
    chunk_index: int
    chunk: bytes
    path: tuple[bytes, ...] = field(default=())


def hash_chunks(journal: np.ndarray) -> list[bytes]:
    """Leaf digest of each chunk; the last one may be short."""
    data = journal.view(np.uint8).data  # a memoryview over the lines' bytes
    return [merkle.hash_leaf(data[at : at + CHUNK_SIZE]) for at in range(0, len(data), CHUNK_SIZE)]


def prove(result: BlockResult, record_index: int) -> JournalProof:
    """Proof of the line at `record_index`, and of the other lines in its chunk."""
    count = result.journal.shape[0]
    if not 0 <= record_index < count:
        raise IndexError(f"line {record_index} of {count}")
    chunk = record_index // CHUNK_RECORDS
    lines = result.journal[chunk * CHUNK_RECORDS : (chunk + 1) * CHUNK_RECORDS]
    return JournalProof(
        result.height,
        result.previous_root,
        result.block_digest,
        result.time_ms,
        count,
        chunk,
        lines.tobytes(),
        result.tree.path(chunk),
    )


def verify_proof(proof: JournalProof, journal_root: bytes) -> np.ndarray:
    """The lines of the proved chunk, read-only; raise `ProtocolError` unless they lead to `journal_root`.

    The first of them is line `proof.chunk_index * CHUNK_RECORDS` of its block.
    """
    chunks_root = compute_chunks_root(proof.chunk_index, proof.chunk, proof.record_count, proof.path)
    root = compute_journal_root(
        proof.previous_root, proof.height, proof.block_digest, proof.time_ms, proof.record_count, chunks_root
    )
    if root != journal_root:
        raise ProtocolError(
            f"proof of chunk {proof.chunk_index} at height {proof.height} misses the attested root"
        )
    return np.frombuffer(proof.chunk, dtype=JOURNAL)
