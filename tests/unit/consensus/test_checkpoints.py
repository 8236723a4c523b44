"""Attestations, stable checkpoints, and a state that turns out wrong."""

from dataclasses import replace

import pytest

from consensus.effects import Diverged, Executed, Stable
from consensus.messages import Attest, Commit, Message, Prepare
from consensus.primitives.crypto import digest
from consensus.primitives.errors import InvariantViolation
from consensus.proofs import CheckpointCert
from tests.helpers.group import Group
from tests.helpers.votes import make_block, summarise

ROOT, STATE = digest("test.root"), digest("test.state")


def fill(group: Group, blocks: int, first: int = 0) -> None:
    for number in range(first, first + blocks):
        group.submit(number)
        group.run()


def test_every_block_is_attested_and_checkpoints_carry_the_state() -> None:
    group = Group()
    fill(group, 5)
    attests = group.seats[1].said(Attest)
    assert [m.seq for m in attests] == [1, 2, 3, 4, 5]  # type: ignore[attr-defined]
    assert [bool(m.state) for m in attests] == [False, False, False, True, False]  # type: ignore[attr-defined]


def test_a_result_is_signed_ahead_once_it_may_be_attested_and_nothing_is_sent() -> None:
    group = Group()
    fill(group, 1)
    replica, signer = group[1], group.signer(1)
    asked: list[int] = []
    sign = signer.sign_vote

    def listen(kind: str, epoch: int, view: int, seq: int, body: bytes, message: bytes) -> bytes:
        asked.append(seq)
        return sign(kind, epoch, view, seq, body, message)

    signer.sign_vote = listen  # type: ignore[method-assign]
    effects = len(group.seats[1].effects)
    replica.foresee(Executed(2, make_block(2).digest, ROOT, None))
    assert (asked, len(group.seats[1].effects), replica.executed) == ([2], effects, 1)
    replica.foresee(Executed(1, make_block(1).digest, ROOT, None))
    assert asked == [2]


def test_a_replica_that_may_not_attest_signs_nothing_ahead() -> None:
    group = Group()
    group.liars = {1}
    fill(group, 1)
    assert group[1].diverged
    group[1].foresee(Executed(2, make_block(2).digest, ROOT, None))


def test_q_equal_checkpoints_make_it_stable_and_empty_the_log() -> None:
    group = Group()
    fill(group, 9)
    for seat in group.seats:
        assert seat.replica.stable_seq == 8
        assert [effect.seq for effect in seat.of(Stable)] == [4, 8]  # type: ignore[attr-defined]
        assert len(seat.votes) < 8


def test_the_vote_log_stays_small_for_ever() -> None:
    group = Group()
    fill(group, 60)
    assert all(len(seat.votes) <= 5 * group.config.window for seat in group.seats)
    assert group.heights() == [60] * 4


def test_ordering_waits_at_the_window_until_a_checkpoint_is_stable() -> None:
    """Without checkpoints nobody may run ahead: the log would grow without bound."""
    group = Group()
    group.drops = lambda sender, to, m: isinstance(m, Attest)
    fill(group, 12)
    assert group.heights() == [8] * 4
    group.heal()
    group.wait(10_000_000)
    assert group.heights()[0] > 8
    listed = [name for block in group.seats[0].executed for name in block.batches]
    assert len(listed) == 12
    group.check_agreement()


def alone() -> Group:
    """Replica 2 holds blocks 1..4 and hears only what the test hands it."""
    group = Group()
    fill(group, 3)
    group.isolate(0, 1, 2, 3)
    group.hold(2, 3)
    group.deliver(2, group.voters.commit_cert(0, make_block(4, 3)), sender=0)
    group.run()
    assert group.seats[2].results[-1].seq == 4
    group.seats[2].effects.clear()
    return group


def test_a_checkpoint_needs_q_signers() -> None:
    group = alone()
    result = group.seats[2].results[-1]
    block = make_block(4, 3)
    vote = group.voters.attest(1, block, result.journal_root, result.state.root)
    for _ in range(3):
        group.deliver(2, vote)
    group.deliver(2, replace(vote, replica=3), sender=3)
    assert group.seats[2].blames() == [(3, "bad-signature")]
    assert group[2].stable_seq == 0
    group.deliver(2, group.voters.attest(3, block, result.journal_root, result.state.root))
    assert group[2].stable_seq == 4


