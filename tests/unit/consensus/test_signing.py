"""The signer's rules, and what a replica makes of a refusal."""

from dataclasses import replace

import pytest

from consensus.certificates import PRE_PREPARE, VIEW_CHANGE
from consensus.effects import Broadcast, Persist, Received, SetTimer, TimerFired
from consensus.messages import Attest, Commit, NewView, Prepare, PrePrepare, ViewChange
from consensus.primitives.crypto import digest
from consensus.primitives.errors import InvariantViolation
from consensus.signing import (
    ACK,
    FREE_KINDS,
    ORDER_KINDS,
    PLACES_MAX,
    RESULT_KINDS,
    VIEW_KINDS,
    Floor,
    Place,
    RecordingSigner,
    SignatureRefused,
    VoteRecord,
    VoteSigner,
)
from tests.helpers.group import Group
from tests.helpers.votes import make_block

A, B = digest("test.a"), digest("test.b")


def place_of(kind: str, view: int = 3, seq: int = 7) -> Place:
    return Place(kind, 0 if kind in RESULT_KINDS else view, 0 if kind in VIEW_KINDS else seq)


def sign(record: VoteRecord, place: Place, message: bytes) -> None:
    if record.check(place, message):
        record.add(place, message)


def refusal(record: VoteRecord, place: Place, message: bytes = A) -> str:
    with pytest.raises(SignatureRefused) as caught:
        record.check(place, message)
    return caught.value.code


@pytest.mark.parametrize("kind", [*ORDER_KINDS, *RESULT_KINDS, *VIEW_KINDS])
def test_the_same_vote_is_signed_again_and_another_is_not(kind: str) -> None:
    record = VoteRecord()
    sign(record, place_of(kind), A)
    assert record.check(place_of(kind), A) is False
    assert refusal(record, place_of(kind), B) == "contradiction"


@pytest.mark.parametrize("kind", FREE_KINDS)
def test_what_is_no_vote_leaves_no_trace(kind: str) -> None:
    record = VoteRecord(Floor(9, 9))
    sign(record, Place(kind, 1, 1), A)
    sign(record, Place(kind, 1, 1), B)
    assert not record.places


@pytest.mark.parametrize("kind", [*ORDER_KINDS, *RESULT_KINDS])
def test_nothing_is_signed_at_or_below_the_floor_of_the_seq(kind: str) -> None:
    record = VoteRecord()
    sign(record, place_of(kind, seq=7), A)
    assert record.raise_floor(Floor(0, 7))
    assert not record.places
    assert refusal(record, place_of(kind, seq=7)) == "below-floor"
    sign(record, place_of(kind, seq=8), A)


@pytest.mark.parametrize("kind", [*ORDER_KINDS, *VIEW_KINDS])
def test_nothing_is_signed_in_a_view_that_a_view_change_left(kind: str) -> None:
    record = VoteRecord()
    sign(record, place_of(kind, view=3), A)
    sign(record, Place(VIEW_CHANGE, 4, 0), B)
    assert refusal(record, place_of(kind, view=3)) == "below-floor"
    assert list(record.places) == [Place(VIEW_CHANGE, 4, 0)]


def test_results_outlive_the_view_they_came_in() -> None:
    record = VoteRecord()
    sign(record, place_of("attest"), A)
    sign(record, Place(VIEW_CHANGE, 9, 0), B)
    assert refusal(record, place_of("attest"), B) == "contradiction"


def test_a_floor_never_falls() -> None:
    record = VoteRecord(Floor(5, 5))
    assert not record.raise_floor(Floor(4, 5))
    assert record.raise_floor(Floor(4, 6))
    assert record.floor == Floor(5, 6)


@pytest.mark.parametrize(
    ("place", "message", "code"),
    [
        (Place("payment", 0, 1), A, "unknown-kind"),
        (Place("prepare", -1, 1), A, "malformed"),
        (Place("prepare", 0, 1 << 63), A, "malformed"),
        (Place("attest", 1, 1), A, "malformed"),
        (Place("view-change", 1, 1), A, "malformed"),
        (Place("prepare", 0, 1), A[:31], "malformed"),
        (Place(ACK, 0, 1), b"", "malformed"),
        (Place("prepare", 0, 0), A, "below-floor"),
    ],
)
def test_a_place_has_one_spelling(place: Place, message: bytes, code: str) -> None:
    assert refusal(VoteRecord(), place, message) == code


def test_the_record_is_bounded() -> None:
    places = [(Place("prepare", 0, seq), A) for seq in range(1, PLACES_MAX + 1)]
    record = VoteRecord(places=places)
    assert refusal(record, Place("commit", 0, 1)) == "record-full"
    assert record.check(*places[0]) is False


# What a replica makes of a refusal


