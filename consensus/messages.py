"""Every message replicas exchange, and what exactly each signature covers.

Read the classes as the protocol's vocabulary (Castro & Liskov, OSDI '99): order, view, state,
repair. All are frozen; the codec refuses a second spelling. Messages that carry `replica` and
`signature` are signed by that replica over `signing_digest(...)`.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

from consensus.primitives.codec import Codec
from consensus.primitives.crypto import DIGEST_SIZE, digest
from consensus.proofs import (
    MEMBERS_MAX,
    PARTS_MAX,
    CheckpointCert,
    EpochProof,
    StateSummary,
    Vote,
    compute_result_digest,
)

BATCHES_PER_BLOCK_MAX = 256  # bounds a new view, which repeats the digests of a whole window
FETCH_MAX = 1024
ACK_ITEMS_MAX = 256  # receive times under one signature
ACKS_MAX = 512  # acknowledgements in one proposal
CHUNKS_FETCH_MAX = 16
EPOCHS_FETCH_MAX = 16
MANIFEST_BYTES_MAX = 32 << 20
CHUNK_BYTES_MAX = 1 << 20

# Order


@dataclass(frozen=True)
class Block:
    """What is agreed on: a place in the order, a time, and micro-batch digests.

    It names no parent: a new view may have to fill a gap before it with a null block. The chain is
    formed by the journal root, which every replica attests after execution.
    """

    seq: int
    time_ms: int
    batches: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if len(self.batches) > BATCHES_PER_BLOCK_MAX:
            raise ValueError(f"{len(self.batches)} micro-batches; a block holds {BATCHES_PER_BLOCK_MAX}")
        if any(len(batch) != DIGEST_SIZE for batch in self.batches):
            raise ValueError("a micro-batch digest has 32 bytes")
        if len(set(self.batches)) != len(self.batches):
            raise ValueError("a micro-batch is listed twice")

    @cached_property
    def digest(self) -> bytes:
        place = self.seq.to_bytes(8, "little") + self.time_ms.to_bytes(8, "little")
        return digest("kontor.block", place, b"".join(self.batches))

    @classmethod
    def null(cls, seq: int) -> "Block":
        """The block that fills a gap: no time of its own, no batches."""
        return cls(seq, 0, ())


@dataclass(frozen=True)
class Arrival:
    """When a micro-batch arrived: µs since 1970 by the receiver's clock."""

    batch: bytes
    time_us: int

    def __post_init__(self) -> None:
        if len(self.batch) != DIGEST_SIZE:
            raise ValueError("a micro-batch digest has 32 bytes")


@dataclass(frozen=True)
class Ack:
    """`replica` received these micro-batches at these times (µs since 1970, its own clock).

    Signs kind "ack" over `items_digest`. It is no vote: a wrong time can shift an order inside a block,
    within what honest replicas saw, and nothing else.
    """

    items: tuple[Arrival, ...]
    replica: int
    signature: bytes

    def __post_init__(self) -> None:
        if not 0 < len(self.items) <= ACK_ITEMS_MAX:
            raise ValueError(f"an acknowledgement holds between 1 and {ACK_ITEMS_MAX} receive times")

    @cached_property
    def items_digest(self) -> bytes:
        """What is signed."""
        return digest("kontor.ack", *[item.batch + item.time_us.to_bytes(8, "little") for item in self.items])


@dataclass(frozen=True)
class PrePrepare:
    """The primary of `view` proposes `block`. Signs kind "pre-prepare", seq, block digest.

    `acks` prove the order of the block's micro-batches while the proposal is fresh. They are not part
    of the block, and nobody keeps them: q votes say that they were looked at.
    """

    view: int
    block: Block
    signature: bytes
    acks: tuple[Ack, ...] = ()

    def __post_init__(self) -> None:
        if len(self.acks) > ACKS_MAX:
            raise ValueError(f"{len(self.acks)} acknowledgements; a proposal carries {ACKS_MAX}")


@dataclass(frozen=True)
class Prepare:
    """A backup accepts the proposal. Signs kind "prepare"."""

    view: int
    seq: int
    digest: bytes
    replica: int
    signature: bytes


