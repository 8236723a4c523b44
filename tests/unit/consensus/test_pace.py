"""What a primary owes, in numbers."""

from consensus.effects import BatchReady
from consensus.pace import PACE_SLACK_US, PROPOSALS_MIN, ROUNDS, STRETCH_MAX, Pace
from consensus.replica import ReplicaConfig
from tests.helpers.group import Group
from tests.helpers.votes import make_block, name_of

TIMEOUT_US = 100_000
CONFIG = ReplicaConfig(window=8, checkpoint_interval=4, request_timeout_us=TIMEOUT_US, block_orders_max=100)


class Backup:
    """Replica 1 of view 0, alone at the table; its clock stands unless it is moved."""

    def __init__(self) -> None:
        self.group = Group(config=CONFIG)
        self.group.isolate(*range(4))
        self.state = self.group[1]._state
        self.batches = self.group[1]._batches
        self.pace = Pace(self.state, self.batches)

    def hold(self, number: int, orders: int = 1, origin: int = 2) -> None:
        self.batches.add(BatchReady(name_of(number), orders, 100, origin), self.state.now_us)

    def wait(self, duration_us: int) -> None:
        self.state.now_us += duration_us

    def hand_over(self) -> None:
        self.pace.note_handed(tuple(self.pace.take_overdue(5 * TIMEOUT_US)))

    def propose(self, seq: int, *numbers: int, is_idle: bool = True) -> None:
        block = make_block(seq, *numbers)
        self.pace.on_proposal(block, is_idle)
        self.batches.assign(block)


def test_the_deadline_grows_with_rounds_within_its_bounds() -> None:
    backup = Backup()
    assert backup.pace.deadline_us == TIMEOUT_US
    for round_us, deadline_us in (
        (1_000, TIMEOUT_US),
        (TIMEOUT_US // 4, ROUNDS * TIMEOUT_US // 4),
        (100 * TIMEOUT_US, STRETCH_MAX * TIMEOUT_US),
    ):
        backup.pace.round_us = 0
        backup.pace.on_commit(backup.state.now_us - round_us)
        assert backup.pace.deadline_us == deadline_us


def test_a_primary_that_lets_work_wait_while_nothing_is_under_way_is_slow() -> None:
    for late_us, fault in ((PACE_SLACK_US // 2, ""), (3 * PACE_SLACK_US, "slow")):
        backup = Backup()
        for number in range(2 * PROPOSALS_MIN):
            backup.hold(number)
            backup.wait(late_us)
            backup.propose(number + 1, number)
        assert backup.pace.fault() == fault


def test_a_full_pipeline_excuses_a_wait() -> None:
    backup = Backup()
    for number in range(2 * PROPOSALS_MIN):
        backup.hold(number)
        backup.wait(TIMEOUT_US // 3)
        backup.propose(number + 1, number, is_idle=False)
    assert backup.pace.fault() == ""


def test_a_batch_that_blocks_with_room_pass_over_is_handed_over_first_and_then_censored() -> None:
    backup = Backup()
    backup.hold(0)
    handed_us = None
    for number in range(1, 9):
        backup.hold(number)
        backup.propose(number, number, is_idle=False)
        now_us = (number - 1) * TIMEOUT_US // 5
        assert (name_of(0) in backup.pace.passed_over) == (now_us >= TIMEOUT_US // 2)
        is_late = handed_us is not None and now_us - handed_us >= TIMEOUT_US // 2
        assert backup.pace.fault() == ("censored" if is_late else "")
        if handed_us is None and backup.pace.passed_over:
            backup.hand_over()
            handed_us = now_us
        backup.wait(TIMEOUT_US // 5)
    assert is_late
    backup.propose(9, 0)
    assert backup.pace.fault() == ""


def test_what_was_never_handed_to_the_primary_is_not_censored() -> None:
    backup = Backup()
    backup.hold(0)
    for number in range(1, 20):
        backup.hold(number)
        backup.propose(number, number, is_idle=False)
        backup.wait(TIMEOUT_US // 5)
    assert backup.pace.fault() == ""


def test_a_full_block_is_no_excuse_for_later_batches() -> None:
    backup = Backup()
    backup.hold(0)
    for number in range(1, 14):
        backup.wait(TIMEOUT_US // 5)
        backup.hold(number, orders=90)
        backup.propose(number, number, is_idle=False)
        backup.hand_over()
    assert backup.pace.fault() == "censored"


def test_of_each_origin_the_oldest_is_handed_over() -> None:
    """Else a liar's batches could hide those that a primary leaves out."""
    backup = Backup()
    for number in range(20):
        backup.hold(number, origin=3)
    backup.hold(20, origin=2)
    for number in (21, 22):
        backup.wait(TIMEOUT_US)
        backup.hold(number)
        backup.propose(number, number, is_idle=False)
    assert backup.pace.take_overdue(5 * TIMEOUT_US) == [name_of(0), name_of(20)]


def test_one_origin_alone_cannot_make_a_primary_slow() -> None:
    """A liar sends backups its batches long before it sends them to the primary."""
    for late, fault in (((3,), ""), ((2, 3), "slow")):
        backup = Backup()
        for number in range(0, 40, 2):
            for origin in (2, 3):
                if origin in late:
                    backup.hold(number + origin - 2, origin=origin)
            backup.wait(TIMEOUT_US)
            for origin in (2, 3):
                backup.hold(number + origin - 2, origin=origin)
            backup.propose(number + 1, number, number + 1)
        assert backup.pace.fault() == fault


def test_thin_blocks_while_several_origins_wait_are_slow() -> None:
    """The oldest batch is always in the next block, so none is passed over twice."""
    for origins, fault in (((1, 2, 3), "slow"), ((3,), "")):
        backup = Backup()
        backup.hold(200, origin=2)
        backup.propose(1, 200)
        for number in range(90):
            backup.hold(number, origin=origins[number % len(origins)])
        for number in range(40):
            backup.wait(TIMEOUT_US // 10)
            backup.propose(number + 2, number, is_idle=False)
        assert backup.pace.fault() == fault


def test_full_blocks_in_order_of_arrival_excuse_any_wait() -> None:
    backup = Backup()
    for number in range(50):
        backup.hold(number, orders=90)
    for number in range(40):
        backup.wait(TIMEOUT_US // 5)
        backup.propose(number + 1, number, is_idle=False)
    assert backup.pace.fault() == ""
    assert backup.pace.is_loaded


def test_a_new_view_starts_with_a_clean_sheet() -> None:
    backup = Backup()
    backup.hold(0)
    for number in range(1, 14):
        backup.wait(TIMEOUT_US // 5)
        backup.propose(number, 100 + number, is_idle=False)
        backup.hand_over()
    assert backup.pace.fault() == "censored"
    backup.pace.start_view()
    assert backup.pace.fault() == ""