class RememberingGroup(Group):
    """Every replica has a signer whose record outlives it."""

    def __init__(self, n: int = 4) -> None:
        self.records = [VoteRecord() for _ in range(n)]
        super().__init__(n)

    def signer(self, replica_id: int) -> VoteSigner:
        return RecordingSigner(self.voters.keyring.signers[replica_id], self.records[replica_id])

    def note(self, replica_id: int, kind: str, view: int, seq: int) -> None:
        """As if its signer had signed something here in a turn that is lost."""
        self.records[replica_id].add(Place(kind, view, seq), A)


def test_a_primary_whose_proposal_is_lost_makes_way_for_the_next() -> None:
    group = RememberingGroup()
    group.note(0, PRE_PREPARE, 0, 1)
    group.submit(1)
    group.run()
    assert group.heights() == [0] * 4
    group.wait(5_000_000)
    group.check_agreement()
    assert group.heights() == [1] * 4
    assert min(group.views()) == 1
    assert not [m for m in group.seats[0].said(PrePrepare) if m.view == 0]  # type: ignore[attr-defined]
    assert group[0].counters["refused_signatures"] == 1


def test_a_lone_validator_whose_proposal_is_lost_goes_on_in_the_next_view() -> None:
    group = RememberingGroup(1)
    group.note(0, PRE_PREPARE, 0, 1)
    group.submit(1)
    group.wait(5_000_000)
    assert (group.heights(), group.views()) == ([1], [1])


def test_a_refused_prepare_is_withheld_and_those_of_others_still_count() -> None:
    group = RememberingGroup()
    group.note(2, "prepare", 0, 1)
    group.submit(1)
    group.run()
    assert group.heights() == [1] * 4
    assert not group.seats[2].said(Prepare)
    assert group.seats[2].said(Commit)


def test_a_refused_attestation_is_withheld_and_a_wrong_state_is_still_noticed() -> None:
    group = RememberingGroup()
    group.note(2, "attest", 0, 1)
    group.note(3, "attest", 0, 1)
    group.liars = {3}
    group.submit(1)
    group.run()
    group.wait(5_000_000)
    assert not group.seats[2].said(Attest)
    assert not group.seats[3].said(Attest)
    assert [seat.replica.diverged for seat in group.seats] == [False, False, False, True]


@pytest.mark.parametrize("kind", ["commit", "view-change", "new-view"])
def test_any_other_refusal_stops_the_replica(kind: str) -> None:
    group = RememberingGroup()
    voters, block = group.voters, make_block(1, 1)
    group.isolate(0, 1, 2, 3)
    group.hold(1, 1)
    if kind == "commit":
        group.note(1, kind, 0, 1)
        group.deliver(1, voters.pre_prepare(0, block), sender=0)
        with pytest.raises(InvariantViolation, match="contradiction"):
            group.deliver(1, voters.prepare(2, 0, block))
        return
    group.note(1, kind, 1, 0)
    with pytest.raises(InvariantViolation, match="contradiction"):
        for replica in (0, 2, 3):
            group.deliver(1, voters.view_change(replica, 1, complaints=voters.complaints(0)))


# Nothing is signed that could come out otherwise after a crash


def test_a_view_change_is_written_down_a_turn_before_it_is_signed() -> None:
    """More is locked by the time the replica is back: what it signs is what it wrote before."""
    group = Group()
    group.isolate(0, 1, 2, 3)
    for replica in (0, 3):
        complaint = group.voters.complain(replica, 0)
        effects = group[2].step(Received(replica, complaint), group.now_us)
    assert [e for e in effects if isinstance(e, Persist) and e.key == b"view-change"]
    assert not [e for e in effects if isinstance(e, Broadcast) and isinstance(e.message, ViewChange)]
    (timer,) = [e.name for e in effects if isinstance(e, SetTimer) and e.delay_us == 0]
    effects = group[2].step(TimerFired(timer), group.now_us)
    assert [e for e in effects if isinstance(e, Broadcast) and isinstance(e.message, ViewChange)]


def test_a_new_view_is_written_down_a_turn_before_it_is_signed() -> None:
    """A crash in between: another set of view changes arrives first, and the very same message goes out."""
    group = Group()
    voters = group.voters
    group.isolate(0, 1, 2, 3)
    group.deliver(1, voters.view_change(0, 1, complaints=voters.complaints(0)))
    seat = group.seats[1]
    before = dict(seat.votes)
    group.deliver(1, voters.view_change(3, 1, [voters.prepared(0, make_block(1, 1))]))
    announced = seat.said(NewView)[-1]
    draft = next(e for e in seat.effects if isinstance(e, Persist) and e.key == b"new-view-draft")
    # What the turn that drafted it left, without the one that signed it.
    seat.effects.clear()
    group.crash(1)
    group.start(1, {**before, draft.key: draft.value})
    group.deliver(1, voters.view_change(2, 1))
    assert seat.said(NewView)[0] == announced
    assert isinstance(announced, NewView)
    assert replace(announced, signature=b"").proposals[0].block == make_block(1, 1)
