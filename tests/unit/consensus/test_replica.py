"""Restart: the same promises, the same bytes, and no vote twice. And real signatures once."""

from random import Random

import pytest

from consensus.effects import Broadcast, Effect, Persist, Send, StoreBlock
from consensus.messages import CODEC, Commit, Message, NewView, Prepare, PrePrepare, ViewChange
from consensus.primitives.crypto import Ed25519Signer, Ed25519Verifier, Verifier
from consensus.primitives.errors import ConfigError, InvariantViolation, StorageError
from consensus.quorum import ReplicaSet
from consensus.replica import Replica, ReplicaConfig
from consensus.signing import RecordingSigner, VoteRecord, VoteSigner
from tests.helpers.group import CONFIG, Group
from tests.helpers.votes import Voters, make_block, name_of


def votes_of(effects: list[Effect], kind: type) -> list[Message]:
    sent = [effect.message for effect in effects if isinstance(effect, Send | Broadcast)]
    return [message for message in sent if isinstance(message, kind)]


def restart(group: Group, replica_id: int) -> list[Effect]:
    group.crash(replica_id)
    seat = group.seats[replica_id]
    seat.effects.clear()
    group.start(replica_id)
    return list(seat.effects)


def test_a_restarted_backup_repeats_its_votes_byte_for_byte() -> None:
    group = Group()
    group.drops = lambda sender, to, m: isinstance(m, Commit)
    group.submit(1)
    group.run()
    seat = group.seats[1]
    prepares, commits = seat.said(Prepare), seat.said(Commit)
    effects = restart(group, 1)
    assert votes_of(effects, Prepare) == prepares
    assert votes_of(effects, Commit) == commits
    group.heal()
    group.run()
    group.wait(2_000_000)
    assert group.heights() == [1] * 4


def test_a_restarted_primary_repeats_its_proposal_and_goes_on_after_it() -> None:
    group = Group()
    group.isolate(0)
    group.submit(1)
    group.run()
    proposals = group.seats[0].said(PrePrepare)
    effects = restart(group, 0)
    assert votes_of(effects, PrePrepare) == proposals
    group.heal()
    group.submit(2)
    group.wait(2_000_000)
    assert group.heights() == [2] * 4
    assert group.seats[1].executed[0] == proposals[0].block  # type: ignore[attr-defined]


def test_a_restarted_replica_signs_no_second_digest() -> None:
    group = Group()
    group.isolate(0, 1, 2, 3)
    voters = group.voters
    group.hold(1, 1, 2)
    group.deliver(1, voters.pre_prepare(0, make_block(1, 1)), sender=0)
    restart(group, 1)
    group.deliver(1, voters.pre_prepare(0, make_block(1, 2)), sender=0)
    assert group.seats[1].blames() == [(0, "equivocation")]
    said = {m.digest for m in group.seats[1].said(Prepare)}  # type: ignore[attr-defined]
    assert said == {make_block(1, 1).digest}


def test_what_was_never_durable_was_never_said() -> None:
    """Whatever a step sends, its record stands in the same step's effects or before."""
    group = Group()
    group.submit(*range(6))
    group.run()
    for seat in group.seats:
        durable: set[tuple[int, bytes]] = set()
        for effect in seat.effects:
            if isinstance(effect, Persist) and effect.key.startswith((b"accepted/", b"prepared/")):
                record = CODEC.decode(effect.value)
                proposal = record if isinstance(record, PrePrepare) else record.proposal
                durable.add((proposal.block.seq, proposal.block.digest))
            elif isinstance(effect, Broadcast) and isinstance(effect.message, Prepare | Commit):
                assert (effect.message.seq, effect.message.digest) in durable
            elif isinstance(effect, Broadcast) and isinstance(effect.message, PrePrepare):
                block = effect.message.block
                assert (block.seq, block.digest) in durable


def test_a_restart_amid_a_view_change_stays_out_of_the_old_view() -> None:
    group = Group()
    group.isolate(0, 1, 2, 3)
    voters = group.voters
    group.deliver(2, voters.complain(0, 0))
    group.deliver(2, voters.complain(3, 0))
    change = group.seats[2].said(ViewChange)
    effects = restart(group, 2)
    assert votes_of(effects, ViewChange) == change
    assert (group[2].view, group[2].active) == (1, False)
    group.hold(2, 1)
    group.deliver(2, voters.pre_prepare(0, make_block(1, 1)), sender=0)
    assert not group.seats[2].said(Prepare)


def test_a_restarted_new_primary_sends_the_same_new_view() -> None:
    group = Group()
    group.isolate(0, 1, 2, 3)
    voters = group.voters
    group.deliver(
        1, voters.view_change(0, 1, [voters.prepared(0, make_block(1, 1))], None, voters.complaints(0))
    )
    group.deliver(1, voters.view_change(3, 1))
    new_view = group.seats[1].said(NewView)
    restart(group, 1)
    assert (group[1].view, group[1].active) == (1, True)
    group.deliver(1, voters.view_change(2, 1))
    assert group.seats[1].said(NewView) == new_view


def test_a_view_entered_before_the_crash_is_voted_in_after_it() -> None:
    group = Group()
    group.isolate(0, 1, 2, 3)
    voters, block = group.voters, make_block(1, 1)
    group.hold(2, 1)
    group.deliver(
        2, voters.new_view(1, [voters.view_change(r, 1, [voters.prepared(0, block)]) for r in (0, 1, 3)])
    )
    said = group.seats[2].said(Prepare)
    assert [m.view for m in said] == [1]  # type: ignore[attr-defined]
    assert votes_of(restart(group, 2), Prepare) == said


