"""Journal roots and proofs."""

from dataclasses import replace

import numpy as np
import pytest

from consensus.primitives.errors import ProtocolError
from consensus.primitives.merkle import compute_root
from consensus.primitives.trees import CHUNK_RECORDS, compute_journal_root
from engine.journal import (
    BlockResult,
    Counts,
    hash_chunks,
    prove,
    verify_proof,
)
from engine.records import JOURNAL


def make_result(lines: int) -> BlockResult:
    journal = np.zeros(lines, dtype=JOURNAL)
    journal["qty"] = np.arange(lines)
    chunks = hash_chunks(journal)
    root = compute_journal_root(b"p" * 32, 7, b"d" * 32, 1234, lines, compute_root(chunks))
    counts = Counts(0, 0, 0, 0, 0, 0)
    return BlockResult(7, 1234, b"d" * 32, b"p" * 32, journal, chunks, root, [], counts)


@pytest.mark.parametrize("lines", [1, 63, 64, 65, 128, 129, 64 * 5, 64 * 7 + 1])
def test_every_line_is_proved(lines):
    result = make_result(lines)
    for index in {0, lines // 2, lines - 1}:
        proof = prove(result, index)
        proved = verify_proof(proof, result.journal_root)
        assert proved[index % CHUNK_RECORDS] == result.journal[index]


TAMPERINGS = {
    "another height": lambda p: replace(p, height=8),
    "another time": lambda p: replace(p, time_ms=1235),
    "another block": lambda p: replace(p, block_digest=b"e" * 32),
    "another past": lambda p: replace(p, previous_root=b"q" * 32),
    "one line more": lambda p: replace(p, record_count=p.record_count + 1),
    "another chunk's place": lambda p: replace(p, chunk_index=p.chunk_index + 1),
    "a negative place": lambda p: replace(p, chunk_index=-1),
    "a changed line": lambda p: replace(p, chunk=bytes([p.chunk[0] ^ 1]) + p.chunk[1:]),
    "a line left out": lambda p: replace(p, chunk=p.chunk[64:]),
    "no path": lambda p: replace(p, path=()),
    "a longer path": lambda p: replace(p, path=(*p.path, bytes(32))),
    "a changed path": lambda p: replace(p, path=(bytes(32), *p.path[1:])),
    "no lines at all": lambda p: replace(p, record_count=0),
}


@pytest.mark.parametrize("tamper", TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_tampered_proofs_are_refused(tamper):
    result = make_result(64 * 5 + 3)
    with pytest.raises(ProtocolError):
        verify_proof(tamper(prove(result, 70)), result.journal_root)


def test_lines_beyond_the_journal_have_no_proof():
    result = make_result(3)
    for index in (-1, 3):
        with pytest.raises(IndexError):
            prove(result, index)


def test_an_empty_journal_has_a_root():
    assert make_result(0).chunk_roots == []