def test_f_plus_one_equal_others_prove_us_wrong() -> None:
    group = alone()
    group.deliver(2, group.voters.attest(0, make_block(4, 3), ROOT, STATE))
    assert not group[2].diverged
    group.deliver(2, group.voters.attest(1, make_block(4, 3), STATE, STATE))
    assert not group[2].diverged, "two others who disagree with one another prove nothing"
    group.deliver(2, group.voters.attest(3, make_block(4, 3), ROOT, STATE))
    assert group[2].diverged
    assert len(group.seats[2].of(Diverged)) == 1


def test_a_diverged_replica_votes_no_more_but_still_follows_and_answers() -> None:
    group = Group()
    group.liars = {3}
    fill(group, 1)
    assert [seat.replica.diverged for seat in group.seats] == [False, False, False, True]
    group.seats[3].effects.clear()
    fill(group, 10, first=1)
    assert group.heights() == [11] * 4
    seat = group.seats[3]
    for kind in (Prepare, Commit, Attest):
        assert not seat.said(kind)
    assert not seat.of(Stable), "it must not prune on the strength of a checkpoint it does not hold"
    assert group[0].stable_seq == 8


def test_one_liar_proves_nothing_to_others() -> None:
    group = Group()
    group.liars = {3}
    fill(group, 9)
    assert not any(group[replica].diverged for replica in range(3))


def test_two_results_of_one_replica_are_evidence() -> None:
    group = alone()
    group.deliver(2, group.voters.attest(1, make_block(5), ROOT))
    group.deliver(2, group.voters.attest(1, make_block(5), STATE))
    assert group.seats[2].blames() == [(1, "equivocation")]


def test_a_stable_certificate_is_adopted_from_anybody_and_leads_to_fetching() -> None:
    """Possibly only f replicas know it and refuse what lies below: the rest must follow (Concord #1399)."""
    group = Group()
    group.isolate(3)
    fill(group, 9)
    group.heal()
    stable = group[0]._state.votes.stable
    assert isinstance(stable, CheckpointCert)
    group.seats[3].effects.clear()
    group.deliver(3, stable, sender=1)
    assert group[3].stable_seq == 8
    assert not group.seats[3].of(Stable)
    group.wait(5_000_000)
    assert group.heights() == [9] * 4
    assert [effect.seq for effect in group.seats[3].of(Stable)] == [8]  # type: ignore[attr-defined]


def test_a_forged_certificate_moves_nothing() -> None:
    group = Group()
    good = group.voters.checkpoint(make_block(4, 1), ROOT, STATE)
    for bad in (
        replace(good, votes=good.votes[:2]),
        replace(good, seq=8),
        replace(good, state=summarise(ROOT)),
    ):
        group.deliver(2, bad, sender=1)
    assert group[2].stable_seq == 0
    assert [code for _, code in group.seats[2].blames()] == ["vote-count", "bad-signature", "bad-signature"]


def test_nothing_at_or_below_the_checkpoint_is_signed() -> None:
    group = Group()
    group.isolate(3)
    fill(group, 9)
    group.heal()
    stable = group[0]._state.votes.stable
    assert stable is not None
    group.deliver(3, stable, sender=1)
    group.wait(5_000_000)
    assert {m.seq for m in group.seats[3].said(Attest)} == {9}  # type: ignore[attr-defined]


def test_a_state_that_misses_the_stable_root_diverges_when_it_gets_there() -> None:
    group = Group()
    group.isolate(3)
    fill(group, 9)
    group.heal()
    group.liars = {3}
    stable = group[0]._state.votes.stable
    assert stable is not None
    group.deliver(3, stable, sender=1)
    group.wait(5_000_000)
    assert group[3].diverged


@pytest.mark.parametrize(
    "result",
    [
        Executed(2, make_block(2).digest, ROOT),
        Executed(1, make_block(1).digest, ROOT),
        Executed(0, make_block(0).digest, ROOT, summarise(STATE)),
    ],
)
def test_a_result_out_of_turn_stops_the_replica(result: Executed) -> None:
    group = Group()
    with pytest.raises(InvariantViolation):
        group.feed(0, result)


def test_another_block_than_was_handed_out_stops_the_replica() -> None:
    group = Group()
    group.submit(1, to=(0,))
    taken: list[Message] = []
    group.drops = lambda sender, to, m: bool(taken.append(m))
    group.hold(2, 1)
    effects = group[2].step(_certified(group), group.now_us)
    assert any(type(effect).__name__ == "Execute" for effect in effects)
    with pytest.raises(InvariantViolation, match="ran as"):
        group[2].step(Executed(1, make_block(1, 2).digest, ROOT), group.now_us)


def _certified(group: Group):  # type: ignore[no-untyped-def]  # an event
    from consensus.effects import Received

    return Received(0, group.voters.commit_cert(0, make_block(1, 1)))
