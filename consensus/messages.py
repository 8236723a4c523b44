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

BATCHES_PER_BLOCK_MAX = 256  # bounds a new view, which repeats the digests of a whole window
FETCH_MAX = 1024


def signing_digest(chain_id: bytes, epoch: int, kind: str, view: int, seq: int, body: bytes) -> bytes:
    """What is signed: (chain, epoch, type, view, seq, digest), so that no vote fits another place."""
    place = b"".join(value.to_bytes(8, "little") for value in (epoch, view, seq))
    return digest("kontor.vote", chain_id, kind.encode(), place, body)


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
class Vote:
    """One replica's signature inside a certificate; what it covers is known from the context."""

    replica: int
    signature: bytes


@dataclass(frozen=True)
class PrePrepare:
    """The primary of `view` proposes `block`. Signs kind "pre-prepare", seq, block digest."""

    view: int
    block: Block
    signature: bytes


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

    `state_root` is empty except at checkpoints (seq a multiple of the checkpoint interval), where
    the same message is PBFT's Checkpoint.
    """

    seq: int
    block_digest: bytes
    journal_root: bytes
    state_root: bytes
    replica: int
    signature: bytes

    @cached_property
    def result_digest(self) -> bytes:
        return compute_result_digest(self.block_digest, self.journal_root, self.state_root)


@dataclass(frozen=True)
class CheckpointCert:
    """q equal attestations that carry a state root: a stable checkpoint."""

    seq: int
    block_digest: bytes
    journal_root: bytes
    state_root: bytes
    votes: tuple[Vote, ...]

    @cached_property
    def result_digest(self) -> bytes:
        return compute_result_digest(self.block_digest, self.journal_root, self.state_root)


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

    `asks`: the sender wants to know where the receiver stands, too.
    """

    view: int
    active: bool
    committed: int
    stable: CheckpointCert | None
    asks: bool


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


def compute_result_digest(block_digest: bytes, journal_root: bytes, state_root: bytes) -> bytes:
    """What an attestation signs: the block and everything that running it led to."""
    return digest("kontor.result", block_digest, journal_root, state_root)


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
)

# A view change and a new view grow with the network and its window: the node bounds those.
_VOTE_BYTES_MAX = 512
_CERTIFICATE_BYTES_MAX = 6 << 10  # of 64 votes, without the block
_BLOCK_BYTES_MAX = 40 * BATCHES_PER_BLOCK_MAX
_SIZES: dict[type, int] = {
    PrePrepare: _BLOCK_BYTES_MAX,
    Prepare: _VOTE_BYTES_MAX,
    Commit: _VOTE_BYTES_MAX,
    CommitCert: _BLOCK_BYTES_MAX + _CERTIFICATE_BYTES_MAX,
    Attest: _VOTE_BYTES_MAX,
    CheckpointCert: _CERTIFICATE_BYTES_MAX,
    Complain: _VOTE_BYTES_MAX,
    Status: _CERTIFICATE_BYTES_MAX,
    FetchBatches: 40 * FETCH_MAX,
    BatchPayload: (1 << 20) + 16,
    FetchBlocks: _VOTE_BYTES_MAX,
    PreparedCert: _BLOCK_BYTES_MAX + _CERTIFICATE_BYTES_MAX,
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
    sizes=_SIZES,
)
