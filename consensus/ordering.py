"""The normal case: pre-prepare, prepare, commit, and delivery in order (Castro & Liskov, OSDI '99, §4.2).

A slot goes through: proposed → complete (payloads held) → accepted (voted for) → prepared →
certified (q commits) → delivered. Each step persists before it speaks; delivery is strictly in order.
"""

from collections.abc import Sequence
from dataclasses import replace

from consensus.batches import Batches
from consensus.certificates import (
    COMMIT,
    PRE_PREPARE,
    PREPARE,
    Refused,
    check_commit_cert,
    check_order,
    check_pre_prepare,
)
from consensus.effects import BatchReady, Execute, StoreBatches, StoreBlock
from consensus.log import Slot, Stash, Tally
from consensus.messages import Block, Commit, CommitCert, Message, Prepare, PreparedCert, PrePrepare
from consensus.pace import Pace
from consensus.primitives.errors import ProtocolError, ensure
from consensus.receive_times import ReceiveTimes
from consensus.signing import SignatureRefused
from consensus.state import ReplicaState

PAYLOADS_AHEAD = 16  # committed blocks whose payloads are fetched before their turn


class Ordering:
    """Slots of the current view, and commit certificates that wait for their turn.

    slots       by seq, above the low water mark and inside the window
    certified   by seq, above `committed`; of any view
    next_seq    where a primary proposes next
    fresh_seq   the first seq this view's new-view message left open
    proposed_seq   the highest seq this view's primary proposed
    last_seq       the highest seq of this view anybody spoke of
    """

    def __init__(self, state: ReplicaState, batches: Batches) -> None:
        self.slots: dict[int, Slot] = {}
        self.certified: dict[int, CommitCert] = {}
        self.stash = Stash(state.config.stash_max)
        self.next_seq = 1
        self.fresh_seq = 1
        self.proposed_seq = 0
        self.last_seq = 0
        self._state = state
        self._batches = batches
        self._time_ms = 0
        self.times = ReceiveTimes(state, batches)
        self.pace = Pace(state, batches)
        self._executing: dict[int, bytes] = {}

    # Proposing

    def propose(self) -> None:
        """As primary, propose what is pending while the window and the pipeline have room."""
        state = self._state
        while (self._batches.pending or state.is_hastened(self.next_seq)) and self._may_propose():
            # With nothing to order but a boundary to reach, empty blocks lead there.
            chosen, acks = self.times.choose() if self._batches.pending else ((), ())
            if self._batches.pending and not chosen:
                return
            self._time_ms = self._choose_time_ms()
            block = Block(self.next_seq, self._time_ms, chosen)
            try:
                signature = state.ask_signer(PRE_PREPARE, state.view, block.seq, block.digest)
            except SignatureRefused:
                # A proposal for this place was signed before a crash, and is lost. Others wait in vain
                # for it, so this view ends by their complaints, and ours.
                state.resigned = state.view
                return
            self.next_seq += 1
            state.count("proposals")
            slot = self._open(block.seq)
            slot.acks, slot.ordered = acks, True
            self._offer(slot, PrePrepare(state.view, block, signature), fresh=True)
            self.deliver()

    def _choose_time_ms(self) -> int:
        """Now, and not before the last block; but whoever's clock was far ahead once must come back to a
        time that voters accept, or it could lead no more until the world has caught up."""
        now_ms = self._state.now_us // 1000
        is_near = self._time_ms - now_ms <= self._state.config.clock_tolerance_ms * 3 // 4
        return max(now_ms, self._time_ms) if is_near else now_ms

    def _may_propose(self) -> bool:
        state, config = self._state, self._state.config
        last = self.next_seq - 1
        return (
            state.votes.active
            and state.leads
            and state.may_vote
            and last < state.ceiling
            and last - state.committed < config.in_flight_max
            and last - state.executed < config.unexecuted_max
            # Whoever lags catches up while the rest waits a little; nobody is lost behind the window.
            and last - state.quorum_height < config.lag_max
        )

    # Messages

    def on_pre_prepare(self, sender: int, m: PrePrepare) -> None:
        """The primary's proposal; anybody may pass it on, its signature counts."""
        state = self._state
        slot = self._slot_for(sender, m, m.view, m.block.seq)
        if slot is None or (slot.digest == m.block.digest and (slot.ordered or not m.acks)):
            return
        check_pre_prepare(state.authority, m)
        if slot.digest == m.block.digest:
            self._prove_order(sender, slot, m)
            self._advance(slot)
            return
        if slot.proposal is not None:
            state.blame_equivocation(state.primary, slot.proposal, m)
            return
        if state.is_primary:
            raise Refused(
                "own-proposal", f"block {m.block.seq} of view {m.view} is signed by us, not kept by us"
            )
        if m.block.seq < self.fresh_seq:
            raise Refused("settled-place", f"block {m.block.seq} was settled by the new view {m.view}")
        is_aimless = not m.block.batches and not state.is_hastened(m.block.seq)
        if is_aimless and state.executed >= m.block.seq - 1:
            raise Refused("empty-block", f"block {m.block.seq} is empty, and no boundary is to be reached")
        self._prove_order(sender, slot, m)
        is_idle = self.proposed_seq <= state.executed and not state.is_held_back
        self.pace.on_proposal(m.block, is_idle)
        self._offer(slot, replace(m, acks=()) if m.acks else m, fresh=True)

    def _prove_order(self, sender: int, slot: Slot, m: PrePrepare) -> None:
        """Look at the acks of a fresh proposal. One without good ones is kept, in case that others saw
        better. A primary that restarted has none any more, so only wrong ones are its fault."""
        try:
            check_order(self._state.authority, m)
        except ProtocolError as error:
            if sender == self._state.primary and m.acks:
                self._state.blame(sender, error)
            return
        slot.acks, slot.ordered = m.acks, True

    def on_prepare(self, sender: int, m: Prepare) -> None:
        """A backup's vote."""
        slot = self._slot_for(sender, m, m.view, m.seq)
        if slot is None or slot.prepared or self._is_counted(slot.prepares, m):
            return
        if m.replica == self._state.primary:
            raise Refused("primary-prepare", f"primary {m.replica} prepared; its proposal is its vote")
        self._add_vote(slot.prepares, PREPARE, m)
        self._advance(slot)

    def on_commit(self, sender: int, m: Commit) -> None:
        """Somebody holds a prepared certificate."""
        slot = self._slot_for(sender, m, m.view, m.seq)
        if slot is None or slot.certified or self._is_counted(slot.commits, m):
            return
        self._add_vote(slot.commits, COMMIT, m)
        self._advance(slot)

    def _is_counted(self, tally: Tally, m: Prepare | Commit) -> bool:
        """Whether the vote is known, or our own come back: those count when they are cast."""
        return m.replica == self._state.id or tally.digest_of(m.replica) == m.digest

    def _add_vote(self, tally: Tally, kind: str, m: Prepare | Commit) -> None:
        state = self._state
        state.authority.check(m.replica, kind, m.view, m.seq, m.digest, m.signature)
        before = tally.message_of(m.replica)
        if before is not None:
            state.blame_equivocation(m.replica, before, m)
        tally.add(m.replica, m.digest, m.signature, m)

    def on_commit_cert(self, cert: CommitCert) -> None:
        """A committed block that proves itself, of whatever view: how a lagging replica catches up."""
        state = self._state
        seq = cert.block.seq
        if seq <= state.reach or seq in self.certified:
            return
        is_next = seq <= state.reach + 2 * state.config.catch_up_blocks
        if not is_next and not state.low < seq <= state.low + state.config.window:
            state.count("commit_certs_too_far")
            return
        check_commit_cert(state.authority, cert)
        state.count("catch_up_blocks")
        self._certify(cert)

    def on_batch_ready(self, ready: BatchReady) -> None:
        """A payload is at hand: blocks that lacked only it move on."""
        is_late = ready.digest in self._batches.wanted
        completed = self._batches.add(ready, self._state.now_us)
        if is_late:
            self.pace.on_late_payload(ready.digest)
        self.times.note(ready.digest)
        for seq in completed:
            slot = self.slots.get(seq)
            if slot is not None and slot.proposal is not None and not slot.complete:
                slot.complete = self._batches.want(slot.proposal.block, self._state.primary)
                self._advance(slot)

    # Slots

    def _slot_for(self, sender: int, m: Message, view: int, seq: int) -> Slot | None:
        """The slot a message is for; None if it is too old, or too early and stashed."""
        state = self._state
        if view != state.view or not state.active:
            if view >= state.view:
                self._keep_for_later(sender, m)
            return None
        if seq <= state.low:
            return None
        if seq > state.ceiling:
            self._keep_for_later(sender, m)
            return None
        return self._open(seq)

    def _keep_for_later(self, sender: int, m: Message) -> None:
        self.stash.put(sender, m)
        self._state.count("stashed")

    def _open(self, seq: int) -> Slot:
        slot = self.slots.get(seq)
        if slot is None:
            slot = self.slots[seq] = Slot(seq)
            self.last_seq = max(self.last_seq, seq)
        return slot

    def _offer(self, slot: Slot, proposal: PrePrepare, fresh: bool) -> None:
        """Put the primary's verified proposal into its slot."""
        state, block = self._state, proposal.block
        self.proposed_seq = max(self.proposed_seq, slot.seq)
        slot.proposal, slot.digest, slot.fresh = proposal, block.digest, fresh
        slot.offered_us = state.now_us
        self._batches.assign(block)
        if slot.seq > state.committed:
            slot.complete = self._batches.want(block, state.primary)
        elif state.votes.delivered.get(slot.seq) == block.digest:
            slot.complete = True  # vote again, so that others can follow; it never runs again
        else:
            slot.refused = True
            state.count("contradicted_proposals")
        self._advance(slot)

    def _advance(self, slot: Slot) -> None:
        """Take every step this slot is ready for. Cheap when there is none."""
        digest, quorum = slot.digest, self._state.replicas.quorum
        if slot.proposal is None or digest is None:
            return
        if not slot.accepted and slot.complete and not slot.refused:
            self._accept(slot, slot.proposal)
        if slot.accepted and not slot.prepared and slot.prepares.count(digest) >= quorum - 1:
            votes = slot.prepares.votes(digest, quorum - 1)
            self._prepare(slot, PreparedCert(slot.proposal, votes))
        if not slot.certified and slot.commits.count(digest) >= quorum:
            slot.certified = True
            self.pace.on_commit(slot.offered_us)
            if slot.seq > self._state.committed and slot.seq not in self.certified:
                commits = slot.commits.votes(digest, quorum)
                self._certify(CommitCert(slot.proposal.view, slot.proposal.block, commits))

    def _accept(self, slot: Slot, proposal: PrePrepare) -> None:
        """Vote for the proposal, unless its time or size speaks against it."""
        state, block = self._state, proposal.block
        if not state.may_vote or (slot.fresh and not self._is_acceptable(slot, block)):
            return
        slot.accepted = True
        state.votes.accept(proposal)
        if block.batches:
            state.emit(StoreBatches(block.batches))
        if not state.is_primary:
            self._vote(slot, proposal)
        elif slot.fresh:
            state.broadcast(replace(proposal, acks=slot.acks))

    def _vote(self, slot: Slot, proposal: PrePrepare) -> None:
        try:
            vote = self._state.sign_prepare(proposal)
        except SignatureRefused:
            return  # another proposal was signed for just before a crash; prepares of others still count
        slot.prepares.add(self._state.id, vote.digest, vote.signature, vote)
        self._state.broadcast(vote)

    def _is_acceptable(self, slot: Slot, block: Block) -> bool:
        state, config = self._state, self._state.config
        if not self._batches.fits(block, config.block_orders_max, config.block_bytes_max):
            slot.refused = True
            error = Refused("oversized-block", f"block {block.seq} exceeds the limits of a block")
            state.blame(state.primary, error)
            return False
        if not block.batches and not state.is_hastened(block.seq):
            state.count("empty_waits")  # the primary may know of a boundary that we have yet to learn of
            return False
        # f+1 others found its time and order good when it was fresh, so one honest replica did; our clock
        # may be off, the proposal was long under way, or came without its acks.
        if slot.prepares.count(block.digest) >= state.replicas.weak_quorum:
            return True
        if abs(block.time_ms - state.now_us // 1000) > config.clock_tolerance_ms:
            state.count("clock_waits")
            return False
        if not slot.ordered:
            state.count("order_waits")
        return slot.ordered

    def _prepare(self, slot: Slot, cert: PreparedCert) -> None:
        state = self._state
        if not state.may_vote:
            return
        slot.prepared, slot.acks = True, ()
        state.votes.prepare(cert)
        vote = state.sign_commit(cert)
        slot.commits.add(state.id, vote.digest, vote.signature, vote)
        state.broadcast(vote)

    # Delivery

    def _certify(self, cert: CommitCert) -> None:
        """Keep a valid commit certificate until its turn."""
        self.certified[cert.block.seq] = cert
        self._batches.assign(cert.block)
        if cert.block.seq <= self._state.reach + PAYLOADS_AHEAD:
            self._batches.want(cert.block, cert.commits[0].replica)

    def deliver(self) -> None:
        """Hand committed blocks to execution, in order, as far as payloads are held."""
        state = self._state
        if state.ingesting:
            return
        while (cert := self.certified.get(state.committed + 1)) is not None:
            # Results tell of a boundary: by then we must not be beyond it.
            if state.committed - state.executed >= state.config.window - state.config.checkpoint_interval:
                return
            if 0 < state.boundary <= state.committed:
                return
            if not self._batches.want(cert.block, cert.commits[0].replica):
                return
            self._deliver(cert)

    def _deliver(self, cert: CommitCert) -> None:
        state, block = self._state, cert.block
        ensure(block.seq == state.committed + 1, f"block {block.seq} is out of turn after {state.committed}")
        state.committed = block.seq
        state.progress_us = state.now_us
        del self.certified[block.seq]
        if block.batches:
            state.emit(StoreBatches(block.batches))
        else:
            state.count("null_blocks")
        state.emit(StoreBlock(cert))
        state.votes.deliver(block.seq, block.digest)
        state.emit(Execute(block))
        state.count("delivered")
        self._executing[block.seq] = block.digest
        self._batches.settle(block)
        self.times.settle(block)
        ahead = self.certified.get(block.seq + PAYLOADS_AHEAD)
        if ahead is not None:
            self._batches.want(ahead.block, ahead.commits[0].replica)

    def check_executed(self, seq: int, digest: bytes) -> None:
        """The block that ran must be the one that was handed out."""
        expected = self._executing.pop(seq, digest)
        ensure(expected == digest, f"block {seq} ran as {digest.hex()[:16]}, not as {expected.hex()[:16]}")

    # State transfer

    def drop_certified(self, seq: int) -> None:
        """Blocks up to `seq` will be part of a state that is fetched whole."""
        for old in [old for old in self.certified if old <= seq]:
            del self.certified[old]

    def install(self) -> tuple[bytes, ...]:
        """The state at `state.committed` was fetched: go on above it.

        Returns the batches that are no longer waited for: the skipped blocks may hold them, and whoever
        waited for a batch that ran long ago would complain for ever.
        """
        state = self._state
        self.drop_certified(state.committed)
        self._executing.clear()
        above = [slot for seq, slot in sorted(self.slots.items()) if seq > state.committed]
        blocks = [slot.proposal.block for slot in above if slot.proposal is not None]
        blocks += [cert.block for _, cert in sorted(self.certified.items())]
        forgotten = self._batches.restart(blocks)
        for slot in above:
            if slot.proposal is not None and not slot.complete:
                slot.complete = self._batches.want(slot.proposal.block, state.primary)
        for seq, cert in sorted(self.certified.items()):
            if seq <= state.committed + PAYLOADS_AHEAD:
                self._batches.want(cert.block, cert.commits[0].replica)
        self.next_seq = max(self.next_seq, state.committed + 1)
        for slot in above:
            self._advance(slot)
        return forgotten

    # Views and windows

    def leave_view(self) -> None:
        """Forget the slots: votes of a view that was left count for nothing."""
        self.slots.clear()
        self.proposed_seq = self.last_seq = 0
        self._batches.start_view()
        self.times.start_view()
        self.pace.start_view()
        for seq, cert in self.certified.items():
            self._batches.assign(cert.block)
            if seq <= self._state.committed + PAYLOADS_AHEAD:
                self._batches.want(cert.block, cert.commits[0].replica)

    def enter_view(self, base: int, proposals: Sequence[PrePrepare]) -> None:
        """Start the current view from its new-view message: blocks above `base` that it proposes again."""
        state = self._state
        self.leave_view()
        last = proposals[-1].block.seq if proposals else base
        self.fresh_seq = last + 1
        self.next_seq = max(self.fresh_seq, state.low + 1, state.committed + 1)
        for proposal in proposals:
            if state.low < proposal.block.seq <= state.ceiling:
                self._offer(self._open(proposal.block.seq), proposal, fresh=False)
            state.count("reproposals" if proposal.block.batches else "null_fills")

    def start_epoch(self, first_seq: int) -> None:
        """Start the first view of an epoch: nothing is proposed, locked or open yet."""
        self.times.start_epoch()
        self.leave_view()
        self.fresh_seq = first_seq
        self.next_seq = max(first_seq, self._state.committed + 1)

    def look_again(self) -> None:
        """Proposals that waited, for a boundary in sight or for our right to vote, may be voted for."""
        for seq in sorted(self.slots):
            self._advance(self.slots[seq])

    def restore(self, base: int, proposals: Sequence[PrePrepare]) -> None:
        """After a restart: take up the current view where the log left it, and repeat its votes.

        Signatures are deterministic and nothing is signed beyond the log, so peers see the same bytes.
        """
        state = self._state
        for proposal in state.votes.accepted.values():
            self._batches.note_stored(proposal.block)
        if not state.active:
            return
        self.enter_view(base, proposals)
        for seq, proposal in sorted(state.votes.accepted.items()):
            if proposal.view == state.view and seq >= self.fresh_seq:
                self.next_seq = max(self.next_seq, seq + 1)
                self._offer(self._open(seq), proposal, fresh=False)
                if state.is_primary and state.may_vote:
                    # Signed again, so that the signer's record holds all that is sent.
                    state.sign(PRE_PREPARE, proposal.view, seq, proposal.block.digest)
                    state.broadcast(proposal)
        for seq, cert in sorted(state.votes.prepared.items()):
            if cert.proposal.view == state.view and seq in self.slots:
                self._restore_prepared(self.slots[seq], cert)

    def _restore_prepared(self, slot: Slot, cert: PreparedCert) -> None:
        view, digest = cert.proposal.view, cert.proposal.block.digest
        for vote in cert.prepares:
            prepare = Prepare(view, slot.seq, digest, vote.replica, vote.signature)
            slot.prepares.add(vote.replica, digest, vote.signature, prepare)
        self._advance(slot)

    def list_votes(self, seq: int) -> list[Message]:
        """Everything this replica can show for an undelivered place: the proposal and its own votes."""
        slot = self.slots.get(seq)
        if slot is None or slot.proposal is None or not slot.accepted:
            return []
        own = (slot.prepares.message_of(self._state.id), slot.commits.message_of(self._state.id))
        proposal = replace(slot.proposal, acks=slot.acks)
        return [proposal, *[vote for vote in own if vote is not None]]

    def drop_settled(self) -> None:
        """The low water mark rose: slots at or below it are done.

        So are certificates left between what is fetched next and the new window. Who lags while windows
        pass would else keep those of every one of them; they are fetched when their turn comes.
        """
        near = self._state.committed + 2 * self._state.config.catch_up_blocks
        for seq in [seq for seq in self.slots if seq <= self._state.low]:
            del self.slots[seq]
        for seq in [seq for seq in self.certified if near < seq <= self._state.low]:
            del self.certified[seq]
        self.next_seq = max(self.next_seq, self._state.low + 1)
