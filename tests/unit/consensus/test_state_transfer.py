"""A replica that fetches a whole state: whom it asks, whom it stops asking, and where it stands after."""

from dataclasses import replace

import pytest

from consensus.durable import ATTESTED, DIVERGED, HEAL, Divergence, plan_heal, seq_key
from consensus.effects import (
    BatchReady,
    Blame,
    Diverged,
    Execute,
    Executed,
    ForgetBatches,
    InstallState,
    ManifestRefused,
    Send,
    SendChunks,
    SendManifest,
    SnapshotTaken,
    StageChunk,
    StateInstalled,
    SwapState,
    TimerFired,
)
from consensus.messages import (
    Attest,
    Chunk,
    Commit,
    FetchBatches,
    FetchBlocks,
    FetchChunks,
    FetchManifest,
    Manifest,
    Prepare,
    Status,
)
from consensus.primitives.crypto import digest
from consensus.primitives.errors import InvariantViolation
from consensus.proofs import CheckpointCert
from consensus.state_transfer import Progress
from tests.helpers.joiner import CONFIG, ME, Joiner
from tests.helpers.votes import Voters, make_block, name_of

# When it begins


def test_an_empty_replica_fetches_the_state_that_peers_serve():
    joiner = Joiner()
    joiner.offer(0, 40)
    assert joiner.replica.transfer is None, "one peer may lie about heights"
    joiner.offer(1, 40)
    assert joiner.replica.transfer == Progress(40, 0, 0)
    assert [m for _, m in joiner.sent(FetchManifest)] == [FetchManifest(40)]


def test_who_is_a_little_behind_fetches_blocks_instead():
    joiner = Joiner()
    joiner.aim(16)
    assert joiner.replica.transfer is None
    assert joiner.sent(FetchBlocks)


def test_an_offer_without_a_certificate_starts_nothing():
    joiner = Joiner()
    for peer in (0, 1, 2):
        joiner.say(peer, Status(0, True, 40, None, False, 1, 40))
    assert joiner.replica.transfer is None
    forged = replace(joiner.cert(40), journal_root=digest("another"))
    joiner.say(0, forged)
    assert joiner.replica.transfer is None
    assert not joiner.blames()  # so far ahead, it may be of validators yet unknown here
    assert joiner.replica.counters["unknown_epochs"] == 1


def test_blocks_that_nobody_has_any_more_make_a_small_gap_large():
    joiner = Joiner()
    joiner.offer(0, 12, oldest=9)
    joiner.offer(1, 12, oldest=9)
    assert joiner.replica.transfer == Progress(12, 0, 0)


def test_a_state_that_saves_little_is_not_fetched():
    joiner = Joiner()
    for peer in (0, 1, 2):
        joiner.offer(peer, 8, height=40)
    assert joiner.replica.transfer is None


def test_the_newest_state_that_enough_peers_serve_is_chosen():
    joiner = Joiner({HEAL: b""})
    assert joiner.replica.transfer == Progress(0, 0, 0)
    joiner = Joiner()
    joiner.say(0, joiner.cert(40), joiner.cert(44))
    joiner.say(0, Status(0, True, 44, None, False, 1, 44))
    joiner.say(1, Status(0, True, 44, None, False, 1, 40))
    assert joiner.replica.transfer == Progress(44, 0, 0), "one server is better than none"


# Silence


def test_nothing_is_signed_while_a_state_is_fetched():
    joiner = Joiner()
    joiner.aim()
    block = make_block(1, 1)
    joiner.step(BatchReady(name_of(1), 1, 100, 0))
    joiner.say(0, joiner.voters.pre_prepare(0, block))
    for view in (0, 0):
        joiner.say(0, *[joiner.voters.complain(peer, view) for peer in (0,)])
        joiner.say(1, *[joiner.voters.complain(peer, view) for peer in (1,)])
        joiner.say(2, *[joiner.voters.complain(peer, view) for peer in (2,)])
    for peer in (0, 1, 2):
        joiner.say(peer, joiner.voters.view_change(peer, 1, complaints=joiner.voters.complaints(0)))
    joiner.now_us += 10_000_000
    joiner.step(TimerFired("request"), TimerFired("new-view"), TimerFired("status"))
    assert not joiner.signed()


def test_signing_while_fetching_is_an_error_of_our_own():
    joiner = Joiner()
    joiner.aim()
    with pytest.raises(InvariantViolation, match="fetches its state"):
        joiner.replica._state.sign_complain()


# Chunks


