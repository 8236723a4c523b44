"""Repair: what is missing is asked for, served, and never believed without proof."""

from dataclasses import replace

import pytest

from consensus.effects import Connected, SendBatches, SendBlocks
from consensus.messages import Attest, CommitCert, FetchBatches, FetchBlocks, Message, Status
from consensus.proofs import CheckpointCert
from tests.helpers.group import CONFIG, Group
from tests.helpers.votes import make_block, name_of


def fill(group: Group, blocks: int, to: tuple[int, ...] | None = None) -> None:
    start = max(group.heights())
    for number in range(start, start + blocks):
        group.submit(number, to=to)
        group.run()


@pytest.mark.parametrize("blocks", [1, 5, 30, 150])
def test_an_isolated_replica_catches_up_with_blocks_and_payloads(blocks: int) -> None:
    group = Group()
    group.isolate(3)
    fill(group, blocks, to=(0, 1, 2))
    assert group.heights() == [blocks, blocks, blocks, 0]
    group.heal()
    group.wait(20_000_000)
    assert group.heights() == [blocks] * 4
    group.check_agreement()
    assert group.views() == [0] * 4


def test_a_lagging_replica_is_noticed_by_the_others_when_all_is_idle() -> None:
    """It knows of nothing; its silence about our height is what gives it away."""
    group = Group()
    group.isolate(3)
    fill(group, 1, to=(0, 1, 2))
    group.wait(60_000_000)
    group.seats[3].timers.clear()
    group.heal()
    group.wait(20_000_000)
    assert group.heights() == [1] * 4


def test_a_dead_peer_costs_one_message_now_and_then() -> None:
    group = Group()
    group.crash(3)
    fill(group, 1)
    group.wait(60_000_000)
    seat = group.seats[0]
    seat.effects.clear()
    group.wait(60_000_000)
    assert 0 < len(seat.said(Status)) <= 60_000_000 // group.config.status_max_us + 1


def test_two_replicas_compare_when_their_link_comes_up() -> None:
    group = Group()
    group.isolate(3)
    fill(group, 9)
    group.heal()
    group.feed(0, Connected(3))
    group.run()
    assert group.heights() == [9] * 4


def test_lost_votes_are_sent_again() -> None:
    group = Group()
    lost: list[Message] = []

    def drops(sender: int, to: int, m: Message) -> bool:
        if type(m).__name__ in ("PrePrepare", "Prepare", "Commit") and len(lost) < 9:
            lost.append(m)
            return True
        return False

    group.drops = drops
    group.submit(1)
    group.wait(10_000_000)
    assert len(lost) == 9
    assert group.heights() == [1] * 4


def test_lost_attestations_are_sent_again() -> None:
    group = Group()
    group.drops = lambda sender, to, m: isinstance(m, Attest)
    fill(group, 1)
    group.heal()
    for seat in group.seats:
        seat.effects.clear()
    group.wait(5_000_000)
    assert all(seat.said(Attest) for seat in group.seats)


def alone() -> Group:
    group = Group()
    group.isolate(0, 1, 2, 3)
    group.wait(1_000_000)
    group.seats[2].effects.clear()
    return group


def test_blocks_are_adopted_in_order_whatever_order_they_come_in() -> None:
    group = alone()
    group.hold(2, 1, 2, 3)
    for seq in (3, 2, 1):
        group.deliver(2, group.voters.commit_cert(0, make_block(seq, seq)), sender=0)
    assert [block.seq for block in group.seats[2].executed] == [1, 2, 3]


def test_who_lags_while_windows_pass_keeps_the_certificates_of_the_last_one_only() -> None:
    """Found by the simulator: each window left its certificates behind, until a bound was broken."""
    config = replace(CONFIG, catch_up_blocks=2)
    group = Group(config=config)
    group.isolate(0, 1, 2, 3)
    for first in range(1, 20 * config.window, config.window):
        for seq in range(first, first + config.window):
            group.deliver(2, group.voters.commit_cert(0, make_block(seq, seq)), sender=0)
        cert = group.voters.checkpoint(make_block(seq, seq), bytes(32), bytes(32))
        group.deliver(2, cert, sender=0)
    assert group[2].stable_seq == seq and group[2].committed == 0


def test_a_committed_block_waits_for_its_payload() -> None:
    group = alone()
    group.deliver(2, group.voters.commit_cert(0, make_block(1, 1)), sender=0)
    assert not group.seats[2].executed
    group.wait(100_000)
    assert [m.digests for m in group.seats[2].said(FetchBatches)] == [(name_of(1),)]  # type: ignore[attr-defined]
    group.hold(2, 1)
    assert len(group.seats[2].executed) == 1


