"""Signing inside the node, or inside the signer's own process: check, note, sign; then flush.

A signature is computed at once, and must not leave before what it adds to the record is durable. The
node lets its own thread write that while the ledger's transaction of the same turn is under way,
so it waits for the slower of the two and not for both.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from consensus.primitives.crypto import Signer
from consensus.primitives.errors import StorageError
from consensus.proofs import signing_digest
from consensus.signing import (
    NUMBER_MAX,
    RESULT_KINDS,
    Floor,
    Place,
    RecordingSigner,
    SignatureRefused,
    VoteRecord,
    check_place,
)
from node.signer.binding import VotingLedger, standing_of
from node.signer.record import SigningRecord

OnRefused = Callable[[SignatureRefused], None]


class Guard:
    """Signs votes of one chain that contradict none in the record; computes for itself what it signs."""

    def __init__(self, signer: Signer, chain_id: bytes, votes: VoteRecord) -> None:
        self.votes = VoteRecord(votes.floor, votes.places.items())  # ahead of the file by what is fresh
        self._recording = RecordingSigner(signer, self.votes)
        self._chain_id = chain_id
        self._floor: Floor | None = None

    @property
    def public_key(self) -> bytes:
        return self._recording.public_key

    @property
    def has_fresh(self) -> bool:
        """Whether something was signed that `take` has not given out."""
        return bool(self._recording.fresh)

    @property
    def has_fresh_votes(self) -> bool:
        """Whether something besides results of execution was."""
        return any(place.kind not in RESULT_KINDS for place, _ in self._recording.fresh)

    def sign(self, kind: str, epoch: int, view: int, seq: int, body: bytes) -> tuple[bytes, bytes]:
        """Return the signing digest and its signature. Raises `SignatureRefused`."""
        check_place(Place(kind, view, seq))
        if not 0 <= epoch < NUMBER_MAX:
            raise SignatureRefused("malformed", f"epoch {epoch} is out of range")
        message = signing_digest(self._chain_id, epoch, kind, view, seq, body)
        return message, self._recording.sign_vote(kind, epoch, view, seq, body, message)

    def raise_floor(self, floor: Floor) -> None:
        """Sign nothing below `floor` any more. It becomes durable with the next votes: it only refuses."""
        if self.votes.raise_floor(floor):
            self._floor = self.votes.floor

    def take(self) -> tuple[list[tuple[Place, bytes]], Floor | None]:
        """What must become durable before the signatures since the last call leave."""
        floor, self._floor = self._floor, None
        return self._recording.take_fresh(), floor


class LocalSigner:
    """The signer inside the node's process. All methods but `finish` are called by the node's loop."""

    def __init__(
        self,
        signer: Signer,
        chain_id: bytes,
        record: SigningRecord,
        on_refused: OnRefused = lambda error: None,
    ) -> None:
        self.on_refused = on_refused
        self._guard = Guard(signer, chain_id, record.votes)
        self._record = record
        self._writer = ThreadPoolExecutor(1, "signing-record")
        self._last: Future[None] | None = None
        self._ledger: VotingLedger | None = None

    @property
    def public_key(self) -> bytes:
        return self._guard.public_key

    def bind(self, ledger: VotingLedger) -> None:
        """Vote with `ledger` from now on. Raises `ConfigError` if it is not the key's, or an older copy."""
        self._record.bind_ledger(standing_of(ledger))
        self._ledger = ledger

    def sign_vote(self, kind: str, epoch: int, view: int, seq: int, body: bytes, message: bytes) -> bytes:
        """Sign a vote; it may leave once `finish` returned. Raises `SignatureRefused`."""
        try:
            signed, signature = self._guard.sign(kind, epoch, view, seq, body)
        except SignatureRefused as error:
            self.on_refused(error)
            raise
        if signed != message:
            raise StorageError(f"a {kind} for another chain was to be signed: its network file was changed")
        return signature

    def raise_floor(self, view: int, seq: int) -> None:
        """The checkpoint at `seq` is stable and durable, and so is `view`."""
        self._guard.raise_floor(Floor(view, seq))

    @property
    def is_urgent(self) -> bool:
        """Whether votes were signed that are not on their way to disk."""
        return self._guard.has_fresh_votes

    @property
    def is_settled(self) -> bool:
        """Whether everything signed is durable."""
        last = self._last
        return not self._guard.has_fresh and (last is None or (last.done() and last.exception() is None))

    def begin(self) -> None:
        """Start to write down what was signed."""
        if self._guard.has_fresh:
            votes, floor = self._guard.take()
            turn = self._ledger.turns + 1 if self._ledger else 0  # without one the record refuses
            self._last = self._writer.submit(self._record.append, votes, floor, turn)

    def finish(self) -> None:
        """Wait until all that was begun is durable; from any thread. Raises `StorageError`."""
        if self._last is not None:
            self._last.result()  # one thread writes in order: the last one done is all done

    def close(self) -> None:
        """Let a write under way end; whoever opened the record closes it."""
        self._writer.shutdown()
