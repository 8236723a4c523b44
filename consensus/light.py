"""A light client: what the ledger says, checked by signatures alone.

    genesis validators ─EpochProof─▶ … ─▶ this epoch's ─▶ results (f+1), checkpoints and blocks (q)
                                                          └▶ lines of the journal, pages of the state

It trusts one epoch, told to it once, and follows the validators from there: one certificate a change,
whatever happened in between. Needs no engine and no codec: PyNaCl and blake3 suffice. Whoever hands
over a proof need not be trusted; everything here is bounded, and raises `Unproven` with a stable code.

A client that was away for long trusts that the validators of its last known epoch have not been
corrupted since then. Whoever holds a quorum of an old epoch's keys can show it another future. Whoever
holds f+1 of them can still sign results of that epoch's blocks, and of blocks up to `REACH` above the newest
checkpoint known here, as long as no later epoch is known. So start from a recent epoch where one
is at hand, and advance often.

Of epochs that are over, f+1 signatures prove nothing by themselves: f+1 of those keys may be stolen by
now. It takes a quorum of them, unless the caller has present validators confirm the same (`is_confirmed`).
What must hold now is asked of the newest epoch alone: `verify_present`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from consensus.primitives.crypto import Ed25519Verifier, Verifier
from consensus.primitives.errors import ProtocolError, SignatureError
from consensus.primitives.trees import (
    PAGE_SIZE,
    PageProof,
    compute_chunks_root,
    compute_journal_root,
    compute_table_root,
)
from consensus.proofs import (
    ATTEST,
    CHECKPOINT,
    COMMIT,
    CheckpointCert,
    Epoch,
    EpochProof,
    Vote,
    compute_result_digest,
    signing_digest,
)
from consensus.quorum import ReplicaSet, epoch_of

EPOCHS_MAX = 65_536
VOTES_MAX = 64
# Blocks above the newest checkpoint known in which f+1 votes are believed. No window of votes is larger,
# so whoever executed a block has a checkpoint at most so far below it.
REACH = 4096

BALANCES, VALIDATORS = "balances", "validators"  # tables
BALANCE_ROW = struct.Struct("<iiqqq")
_PLACE_MAX = 1 << 62
PAST = "past"  # code: what was signed in an epoch that is over says nothing of now


class Unproven(ProtocolError):
    """Something is not what the validators signed; `code` is stable and says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True)
class Balance:
    """One account's holding of one asset, in base units."""

    account: int
    asset: int
    available: int
    held: int
    reserved: int


@dataclass(frozen=True)
class BlockSummary:
    """What a block's chained journal root is made of."""

    height: int
    block_digest: bytes
    previous_root: bytes
    time_ms: int
    record_count: int
    chunks_root: bytes

    @property
    def journal_root(self) -> bytes:
        """What validators attest."""
        return compute_journal_root(
            self.previous_root,
            self.height,
            self.block_digest,
            self.time_ms,
            self.record_count,
            self.chunks_root,
        )


