"""Replicas that execute slower than others order: the primary waits for them, and nobody blames it."""

from consensus.effects import Effect, Execute, Executed
from consensus.replica import ReplicaConfig
from tests.helpers.group import Group, Seat

EXECUTION_US = 120_000
STEP_US = 5_000


class SlowGroup(Group):
    """Seven replicas, of which three need `EXECUTION_US` a block."""

    def __init__(self) -> None:
        self.running: list[tuple[int, int, Executed]] = []
        super().__init__(7, ReplicaConfig(window=128, checkpoint_interval=32))

    def _carry_out_one(self, seat: Seat, effect: Effect) -> None:
        if not isinstance(effect, Execute) or seat.id < 4:
            super()._carry_out_one(seat, effect)
            return
        result = self._run(seat.id, effect.block)
        seat.executed.append(effect.block)
        seat.results.append(result)
        free_us = max((at for at, replica, _ in self.running if replica == seat.id), default=self.now_us)
        self.running.append((max(free_us, self.now_us) + EXECUTION_US, seat.id, result))

    def pass_time(self) -> None:
        """A step of time, with what is executed by then."""
        for item in sorted((item for item in self.running if item[0] <= self.now_us), key=lambda i: i[:2]):
            self.running.remove(item)
            self.feed(item[1], item[2])
        self.wait(STEP_US)


def test_a_primary_that_waits_for_slow_executors_keeps_its_place() -> None:
    """Fast backups have executed everything and see proposals come late; that is not its fault."""
    group = SlowGroup()
    for number in range(2_000):
        group.submit(number)
        group.pass_time()
    assert group.views() == [0] * 7
    assert min(group.heights()) > 2_000 * STEP_US // EXECUTION_US * 8 // 10
