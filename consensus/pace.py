"""What a primary owes while work waits: to propose it soon, and to leave nothing out (Aardvark, NSDI '09).

Timeouts alone allow a primary that is just fast enough, or serves all but one. A backup therefore
measures, in each view, against what the protocol itself takes (`round_us`: from a proposal's arrival
to its commit here, smoothed):

deadline   a primary that brings nothing for so long is dead: the request timeout, or `ROUNDS` rounds
           where a round takes long, but never more than `STRETCH_MAX` request timeouts. So a slow
           machine or network is not mistaken for a dead primary, and a liar gains that factor at most.
pace       when all that was proposed is executed here and a batch waits, the proposal that brings it is
           due at once. Its delay, smoothed over some eight proposals, may be `PACE_ROUNDS` rounds (but
           no more than half a deadline) and `PACE_SLACK_US`; a primary that takes longer is slow.
passing    a proposal passes a batch over if it has room for it, or lists one that came half a deadline
           later. An origin's oldest batch that is passed over after half a deadline is handed to
           everybody; from then on the primary has it, and others tell it when they received it. If it
           is passed over half a deadline later still, the primary censors. An honest primary under
           overload fills its blocks in order of arrival, and is excused from `patience`.
thinness   a primary that lists little although it has room is never seen to pass the same batch over
           twice. If for a deadline each proposal has room while of several origins a crowd of batches
           is left out that waited for half a deadline, it is slow.

A liar may send batches to backups alone, each its own, so that the primary seems to leave out what it
never had. Hence the handing over; each origin's oldest, so that a liar's do not hide others'; and
pace and thinness count only if f+1 origins suffer, or all whom the primary served in this view. Only
where a liar's batches are all there is besides the primary's own can that cost an honest one its place
(see the decision of 2026-11-24 in the package).

Not covered: a primary that is late towards some backups alone can make rounds as long as the deadline
without being told from a slow backup. One that makes up to f origins wait just less than the deadline.
"""

from itertools import islice

from consensus.batches import Batches
from consensus.messages import BATCHES_PER_BLOCK_MAX, Block
from consensus.state import ReplicaState

ROUNDS = 8
STRETCH_MAX = 6
PACE_ROUNDS = 4
PACE_SLACK_US = 50_000
PROPOSALS_MIN = 8  # of a view, before its pace is judged
SMOOTHING = 8
CROWD = 8  # batches of an origin
ROOM = 4  # a block has room if it uses less than one part in so many of each limit


