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
from consensus.effects import SetTimer
from consensus.messages import Complain, NewView, PrePrepare, ViewChange
from consensus.ordering import Ordering
from consensus.pacemaker import Pacemaker
from consensus.state import ReplicaState

# Timers that fire at once, which means: after this turn is durable. The view follows the name.
SIGN_VIEW_CHANGE = "sign-view-change/"
SIGN_NEW_VIEW = "sign-new-view/"


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
        self._caught: dict[tuple[str, int], int] = {}  # the last view a liar was blamed for
        self._collected = False
        self._base_needed = 0

    # Leaving

    def settle(self) -> None:
        """After every step: leave when complaints suffice, or others left; as new primary, start the view."""
        state, evidence = self._state, self._pacemaker.evidence
        if not (evidence or self.received or self._collected) or not state.may_vote:
            return
        if evidence:
            self.leave(state.view + 1, evidence)
        self._follow()  # not as they come: who may not vote yet would never look at them again
        leads_next = not state.active and self._collected and state.is_primary
        # Nobody can start a view from blocks it does not hold.
        if leads_next and state.votes.draft is None and state.committed >= self._base_needed:
            self._try_new_view()

    def leave(self, view: int, complaints: tuple[Complain, ...]) -> None:
        """Stop voting in all views below `view`, and write down what is locked here.

        It is signed a turn later: what is locked grows, so a crash between signature and disk would
        lead to a second, different view change.
        """
        state = self._state
        prepared = tuple(cert for _, cert in sorted(state.votes.prepared.items()))
        own = ViewChange(view, state.votes.stable, prepared, complaints, state.id, b"")
        state.votes.leave(own)
        state.emit(SetTimer(f"{SIGN_VIEW_CHANGE}{view}", 0))
        state.count("view_changes")
        self._ordering.leave_view()
        self._collected = False
        self._base_needed = 0
        self._pacemaker.on_left()

    def on_sign_timer(self, name: str) -> None:
        """The turn that wrote down a view change or a new view is over: now it may be signed."""
        state, votes = self._state, self._state.votes
        if state.active or not state.may_vote:
            return
        if name == f"{SIGN_VIEW_CHANGE}{state.view}" and votes.view_change is not None:
            self._sign_view_change(votes.view_change)
        elif name == f"{SIGN_NEW_VIEW}{state.view}" and votes.draft is not None:
            self._announce(votes.draft)

    def _sign_view_change(self, unsigned: ViewChange) -> None:
        state = self._state
        signature = state.sign(VIEW_CHANGE, unsigned.view, 0, unsigned.body_digest)
        own = replace(unsigned, signature=signature)
        state.votes.sign_view_change(own)
        self.received[state.id] = own
        state.broadcast(own)
        self._collect()

    def start_epoch(self) -> None:
        """An epoch starts in a view of its own, which nobody has to prove."""
        self.received.clear()
        self._caught.clear()
        self._collected = False
        self._base_needed = 0

    def restore(self) -> None:
        """After a restart: an unfinished view change goes on with the very same message."""
        state, votes = self._state, self._state.votes
        if not state.may_vote:
            return
        if state.active:
            self._sign_again()
            return
        if votes.view_change is not None:
            self._sign_view_change(votes.view_change)
        if votes.draft is not None:
            self._announce(votes.draft)

    def resume(self) -> None:
        """Its word counts again: what was to be signed meanwhile is due, a turn after it was written down."""
        state = self._state
        if state.active:
            self._sign_again()
            return
        state.emit(SetTimer(f"{SIGN_VIEW_CHANGE}{state.view}", 0))
        if state.votes.draft is not None:
            state.emit(SetTimer(f"{SIGN_NEW_VIEW}{state.view}", 0))

    def _sign_again(self) -> None:
        """Sign the view we lead once more, so that the signer's record holds all that is sent."""
        new_view = self._state.votes.new_view
        if new_view is not None and new_view.replica == self._state.id:
            self._sign_new_view(new_view)

    def repeat(self) -> None:
        """Until n−f view changes are held, send our own again: it may be what others wait for."""
        own = self._state.votes.view_change
        if not self._state.active and not self._collected and own is not None and own.signature:
            self._state.broadcast(own)

    # Collecting

    def on_view_change(self, m: ViewChange) -> bool:
        """Another replica left a view. False: it is behind and wants help instead."""
        state = self._state
        if m.view < state.view or (m.view == state.view and state.active):
            return False
        known = self.received.get(m.replica)
        if m.replica == state.id or (known is not None and known.view > m.view):
            return True
        if known is not None and known.view == m.view:
            self._compare(VIEW_CHANGE, known, m)
            return True
        check_view_change(state.authority, m)
        self.received[m.replica] = m
        if m.stable is not None:
            self._checkpoints.adopt(m.stable)
        self._collect()
        return True

    def _follow(self) -> None:
        """Join whoever proves n−f complaints; without proof, f+1 replicas: one of them is honest."""
        state = self._state
        later = sorted(
            (m for m in self.received.values() if m.view > state.view), key=lambda m: (m.view, m.replica)
        )
        proven = [m for m in later if m.complaints]
        if proven:
            self._join(proven[-1].view, proven[-1].complaints)
        elif len(later) >= state.replicas.weak_quorum:
            self._join(later[0].view, ())

    def _join(self, view: int, complaints: tuple[Complain, ...]) -> None:
        self._state.count("view_joins")
        self.leave(view, complaints)
        self._collect()

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
        current = self._chosen()
        if len(current) < state.replicas.collect:
            return  # our own is not signed yet
        base, blocks = compute_proposals(current)
        if state.committed < base:
            self._base_needed = base
            return
        proposals = tuple(PrePrepare(state.view, block, b"") for block in blocks)
        state.votes.keep_draft(NewView(state.view, tuple(current), proposals, state.id, b""))
        state.emit(SetTimer(f"{SIGN_NEW_VIEW}{state.view}", 0))

    def _chosen(self) -> list[ViewChange]:
        """n−f view changes, our own among them: a view then starts no lower than our signer's floor."""
        own, current = self._state.id, self._current()
        others = [m.replica for m in current if m.replica != own][: self._state.replicas.collect - 1]
        return [m for m in current if m.replica == own or m.replica in others]

    def _announce(self, draft: NewView) -> None:
        state = self._state
        own = self._sign_new_view(draft)
        state.count("new_views_led")
        state.broadcast(own)
        self._enter(own)

    def _sign_new_view(self, m: NewView) -> NewView:
        """Sign a new view and what it proposes; places that became stable since are history."""
        state = self._state
        proposals = tuple(
            replace(proposal, signature=state.sign(PRE_PREPARE, m.view, block.seq, block.digest))
            if (block := proposal.block).seq > state.low or not proposal.signature
            else proposal
            for proposal in m.proposals
        )
        unsigned = replace(m, proposals=proposals, signature=b"")
        return replace(unsigned, signature=state.sign(NEW_VIEW, m.view, 0, unsigned.body_digest))

    def on_new_view(self, m: NewView) -> None:
        """The primary of a view proves how it starts. Whatever view it is, if later than ours."""
        state = self._state
        entered = state.votes.new_view
        if m.view == state.view and state.active and entered is not None:
            self._compare(NEW_VIEW, entered, m)
        if m.view < state.view or (m.view == state.view and state.active):
            return
        if m.replica == state.id:
            return  # our own of a former life: it was not kept, so it was never sent by this log
        known = [other for change in m.view_changes if (other := self.received.get(change.replica))]
        check_new_view(state.authority, m, known)
        for change in m.view_changes:
            shown = self.received.get(change.replica)
            if shown is not None and shown.view == change.view:
                self._compare(VIEW_CHANGE, shown, change)
        self._enter(m)

    # Liars

    def _compare(self, kind: str, known: ViewChange | NewView, m: ViewChange | NewView) -> None:
        """Blame who signed two different messages of one kind for one view: once a view, so that a liar
        cannot have us check any number of them. Raises if the second is not its own.

        No honest replica signs two: what it signs stands in its log, whole, a turn before, and a restart
        signs the same again. Ours is not compared: whoever lost its log would accuse itself.
        """
        state, place = self._state, (kind, known.replica)
        is_other = m.replica == known.replica and m.signature != known.signature
        if not is_other or m.replica == state.id or self._caught.get(place, -1) >= m.view:
            return
        if m.body_digest == known.body_digest:
            return
        state.authority.check(m.replica, kind, m.view, 0, m.body_digest, m.signature)
        self._caught[place] = m.view
        state.blame_equivocation(m.replica, known, m)

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
