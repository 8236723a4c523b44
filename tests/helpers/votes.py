"""Signs any message as any replica: honest certificates to build on, and forgeries to refuse."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from consensus.certificates import (
    ACK,
    COMMIT,
    COMPLAIN,
    NEW_VIEW,
    PRE_PREPARE,
    PREPARE,
    VIEW_CHANGE,
    Authority,
    attest_kind,
    compute_proposals,
)
from consensus.messages import (
    Ack,
    Arrival,
    Attest,
    Block,
    Commit,
    CommitCert,
    Complain,
    NewView,
    Prepare,
    PreparedCert,
    PrePrepare,
    ViewChange,
)
from consensus.primitives.crypto import ZERO_DIGEST, digest
from consensus.proofs import CheckpointCert, StateSummary, Vote, signing_digest
from consensus.quorum import ReplicaSet
from consensus.simulator.crypto import SimKeyring

TIME_MS = 1_795_000_000_000

_Signed = TypeVar("_Signed", ViewChange, NewView)


def name_of(number: int) -> bytes:
    """Digest of an imaginary micro-batch."""
    return digest("test.batch", number.to_bytes(8, "little"))


def make_block(seq: int, *numbers: int) -> Block:
    """A block of imaginary batches."""
    return Block(seq, TIME_MS, tuple(name_of(number) for number in numbers))


def summarise(state_root: bytes, epoch: bytes = ZERO_DIGEST, boundary: int = 0) -> StateSummary:
    """What a checkpoint with this state root says; `epoch` is the digest of the one that comes next."""
    return StateSummary(state_root, (state_root,), epoch, boundary)


def attestation_message(replicas: ReplicaSet, result: Attest) -> bytes:
    """What a validator of that epoch signs when it attests `result`."""
    kind = attest_kind(result.state)
    return signing_digest(replicas.chain_id, replicas.epoch, kind, 0, result.seq, result.result_digest)


class Voters:
    """All keys of a chain with n validators; cheap keyed hashes stand in for Ed25519."""

    def __init__(self, n: int = 4, window: int = 8, checkpoint_interval: int = 4) -> None:
        self.keyring = SimKeyring(7, n)
        self.replicas = ReplicaSet.genesis(digest("test.chain"), self.keyring.public_keys)
        self.authority = Authority(self.replicas, self.keyring, window, checkpoint_interval)

    def sign(self, replica: int, kind: str, view: int, seq: int, body: bytes) -> bytes:
        return self.keyring.signers[replica].sign(self.authority.message(kind, view, seq, body))

    def summarise(self, state_root: bytes) -> StateSummary:
        """What a checkpoint says where validators never change."""
        return summarise(state_root, self.replicas.record.digest)

    # Single messages

    def pre_prepare(self, view: int, block: Block, replica: int | None = None) -> PrePrepare:
        """A proposal by the primary of `view`, or by an impostor."""
        signer = self.replicas.primary(view) if replica is None else replica
        return PrePrepare(view, block, self.sign(signer, PRE_PREPARE, view, block.seq, block.digest))

    def ack(self, replica: int, times: Sequence[tuple[bytes, int]]) -> Ack:
        """`replica` received batches at these times, µs."""
        unsigned = Ack(tuple(Arrival(name, time_us) for name, time_us in times), replica, b"")
        return replace(unsigned, signature=self.sign(replica, ACK, 0, 0, unsigned.items_digest))

    def proposal(self, view: int, block: Block) -> PrePrepare:
        """A fresh proposal: n−f replicas received its batches one µs after the other, as it lists them."""
        times = [(name, TIME_MS * 1000 + place) for place, name in enumerate(block.batches)]
        acks = tuple(self.ack(replica, times) for replica in range(self.replicas.collect))
        return replace(self.pre_prepare(view, block), acks=acks if len(times) > 1 else ())

    def prepare(self, replica: int, view: int, block: Block) -> Prepare:
        signature = self.sign(replica, PREPARE, view, block.seq, block.digest)
        return Prepare(view, block.seq, block.digest, replica, signature)

    def commit(self, replica: int, view: int, block: Block) -> Commit:
        signature = self.sign(replica, COMMIT, view, block.seq, block.digest)
        return Commit(view, block.seq, block.digest, replica, signature)

    def attest(self, replica: int, block: Block, journal_root: bytes, state_root: bytes = b"") -> Attest:
        unsigned = Attest(
            block.seq,
            block.digest,
            journal_root,
            self.summarise(state_root) if state_root else None,
            replica,
            b"",
        )
        kind = attest_kind(unsigned.state)
        signature = self.sign(replica, kind, 0, block.seq, unsigned.result_digest)
        return replace(unsigned, signature=signature)

    def complain(self, replica: int, view: int) -> Complain:
        return Complain(view, replica, self.sign(replica, COMPLAIN, view, 0, b""))

    def complaints(self, view: int) -> tuple[Complain, ...]:
        """n−f complaints about `view`."""
        return tuple(self.complain(replica, view) for replica in range(self.replicas.collect))

    # Certificates

    def prepared(self, view: int, block: Block) -> PreparedCert:
        primary = self.replicas.primary(view)
        backups = [replica for replica in range(self.replicas.n) if replica != primary]
        votes = [self.prepare(replica, view, block) for replica in backups[: self.replicas.quorum - 1]]
        return PreparedCert(self.pre_prepare(view, block), tuple(Vote(m.replica, m.signature) for m in votes))

    def commit_cert(self, view: int, block: Block) -> CommitCert:
        votes = [self.commit(replica, view, block) for replica in range(self.replicas.quorum)]
        return CommitCert(view, block, tuple(Vote(m.replica, m.signature) for m in votes))

    def checkpoint(self, block: Block, journal_root: bytes, state_root: bytes) -> CheckpointCert:
        votes = [
            self.attest(replica, block, journal_root, state_root) for replica in range(self.replicas.quorum)
        ]
        signed = tuple(Vote(m.replica, m.signature) for m in votes)
        return CheckpointCert(block.seq, block.digest, journal_root, self.summarise(state_root), signed)

    def view_change(
        self,
        replica: int,
        view: int,
        prepared: Sequence[PreparedCert] = (),
        stable: CheckpointCert | None = None,
        complaints: Sequence[Complain] = (),
    ) -> ViewChange:
        return self.signed(ViewChange(view, stable, tuple(prepared), tuple(complaints), replica, b""))

    def new_view(
        self, view: int, changes: Sequence[ViewChange], blocks: Sequence[Block] | None = None
    ) -> NewView:
        """What the primary of `view` makes of `changes`; or of other `blocks`, if it lies."""
        chosen = compute_proposals(changes)[1] if blocks is None else blocks
        proposals = tuple(self.pre_prepare(view, block) for block in chosen)
        return self.signed(NewView(view, tuple(changes), proposals, self.replicas.primary(view), b""))

    def signed(self, message: _Signed) -> _Signed:
        """The message with a valid signature of the replica it names."""
        unsigned = replace(message, signature=b"")
        kind = VIEW_CHANGE if isinstance(message, ViewChange) else NEW_VIEW
        return replace(
            unsigned, signature=self.sign(message.replica, kind, message.view, 0, unsigned.body_digest)
        )