def test_chunks_are_asked_of_all_who_serve_and_few_of_each():
    joiner = Joiner()
    joiner.aim()
    joiner.take_manifest(100)
    asked = joiner.sent(FetchChunks)
    assert {to for to, _ in asked} == {0, 1, 2}
    for peer in (0, 1, 2):
        mine = [index for to, m in asked if to == peer for index in m.indexes]
        assert len(mine) == CONFIG.transfer_chunks
    everything = [index for _, m in asked for index in m.indexes]
    assert len(set(everything)) == len(everything)


def test_chunks_that_are_staged_already_are_not_asked_for():
    joiner = Joiner()
    joiner.aim()
    joiner.take_manifest(10, have=(0, 1, 2, 3, 4, 5, 6))
    assert sorted(i for _, m in joiner.sent(FetchChunks) for i in m.indexes) == [7, 8, 9]
    assert joiner.replica.transfer == Progress(40, 10, 7)


def test_a_whole_state_is_installed_and_the_replica_stands_at_its_checkpoint():
    joiner = Joiner()
    joiner.aim()
    joiner.take_manifest(50)
    joiner.serve()
    effects = joiner.install()
    assert SwapState(40, 40) in effects
    replica = joiner.replica
    assert (replica.committed, replica.executed, replica.stable_seq, replica.transfer) == (40, 40, 40, None)
    assert not joiner.blames()


def test_a_chunk_that_was_not_asked_for_is_ignored():
    joiner = Joiner()
    joiner.aim()
    joiner.take_manifest(100)
    asked = {i for to, m in joiner.sent(FetchChunks) if to == 0 for i in m.indexes}
    other = min(set(range(100)) - asked)
    assert not joiner.replica.expects(0, Chunk(40, other, b"good"))
    assert not joiner.say(0, Chunk(40, other, b"good"), Chunk(44, 0, b"good"), Manifest(40, b"again"))


# Bad peers


def test_a_false_manifest_is_blamed_and_another_peer_is_asked():
    joiner = Joiner()
    joiner.aim()
    liar, m = joiner.sent(FetchManifest)[-1]
    joiner.say(liar, Manifest(m.seq, b"lies"))
    joiner.step(ManifestRefused(liar, m.seq))
    assert (liar, "bad-manifest") in joiner.blames()
    assert joiner.sent(FetchManifest)[-1][0] != liar
    joiner.take_manifest(30)
    assert all(to != liar for to, _ in joiner.sent(FetchChunks))


def test_a_false_chunk_bans_its_sender_and_is_fetched_elsewhere():
    joiner = Joiner()
    joiner.aim()
    joiner.take_manifest(60)
    joiner.serve(peers=(0, 1), liars=(2,))
    assert joiner.blames() == [(2, "bad-chunk")]
    bans = joiner.effects.index(Blame(2, "bad-chunk"))
    assert all(to != 2 for to, _ in joiner.sent(FetchChunks, since=bans))
    assert joiner.of(InstallState)


def test_what_a_banned_peer_says_of_the_protocol_still_counts():
    joiner = Joiner()
    joiner.aim()
    joiner.take_manifest(60)
    joiner.serve(peers=(0, 1), liars=(2,))
    joiner.install()
    block = make_block(41, 99)
    joiner.step(BatchReady(name_of(99), 1, 100, 0))
    joiner.say(0, joiner.voters.pre_prepare(0, block))
    joiner.say(2, joiner.voters.prepare(2, 0, block))
    joiner.say(1, joiner.voters.prepare(1, 0, block))
    assert [type(m) for m in joiner.signed()] == [Prepare, Commit]


