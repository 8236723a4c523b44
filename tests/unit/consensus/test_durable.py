"""The vote log refuses a second vote, survives a restart, and stays small."""

from dataclasses import replace

import pytest

from consensus.durable import VoteLog, seq_key
from consensus.effects import Effect, Erase, Persist
from consensus.messages import CODEC
from consensus.primitives.crypto import digest
from consensus.primitives.errors import InvariantViolation, StorageError
from tests.helpers.votes import Voters, make_block

ROOT, STATE = digest("test.root"), digest("test.state")


class Disk:
    """What the log's effects leave behind."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.log = VoteLog(self.carry_out, {})

    def carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Persist):
            self.entries[effect.key] = effect.value
        elif isinstance(effect, Erase):
            self.entries.pop(effect.key, None)

    def reopen(self) -> VoteLog:
        return VoteLog(self.carry_out, dict(self.entries))


def filled(voters: Voters) -> Disk:
    disk = Disk()
    log = disk.log
    for seq in range(1, 7):
        block = make_block(seq, seq)
        log.accept(voters.pre_prepare(0, block))
        log.prepare(voters.prepared(0, block))
        log.deliver(seq, block.digest)
    log.attest(voters.attest(0, make_block(4, 4), ROOT, STATE))
    return disk


def test_everything_comes_back_after_a_restart() -> None:
    voters = Voters()
    disk = filled(voters)
    log, again = disk.log, disk.reopen()
    for name in ("view", "active", "stable", "accepted", "prepared", "delivered", "checkpoints"):
        assert getattr(again, name) == getattr(log, name)


def test_an_inactive_view_comes_back_inactive_with_the_same_message() -> None:
    voters = Voters()
    disk = filled(voters)
    change = voters.view_change(0, 3, [voters.prepared(0, make_block(1, 1))])
    disk.log.leave(change)
    again = disk.reopen()
    assert (again.view, again.active, again.view_change) == (3, False, change)
    new_view = voters.new_view(3, [voters.view_change(i, 3) for i in range(3)])
    again.enter(new_view)
    third = disk.reopen()
    assert (third.view, third.active, third.new_view) == (3, True, new_view)


def test_a_second_digest_at_one_place_is_never_accepted() -> None:
    voters = Voters()
    disk = filled(voters)
    disk.log.accept(voters.pre_prepare(0, make_block(2, 2)))
    for log in (disk.log, disk.reopen()):
        with pytest.raises(InvariantViolation, match="second vote"):
            log.accept(voters.pre_prepare(0, make_block(2, 99)))


def test_no_vote_in_a_view_that_was_left_or_not_entered() -> None:
    voters = Voters()
    disk = filled(voters)
    disk.log.leave(voters.view_change(0, 1))
    for view in (0, 1):
        with pytest.raises(InvariantViolation, match="left or not entered"):
            disk.log.accept(voters.pre_prepare(view, make_block(7, 7)))


def test_no_commit_without_an_accepted_proposal() -> None:
    voters = Voters()
    disk = filled(voters)
    with pytest.raises(InvariantViolation, match="not accepted"):
        disk.log.prepare(voters.prepared(0, make_block(7, 7)))


def test_views_never_go_down() -> None:
    voters = Voters()
    disk = filled(voters)
    disk.log.leave(voters.view_change(0, 2))
    with pytest.raises(InvariantViolation, match="cannot be left"):
        disk.log.leave(voters.view_change(0, 2))
    with pytest.raises(InvariantViolation, match="cannot be entered"):
        disk.log.enter(voters.new_view(1, [voters.view_change(i, 1) for i in range(3)]))


def test_a_stable_checkpoint_erases_what_it_settles() -> None:
    voters = Voters()
    disk = filled(voters)
    disk.log.stabilise(voters.checkpoint(make_block(4, 4), ROOT, STATE))
    assert sorted(disk.log.accepted) == sorted(disk.log.prepared) == sorted(disk.log.delivered) == [5, 6]
    assert not disk.log.checkpoints
    assert len(disk.entries) == 1 + 3 * 2
    assert disk.reopen().low == 4
    with pytest.raises(InvariantViolation, match="is stable"):
        disk.log.accept(voters.pre_prepare(0, make_block(4, 4)))


def test_another_result_than_before_the_restart_stops_the_replica() -> None:
    voters = Voters()
    disk = filled(voters)
    with pytest.raises(InvariantViolation, match="damaged"):
        disk.reopen().attest(voters.attest(0, make_block(4, 4), STATE, STATE))


@pytest.mark.parametrize("key", [b"view", b"stable", b"new-view", b"view-change", seq_key(b"accepted/", 1)])
def test_a_damaged_entry_stops_the_start(key: bytes) -> None:
    voters = Voters()
    disk = filled(voters)
    disk.entries[key] = b"\xff\x00rubbish"
    with pytest.raises(StorageError):
        disk.reopen()


@pytest.mark.parametrize("key", [b"strange", b"strange/12345678", b"accepted/1"])
def test_an_unknown_entry_stops_the_start(key: bytes) -> None:
    with pytest.raises(StorageError, match="does not write"):
        VoteLog(lambda effect: None, {key: b""})


def test_entries_that_contradict_each_other_stop_the_start() -> None:
    voters = Voters()
    active = {b"view": (1).to_bytes(8, "big") + b"\x01"}
    with pytest.raises(StorageError, match="lacks its new-view"):
        VoteLog(lambda effect: None, active)
    inactive = {b"view": (1).to_bytes(8, "big") + b"\x00"}
    with pytest.raises(StorageError, match="lacks its view change"):
        VoteLog(lambda effect: None, inactive)
    disk = filled(voters)
    stable = voters.checkpoint(make_block(4, 4), ROOT, STATE)
    with pytest.raises(StorageError, match="at or below"):
        VoteLog(lambda effect: None, {**disk.entries, b"stable": CODEC.encode(stable)})
    wrong = {seq_key(b"accepted/", 1): CODEC.encode(replace(stable, seq=8))}
    with pytest.raises(StorageError, match="not a PrePrepare"):
        VoteLog(lambda effect: None, wrong)