def test_certificates_far_ahead_are_not_kept() -> None:
    group = alone()
    far = 2 * group.config.catch_up_blocks + 1
    group.deliver(2, group.voters.commit_cert(0, make_block(far, 1)), sender=0)
    assert not group[2]._ordering.certified
    group.deliver(2, group.voters.commit_cert(0, make_block(far - 1, 1)), sender=0)
    assert list(group[2]._ordering.certified) == [far - 1]


def test_a_peer_that_boasts_costs_others_nothing_lasting() -> None:
    """It claims blocks it does not serve: the next peer that is ahead is asked."""
    group = Group()
    group.isolate(3)
    fill(group, 3)
    heard: list[int] = []

    def drops(sender: int, to: int, m: Message) -> bool:
        if isinstance(m, FetchBlocks):
            heard.append(to)
        return sender == 0 or (3 not in (sender, to))

    group.drops = drops
    group.deliver(3, Status(0, True, 2**60, None, False), sender=0)
    group.run()
    group.wait(10_000_000)
    assert heard[0] == 0
    assert group.heights()[3] == 3
    assert group.views()[3] == 0


def test_blocks_and_batches_are_served_within_bounds() -> None:
    group = Group(config=replace(CONFIG, catch_up_blocks=2))
    fill(group, 5)
    seat = group.seats[1]
    seat.effects.clear()
    group.deliver(1, FetchBlocks(2, 900), sender=3)
    group.deliver(1, FetchBlocks(5, 5), sender=3)
    group.deliver(1, FetchBlocks(6, 9), sender=3)
    group.deliver(1, FetchBatches((name_of(1),)), sender=3)
    assert seat.of(SendBlocks) == [SendBlocks(3, 2, 3), SendBlocks(3, 5, 5)]
    assert seat.of(SendBatches) == [SendBatches(3, (name_of(1),))]


def test_whoever_fetches_blocks_learns_what_is_stable() -> None:
    """Or its vote log would grow with every block it catches up on."""
    group = Group()
    fill(group, 9)
    seat = group.seats[1]
    seat.effects.clear()
    for _ in range(5):
        group.deliver(1, FetchBlocks(1, 9), sender=3)
    assert [m.seq for m in seat.said(CheckpointCert)] == [8]  # type: ignore[attr-defined]


def test_answers_to_status_are_rationed() -> None:
    group = Group()
    fill(group, 3)
    group.wait(1_000_000)
    seat = group.seats[1]
    seat.effects.clear()
    for _ in range(50):
        group.deliver(1, Status(0, True, 0, None, True), sender=3)
    assert len(seat.of(SendBlocks)) == 1
    assert len(seat.said(Status)) == 1


def test_a_peer_that_asks_without_end_is_served_its_share() -> None:
    group = Group()
    fill(group, 3)
    group.wait(1_000_000)
    seat = group.seats[1]
    seat.effects.clear()
    for _ in range(2000):
        group.deliver(1, FetchBlocks(1, 3), sender=3)
        group.deliver(1, FetchBatches((name_of(1),)), sender=3)
    assert len(seat.of(SendBlocks)) == 1024 // 3
    assert len(seat.of(SendBatches)) == 1024
    group.deliver(1, FetchBlocks(1, 3), sender=2)
    assert len(seat.of(SendBlocks)) == 1024 // 3 + 1, "another peer has its own share"
    group.wait(group.config.status_us)
    group.deliver(1, FetchBlocks(1, 3), sender=3)
    assert len(seat.of(SendBlocks)) == 1024 // 3 + 2


def test_status_does_not_echo_for_ever() -> None:
    group = Group()
    fill(group, 2)
    group.wait(10_000_000)
    for seat in group.seats:
        seat.effects.clear()
    group.feed(0, Connected(1))
    group.run()
    assert sum(len(seat.said(Status)) for seat in group.seats) == 2


def test_a_boast_about_views_is_answered_but_changes_none() -> None:
    group = alone()
    group.deliver(2, Status(99, True, 0, None, False), sender=1)
    assert group[2].view == 0
    assert group.seats[2].said(Status)


def test_a_forged_certificate_in_a_status_is_refused() -> None:
    group = Group()
    fill(group, 5)
    stable = group[0]._state.votes.stable
    assert stable is not None
    forged = replace(stable, seq=8)
    group.deliver(2, Status(0, True, 8, forged, True), sender=1)
    assert group.seats[2].blames() == [(1, "bad-signature")]
    assert group[2].stable_seq == 4


def test_forwarded_certificates_are_those_that_were_stored() -> None:
    group = Group()
    group.isolate(3)
    fill(group, 2)
    sent: list[Message] = []

    def drops(sender: int, to: int, m: Message) -> bool:
        if isinstance(m, CommitCert):
            sent.append(m)
        return False

    group.drops = drops
    group.wait(10_000_000)
    assert sent
    stored = [
        *group.seats[0].blocks.values(),
        *group.seats[1].blocks.values(),
        *group.seats[2].blocks.values(),
    ]
    assert all(cert in stored for cert in sent)
    assert group.heights() == [2] * 4
