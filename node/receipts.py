"""Receipts: proof of what the ledger did with an envelope, checkable without a node and without trust.

    journal lines ─chunk, Merkle path─▶ chunks root ─▶ journal root ─▶ f+1 signed attestations

Of f+1 replicas one at least is honest, and it signs only what it executed. So a receipt that
verifies is final, whoever handed it over.

One thing a receipt cannot say: that no *other* copy of the envelope exists. A refusal at the
envelope (say NONCE_USED) is proof that this copy did nothing; an earlier copy may have been
executed. `Outcome.is_refused_copy` marks these; the client then asks f+1 nodes.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from consensus.light import LightClient
from consensus.primitives.codec import Codec
from consensus.primitives.errors import ProtocolError, ensure
from consensus.primitives.trees import CHUNK_RECORDS, compute_chunks_root, compute_journal_root
from consensus.proofs import CheckpointCert, EpochProof, Vote
from engine.records import JOURNAL, Code, Kind
from node.services import BalanceAnswer, ProvenBlock, ValidatorsAnswer
from node.wire import Detail

ROOTS_KEPT = 1024  # attested results a client has already checked
CHUNKS_KEPT = 256  # chunks (4 KiB) it has already checked
_INT63 = 2**63 - 1


@dataclass(frozen=True)
class ChunkProof:
    """One chunk of the journal and its path to the chunks root."""

    index: int
    data: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True)
class Receipt:
    """The journal lines of one envelope, and everything needed to check them.

    `envelope_index` is the record index of its ENVELOPE line. `chunks` ascend and cover that line and,
    if results were asked for, its RESULT or COMMAND lines. `attestations` are for one result:
    (block_digest, journal root, state_digest); `state_digest` is that of the state summary, empty except at
    checkpoints.
    """

    height: int
    time_ms: int
    block_digest: bytes
    previous_root: bytes
    chunks_root: bytes
    record_count: int
    state_digest: bytes
    envelope_index: int
    chunks: tuple[ChunkProof, ...]
    attestations: tuple[Vote, ...]


RECEIPTS = Codec(Receipt, EpochProof, CheckpointCert, BalanceAnswer, ValidatorsAnswer)


@dataclass(frozen=True)
class Outcome:
    """What a verified receipt says. `results` (JOURNAL records, in the envelope's order) is None
    if only the summary was asked for. (`height`, `line`) is the envelope's place in the one order: lines
    of a block's journal that hold commands were executed in that order."""

    envelope_digest: bytes
    height: int
    line: int
    time_ms: int
    code: Code
    account: int
    nonce: int
    operations: int
    accepted: int
    results: np.ndarray | None

    @property
    def is_refused_copy(self) -> bool:
        """Whether this copy of the envelope did nothing; another copy may have been executed."""
        return self.code != Code.OK


def build_receipt(block: ProvenBlock, envelope_index: int, detail: Detail) -> Receipt:
    """The receipt of the envelope whose ENVELOPE line stands at `envelope_index` of a proven block."""
    journal, tree = block.result.journal, block.result.tree
    return Receipt(
        height=block.height,
        time_ms=block.result.time_ms,
        block_digest=block.block_digest,
        previous_root=block.previous_root,
        chunks_root=tree.root,
        record_count=len(journal),
        state_digest=block.attestations[0].state_digest,
        envelope_index=envelope_index,
        chunks=tuple(
            ChunkProof(
                index,
                journal[index * CHUNK_RECORDS : (index + 1) * CHUNK_RECORDS].tobytes(),
                tree.path(index),
            )
            for index in _wanted_chunks(journal, envelope_index, detail)
        ),
        attestations=tuple(Vote(item.replica, item.signature) for item in block.attestations),
    )


class ReceiptVerifier:
    """Checks receipts of one network, each by the validators of its height, as far as `light` knows them.
    Of an epoch that is over it takes f+1, which is good only if present validators show the same (see
    `client.submit`). Remembers attested results and chunks it has already checked."""

    def __init__(self, light: LightClient) -> None:
        self._light = light
        self._attested: OrderedDict[tuple[int, bytes, bytes, bytes], None] = OrderedDict()
        self._proven: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()

    def verify(self, receipt: Receipt, envelope_digest: bytes, detail: Detail = Detail.SUMMARY) -> Outcome:
        """Return what `receipt` proves about the envelope. Raises `ProtocolError` if it proves nothing."""
        self._check_attestations(receipt)
        records = _Records(receipt, self._proven)
        line = records.take(receipt.envelope_index, 1, Kind.ENVELOPE)[0]
        if (int(line["counter_order_id"]), int(line["price"])) != digest_words(envelope_digest):
            raise ProtocolError("the receipt is about another envelope")
        operations, first = int(line["qty"]), int(line["detail"])
        results = None
        if detail is Detail.RESULTS and operations and line["code"] == Code.OK:
            results = records.take(first, operations, Kind.RESULT, Kind.COMMAND)
        return Outcome(
            envelope_digest=envelope_digest,
            height=receipt.height,
            line=receipt.envelope_index,
            time_ms=receipt.time_ms,
            code=Code(int(line["code"])),
            account=int(line["account"]),
            nonce=int(line["client_order_id"]),
            operations=operations,
            accepted=int(line["fee"]),
            results=results,
        )

    def _check_attestations(self, receipt: Receipt) -> None:
        journal_root = compute_journal_root(
            receipt.previous_root,
            receipt.height,
            receipt.block_digest,
            receipt.time_ms,
            receipt.record_count,
            receipt.chunks_root,
        )
        key = (receipt.height, receipt.block_digest, journal_root, receipt.state_digest)
        if key in self._attested:
            return
        self._light.verify_result(*key, receipt.attestations, is_confirmed=True)
        self._attested[key] = None
        if len(self._attested) > ROOTS_KEPT:
            self._attested.popitem(last=False)


def digest_words(envelope_digest: bytes) -> tuple[int, int]:
    """The 126 bits of an envelope's digest that its ENVELOPE line holds."""
    words = np.frombuffer(envelope_digest, dtype="<u8", count=2)
    return int(words[0]) & _INT63, int(words[1]) & _INT63


class _Records:
    """The journal lines a receipt proves, once each chunk's path has been checked.

    `proven` holds chunks checked before, by root and index: envelopes of one block share them.
    """

    def __init__(self, receipt: Receipt, proven: OrderedDict[tuple[bytes, int], bytes]) -> None:
        self._receipt = receipt
        self._chunks: dict[int, np.ndarray] = {}
        for chunk in receipt.chunks:
            place = (receipt.chunks_root, chunk.index)
            if proven.get(place) != chunk.data:
                _check_chunk(receipt, chunk)
                proven[place] = chunk.data
                if len(proven) > CHUNKS_KEPT:
                    proven.popitem(last=False)
            self._chunks[chunk.index] = np.frombuffer(chunk.data, dtype=JOURNAL)

    def take(self, first: int, count: int, *kinds: Kind) -> np.ndarray:
        """Records first … first+count−1, all of them of one of `kinds`."""
        wanted = _chunk_range(first, count)
        if first < 0 or any(index not in self._chunks for index in wanted):
            raise ProtocolError(f"the receipt does not prove journal records {first} to {first + count - 1}")
        pieces = [self._chunks[index] for index in wanted]
        joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        start = first - wanted.start * CHUNK_RECORDS
        records = joined[start : start + count]
        found = records["kind"]
        if len(records) != count or found[0] not in kinds or (found != found[0]).any():
            raise ProtocolError(f"journal records from {first} are not what the receipt says")
        return records


def _check_chunk(receipt: Receipt, chunk: ChunkProof) -> None:
    root = compute_chunks_root(chunk.index, chunk.data, receipt.record_count, chunk.path)
    if root != receipt.chunks_root:
        raise ProtocolError(f"chunk {chunk.index} is not of the journal of block {receipt.height}")


def _wanted_chunks(journal: np.ndarray, envelope_index: int, detail: Detail) -> list[int]:
    line = journal[envelope_index]
    ensure(line["kind"] == Kind.ENVELOPE, f"journal record {envelope_index} is no envelope")
    chunks = {envelope_index // CHUNK_RECORDS}
    if detail is Detail.RESULTS and line["code"] == Code.OK:
        chunks.update(_chunk_range(int(line["detail"]), int(line["qty"])))
    return sorted(chunks)


def _chunk_range(first: int, count: int) -> range:
    """Numbers of the chunks that hold records first … first+count−1."""
    if count <= 0:
        return range(0)
    return range(first // CHUNK_RECORDS, (first + count - 1) // CHUNK_RECORDS + 1)