class LightClient:
    """Follows the validators of one chain from the epoch it trusts."""

    def __init__(self, chain_id: bytes, epoch: Epoch, verifier: Verifier | None = None) -> None:
        self._chain_id = chain_id
        self._epochs = [ReplicaSet(chain_id, epoch)]
        self._verifier = verifier or Ed25519Verifier()
        self._checkpoint = epoch.first_seq - 1
        self._reach = self._checkpoint + REACH
        self._start = b""  # the result that the newest epoch's proof signs

    @property
    def epoch(self) -> Epoch:
        """The newest epoch known."""
        return self._epochs[-1].record

    @property
    def replicas(self) -> ReplicaSet:
        """The validators of the newest epoch known."""
        return self._epochs[-1]

    @property
    def reach(self) -> int:
        """The last block that f+1 votes prove; above it another epoch may have begun unnoticed."""
        return self._reach

    def replicas_at(self, height: int) -> ReplicaSet:
        """The validators who decide the block at `height`, as far as is known. Raises `Unproven`."""
        for replicas in reversed(self._epochs):
            if replicas.record.first_seq <= height:
                return replicas
        raise Unproven("unknown-epoch", f"block {height} lies before the first epoch known here")

    def replicas_of(self, epoch: int) -> ReplicaSet:
        """The validators of an epoch, by its number. Raises `Unproven`."""
        known = epoch - self._epochs[0].epoch
        _require(0 <= known < len(self._epochs), "unknown-epoch", f"epoch {epoch} is not known here")
        return self._epochs[known]

    def advance(self, proof: EpochProof) -> None:
        """Follow one change of validators; one that is known already changes nothing. Raises `Unproven`."""
        epoch, cert, last = proof.epoch, proof.cert, self._epochs[-1]
        known = epoch.number - self._epochs[0].epoch
        if 0 <= known < len(self._epochs):
            _require(self._epochs[known].record == epoch, "epoch-digest", f"another epoch {epoch.number}")
            return
        _require(
            epoch.number == last.epoch + 1,
            "epoch-order",
            f"epoch {epoch.number} does not follow {last.epoch}",
        )
        _require(len(self._epochs) < EPOCHS_MAX, "too-many-epochs", f"more than {EPOCHS_MAX} epochs")
        _require(
            last.record.first_seq <= cert.seq == epoch.first_seq - 1,
            "epoch-place",
            f"epoch {epoch.number} starts at {epoch.first_seq}, its proof is of block {cert.seq}",
        )
        _require(cert.state.epoch == epoch.digest, "epoch-digest", f"the proof names no epoch {epoch.number}")
        self.verify_checkpoint(cert)
        self._epochs.append(ReplicaSet(self._chain_id, epoch))
        self._reach = cert.seq + REACH
        self._start = cert.result_digest

    # Certificates

    def verify_checkpoint(self, cert: CheckpointCert) -> None:
        """Raise `Unproven` unless a quorum signed this checkpoint; results near the newest need f+1 only."""
        replicas = self.replicas_at(cert.seq)
        self._check_quorum(replicas, CHECKPOINT, 0, cert.seq, cert.result_digest, cert.votes)
        if cert.seq > self._checkpoint:
            self._checkpoint = cert.seq
            self._reach = cert.seq + (REACH if cert.state.epoch == replicas.record.digest else 0)

    def verify_present(self, cert: CheckpointCert) -> None:
        """Raise `Unproven` unless this is a checkpoint of the newest epoch known, or that which it began
        with: whoever stole the keys of an epoch that is over cannot sign either."""
        first = self.epoch.first_seq
        is_start = cert.seq == first - 1 and cert.result_digest == self._start
        _require(
            cert.seq >= first or is_start,
            PAST,
            f"checkpoint {cert.seq} is of an epoch that is over; epoch {self.epoch.number} began at {first}",
        )
        self.verify_checkpoint(cert)

    def verify_block(self, view: int, seq: int, block_digest: bytes, commits: Sequence[Vote]) -> None:
        """Raise `Unproven` unless a quorum of the block's epoch committed it at `seq`."""
        replicas = self.replicas_at(seq)
        _require(
            epoch_of(view) == replicas.epoch,
            "wrong-epoch",
            f"view {view} is not of epoch {replicas.epoch}, which decides block {seq}",
        )
        self._check_quorum(replicas, COMMIT, view, seq, block_digest, commits)

    def verify_result(
        self,
        height: int,
        block_digest: bytes,
        journal_root: bytes,
        state_digest: bytes,
        votes: Sequence[Vote],
        is_confirmed: bool = False,
    ) -> None:
        """Raise `Unproven` unless f+1 validators of the block's epoch attest its result: one is honest.

        Above `reach` it takes a quorum: f+1 may be retired and their keys stolen, which a newer epoch or
        checkpoint would show. So it does in an epoch that is over, unless the caller lets f+1 of the newest
        validators tell the same (`is_confirmed`).
        `state_digest` is that of the state summary at checkpoints, empty elsewhere. Votes that count for
        nothing are passed over: whoever hands over a receipt may add some.
        """
        _require(len(votes) <= VOTES_MAX, "oversized", f"{len(votes)} votes; {VOTES_MAX} are looked at")
        replicas = self.replicas_at(height)
        kind = CHECKPOINT if state_digest else ATTEST
        result = compute_result_digest(block_digest, journal_root, state_digest)
        message = self._message(replicas, kind, 0, height, result)
        is_open = is_confirmed or replicas is self._epochs[-1]
        needed = replicas.weak_quorum if is_open and height <= self._reach else replicas.quorum
        signed_by: set[int] = set()
        for vote in votes:
            if vote.replica in replicas and vote.replica not in signed_by:
                if self._is_signed(replicas, vote, message):
                    signed_by.add(vote.replica)
                if len(signed_by) == needed:
                    return
        raise Unproven(
            "too-few-votes" if len(signed_by) < replicas.weak_quorum else "stale",
            f"only {len(signed_by)} validators of epoch {replicas.epoch} attest the result of block {height};"
            f" {needed} are needed, since f+1 suffice from block {self.epoch.first_seq} to {self._reach}",
        )

    # Contents

    def verify_lines(
        self,
        block: BlockSummary,
        state_digest: bytes,
        votes: Sequence[Vote],
        index: int,
        chunk: bytes,
        path: Sequence[bytes],
    ) -> None:
        """Raise `Unproven` unless f+1 validators attest a block whose journal has this chunk of 64 lines."""
        place = (block.height, block.time_ms, block.record_count)
        _require(all(0 <= value < _PLACE_MAX for value in place), "malformed", f"no block is at {place}")
        self.verify_result(block.height, block.block_digest, block.journal_root, state_digest, votes)
        try:
            chunks_root = compute_chunks_root(index, chunk, block.record_count, path)
        except ProtocolError as error:
            raise Unproven("chunk", str(error)) from error
        _require(
            chunks_root == block.chunks_root,
            "chunk",
            f"chunk {index} is not of block {block.height}'s journal",
        )

    def verify_page(self, cert: CheckpointCert, proof: PageProof) -> bytes:
        """The page, if it stands in the state at a checkpoint. Raises `Unproven`.

        `cert` is checked with it.
        """
        data = check_page(cert, proof)
        self.verify_checkpoint(cert)
        return data

    def read_balance(self, cert: CheckpointCert, proof: PageProof, account: int, asset: int) -> Balance:
        """What `account` held of `asset` at a checkpoint, if the proved page says so. Raises `Unproven`.

        A page that does not name the pair proves nothing: it may stand on another one.
        """
        _require(
            (proof.name, proof.row_size) == (BALANCES, BALANCE_ROW.size),
            "page",
            f"{proof.name} are no balances",
        )
        data = self.verify_page(cert, proof)
        first = proof.page * (PAGE_SIZE // BALANCE_ROW.size)
        for row in range(min(PAGE_SIZE // BALANCE_ROW.size, proof.rows - first)):
            balance = Balance(*BALANCE_ROW.unpack_from(data, row * BALANCE_ROW.size))
            if (balance.account, balance.asset) == (account, asset):
                return balance
        raise Unproven("no-balance", f"page {proof.page} holds no balance of ({account}, {asset})")

    # Signatures

    def _message(self, replicas: ReplicaSet, kind: str, view: int, seq: int, body: bytes) -> bytes:
        _require(
            0 <= view < _PLACE_MAX and 0 < seq < _PLACE_MAX, "malformed", f"no vote is at ({view}, {seq})"
        )
        return signing_digest(self._chain_id, replicas.epoch, kind, view, seq, body)

    def _check_quorum(
        self, replicas: ReplicaSet, kind: str, view: int, seq: int, body: bytes, votes: Sequence[Vote]
    ) -> None:
        """Exactly a quorum, in ascending order: one spelling, no signer twice."""
        _require(
            len(votes) == replicas.quorum,
            "vote-count",
            f"{len(votes)} {kind} votes; {replicas.quorum} make a certificate in epoch {replicas.epoch}",
        )
        ascending = all(first.replica < second.replica for first, second in pairwise(votes))
        _require(ascending, "vote-order", "the votes of a certificate stand in ascending order")
        message = self._message(replicas, kind, view, seq, body)
        for vote in votes:
            _require(
                vote.replica in replicas,
                "unknown-replica",
                f"{vote.replica} is no validator of epoch {replicas.epoch}",
            )
            _require(
                self._is_signed(replicas, vote, message),
                "bad-signature",
                f"{vote.replica} did not sign this {kind} of block {seq}",
            )

    def _is_signed(self, replicas: ReplicaSet, vote: Vote, message: bytes) -> bool:
        try:
            self._verifier.verify(replicas.keys[vote.replica], message, vote.signature)
        except SignatureError:
            return False
        return True


def check_page(cert: CheckpointCert, proof: PageProof) -> bytes:
    """The page, if it stands in the state that `cert` names, whoever signed that. Raises `Unproven`."""
    _require(0 <= proof.table < len(cert.state.parts), "page", f"the state has no table {proof.table}")
    try:
        root = compute_table_root(proof)
    except ProtocolError as error:
        raise Unproven("page", str(error)) from error
    _require(
        root == cert.state.parts[proof.table],
        "page",
        f"page {proof.page} of {proof.name} is not in the state at {cert.seq}",
    )
    return proof.data


def _require(condition: bool, code: str, message: str) -> None:
    if not condition:
        raise Unproven(code, message)
