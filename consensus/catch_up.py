"""Repair: replicas compare where they stand and hand each other what is missing.

Nothing here is sent while all goes well. A slow tick runs only while something is unfinished or a
peer has not shown our height; if a whole interval brings nothing, `Status` goes out, and whoever is
ahead answers with what proves itself: the new-view message, the stable checkpoint, commit
certificates, or its votes for what is in flight. Pauses between ticks double while nothing helps.
"""

from bisect import bisect_left
from dataclasses import dataclass

from consensus.batches import Batches
from consensus.checkpoints import Checkpoints
from consensus.effects import SendBatches, SendBlocks, SetTimer
from consensus.membership import Membership
from consensus.messages import (
    CODEC,
    FETCH_MAX,
    FetchBatches,
    FetchBlocks,
    FetchEpochs,
    NewView,
    Status,
    ViewChange,
)
from consensus.ordering import Ordering
from consensus.pacemaker import Pacemaker
from consensus.quorum import epoch_of
from consensus.state import ReplicaState
from consensus.view_change import ViewChanges

STATUS = "status"
FETCH = "fetch"

FOLLOWERS_MAX = 64  # peers known that are no validators
FETCH_RETRY = 10  # fetch delays between two requests for one payload
FETCH_MESSAGES_MAX = 4  # requests for payloads a step
PROOF_BYTES_PER_SECOND = 1 << 20  # of new views and view changes, to one peer that asks
SERVED_MAX = 1024  # blocks, and as many payloads, served a peer within one `status_us`


@dataclass(slots=True)
class Peer:
    """Where another replica said it stands."""

    view: int = 0
    committed: int = 0
    oldest: int = 1  # the first block it can serve
    state: int = 0  # the checkpoint whose state it can serve


@dataclass(frozen=True, slots=True)
class BlockFetch:
    """Committed blocks up to `last`, asked of `peer`."""

    peer: int
    last: int
    asked_us: int


