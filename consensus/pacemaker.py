"""When to give up on a primary: deadlines for pending work, and complaints (step one of a view change).

Two deadlines, both doubled by each view that brought nothing. *Stalled*: work is pending and nothing
was delivered for the deadline of `pace`; finds a dead primary fast. *Ignored*: one batch has waited for
`patience_us`, whatever else was delivered (full blocks in order of arrival excuse that). A primary that
is alive and slow, or leaves somebody out, is found sooner: `pace` says by which rules. A primary is not
to blame for what a liar sent to backups alone: before one of these deadlines counts, a backup hands over
what it waits for, and the primary gets time to propose it. Complaining changes nothing by itself: the
replica goes on voting, so one that was merely cut off cannot wedge itself. Only n−f complaints end a
view.
"""

from collections.abc import Iterable
from itertools import islice

from consensus.batches import Batches
from consensus.certificates import check_complain
from consensus.effects import CancelTimer, SendBatches, SetTimer
from consensus.messages import Complain
from consensus.ordering import Ordering
from consensus.state import ReplicaState

REQUEST = "request"
NEW_VIEW = "new-view"

REMINDED_MAX = 64  # batches handed over at once
COMPLAINT_LIFE = 4  # request timeouts; complaints are repeated while their cause lasts


class Pacemaker:
    """Timers of the current view, and who complained about it.

    attempts    views in a row that brought nothing
    evidence    n−f complaints about the current view, once they are held
    """

    def __init__(self, state: ReplicaState, batches: Batches, ordering: Ordering) -> None:
        self.attempts = 0
        self.evidence: tuple[Complain, ...] = ()
        self._state = state
        self._batches = batches
        self._ordering = ordering
        self._complaints: dict[int, Complain] = {}
        self._heard_us: dict[int, int] = {}
        self._dissatisfied = False
        self._armed = False
        self._busy_since_us = 0
        self._view_since_us = 0
        self._due_us = 0
        self._reminded_us: int | None = None
        self._overslept = False
        self._delivered = 0

    # Deadlines

    def watch(self) -> None:
        """After every step: start the request timer when there is work to wait for."""
        state = self._state
        if state.committed != self._delivered:
            self._delivered = state.committed
            if state.active:
                self.attempts = 0
        if not self._armed and state.active and self._is_busy() and not state.leads and state.may_vote:
            self._armed = True
            self._busy_since_us = state.now_us
            self._set_timer(self._timeout_us() // 2)

    def _is_busy(self) -> bool:
        """Whether anything waits for the primary; stray votes do not count, or one liar could stall us.

        A boundary ahead is work for the primary; at it, nobody can do any.
        """
        committed, boundary = self._state.committed, self._state.boundary
        if 0 < boundary <= committed:
            return False
        is_called_for = bool(self._batches.held) or self._ordering.proposed_seq > committed
        return is_called_for or self._state.is_hastened(committed + 1)

    def on_request_timer(self, is_behind: bool) -> None:
        """Remind, complain, or wait on; the timer runs lazily, so often there is nothing to do.

        A replica that knows it `is_behind` has itself to blame.
        """
        state = self._state
        self._armed = False
        if not state.active or state.leads or not self._is_busy():
            self._dissatisfied = False
            return
        if self._was_late():
            return
        timeout, pace = self._timeout_us(), self._ordering.pace
        stalled_us = state.now_us - self._last_progress_us()
        patience = self._scaled(state.config.patience_us)
        is_owed = self._owed_us() >= timeout // 4 and not state.is_held_back
        is_stalled = stalled_us >= timeout and is_owed
        is_ignored = not pace.is_loaded and pace.handed_for_us() >= patience // 2
        fault = pace.fault()
        self._dissatisfied = (is_stalled or is_ignored or bool(fault)) and not is_behind
        if self._dissatisfied:
            state.count(f"{fault or 'silent'}_primaries")
            self._complain()
        elif stalled_us >= timeout // 2:
            self._remind(timeout)
        else:
            self._hand_over(timeout, pace.take_overdue(patience // 2))
        self._armed = True
        half = timeout // 2
        self._set_timer(half if stalled_us >= timeout else max(half - stalled_us % half, 1_000))

    def _set_timer(self, delay_us: int) -> None:
        self._due_us = self._state.now_us + delay_us
        self._state.emit(SetTimer(REQUEST, delay_us))

    def _was_late(self) -> bool:
        """Whether the timer came so late that this machine slept while it should have listened: then
        what the primary sent may still lie unread, and gets a moment. Not twice in a row."""
        late_us = self._state.now_us - self._due_us
        self._overslept = late_us > self._state.config.request_timeout_us // 4 and not self._overslept
        if self._overslept:
            self._state.count("overslept")
            self._armed = True
            self._set_timer(self._state.config.request_timeout_us // 4)
        return self._overslept

    def _timeout_us(self) -> int:
        return self._scaled(self._ordering.pace.deadline_us)

    def _last_progress_us(self) -> int:
        """Since when something waits and nothing was delivered. Where the clock jumped back: since now."""
        state = self._state
        latest = max(state.progress_us, self._busy_since_us, self._view_since_us)
        if latest > state.now_us:
            latest = state.progress_us = self._busy_since_us = self._view_since_us = state.now_us
        return latest

    def _owed_us(self) -> int:
        """For how long the primary has had something to do that we know of."""
        state, ordering = self._state, self._ordering
        if state.boundary > state.committed:
            return state.now_us - self._last_progress_us()
        offered = [
            slot.offered_us
            for seq, slot in ordering.slots.items()
            if seq > state.committed and slot.proposal is not None
        ]
        if self._reminded_us is not None and self._reminded_us >= self._last_progress_us():
            offered.append(self._reminded_us)
        return state.now_us - min(offered, default=state.now_us)

    def _remind(self, interval_us: int) -> None:
        """Nothing comes: hand the primary batches it has not proposed. Perhaps it never got them."""
        state, waiting = self._state, tuple(islice(self._batches.pending, REMINDED_MAX))
        if not waiting or not state.may("remind", state.primary, interval_us // 4):
            return
        if self._reminded_us is None or self._reminded_us < self._last_progress_us():
            self._reminded_us = state.now_us
        state.emit(SendBatches(state.primary, waiting))
        state.count("reminders")

    def _hand_over(self, interval_us: int, overdue: Iterable[bytes]) -> None:
        """Batches are passed over: spread them. If only we had them, nobody could tell the primary when
        they came, and it would have to give each a block of its own."""
        state, names = self._state, tuple(islice(overdue, REMINDED_MAX))
        if not names or not state.may("hand-over", state.primary, interval_us // 4):
            return
        self._ordering.pace.note_handed(names)
        others = [replica for replica in state.replicas.ids if replica not in (state.id, state.primary)]
        for replica in (state.primary, *others):
            state.emit(SendBatches(replica, names))
        state.count("reminders")

    def _scaled(self, timeout_us: int) -> int:
        return timeout_us << min(self.attempts, self._state.config.timeout_doublings_max)

    # Complaints

    def repeat(self) -> None:
        """While the cause lasts, complain again: the first may be lost, and complaints grow old."""
        own = self._complaints.get(self._state.id)
        echoes = own is not None and own.view == self._state.view
        if self._dissatisfied or (echoes and len(self._fresh()) >= self._state.replicas.weak_quorum):
            self._complain()

    def _complain(self) -> None:
        state = self._state
        if not state.may_vote:
            return
        own = state.sign_complain()
        self._hear(own)
        state.broadcast(own)
        state.count("complaints")
        self._count()

    def on_complain(self, sender: int, m: Complain) -> bool:
        """Another replica wants to leave a view. False: it is behind and wants help instead.

        Only its author makes a complaint fresh again; anybody can repeat an old one.
        """
        state = self._state
        if m.view < state.view:
            return False
        known = self._complaints.get(m.replica)
        if known != m:
            check_complain(state.authority, m)
        if known is not None and (known.view > m.view or (known.view == m.view and sender != m.replica)):
            return True
        self._hear(m)
        self._count()
        return True

    def _hear(self, m: Complain) -> None:
        self._complaints[m.replica] = m
        self._heard_us[m.replica] = self._state.now_us

    def _count(self) -> None:
        """f+1 complaints: one is honest, join it. n−f: leave."""
        state, fresh = self._state, self._fresh()
        if len(fresh) >= state.replicas.collect:
            self.evidence = tuple(fresh[: state.replicas.collect])
        elif (
            len(fresh) >= state.replicas.weak_quorum
            and state.may_vote
            and all(m.replica != state.id for m in fresh)
        ):
            state.count("complaint_echoes")
            self._complain()

    def _fresh(self) -> list[Complain]:
        """Complaints about the current view that were repeated lately."""
        state = self._state
        life = COMPLAINT_LIFE * self._timeout_us()
        return [
            m
            for replica, m in sorted(self._complaints.items())
            if m.view == state.view and state.now_us - self._heard_us[replica] <= life
        ]

    # Views

    def on_left(self) -> None:
        """The view was left: nothing is due until the next one starts."""
        self.attempts += 1
        self._settle_in()
        self._state.emit(CancelTimer(REQUEST))
        self._armed = False

    def on_collected(self) -> None:
        """n−f replicas want the new view: its primary's time runs from here on (Sawtooth #133)."""
        timeout = self._scaled(self._state.config.view_timeout_us)
        self._state.emit(SetTimer(NEW_VIEW, timeout))

    def on_entered(self) -> None:
        """The new view is there; pending work starts to wait anew."""
        self._settle_in()
        self._state.emit(CancelTimer(NEW_VIEW))

    def start_epoch(self) -> None:
        """Other validators, other complaints."""
        self.attempts = 0
        self._complaints.clear()
        self._heard_us.clear()
        self._armed = False
        self._state.emit(CancelTimer(REQUEST))
        self.on_entered()

    def _settle_in(self) -> None:
        self.evidence = ()
        self._dissatisfied = False
        self._view_since_us = self._state.now_us
        self._reminded_us = None
        self._count()

    def on_new_view_timer(self) -> None:
        """The new primary kept everybody waiting."""
        if not self._state.active:
            self._dissatisfied = True
            self._complain()