def test_a_restarted_replica_goes_on_where_the_ledger_ends() -> None:
    group = Group()
    for number in range(10):
        group.submit(number)
        group.run()
    restart(group, 3)
    assert (group[3].committed, group[3].executed, group[3].stable_seq) == (10, 10, 8)
    group.submit(11)
    group.run()
    assert group.heights() == [11] * 4


def test_everybody_restarts_at_once_and_no_prepared_block_is_lost() -> None:
    group = Group()
    group.drops = lambda sender, to, m: isinstance(m, Commit)
    group.submit(1)
    group.run()
    for replica in range(4):
        group.crash(replica)
    for replica in range(4):
        group.start(replica)
    group.heal()
    group.wait(5_000_000)
    assert group.heights() == [1] * 4
    group.check_agreement()


def test_a_ledger_older_than_the_vote_log_stops_the_start() -> None:
    group = Group()
    group.submit(1)
    group.run()
    seat = group.seats[0]
    with pytest.raises(StorageError, match="kontor recover"):
        Replica(0, group.voters.replicas, [group.signer(0)], group.verifier(), CONFIG, seat.votes, 0, 0)


def test_a_replay_that_misses_the_stable_root_diverges_at_once() -> None:
    group = Group()
    for number in range(6):
        group.submit(number)
        group.run()
    group.liars = {3}
    restart(group, 3)
    assert group[3].stable_seq == 4
    assert group[3].diverged
    assert not votes_of(group.seats[3].effects, Prepare)


def test_a_key_that_is_not_the_validators_stops_the_start() -> None:
    voters = Voters()
    with pytest.raises(ConfigError, match="no consensus key here is that of validator 1"):
        Replica(1, voters.replicas, [voters.keyring.signers[0]], voters.keyring, CONFIG)


def test_a_window_of_less_than_two_checkpoints_is_refused() -> None:
    with pytest.raises(ConfigError, match="window"):
        ReplicaConfig(window=63, checkpoint_interval=32)


def test_same_events_give_the_same_effects() -> None:
    runs = []
    for _ in range(2):
        group = Group()
        group.submit(*range(10))
        group.run()
        group.crash(0)
        group.submit(11)
        group.wait(3_000_000)
        runs.append([seat.effects for seat in group.seats])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("seed", range(20))
def test_crashes_at_random_moments_never_bend_history(seed: int) -> None:
    rng = Random(seed)
    group = Group()
    number = 0
    for _ in range(30):
        number += 1
        group.submit(number)
        victim = rng.randrange(4)
        for _ in range(rng.randrange(40)):
            if group._queue:
                to, event = group._queue.popleft()
                if group.seats[to].up:
                    group.feed(to, event)
        group.crash(victim)
        if rng.random() < 0.5:
            group.wait(rng.randrange(800_000))
        group.start(victim)
    group.wait(30_000_000)
    group.submit(number + 1)
    group.wait(10_000_000)
    group.check_agreement()
    assert len(set(group.heights())) == 1
    listed = [name for block in group.seats[0].executed for name in block.batches]
    assert len(listed) == len(set(listed))
    assert name_of(number + 1) in listed


class RealGroup(Group):
    """The same table with Ed25519 keys."""

    def __init__(self, n: int) -> None:
        self.signers = [Ed25519Signer(bytes([replica]) * 32) for replica in range(n)]
        voters = Voters(n)
        voters.replicas = ReplicaSet.genesis(b"c" * 32, tuple(signer.public_key for signer in self.signers))
        super().__init__(n, CONFIG, voters)

    def signer(self, replica_id: int) -> VoteSigner:
        return RecordingSigner(self.signers[replica_id], VoteRecord())

    def verifier(self) -> Verifier:
        return Ed25519Verifier()


def test_real_signatures_carry_blocks_checkpoints_and_a_view_change() -> None:
    group = RealGroup(4)
    for number in range(6):
        group.submit(number)
        group.run()
    group.crash(0)
    group.submit(7)
    group.wait(3_000_000)
    assert group.heights() == [6, 7, 7, 7]
    assert group.views()[1:] == [1, 1, 1]
    assert group[1].stable_seq == 4
    group.start(0)
    group.wait(5_000_000)
    assert group.heights() == [7] * 4


# Invariants


def test_a_view_that_goes_down_is_noticed() -> None:
    group = Group()
    group.submit(1)
    group.run()
    group[0]._state.committed = 0
    with pytest.raises(InvariantViolation, match="went from"):
        group[0].check_invariants()


def test_a_block_run_before_it_was_committed_is_noticed() -> None:
    group = Group()
    group[0]._state.executed = 5
    with pytest.raises(InvariantViolation, match="executed 5"):
        group[0].check_invariants()


def test_a_diverged_replica_cannot_sign() -> None:
    group = Group()
    group[0]._state.diverged = True
    with pytest.raises(InvariantViolation, match="signs nothing"):
        group[0]._state.sign("prepare", 0, 1, b"")


def test_stored_blocks_are_stored_once_and_in_order() -> None:
    group = Group()
    group.submit(*range(8))
    group.run()
    for seat in group.seats:
        seqs = [effect.cert.block.seq for effect in seat.effects if isinstance(effect, StoreBlock)]
        assert seqs == list(range(1, len(seqs) + 1))
