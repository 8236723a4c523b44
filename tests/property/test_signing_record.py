"""The law of signing: whatever crashes where, no place ever has two signatures that left."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consensus.primitives.crypto import Ed25519Signer, digest
from consensus.primitives.errors import StorageError
from consensus.proofs import signing_digest
from consensus.signing import Place, SignatureRefused
from node.signer import journal
from node.signer.local import LocalSigner
from node.signer.record import KINDS, SigningRecord
from tests.helpers.voting_ledger import NEW

KEY = Ed25519Signer(bytes(32))
CHAIN = digest("test.chain")
BODIES = [digest(f"test.body {number}") for number in range(3)]


class CrashingSigner(RuleBasedStateMachine):
    """Signs at few places, so that they meet; a crash tears the file at any byte of what was under way.

    `left` holds what was durable when it left, by place: the model that the signer must never contradict.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self.path = Path(self._folder.name) / "record"
        self.left: dict[Place, bytes] = {}
        self.signed: dict[Place, bytes] = {}
        self.view = self.seq = 0
        SigningRecord.create(self.path, KEY.public_key, CHAIN).close()
        self._open()

    def _open(self) -> None:
        self.record = SigningRecord.open(self.path)
        self.signer = LocalSigner(KEY, CHAIN, self.record)
        # The ledger holds a floor before the signer hears of it.
        self.record.bind_ledger(
            NEW._replace(view=self.record.votes.floor.view, low=self.record.votes.floor.seq)
        )
        self.signed = {}

    def _close(self) -> None:
        self.signer.close()
        self.record.close()

    def teardown(self) -> None:
        self._close()
        self._folder.cleanup()

    @rule(
        kind=st.sampled_from(KINDS),
        view=st.integers(0, 2),
        seq=st.integers(1, 4),
        body=st.sampled_from(BODIES),
    )
    def sign(self, kind: str, view: int, seq: int, body: bytes) -> None:
        is_result, is_view = kind in ("attest", "checkpoint"), kind in ("view-change", "new-view")
        place = Place(kind, 0 if is_result else view, 0 if is_view else seq)
        message = signing_digest(CHAIN, 0, *place, body)
        known = self.signed.get(place, self.left.get(place))
        try:
            self.signer.sign_vote(place.kind, 0, place.view, place.seq, body, message)
        except SignatureRefused:
            return
        assert known in (None, message)
        assert is_result or place.view >= self.view
        assert is_view or place.seq > self.seq
        self.signed[place] = message
        if kind == "view-change":
            self.view = max(self.view, place.view)

    @rule()
    def flush_and_send(self) -> None:
        self.signer.begin()
        self.signer.finish()
        self.left.update(self.signed)

    @rule(view=st.integers(0, 2), seq=st.integers(0, 3))
    def settle(self, view: int, seq: int) -> None:
        """A checkpoint became stable."""
        self.signer.raise_floor(view, seq)

    @rule()
    def die_before_the_write(self) -> None:
        self._close()
        self._open()
        self._note_floor()

    @precondition(lambda self: not self.signer.is_settled)
    @rule(share=st.floats(0, 1))
    def die_amid_the_write(self, share: float) -> None:
        """What was under way is on disk up to some byte; what was durable before is there."""
        start = self.record._journal._end
        self.signer.begin()
        self.signer.finish()
        end, data = self.record._journal._end, self.path.read_bytes()
        self._close()
        if end > start:
            cut = start + int(share * (end - start))
            self.path.write_bytes(data[:cut] + bytes(len(data) - cut))
        self._open()
        self._note_floor()

    @precondition(lambda self: bool(self.left))
    @rule(share=st.floats(0, 1, exclude_max=True), bit=st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]))
    def rot(self, share: float, bit: int) -> None:
        """A flipped bit in what is durable keeps the signer from starting."""
        end, data = self.record._journal._end, self.path.read_bytes()
        at = int(share * end)
        if not any(data[at - at % journal.PAGE : at - at % journal.PAGE + journal.PAGE]) or data[at] == 0:
            return
        self._close()
        self.path.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
        try:
            SigningRecord.open(self.path).close()
        except StorageError:
            pass
        else:
            raise AssertionError(f"bit {bit} of byte {at} was flipped unnoticed")
        self.path.write_bytes(data)
        self._open()
        self._note_floor()

    def _note_floor(self) -> None:
        """After a restart the floor may be lower, never below that of a view change that left."""
        self.view, self.seq = self.record.votes.floor

    @invariant()
    def remembers_what_left(self) -> None:
        floor = self.record.votes.floor
        for place, message in self.left.items():
            known = self.record.votes.places.get(place)
            is_result, is_view = (
                place.kind in ("attest", "checkpoint"),
                place.kind in ("view-change", "new-view"),
            )
            is_history = (not is_result and place.view < floor.view) or (
                not is_view and place.seq <= floor.seq
            )
            assert is_history or known == message


CrashingSigner.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestCrashingSigner = CrashingSigner.TestCase