def test_a_silent_peer_is_passed_over():
    joiner = Joiner()
    joiner.aim()
    joiner.take_manifest(40)
    joiner.serve(peers=(0, 1))
    for _ in range(8):
        joiner.wait(CONFIG.transfer_timeout_us // 2)
        joiner.serve(peers=(0, 1))
    assert joiner.of(InstallState)
    assert not joiner.blames(), "silence is no crime"


def test_who_sends_no_manifest_is_passed_over():
    joiner = Joiner()
    joiner.aim()
    first = joiner.sent(FetchManifest)[-1][0]
    joiner.wait(CONFIG.transfer_timeout_us)
    assert joiner.sent(FetchManifest)[-1][0] != first


@pytest.mark.parametrize("has_manifest", [False, True])
def test_a_target_that_only_a_dead_peer_serves_gives_way_to_what_others_offer(has_manifest: bool):
    """Found by the simulator: it was asked again for ever, and nobody else."""
    joiner = Joiner()
    joiner.say(1, Status(0, True, 60, None, False, 1, 0))
    joiner.offer(0, 40)
    assert joiner.replica.transfer == Progress(40, 0, 0)
    if has_manifest:
        joiner.take_manifest(chunks=5)
    for _ in range(20):
        joiner.wait(CONFIG.transfer_timeout_us)
    assert joiner.replica.transfer is not None and joiner.replica.transfer.seq == 40, "nobody offers another"
    joiner.offer(1, 48)
    joiner.offer(2, 48)
    for _ in range(3):
        joiner.wait(CONFIG.transfer_timeout_us)
    assert joiner.replica.transfer.seq == 48
    assert joiner.sent(FetchManifest)[-1][0] in (1, 2)


def test_a_late_chunk_is_still_welcome():
    joiner = Joiner()
    joiner.aim(peers=(0, 1))
    joiner.take_manifest(8)
    mine = [i for to, m in joiner.sent(FetchChunks) if to == 0 for i in m.indexes]
    joiner.wait(CONFIG.transfer_timeout_us)
    effects = joiner.say(0, *[Chunk(40, index, b"good") for index in mine])
    assert [e.index for e in effects if isinstance(e, StageChunk)] == mine


def test_one_honest_peer_is_enough():
    joiner = Joiner()
    joiner.aim()
    while True:
        to, m = joiner.sent(FetchManifest)[-1]
        if to == 1:
            break
        joiner.say(to, Manifest(m.seq, b"lies"))
        joiner.step(ManifestRefused(to, m.seq))
    joiner.take_manifest(90)
    joiner.serve(peers=(1,), liars=(0, 2))
    assert joiner.of(InstallState)


def test_bans_are_lifted_once_every_peer_of_now_is_banned():
    joiner = Joiner({HEAL: b""})
    joiner.aim(40)
    transfer = joiner.replica._transfer
    transfer._banned[9] = None  # a validator of before, whom we hear no more
    for _ in range(3):
        to, m = joiner.sent(FetchManifest)[-1]
        joiner.say(to, Manifest(m.seq, b"lies"))
        joiner.step(ManifestRefused(to, m.seq))
    assert len(joiner.blames()) == 3 and not transfer._banned


@pytest.mark.parametrize("has_manifest", [False, True])
def test_a_target_of_one_server_gives_way_to_one_that_enough_serve(has_manifest: bool):
    joiner = Joiner({HEAL: b""})
    joiner.offer(0, 40)
    if has_manifest:
        joiner.take_manifest(50)
    joiner.offer(1, 44)
    assert joiner.replica.transfer is not None and joiner.replica.transfer.seq == 40
    joiner.offer(2, 44)
    assert joiner.replica.transfer == Progress(44, 0, 0)
    joiner.take_manifest(50)
    joiner.serve()
    joiner.install()
    assert joiner.replica.committed == 44


def _ahead_of_what_two_serve() -> Joiner:
    """It noted an old state, went on by blocks, and then aims at one that a single peer says it serves."""
    joiner = Joiner()
    for peer in (0, 1):
        joiner.offer(peer, 4)
    for seq in range(1, 5):
        joiner.step(BatchReady(name_of(seq), 1, 100, 0))
        joiner.say(0, joiner.voters.commit_cert(0, make_block(seq, seq)))
    assert joiner.replica.committed == 4
    joiner.offer(2, 40)
    joiner.offer(0, 4, height=40)
    return joiner


def test_a_state_older_than_the_own_is_no_target_however_many_serve_it():
    joiner = _ahead_of_what_two_serve()
    assert joiner.replica.transfer == Progress(40, 0, 0)


def test_a_transfer_ends_when_nobody_serves_a_newer_state_and_blocks_will_do():
    joiner = _ahead_of_what_two_serve()
    joiner.offer(0, 4, height=8)
    joiner.say(2, Manifest(40, b""))
    assert joiner.replica.transfer is None


def test_a_server_that_drips_is_passed_over():
    joiner = Joiner()
    joiner.aim(peers=(0, 1))
    joiner.take_manifest(100)
    mine = [i for to, m in joiner.sent(FetchChunks) if to == 0 for i in m.indexes]
    for index in mine[:2]:
        joiner.wait(CONFIG.transfer_timeout_us // 2)
        before = len(joiner.effects)
        joiner.say(0, Chunk(40, index, b"good"))
        joiner.say(
            1, *[Chunk(40, i, b"good") for to, m in joiner.sent(FetchChunks) if to == 1 for i in m.indexes]
        )
    joiner.wait(0)
    assert joiner.replica.counters["transfer_silences"] == 1
    assert not [to for to, _ in joiner.sent(FetchChunks, before) if to == 0]
    joiner.say(0, Chunk(40, mine[2], b"good"))
    joiner.wait(0)
    assert not [to for to, _ in joiner.sent(FetchChunks, before) if to == 0], "a drop does not wash it clean"


def test_a_state_that_nothing_proves_any_more_is_not_offered():
    joiner = Joiner()
    joiner.step(SnapshotTaken(joiner.cert(8)), SnapshotTaken(None))
    assert not joiner.sent(CheckpointCert) and joiner.replica._state.snapshot is None
    joiner.say(0, Status(0, True, 0, None, False, 1, 0))
    assert not joiner.sent(CheckpointCert)


# A moving target


def test_a_target_that_is_gone_gives_way_to_a_newer_one():
    joiner = Joiner()
    joiner.aim(40)
    joiner.take_manifest(50)
    joiner.aim(44)
    for peer in (0, 1, 2):
        asked = [m for to, m in joiner.sent(FetchChunks) if to == peer][-1]
        joiner.say(peer, Chunk(40, asked.indexes[0], b""))
    assert joiner.replica.transfer == Progress(44, 0, 0)
    joiner.take_manifest(60, have=tuple(range(50)))
    joiner.serve()
    joiner.install()
    assert joiner.replica.committed == 44


def test_an_empty_manifest_says_not_any_more():
    joiner = Joiner()
    joiner.aim(40)
    for _ in range(3):
        to, _ = joiner.sent(FetchManifest)[-1]
        joiner.say(to, Manifest(40, b""))
    assert joiner.replica.transfer == Progress(0, 0, 0)
    joiner.aim(44)
    assert joiner.replica.transfer == Progress(44, 0, 0)


# Afterwards


def test_blocks_above_the_target_are_kept_and_delivered_afterwards():
    joiner = Joiner()
    joiner.aim()
    joiner.take_manifest(4)
    block = make_block(41, 7)
    joiner.step(BatchReady(name_of(7), 1, 100, 0))
    joiner.say(0, joiner.voters.commit_cert(0, block))
    assert not joiner.of(Execute)
    joiner.serve()
    assert Execute(block) in joiner.install()


def test_the_low_water_mark_never_falls_to_the_target():
    joiner = Joiner()
    joiner.aim(40)
    joiner.take_manifest(4)
    joiner.say(0, joiner.cert(48))
    joiner.serve()
    joiner.install()
    assert (joiner.replica.committed, joiner.replica.stable_seq) == (40, 48)


def test_batches_that_skipped_blocks_may_hold_are_not_waited_for():
    joiner = Joiner()
    joiner.step(BatchReady(name_of(1), 1, 100, 0), BatchReady(name_of(2), 1, 100, 0))
    joiner.aim()
    joiner.take_manifest(4)
    joiner.say(0, joiner.voters.commit_cert(0, make_block(41, 2)))
    joiner.serve()
    assert ForgetBatches((name_of(1),)) in joiner.install()
    assert joiner.replica.pending == 0, "the other one was delivered"


def test_a_forgotten_batch_is_fetched_when_a_block_lists_it():
    joiner = Joiner()
    joiner.step(BatchReady(name_of(1), 1, 100, 0))
    joiner.aim()
    joiner.take_manifest(4)
    joiner.serve()
    joiner.install()
    joiner.say(0, joiner.voters.pre_prepare(0, make_block(41, 1)))
    effects = joiner.step(TimerFired("fetch"))
    assert FetchBatches((name_of(1),)) in [e.message for e in effects if isinstance(e, Send)]


def test_results_of_blocks_that_ran_before_are_of_no_interest():
    joiner = Joiner()
    joiner.aim()
    joiner.take_manifest(4)
    joiner.serve()
    joiner.install()
    assert not joiner.step(Executed(1, make_block(1).digest, digest("journal")))


def test_falling_behind_again_leads_into_another_transfer():
    joiner = Joiner()
    joiner.aim(40)
    joiner.take_manifest(4)
    joiner.serve()
    joiner.install()
    joiner.effects.clear()
    joiner.aim(80)
    joiner.take_manifest(4)
    joiner.serve()
    joiner.install()
    assert joiner.replica.executed == 80


def test_a_state_nobody_asked_for_stops_the_replica():
    joiner = Joiner()
    with pytest.raises(InvariantViolation):
        joiner.step(StateInstalled(40, joiner.voters.replicas.record))


# Serving


def test_a_replica_offers_its_snapshot_to_who_is_below():
    joiner = Joiner()
    joiner.step(SnapshotTaken(joiner.cert(8)))
    effects = joiner.say(0, Status(0, True, 3, None, True))
    sent = [e.message for e in effects if isinstance(e, Send)]
    assert joiner.cert(8) in sent
    assert [m.state for m in sent if isinstance(m, Status)] == [8]


def test_requests_for_a_state_reach_the_node():
    joiner = Joiner()
    assert SendManifest(0, 8) in joiner.say(0, FetchManifest(8))
    assert not joiner.say(0, FetchManifest(8)), "at once again costs too much"
    assert SendChunks(0, 8, (1, 2)) in joiner.say(0, FetchChunks(8, (1, 2)))


# Divergence and healing


def test_divergence_is_kept_and_silences_a_restarted_replica():
    joiner = Joiner()
    block = make_block(1, 1)
    joiner.step(BatchReady(name_of(1), 1, 100, 0))
    joiner.say(0, joiner.voters.commit_cert(0, block))
    joiner.step(Executed(1, block.digest, digest("wrong")))
    for peer in (0, 1):
        joiner.say(peer, joiner.voters.attest(peer, block, digest("right")))
    (found,) = joiner.of(Diverged)
    log = Divergence.decode(joiner.disk[DIVERGED])
    assert (log.seq, log.ours, log.theirs, log.attested) == (1, found.ours, found.theirs, 1)
    again = Joiner(joiner.disk, committed=1)
    assert again.replica.diverged
    again.say(0, joiner.voters.pre_prepare(0, make_block(2, 1)))
    assert not again.signed()


def test_a_healed_replica_attests_only_above_what_it_attested():
    durable = {DIVERGED: Divergence(9, bytes(32), bytes(32), 10).encode()}
    changes = plan_heal(durable, 11)
    assert changes == {DIVERGED: None, HEAL: b"", ATTESTED: (11).to_bytes(8, "big")}
    joiner = Joiner({key: value for key, value in changes.items() if value is not None}, committed=11)
    assert joiner.replica.transfer == Progress(0, 0, 0)
    joiner.aim(8)
    joiner.take_manifest(4)
    joiner.serve()
    effects = joiner.install()
    assert SwapState(8, 0) in effects
    assert HEAL not in joiner.disk and ATTESTED in joiner.disk
    assert (joiner.replica.committed, joiner.replica.executed) == (11, 8)
    for seq in (9, 10, 11):
        joiner.step(Executed(seq, make_block(seq, seq).digest, digest("journal")))
    assert not joiner.signed()
    joiner.step(BatchReady(name_of(12), 1, 100, 0))
    joiner.say(0, joiner.voters.commit_cert(0, make_block(12, 12)))
    state = joiner.cert(12).state
    joiner.step(Executed(12, make_block(12, 12).digest, digest("journal"), state))
    assert [m.seq for m in joiner.signed() if isinstance(m, Attest)] == [12]


def test_a_state_that_the_stored_blocks_do_not_lead_on_from_heals_nobody():
    joiner = Joiner({HEAL: b"", ATTESTED: (24).to_bytes(8, "big")}, committed=24, oldest=17)
    joiner.offer(0, 12, 24)
    joiner.offer(1, 12, 24)
    assert joiner.replica.transfer == Progress(0, 0, 0) and not joiner.sent(FetchManifest)
    joiner.offer(2, 16, 24)
    assert joiner.replica.transfer == Progress(16, 0, 0)


def test_healing_keeps_every_promise_about_the_order():
    voters = Voters(4, CONFIG.window, CONFIG.checkpoint_interval)
    block = make_block(4, 4)
    own = voters.attest(ME, block, digest("wrong"), digest("wrong-state"))
    joiner = Joiner()
    joiner.step(BatchReady(name_of(1), 1, 100, 0))
    joiner.say(0, joiner.voters.pre_prepare(0, make_block(1, 1)))
    before = dict(joiner.disk)
    joiner.replica._state.votes.attest(own)
    joiner._take(joiner.replica._state.take_effects())
    changes = plan_heal(joiner.disk, 4)
    assert changes[seq_key(b"checkpoint/", 4)] is None
    after = {**joiner.disk, **{key: value for key, value in changes.items() if value is not None}}
    after = {key: value for key, value in after.items() if changes.get(key, b"") is not None}
    assert {key: after[key] for key in before} == before