class Pace:
    """Measures of the current view's primary, taken by a backup.

    round_us      smoothed; kept from view to view, since it is our network's and machine's
    passed_over   waiting batches that proposals pass over, one of each origin at most
    is_loaded     the last proposal was full, and passed nothing over
    """

    def __init__(self, state: ReplicaState, batches: Batches) -> None:
        self.round_us = 0
        self.passed_over: dict[bytes, None] = {}
        self.is_loaded = False
        self._state = state
        self._batches = batches
        self._late_us: dict[int, int] = {}  # smoothed, by origin; those that were served, but the primary
        self._proposals = 0
        self._handed: dict[bytes, int] = {}  # since when the primary has it, at the latest
        self._censored: bytes | None = None
        self._thin_since_us: int | None = None
        self._is_thin = False
        self._view_since_us = 0

    @property
    def deadline_us(self) -> int:
        """How long a primary may bring nothing while something waits."""
        base = self._state.config.request_timeout_us
        return min(max(base, ROUNDS * self.round_us), STRETCH_MAX * base)

    def start_view(self) -> None:
        """Another primary, or the same one anew: it owes nothing yet."""
        self._view_since_us = self._state.now_us
        self.passed_over.clear()
        self._late_us.clear()
        self._proposals = 0
        self._handed.clear()
        self._censored, self._thin_since_us = None, None
        self._is_thin = self.is_loaded = False

    # Measuring

    def on_proposal(self, block: Block, is_idle: bool) -> None:
        """A fresh proposal came; it is not yet taken out of what waits. `is_idle`: nothing was under way."""
        listed = frozenset(block.batches)  # looked up, never iterated
        left_out = {
            origin: list(islice((name for name in names if name not in listed), CROWD))
            for origin, names in self._batches.waiting.items()
        }
        self._proposals += 1
        self._note_lateness(block, is_idle)
        self._note_passing(block, [names[0] for names in left_out.values() if names])
        self._note_thinness(block, left_out)

    def on_late_payload(self, name: bytes) -> None:
        """A batch came after its proposal: its origin is served, and nobody waited for that here."""
        held = self._batches.held.get(name)
        if held is not None and held.origin != self._state.primary:
            self._late_us.setdefault(held.origin, 0)

    def on_commit(self, offered_us: int) -> None:
        """What was proposed at `offered_us` is committed."""
        took_us = max(0, self._state.now_us - offered_us)
        self.round_us += (took_us - self.round_us) // (SMOOTHING if self.round_us else 1)

    def _since_us(self, name: bytes) -> int:
        return max(self._batches.held[name].since_us, self._view_since_us)

    def _note_lateness(self, block: Block, is_idle: bool) -> None:
        state, first = self._state, dict[int, bytes]()
        for name in block.batches:
            held = self._batches.held.get(name)
            if held is not None and held.origin != state.primary and name in self._batches.pending:
                known = first.setdefault(held.origin, name)
                if self._since_us(name) < self._since_us(known):
                    first[held.origin] = name
        for origin, name in first.items():
            due_us = state.now_us
            if is_idle:
                due_us = max(self._since_us(name), state.progress_us, self._handed.get(name, 0))
            known_us = self._late_us.get(origin, 0)
            self._late_us[origin] = known_us + (max(0, state.now_us - due_us) - known_us) // SMOOTHING

    def _note_passing(self, block: Block, oldest: list[bytes]) -> None:
        state, held, half_us = self._state, self._batches.held, self.deadline_us // 2
        has_room = self._has_room(block)
        newest_us = max((held[name].since_us for name in block.batches if name in held), default=0)
        self._handed = {name: since_us for name, since_us in self._handed.items() if name in oldest}
        self.passed_over.clear()
        self._censored = None
        self.is_loaded = bool(oldest)
        for name in oldest:
            since_us = self._handed.get(name, self._since_us(name))
            if not has_room and newest_us - since_us < half_us:
                continue
            self.is_loaded = False
            if state.now_us - since_us >= half_us or name in self._handed:
                self.passed_over[name] = None
            if name in self._handed and state.now_us - since_us >= half_us:
                self._censored = name

    def _note_thinness(self, block: Block, left_out: dict[int, list[bytes]]) -> None:
        now_us, half_us = self._state.now_us, self.deadline_us // 2
        starved = [
            origin
            for origin, names in left_out.items()
            if len(names) == CROWD and now_us - self._since_us(names[-1]) >= half_us
        ]
        if not self._has_room(block) or not self._is_enough(starved):
            self._thin_since_us, self._is_thin = None, False
        elif self._thin_since_us is None:
            self._thin_since_us = now_us
        else:
            self._is_thin = now_us - self._thin_since_us >= self.deadline_us

    def _has_room(self, block: Block) -> bool:
        config, held = self._state.config, self._batches.held
        batches = [held[name] for name in block.batches if name in held]
        return (
            ROOM * len(block.batches) < BATCHES_PER_BLOCK_MAX
            and ROOM * sum(batch.orders for batch in batches) < config.block_orders_max
            and ROOM * sum(batch.size for batch in batches) < config.block_bytes_max
        )

    # Handing over

    def take_overdue(self, patience_us: int) -> list[bytes]:
        """What is to be handed over: what is passed over, and an origin's oldest that waited so long."""
        now_us, pending = self._state.now_us, self._batches.pending
        overdue = [name for name in self.passed_over if name in pending]
        if not self.is_loaded:
            oldest = [next(iter(names)) for names in self._batches.waiting.values() if names]
            overdue += [name for name in oldest if now_us - self._since_us(name) >= patience_us]
        return list(dict.fromkeys(overdue))

    def note_handed(self, names: tuple[bytes, ...]) -> None:
        """The primary gets these now."""
        for name in names:
            self._handed.setdefault(name, self._state.now_us)

    def handed_for_us(self) -> int:
        """For how long the primary has had something that was handed to it and still waits."""
        now_us, pending = self._state.now_us, self._batches.pending
        return max(
            (now_us - since_us for name, since_us in self._handed.items() if name in pending), default=0
        )

    # Judging

    def fault(self) -> str:
        """What this view's primary may be replaced for: "censored", "slow", or nothing."""
        if self._censored in self._batches.pending:
            return "censored"
        allowed_us = min(PACE_ROUNDS * self.round_us, self.deadline_us // 2) + PACE_SLACK_US
        late = [origin for origin, late_us in self._late_us.items() if late_us > allowed_us]
        is_late = self._proposals >= PROPOSALS_MIN and self._is_enough(late)
        return "slow" if self._is_thin or is_late else ""

    def _is_enough(self, origins: list[int]) -> bool:
        """Whether a liar alone cannot have brought it about that these wait."""
        suffering = [origin for origin in origins if origin != self._state.primary]
        served = [origin for origin in self._late_us if origin not in suffering]
        return len(suffering) >= self._state.replicas.weak_quorum or (bool(suffering) and not served)
