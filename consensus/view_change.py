"""Changing the primary (Castro & Liskov, OSDI '99, §4.4, in two steps).

n−f complaints end a view; each replica then signs a `ViewChange` that proves its stable checkpoint
and carries every lock it ever took above it. n−f of those let the next primary compute what the
view starts with, and let everybody else recompute and compare it.
"""

from dataclasses import replace

from consensus.certificates import (
    NEW_VIEW,
    PRE_PREPARE,
    VIEW_CHANGE,
    check_new_view,
    check_view_change,
    compute_base,
    compute_proposals,
)
from consensus.checkpoints import Checkpoints
from consensus.messages import Complain, NewView, PrePrepare, ViewChange
from consensus.ordering import Ordering
from consensus.pacemaker import Pacemaker
from consensus.state import ReplicaState


class ViewChanges:
    """The latest view change of each replica, and the moves between views."""

    def __init__(
        self, state: ReplicaState, ordering: Ordering, checkpoints: Checkpoints, pacemaker: Pacemaker
    ) -> None:
        self.received: dict[int, ViewChange] = {}
        self._state = state
        self._ordering = ordering
        self._checkpoints = checkpoints
        self._pacemaker = pacemaker
        self._collected = False
        self._base_needed = 0

    # Leaving

    def settle(self) -> None:
        """After every step: leave when complaints suffice; as new primary, start when all is at hand."""
        evidence = self._pacemaker.evidence
        if evidence and not self._state.diverged:
            self.leave(self._state.view + 1, evidence)
        state = self._state
        leads_next = not state.active and self._collected and state.is_primary and not state.diverged
        # Nobody can start a view from blocks it does not hold.
        if leads_next and state.committed >= self._base_needed:
            self._try_new_view()

    def leave(self, view: int, complaints: tuple[Complain, ...]) -> None:
        """Stop voting in all views below `view` and say what is locked here."""
        state = self._state
        prepared = tuple(cert for _, cert in sorted(state.votes.prepared.items()))
        unsigned = ViewChange(view, state.votes.stable, prepared, complaints, state.id, b"")
        own = replace(unsigned, signature=state.sign(VIEW_CHANGE, view, 0, unsigned.body_digest))
        state.votes.leave(own)
        state.count("view_changes")
        self._ordering.leave_view()
        self._collected = False
        self._base_needed = 0
        self._pacemaker.on_left()
        self.received[state.id] = own
        state.broadcast(own)
        self._collect()

    def restore(self) -> None:
        """After a restart: an unfinished view change goes on with the very same message."""
        own = self._state.votes.view_change
        if not self._state.active and own is not None and not self._state.diverged:
            self.received[self._state.id] = own
            self._state.broadcast(own)
            self._collect()

    def repeat(self) -> None:
        """Until n−f view changes are held, send our own again: it may be what others wait for."""
        own = self._state.votes.view_change
        if not self._state.active and not self._collected and own is not None:
            self._state.broadcast(own)

    # Collecting

    def on_view_change(self, m: ViewChange) -> bool:
        """Another replica left a view. False: it is behind and wants help instead."""
        state = self._state
        if m.view < state.view or (m.view == state.view and state.active):
            return False
        known = self.received.get(m.replica)
        if m.replica == state.id or (known is not None and known.view >= m.view):
            return True
        check_view_change(state.authority, m)
        self.received[m.replica] = m
        if m.stable is not None:
            self._checkpoints.adopt(m.stable)
        if m.view > state.view and not state.diverged:
            self._consider_joining(m)
        self._collect()
        return True

    def _consider_joining(self, m: ViewChange) -> None:
        """Join whoever proves n−f complaints; without proof, f+1 replicas: one of them is honest."""
        state = self._state
        if m.complaints:
            state.count("view_joins")
            self.leave(m.view, m.complaints)
            return
        later = sorted(other.view for other in self.received.values() if other.view > state.view)
        if len(later) >= state.replicas.weak_quorum:
            state.count("view_joins")
            self.leave(later[0], ())

    def _collect(self) -> None:
        if self._state.active or self._collected:
            return
        if len(self._current()) >= self._state.replicas.collect:
            self._collected = True
            self._pacemaker.on_collected()

    def _current(self) -> list[ViewChange]:
        view = self._state.view
        return [m for _, m in sorted(self.received.items()) if m.view == view]

    # Entering

    def _try_new_view(self) -> None:
        """As primary of the view being entered: prove and announce it, unless its base is still to fetch."""
        state = self._state
        current = self._current()[: state.replicas.collect]
        base, blocks = compute_proposals(current)
        if state.committed < base:
            self._base_needed = base
            return
        proposals = tuple(
            PrePrepare(state.view, block, state.sign(PRE_PREPARE, state.view, block.seq, block.digest))
            for block in blocks
        )
        unsigned = NewView(state.view, tuple(current), proposals, state.id, b"")
        signature = state.sign(NEW_VIEW, state.view, 0, unsigned.body_digest)
        own = replace(unsigned, signature=signature)
        state.count("new_views_led")
        state.broadcast(own)
        self._enter(own)

    def on_new_view(self, m: NewView) -> None:
        """The primary of a view proves how it starts. Whatever view it is, if later than ours."""
        state = self._state
        if m.view < state.view or (m.view == state.view and state.active):
            return
        if m.replica == state.id:
            return  # our own of a former life: it was not kept, so it was never sent by this log
        known = [other for change in m.view_changes if (other := self.received.get(change.replica))]
        check_new_view(state.authority, m, known)
        self._enter(m)

    def _enter(self, m: NewView) -> None:
        state = self._state
        base = compute_base(m.view_changes)
        if base is not None:
            self._checkpoints.adopt(base)
        state.votes.enter(m)
        state.window_moved = True
        state.count("new_views")
        self._pacemaker.on_entered()
        self._ordering.enter_view(base.seq if base else 0, m.proposals)
        self._collected = False
        self.received = {replica: change for replica, change in self.received.items() if change.view > m.view}