@dataclass(frozen=True)
class Commit:
    """A replica holds a prepared certificate. Signs kind "commit"."""

    view: int
    seq: int
    digest: bytes
    replica: int
    signature: bytes


@dataclass(frozen=True)
class PreparedCert:
    """The proposal and q−1 matching prepares of distinct backups; the primary counts once."""

    proposal: PrePrepare
    prepares: tuple[Vote, ...]


@dataclass(frozen=True)
class CommitCert:
    """A committed block: q commits of one view with equal digest. Proves itself to anybody."""

    view: int
    block: Block
    commits: tuple[Vote, ...]


# State


@dataclass(frozen=True)
class Attest:
    """Result of executing block `seq`. Signs kind "attest" (or "checkpoint") over `result_digest`.

    `state` is None except at checkpoints (seq a multiple of the checkpoint interval), where the same
    message is PBFT's Checkpoint.
    """

    seq: int
    block_digest: bytes
    journal_root: bytes
    state: StateSummary | None
    replica: int
    signature: bytes

    @property
    def state_digest(self) -> bytes:
        """Of the state summary; empty where there is none."""
        return self.state.digest if self.state else b""

    @cached_property
    def result_digest(self) -> bytes:
        """What is signed."""
        return compute_result_digest(self.block_digest, self.journal_root, self.state_digest)


# View


@dataclass(frozen=True)
class Complain:
    """Step one of a view change: `replica` wants to leave `view`, and goes on voting in it."""

    view: int
    replica: int
    signature: bytes


@dataclass(frozen=True)
class ViewChange:
    """Step two: `replica` has left every view below `view`.

    `stable` proves its low water mark (None: genesis). `prepared` holds, for every seq above it, the
    highest-view prepared certificate this replica ever held. `complaints` are n−f complaints about
    view−1, or empty for one who joins f+1 others. Signs kind "view-change" over `body_digest`.
    """

    view: int
    stable: CheckpointCert | None
    prepared: tuple[PreparedCert, ...]
    complaints: tuple[Complain, ...]
    replica: int
    signature: bytes

    @cached_property
    def body_digest(self) -> bytes:
        return digest("kontor.view-change", CODEC.encode(replace(self, signature=b"")))

    @property
    def low(self) -> int:
        return self.stable.seq if self.stable else 0


@dataclass(frozen=True)
class NewView:
    """The new primary's proof that `proposals` (the set O) follows from n−f view changes (V)."""

    view: int
    view_changes: tuple[ViewChange, ...]
    proposals: tuple[PrePrepare, ...]
    replica: int
    signature: bytes

    @cached_property
    def body_digest(self) -> bytes:
        return digest("kontor.new-view", CODEC.encode(replace(self, signature=b"")))


# Repair: unsigned; whatever they bring proves itself by a digest or a certificate.


@dataclass(frozen=True)
class Status:
    """Where a replica stands; peers answer with what it lacks. Sent on connect and when stuck.

    `asks`: the sender wants to know where the receiver stands, too. `oldest`: the first block it can
    still serve. `state`: the newest checkpoint whose state it can serve; 0: none.
    """

    view: int
    active: bool
    committed: int
    stable: CheckpointCert | None
    asks: bool
    oldest: int = 1
    state: int = 0


@dataclass(frozen=True)
class FetchEpochs:
    """Send me the changes of validators from epoch `first` on."""

    first: int


@dataclass(frozen=True)
class Epochs:
    """Changes of validators, ascending; each proves itself by the one before."""

    proofs: tuple[EpochProof, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.proofs) <= EPOCHS_FETCH_MAX:
            raise ValueError(f"between 1 and {EPOCHS_FETCH_MAX} epochs are sent at once")


@dataclass(frozen=True)
class FetchManifest:
    """Send me the description of the state at checkpoint `seq`."""

    seq: int


@dataclass(frozen=True)
class Manifest:
    """The description of the state at checkpoint `seq`; what it says is checked against the certificate.
    Empty: the sender does not hold that checkpoint (any more)."""

    seq: int
    data: bytes