class CatchUp:
    """What peers have shown, what we asked them for, and the tick that retries."""

    def __init__(
        self,
        state: ReplicaState,
        batches: Batches,
        ordering: Ordering,
        checkpoints: Checkpoints,
        pacemaker: Pacemaker,
        view_changes: ViewChanges,
        membership: Membership,
    ) -> None:
        self.peers: dict[int, Peer] = {}
        self._state = state
        self._batches = batches
        self._ordering = ordering
        self._checkpoints = checkpoints
        self._pacemaker = pacemaker
        self._view_changes = view_changes
        self._membership = membership
        self._fetch: BlockFetch | None = None
        self._next_peer = state.id
        self._proof: NewView | ViewChange | None = None
        self._proof_bytes = 0
        self._ticking = False
        self._fetching = False
        self._pause_us = state.config.status_us
        self._mark = (0, 0, False)
        self._was_open = False
        self._served: dict[tuple[str, int], tuple[int, int]] = {}

    # Peers

    @property
    def _members(self) -> list[int]:
        """The other validators of this epoch, ascending."""
        return [member for member in self._state.replicas.ids if member != self._state.id]

    def meet(self, peer: int) -> Peer:
        """Where `peer` stands, as far as it said. Of those who only follow, the newest are remembered."""
        known = self.peers.get(peer)
        if known is None:
            followers = [other for other in self.peers if other not in self._state.replicas]
            if len(followers) >= FOLLOWERS_MAX:
                del self.peers[followers[0]]
            known = self.peers[peer] = Peer()
        return known

    # Where we stand

    def status(self, asks: bool) -> Status:
        """What we tell others."""
        state = self._state
        snapshot = state.snapshot.seq if state.snapshot else 0
        return Status(state.view, state.active, state.shown, state.votes.stable, asks, state.oldest, snapshot)

    def is_behind(self) -> bool:
        """Whether an honest replica, so at least f+1 of them, says it is well ahead of us."""
        state = self._state
        heights = sorted((self._height(member) for member in self._members), reverse=True)
        ahead = state.committed + state.config.in_flight_max
        return len(heights) > state.replicas.f and heights[state.replicas.f] > ahead

    def _height(self, peer: int) -> int:
        known = self.peers.get(peer)
        return max(known.committed if known else 0, self._checkpoints.heard.get(peer, 0))

    def _is_unfinished(self) -> bool:
        state = self._state
        return (
            not state.active
            or state.ingesting
            or not state.is_member  # nobody waits for us, so nobody tells us what we miss
            or state.is_changing
            or bool(self._batches.held)
            or bool(self._ordering.certified)
            or max(self._ordering.last_seq, state.low) > state.committed
            or any(self._is_ahead(member) for member in self._members)
        )

    def _is_ahead(self, peer: int) -> bool:
        known = self.peers.get(peer)
        has_later_view = known is not None and known.view > self._state.view
        return has_later_view or self._height(peer) > self._state.committed

    # The tick

    def settle(self) -> None:
        """After every step: keep the timers running that are needed, and blocks coming."""
        state, votes, config = self._state, self._state.votes, self._state.config
        is_open = bool(self._batches.held) or self._ordering.last_seq > state.committed
        is_slow = not self._ticking or self._pause_us > config.status_us
        if is_open and not self._was_open:
            self._was_open = True
            self._start_tick()
        elif is_slow and (state.committed, votes.view, votes.active) != self._mark:
            self._start_tick()
        if self._batches.wanted and not self._fetching:
            self._fetching = True
            state.emit(SetTimer(FETCH, config.fetch_us))
        if self._fetch is not None and state.committed >= self._fetch.last:
            self._fetch = None
            self._fetch_blocks()

    def _start_tick(self) -> None:
        self._ticking = True
        self._pause_us = self._state.config.status_us
        self._state.emit(SetTimer(STATUS, self._pause_us))

    def on_status_timer(self) -> None:
        """If a whole pause brought nothing although something is open, ask around and repeat ourselves."""
        state = self._state
        self._ticking = False
        mark = (state.committed, state.view, state.active)
        moved, self._mark = mark != self._mark, mark
        lagging = [member for member in self._members if self._height(member) < state.committed]
        is_unfinished = self._was_open = self._is_unfinished()
        if not moved and not is_unfinished and not lagging:
            return
        if moved:
            self._pause_us = state.config.status_us
        else:
            self._ask(lagging, is_unfinished)
            self._pause_us = min(2 * self._pause_us, state.config.status_max_us)
        self._ticking = True
        state.emit(SetTimer(STATUS, self._pause_us))

    def _ask(self, lagging: list[int], is_unfinished: bool) -> None:
        state = self._state
        state.count("status_asks")
        if is_unfinished:
            state.broadcast(self.status(asks=True))
            self._view_changes.repeat()
            self._pacemaker.repeat()
            self._fetch = None
            self._fetch_blocks()
        else:
            for peer in lagging:
                state.send(peer, self.status(asks=True))

    def on_connected(self, peer: int) -> None:
        """A link came up: whatever was sent into the void is to be compared."""
        if peer != self._state.id:
            self.meet(peer)
            self._state.send(peer, self.status(asks=True))

    # Status

    def on_status(self, sender: int, m: Status) -> bool:
        """Learn where a peer stands; give it what it lacks, take what we lack. False: no help was due."""
        state, seen = self._state, self.meet(sender)
        seen.view, seen.committed = m.view, m.committed
        seen.oldest, seen.state = m.oldest, m.state
        if epoch_of(m.view) > state.replicas.epoch:
            self._membership.ask(sender)
        elif m.stable is not None:
            self._checkpoints.on_checkpoint_cert(m.stable)
        self._fetch_blocks()
        if not self._ticking and (m.view > state.view or m.committed > state.committed):
            self._start_tick()
        if not state.may("help", sender, state.config.status_us // 4):
            return False
        self.help(sender, m)
        if m.asks or m.view > state.view:
            state.send(sender, self.status(asks=False))
        return True

    def help(self, peer: int, m: Status) -> None:
        """Send a peer what it lacks, as far as it proves itself."""
        state = self._state
        self.help_view(peer, m.view, m.active)
        stable = state.votes.stable
        if stable is not None and stable.seq > (m.stable.seq if m.stable else 0):
            state.send(peer, stable)
        if state.oldest <= m.committed + 1 <= state.committed:
            state.count("blocks_forwarded")
            last = min(state.committed, m.committed + state.config.catch_up_blocks)
            state.emit(SendBlocks(peer, m.committed + 1, last))
        if m.view == state.view and m.active and state.active:
            self._resend_votes(peer, max(m.committed, state.committed))
        self._resend_attests(peer)

    def help_view(self, peer: int, view: int, active: bool) -> None:
        """Bring a peer into our view: by the new-view message, or by our view change where none came yet."""
        state = self._state
        if view > state.view or (view == state.view and active):
            return
        if epoch_of(view) < state.replicas.epoch:
            self._membership.show(peer, epoch_of(view) + 1)
        proof = state.votes.new_view if state.active else state.votes.view_change
        if proof is None or not proof.signature or proof.view != state.view:
            return
        if state.may("prove-view", peer, self._proof_pause_us(proof)):
            state.send(peer, proof)
            state.count("views_forwarded")

    def help_complainer(self, peer: int, view: int) -> None:
        """A peer complains about, or leaves, a view that is history here."""
        if peer in self.peers and self._state.may("help-view", peer, self._state.config.status_us):
            self.help_view(peer, view, active=False)

    def _proof_pause_us(self, proof: NewView | ViewChange) -> int:
        """How soon a peer may have the same proof again: a short question must not buy a long answer."""
        if self._proof is not proof:
            self._proof, self._proof_bytes = proof, len(CODEC.encode(proof))
        return max(self._state.config.status_us, self._proof_bytes * 1_000_000 // PROOF_BYTES_PER_SECOND)

    def _resend_votes(self, peer: int, above: int) -> None:
        for seq in range(above + 1, self._ordering.last_seq + 1):
            for vote in self._ordering.list_votes(seq):
                self._state.send(peer, vote)

    def _resend_attests(self, peer: int) -> None:
        interval = self._state.config.checkpoint_interval
        latest = self._checkpoints.latest
        for seq, attest in sorted(self._checkpoints.own.items()):
            if seq % interval == 0:
                self._state.send(peer, attest)
        if latest is not None and (latest.seq % interval or latest.seq <= self._state.low):
            self._state.send(peer, latest)

    # Committed blocks

    def _fetch_blocks(self) -> None:
        """Ask one peer that is ahead for the next committed blocks; another one after each silence."""
        state = self._state
        if self._fetch is not None:
            return
        first = state.reach + 1
        ahead = [peer for peer in self._members if self._can_serve(peer, first)]
        if not ahead or first in self._ordering.certified:
            return
        later = [peer for peer in ahead if peer > self._next_peer]
        self._next_peer = (later or ahead)[0]
        last = min(self._height(self._next_peer), state.reach + state.config.catch_up_blocks)
        self._fetch = BlockFetch(self._next_peer, last, state.now_us)
        state.send(self._next_peer, FetchBlocks(first, last))
        state.count("block_fetches")

    def _can_serve(self, peer: int, seq: int) -> bool:
        known = self.peers.get(peer)
        return self._height(peer) >= seq and (known is None or known.oldest <= seq)

    def on_fetch_blocks(self, sender: int, m: FetchBlocks) -> None:
        """Serve committed blocks, as many as we would ask for, and what lets the asker forget them again."""
        state = self._state
        last = min(m.last, state.committed, m.first + state.config.catch_up_blocks - 1)
        if not state.oldest <= m.first <= last or not self._may_serve("blocks", sender, last - m.first + 1):
            return
        if state.votes.stable is not None and state.may("stable", sender, state.config.status_us):
            state.send(sender, state.votes.stable)
        state.emit(SendBlocks(sender, m.first, last))

    def on_fetch_epochs(self, sender: int, m: FetchEpochs) -> None:
        """Serve changes of validators."""
        self._membership.show(sender, m.first)

    # Payloads

    def on_fetch_timer(self) -> None:
        """Fetch payloads that did not come by themselves: from who named them, then from each other peer."""
        state, config = self._state, self._state.config
        self._fetching = False
        members = self._members
        if not members:
            return
        due: dict[int, list[bytes]] = {}
        for digest, wanted in self._batches.wanted.items():
            asked_us = wanted.asked_us
            # A clock that jumped back is no reason to wait.
            if asked_us is None or not asked_us <= state.now_us < asked_us + FETCH_RETRY * config.fetch_us:
                first = bisect_left(members, wanted.source)
                target = members[(first + wanted.attempts) % len(members)]
                wanted.attempts += 1
                wanted.asked_us = state.now_us
                due.setdefault(target, []).append(digest)
                if len(due[target]) == FETCH_MAX or len(due) > FETCH_MESSAGES_MAX:
                    break
        for target, digests in due.items():
            state.send(target, FetchBatches(tuple(digests)))
            state.count("batch_fetches", len(digests))

    def on_fetch_batches(self, sender: int, m: FetchBatches) -> None:
        """Serve payloads; the node skips those it does not hold."""
        if self._may_serve("batches", sender, len(m.digests)):
            self._state.emit(SendBatches(sender, m.digests))

    def _may_serve(self, what: str, peer: int, amount: int) -> bool:
        """Whether `peer` has not yet been served its share: a short request must not cost us without end."""
        now_us = self._state.now_us
        since_us, served = self._served.get((what, peer), (now_us, 0))
        if not since_us <= now_us < since_us + self._state.config.status_us:
            since_us, served = now_us, 0
        if served + amount > SERVED_MAX:
            self._state.count("unserved")
            return False
        self._served[what, peer] = (since_us, served + amount)
        return True
