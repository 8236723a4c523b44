"""What a quorum vouches for, and what exactly its signatures cover: all that a light client must know.

Imports nothing but digests, so that proofs can be checked where neither a codec nor an engine is.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

from consensus.primitives.crypto import DIGEST_SIZE, PUBLIC_KEY_SIZE, digest

MEMBERS_MAX = 64
PARTS_MAX = 64

COMMIT = "commit"
ATTEST = "attest"
CHECKPOINT = "checkpoint"  # an attestation that carries a state summary


@lru_cache(maxsize=4096)  # all votes of one phase sign the same
def signing_digest(chain_id: bytes, epoch: int, kind: str, view: int, seq: int, body: bytes) -> bytes:
    """What is signed: (chain, epoch, type, view, seq, digest), so that no vote fits another place."""
    place = b"".join(value.to_bytes(8, "little") for value in (epoch, view, seq))
    return digest("kontor.vote", chain_id, kind.encode(), place, body)


def compute_result_digest(block_digest: bytes, journal_root: bytes, state_digest: bytes) -> bytes:
    """What an attestation signs: the block and everything that running it led to.

    `state_digest` is that of the `StateSummary` at checkpoints, empty elsewhere.
    """
    return digest("kontor.result", block_digest, journal_root, state_digest)


@dataclass(frozen=True)
class Vote:
    """One replica's signature inside a certificate; what it covers is known from the context."""

    replica: int
    signature: bytes


@dataclass(frozen=True)
class Member:
    """One validator of an epoch. Ids are never reused, not even by a validator that comes back."""

    id: int
    key: bytes  # Ed25519, 32 bytes


@dataclass(frozen=True)
class Epoch:
    """Who votes on blocks from `first_seq` on, until a checkpoint says otherwise."""

    number: int
    first_seq: int
    members: tuple[Member, ...]  # ascending by id

    def __post_init__(self) -> None:
        ids = [member.id for member in self.members]
        if not 1 <= len(ids) <= MEMBERS_MAX:
            raise ValueError(f"an epoch of {len(ids)} validators; it has between 1 and {MEMBERS_MAX}")
        if ids != sorted(set(ids)):
            raise ValueError("the validators of an epoch stand in ascending order of id")
        keys = {member.key for member in self.members}
        if len(keys) != len(ids) or any(len(key) != PUBLIC_KEY_SIZE for key in keys):
            raise ValueError("validators' keys are distinct and have 32 bytes")

    @cached_property
    def digest(self) -> bytes:
        """What checkpoints vouch for."""
        place = self.number.to_bytes(8, "little") + self.first_seq.to_bytes(8, "little")
        members = [member.id.to_bytes(8, "little") + member.key for member in self.members]
        return digest("kontor.epoch", place, *members)


@dataclass(frozen=True)
class StateSummary:
    """What a checkpoint at `seq` says of the state.

    root       of the whole state
    parts      of each table: what the root is computed from, so that replicas which differ see where
    epoch      digest of the `Epoch` in force for block seq + 1
    boundary   the last block of that epoch once a change is scheduled; 0: none is
    """

    root: bytes
    parts: tuple[bytes, ...]
    epoch: bytes
    boundary: int

    def __post_init__(self) -> None:
        if len(self.root) != DIGEST_SIZE or len(self.epoch) != DIGEST_SIZE:
            raise ValueError("a state root and an epoch's digest have 32 bytes")
        if len(self.parts) > PARTS_MAX or any(len(part) != DIGEST_SIZE for part in self.parts):
            raise ValueError(f"at most {PARTS_MAX} roots of 32 bytes")

    @cached_property
    def digest(self) -> bytes:
        """What the attestation of a checkpoint covers beside block and journal."""
        boundary = self.boundary.to_bytes(8, "little")
        return digest("kontor.state-summary", self.root, self.epoch, boundary, b"".join(self.parts))


@dataclass(frozen=True)
class CheckpointCert:
    """q equal attestations that carry a state summary: a stable checkpoint."""

    seq: int
    block_digest: bytes
    journal_root: bytes
    state: StateSummary
    votes: tuple[Vote, ...]

    @cached_property
    def result_digest(self) -> bytes:
        """What the votes sign."""
        return compute_result_digest(self.block_digest, self.journal_root, self.state.digest)


@dataclass(frozen=True)
class EpochProof:
    """A change of validators: `cert` is the last checkpoint of the epoch before, and names `epoch`."""

    epoch: Epoch
    cert: CheckpointCert
