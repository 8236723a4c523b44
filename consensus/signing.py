"""What a signer may sign: one body for each place, and nothing below a floor.

A place is (kind, view, seq). The record is the signer's own, apart from the vote log: if that log is
ever rolled back (a restored backup, a disk that lied, a compromised node), the signer still knows
what it signed, and refuses to contradict it.

    kind                           placed by      refused below the floor
    pre-prepare, prepare, commit   view and seq   view < floor.view, or seq <= floor.seq
    attest, checkpoint             seq, view 0    seq <= floor.seq
    view-change, new-view          view, seq 0    view < floor.view
    complain, ack                  not at all     never: two of them contradict nothing

A view change raises the view's floor by itself: whoever signed one votes in no earlier view. The
seq's floor follows the stable checkpoint, once the vote log holds that durably (`raise_floor`).
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from consensus.certificates import (
    ACK,
    ATTEST,
    CHECKPOINT,
    COMMIT,
    COMPLAIN,
    NEW_VIEW,
    PRE_PREPARE,
    PREPARE,
    VIEW_CHANGE,
)
from consensus.primitives.crypto import DIGEST_SIZE, Signer
from consensus.primitives.errors import LedgerError

ORDER_KINDS = (PRE_PREPARE, PREPARE, COMMIT)
RESULT_KINDS = (ATTEST, CHECKPOINT)
VIEW_KINDS = (VIEW_CHANGE, NEW_VIEW)
FREE_KINDS = (COMPLAIN, ACK)

PLACES_MAX = 1 << 17  # ten times what the longest window needs
NUMBER_MAX = 1 << 63


class VoteSigner(Protocol):
    """Holds one private key, and signs votes that contradict none it signed before."""

    @property
    def public_key(self) -> bytes: ...

    def sign_vote(self, kind: str, epoch: int, view: int, seq: int, body: bytes, message: bytes) -> bytes:
        """Sign `message`, the signing digest of all the others. Raises `SignatureRefused`."""
        ...


class SignatureRefused(LedgerError):
    """The signer will not sign this; `code` is stable and says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the signer refuses ({code}): {message}")
        self.code = code


class Place(NamedTuple):
    """Where a vote counts."""

    kind: str
    view: int
    seq: int


class Floor(NamedTuple):
    """Votes in earlier views, and for this seq and all before it, are history."""

    view: int = 0
    seq: int = 0


GENESIS = Floor()


class VoteRecord:
    """Which digest was signed at each place above the floor."""

    def __init__(self, floor: Floor = GENESIS, places: Iterable[tuple[Place, bytes]] = ()) -> None:
        self.floor = floor
        self.places = dict(places)

    def check(self, place: Place, message: bytes) -> bool:
        """Whether this is new and must be added before it is signed. Raises `SignatureRefused`."""
        kind, view, seq = place
        check_place(place)
        if len(message) != DIGEST_SIZE:
            raise SignatureRefused("malformed", f"a digest of {len(message)} bytes")
        if kind in FREE_KINDS:
            return False
        if self._is_below_floor(place):
            raise SignatureRefused(
                "below-floor", f"{kind} at (view {view}, seq {seq}); the floor is {tuple(self.floor)}"
            )
        before = self.places.get(place)
        if before is not None:
            if before != message:
                raise SignatureRefused(
                    "contradiction", f"it signed another {kind} at (view {view}, seq {seq})"
                )
            return False
        if len(self.places) >= PLACES_MAX:
            raise SignatureRefused("record-full", f"it remembers {PLACES_MAX} votes above one floor")
        return True

    def add(self, place: Place, message: bytes) -> None:
        """Note what is about to be signed. The caller has checked it."""
        self.places[place] = message
        if place.kind == VIEW_CHANGE:
            self.raise_floor(Floor(place.view, self.floor.seq))

    def raise_floor(self, floor: Floor) -> bool:
        """Forget what lies below `floor`, and sign it never again. False: nothing rose."""
        raised = Floor(max(self.floor.view, floor.view), max(self.floor.seq, floor.seq))
        if raised == self.floor:
            return False
        self.floor = raised
        self.places = {
            place: message for place, message in self.places.items() if not self._is_below_floor(place)
        }
        return True

    def _is_below_floor(self, place: Place) -> bool:
        has_view = place.kind not in RESULT_KINDS
        has_seq = place.kind not in VIEW_KINDS
        return (has_view and place.view < self.floor.view) or (has_seq and place.seq <= self.floor.seq)


class RecordingSigner:
    """Signs by `signer` what contradicts nothing in `record`.

    `fresh` lists what this call and earlier ones added to the record since `take_fresh`: it must be
    durable before a signature leaves.
    """

    def __init__(self, signer: Signer, record: VoteRecord) -> None:
        self.record = record
        self.fresh: list[tuple[Place, bytes]] = []
        self._signer = signer

    @property
    def public_key(self) -> bytes:
        return self._signer.public_key

    def sign_vote(self, kind: str, epoch: int, view: int, seq: int, body: bytes, message: bytes) -> bytes:
        """Sign `message`. Raises `SignatureRefused`."""
        place = Place(kind, view, seq)
        if self.record.check(place, message):
            self.record.add(place, message)
            self.fresh.append((place, message))
        return self._signer.sign(message)

    def take_fresh(self) -> list[tuple[Place, bytes]]:
        """What must become durable now."""
        fresh, self.fresh = self.fresh, []
        return fresh


def check_place(place: Place) -> None:
    """Raise `SignatureRefused` unless the place is one a replica votes at, spelled the one way it is."""
    kind, view, seq = place
    known = kind in ORDER_KINDS or kind in RESULT_KINDS or kind in VIEW_KINDS or kind in FREE_KINDS
    if not known:
        raise SignatureRefused("unknown-kind", f"{kind[:32]!r} is no kind of vote")
    if not (0 <= view < NUMBER_MAX and 0 <= seq < NUMBER_MAX):
        raise SignatureRefused("malformed", f"(view {view}, seq {seq}) is out of range")
    if (kind in RESULT_KINDS and view) or (kind in VIEW_KINDS and seq):
        raise SignatureRefused("malformed", f"a {kind} has no place at (view {view}, seq {seq})")
