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

    def hold(self, number: int, orders: int = 1) -> None:
        self.batches.add(BatchReady(name_of(number), orders, 100, 0), self.state.now_us)

    def wait(self, duration_us: int) -> None:
        self.state.now_us += duration_us

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
    for number in range(1, 8):
        backup.hold(number)
        backup.propose(number, number, is_idle=False)
        waited_us = (number - 1) * TIMEOUT_US // 5
        assert (backup.pace.passed_over == name_of(0)) == (waited_us >= TIMEOUT_US // 2)
        assert backup.pace.fault() == ("censored" if waited_us >= TIMEOUT_US else "")
        backup.wait(TIMEOUT_US // 5)
    backup.propose(9, 0)
    assert backup.pace.fault() == ""


def test_a_full_block_is_no_excuse_for_later_batches() -> None:
    backup = Backup()
    backup.hold(0)
    for number in range(1, 14):
        backup.wait(TIMEOUT_US // 5)
        backup.hold(number, orders=90)
        backup.propose(number, number, is_idle=False)
    assert backup.pace.fault() == "censored"


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
    assert backup.pace.fault() == "censored"
    backup.pace.start_view()
    assert backup.pace.fault() == ""