@dataclass(frozen=True)
class FetchChunks:
    """Send me these chunks of the state at checkpoint `seq`."""

    seq: int
    indexes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.indexes) <= CHUNKS_FETCH_MAX:
            raise ValueError(f"between 1 and {CHUNKS_FETCH_MAX} chunks can be fetched at once")


@dataclass(frozen=True)
class Chunk:
    """One chunk of the state at checkpoint `seq`. Empty: the sender cannot serve it (any more)."""

    seq: int
    index: int
    data: bytes


@dataclass(frozen=True)
class FetchBatches:
    """Send me the payloads with these digests."""

    digests: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.digests) <= FETCH_MAX or any(len(d) != DIGEST_SIZE for d in self.digests):
            raise ValueError(f"between 1 and {FETCH_MAX} digests of 32 bytes can be fetched")


@dataclass(frozen=True)
class BatchPayload:
    """A micro-batch, new or fetched. Its digest is `batch_digest(payload)`."""

    payload: bytes


@dataclass(frozen=True)
class FetchBlocks:
    """Send me the committed blocks first..last."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.last < self.first + FETCH_MAX:
            raise ValueError(f"between 1 and {FETCH_MAX} blocks can be fetched")


def batch_digest(payload: bytes) -> bytes:
    """Name of a micro-batch: the digest of its bytes."""
    return digest("kontor.batch", payload)


Message: TypeAlias = (
    PrePrepare
    | Prepare
    | Commit
    | CommitCert
    | Attest
    | CheckpointCert
    | Complain
    | ViewChange
    | NewView
    | Status
    | FetchBatches
    | BatchPayload
    | FetchBlocks
    | Ack
    | FetchEpochs
    | Epochs
    | FetchManifest
    | Manifest
    | FetchChunks
    | Chunk
)

# A view change and a new view grow with the network and its window: the node bounds those.
_VOTE_BYTES_MAX = 512
_CERTIFICATE_BYTES_MAX = 9 << 10  # of 64 votes and a state's parts, without the block
_BLOCK_BYTES_MAX = 40 * BATCHES_PER_BLOCK_MAX
_SIZES: dict[type, int] = {
    PrePrepare: _BLOCK_BYTES_MAX + ACKS_MAX * 80 + 64 * BATCHES_PER_BLOCK_MAX * 44,
    Prepare: _VOTE_BYTES_MAX,
    Commit: _VOTE_BYTES_MAX,
    CommitCert: _BLOCK_BYTES_MAX + _CERTIFICATE_BYTES_MAX,
    Attest: _VOTE_BYTES_MAX + 34 * PARTS_MAX,
    CheckpointCert: _CERTIFICATE_BYTES_MAX,
    Complain: _VOTE_BYTES_MAX,
    Status: _CERTIFICATE_BYTES_MAX,
    FetchBatches: 40 * FETCH_MAX,
    BatchPayload: (1 << 20) + 16,
    FetchBlocks: _VOTE_BYTES_MAX,
    PreparedCert: _BLOCK_BYTES_MAX + _CERTIFICATE_BYTES_MAX,
    Ack: 128 + 48 * ACK_ITEMS_MAX,
    FetchEpochs: _VOTE_BYTES_MAX,
    Epochs: EPOCHS_FETCH_MAX * (_CERTIFICATE_BYTES_MAX + 48 * MEMBERS_MAX),
    FetchManifest: _VOTE_BYTES_MAX,
    Manifest: MANIFEST_BYTES_MAX + 64,
    FetchChunks: _VOTE_BYTES_MAX,
    Chunk: CHUNK_BYTES_MAX + 64,
}

# The order is the wire tag: append only.
CODEC = Codec(
    PrePrepare,
    Prepare,
    Commit,
    CommitCert,
    Attest,
    CheckpointCert,
    Complain,
    ViewChange,
    NewView,
    Status,
    FetchBatches,
    BatchPayload,
    FetchBlocks,
    PreparedCert,
    Ack,
    FetchEpochs,
    Epochs,
    FetchManifest,
    Manifest,
    FetchChunks,
    Chunk,
    sizes=_SIZES,
)
