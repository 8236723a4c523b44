"""Block results to history entries and back."""

import msgpack
import numpy as np

from engine.journal import BlockResult, Counts, EnvelopeResult, hash_chunks
from engine.records import JOURNAL
from node.history import History, HistoryBlock
from node.services import ProvenBlock
from node.storage import check_damage


def history_block(result: BlockResult) -> HistoryBlock:
    """What the history keeps of a block. The journal is not copied."""
    header = [
        result.time_ms,
        result.block_digest,
        result.previous_root,
        result.journal_root,
        list(result.counts),
        [list(item) for item in result.envelopes],
    ]
    return HistoryBlock(
        result.height,
        msgpack.packb(header, use_bin_type=True),
        result.journal.data.cast("B") if len(result.journal) else b"",
        tuple((name, index) for name, index, _, lines in result.envelopes if lines),
        tuple((name, index) for name, index, _, lines in result.envelopes if not lines),
    )


def load_result(history: History, height: int) -> BlockResult | None:
    """The result of a block, as it was when it was executed."""
    found = history.block(height)
    if found is None:
        return None
    header, data = found
    time_ms, block_digest, previous_root, journal_root, counts, envelopes = msgpack.unpackb(header)
    check_damage(len(data) % JOURNAL.itemsize == 0, history.path, f"the journal of block {height} is cut off")
    journal = np.frombuffer(data, dtype=JOURNAL)
    return BlockResult(
        height=height,
        time_ms=time_ms,
        block_digest=block_digest,
        previous_root=previous_root,
        journal=journal,
        chunk_roots=hash_chunks(journal),
        journal_root=journal_root,
        envelopes=[EnvelopeResult(*item) for item in envelopes],
        counts=Counts(*counts),
    )


def load_block(history: History, height: int) -> ProvenBlock | None:
    """A block that was executed and proven, or None."""
    attests = history.proof(height)
    result = load_result(history, height) if attests else None
    if attests is None or result is None:
        return None
    return ProvenBlock(height, result.block_digest, result.previous_root, result, attests)
