"""What a primary owes while work waits: to propose it soon, and to leave nothing out (Aardvark, NSDI '09).

Timeouts alone allow a primary that is just fast enough, or serves all but one. A backup therefore
measures, in each view, against what the protocol itself takes (`round_us`: from a proposal's arrival
to its commit here, smoothed):

deadline   a primary that brings nothing for so long is dead: the request timeout, or `ROUNDS` rounds
           where a round takes long, but never more than `STRETCH_MAX` request timeouts. So a slow
           machine or network is not mistaken for a dead primary, and a liar gains that factor at most.
pace       when all that was proposed is executed here and a batch waits, the next proposal is due at
           once. Its delay, smoothed over some eight proposals, may be `PACE_ROUNDS` rounds (but no more
           than half a deadline) and `PACE_SLACK_US`; a primary that takes longer is slow. An honest one
           under any load keeps something under way, or proposes when it hears of the batch, a hop later
           or sooner than we do.
passing    a proposal passes a batch over if it has room for it, or lists one that came half a deadline
           later. A batch passed over after half a deadline is handed to the primary, which may lack it;
           if it is still passed over after a whole deadline, the primary censors. An honest primary
           under overload fills its blocks in order of arrival, and is excused from `patience`.

Not covered: a primary that is late towards some backups alone can make rounds as long as the deadline
without being told from a slow backup.
"""

from consensus.batches import Batches
from consensus.messages import BATCHES_PER_BLOCK_MAX, Block
from consensus.state import ReplicaState

ROUNDS = 8
STRETCH_MAX = 6
PACE_ROUNDS = 4
PACE_SLACK_US = 50_000
PROPOSALS_MIN = 8  # of a view, before its pace is judged
SMOOTHING = 8
ROOM = 4  # a block has room if it uses less than one part in so many of each limit


class Pace:
    """Measures of the current view's primary, taken by a backup.

    round_us      smoothed; kept from view to view, since it is our network's and machine's
    late_us       smoothed delay of proposals while something waited and nothing was under way
    passed_over   the oldest waiting batch, if proposals pass it over
    is_loaded     the last proposal was full, and passed nothing over
    """

    def __init__(self, state: ReplicaState, batches: Batches) -> None:
        self.round_us = 0
        self.late_us = 0
        self.passed_over: bytes | None = None
        self.is_loaded = False
        self._state = state
        self._batches = batches
        self._proposals = 0
        self._view_since_us = 0
        self._censored = False

    @property
    def deadline_us(self) -> int:
        """How long a primary may bring nothing while something waits."""
        base = self._state.config.request_timeout_us
        return min(max(base, ROUNDS * self.round_us), STRETCH_MAX * base)

    def start_view(self) -> None:
        """Another primary, or the same one anew: it owes nothing yet."""
        self._view_since_us = self._state.now_us
        self._proposals = self.late_us = 0
        self.passed_over, self._censored, self.is_loaded = None, False, False

    # Measuring

    def on_proposal(self, block: Block, is_idle: bool) -> None:
        """A fresh proposal came; it is not yet taken out of what waits. `is_idle`: nothing was under way."""
        state, oldest = self._state, next(iter(self._batches.pending), None)
        due_us = state.now_us
        if oldest is not None and is_idle:
            due_us = max(self._batches.held[oldest].since_us, state.progress_us, self._view_since_us)
        self._proposals += 1
        self.late_us += (max(0, state.now_us - due_us) - self.late_us) // SMOOTHING
        self._note_passing(block)

    def on_commit(self, offered_us: int) -> None:
        """What was proposed at `offered_us` is committed."""
        took_us = max(0, self._state.now_us - offered_us)
        self.round_us += (took_us - self.round_us) // (SMOOTHING if self.round_us else 1)

    def _note_passing(self, block: Block) -> None:
        state, held = self._state, self._batches.held
        listed = frozenset(block.batches)  # looked up, never iterated
        oldest = next((name for name in self._batches.pending if name not in listed), None)
        if oldest is None:
            self.passed_over, self._censored, self.is_loaded = None, False, False
            return
        since_us = max(held[oldest].since_us, self._view_since_us)
        newest_us = max((held[name].since_us for name in block.batches if name in held), default=0)
        is_passing = self._has_room(block) or newest_us - since_us >= self.deadline_us // 2
        self.is_loaded = not is_passing
        waited_us = state.now_us - since_us
        if not is_passing or waited_us < self.deadline_us // 2:
            return
        if oldest != self.passed_over:
            self.passed_over, self._censored = oldest, False
        elif waited_us >= self.deadline_us:
            self._censored = True

    def _has_room(self, block: Block) -> bool:
        config, held = self._state.config, self._batches.held
        batches = [held[name] for name in block.batches if name in held]
        return (
            ROOM * len(block.batches) < BATCHES_PER_BLOCK_MAX
            and ROOM * sum(batch.orders for batch in batches) < config.block_orders_max
            and ROOM * sum(batch.size for batch in batches) < config.block_bytes_max
        )

    # Judging

    def fault(self) -> str:
        """What this view's primary may be replaced for: "censored", "slow", or nothing."""
        if self._censored and self.passed_over in self._batches.pending:
            return "censored"
        allowed_us = min(PACE_ROUNDS * self.round_us, self.deadline_us // 2)
        is_slow = self._proposals >= PROPOSALS_MIN and self.late_us > allowed_us + PACE_SLACK_US
        return "slow" if is_slow else ""
