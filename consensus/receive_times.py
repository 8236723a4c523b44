"""Signed receive times, and the order of a block's micro-batches that follows from them.

Every replica notes when it received a micro-batch and tells the primary, many batches under one
signature (`Ack`). A fresh block of several batches lists them by (median of the times that its acks
give, digest), and each batch has times of n−f replicas: see `certificates.check_order`.

What that promises (Pompē, Zhang et al., OSDI '20): at most f of n−f times lie, so a median lies between
two honest ones. If every honest replica received one batch before any received another, no block lists
them the other way round; clocks that differ move that boundary by as much as they differ. Where honest
replicas disagree who came first, the primary may have it either way, since it chooses whose times it
shows; and between blocks it chooses too. How long it can pass a batch over is the pacemaker's affair.

A batch that lacks times takes a block of its own. Nobody waits for it: n−f replicas suffice, so f that
withhold their acks delay nothing, and a batch that only a liar spreads has no claim to company.
"""

from collections import deque

from consensus.batches import Batches
from consensus.certificates import ACK, Refused, check_ack, compute_order
from consensus.effects import SetTimer
from consensus.messages import ACK_ITEMS_MAX, ACKS_MAX, Ack, Arrival, Block
from consensus.primitives.errors import ProtocolError
from consensus.quorum import epoch_of
from consensus.state import ReplicaState

TELL = "ack"  # the timer's name

TELL_US = 2_000  # arrivals of so long share a signature; a batch proposed meanwhile needs none
WAIT_US = 5_000  # the primary waits so long for acks when it could propose, and then goes without
ALONE_US = 50_000  # while others have their acks, a batch without gets a block of its own so often
GRACE_US = 1_000_000  # in an epoch that began so lately, an ack may still be signed for the one before
TIMES_MAX = 8_192  # receive times kept of one replica, delivered or not; its oldest go first
PROOF_ITEMS_MAX = 16_384  # receive times in one proposal


class ReceiveTimes:
    """Own receive times that are still to be told, and those that others told.

    ready   pending batches with enough times to share a block, in the order in which they got them
    """

    def __init__(self, state: ReplicaState, batches: Batches) -> None:
        self.ready: dict[bytes, None] = {}
        self._state = state
        self._batches = batches
        self._untold: dict[bytes, None] = {}
        self._told: dict[bytes, dict[int, Ack]] = {}  # by batch, by replica
        self._acks: dict[int, deque[Ack]] = {}  # by replica, in order of arrival
        self._items: dict[int, int] = {}  # in those, by replica
        self._distrusted: set[int] = set()  # looked up, never iterated
        self._armed = False
        self._view_since_us = 0
        self._epoch_since_us = -GRACE_US
        self._alone_us = 0
        self._is_unheard = False  # the primary of this epoch, so far: it may not live in it yet

    # Telling

    def note(self, name: bytes) -> None:
        """A micro-batch arrived here."""
        if name not in self._batches.pending:
            return
        self._judge(name)
        if not self._state.is_primary:
            self._untold[name] = None
            self._arm(TELL_US)

    def start_view(self) -> None:
        """Another primary: what is pending is to be told to it, and to be judged anew."""
        self._view_since_us = self._state.now_us
        self._distrusted.clear()
        self.ready.clear()
        for name in self._batches.pending:
            self._judge(name)
        self.tell_again()

    def start_epoch(self) -> None:
        """Other validators, perhaps with other keys: what was told so far proves nothing to them."""
        self._told.clear()
        self._acks.clear()
        self._items.clear()
        self._epoch_since_us = self._state.now_us
        self._is_unheard = True

    def hear_primary(self, sender: int, view: int) -> None:
        """A peer shows that it lives in `view`. What the primary was told before it came to this epoch it
        dropped when it did, and its first blocks would list batches one by one: tell it anew, once."""
        state = self._state
        if self._is_unheard and sender == state.primary and epoch_of(view) == state.replicas.epoch:
            self._is_unheard = False
            self.tell_again()

    def tell_again(self) -> None:
        """The primary may have heard nothing so far: tell it about all that is pending."""
        self._untold = {} if self._state.is_primary else dict.fromkeys(self._batches.pending)
        if self._untold:
            self._arm(TELL_US)

    def on_timer(self) -> None:
        """Tell the primary what came since the last time, as far as it is not proposed already."""
        state = self._state
        self._armed = False
        if state.is_primary or not state.active or not state.may_vote:
            return
        names = [name for name in self._untold if name in self._batches.pending]
        self._untold.clear()
        for start in range(0, len(names), ACK_ITEMS_MAX):
            state.send(state.primary, self._sign(names[start : start + ACK_ITEMS_MAX]))

    def _sign(self, names: list[bytes]) -> Ack:
        held = self._batches.held
        unsigned = Ack(tuple(Arrival(name, held[name].since_us) for name in names), self._state.id, b"")
        return Ack(unsigned.items, unsigned.replica, self._state.sign(ACK, 0, 0, unsigned.items_digest))

    def _arm(self, delay_us: int) -> None:
        if not self._armed:
            self._armed = True
            self._state.emit(SetTimer(TELL, max(delay_us, 1)))

    # Hearing

    def on_ack(self, sender: int, m: Ack) -> None:
        """Keep what another replica tells. Its signature is checked when a proposal is to carry it, so
        that a flood of acks costs no more than the room that is set aside for its sender."""
        if m.replica != sender:
            raise Refused("foreign-ack", f"{sender} passes on an acknowledgement of {m.replica}")
        if sender in self._distrusted or sender not in self._state.replicas:
            return
        names = [item.batch for item in m.items if self._is_news(item.batch, sender)]
        if not names:
            return
        for name in names:
            self._told.setdefault(name, {})[sender] = m
            self._judge(name)
        acks = self._acks.setdefault(sender, deque())
        acks.append(m)
        self._items[sender] = self._items.get(sender, 0) + len(m.items)
        while self._items[sender] > TIMES_MAX or not self._is_told(acks[0]):
            self._drop(acks.popleft())

    def _is_news(self, name: bytes, sender: int) -> bool:
        return sender not in self._told.get(name, ()) and not self._batches.is_settled(name)

    def _is_told(self, ack: Ack) -> bool:
        """Whether it still gives a time that is waited for."""
        return any(self._told.get(item.batch, {}).get(ack.replica) is ack for item in ack.items)

    def _drop(self, ack: Ack) -> None:
        self._items[ack.replica] -= len(ack.items)
        for item in ack.items:
            told = self._told.get(item.batch, {})
            if told.get(ack.replica) is ack:
                del told[ack.replica]
                if len(told) < self._state.replicas.collect - 1:
                    self.ready.pop(item.batch, None)
                if not told:
                    del self._told[item.batch]

    def _judge(self, name: bytes) -> None:
        needed = self._state.replicas.collect - 1  # besides our own
        if name in self._batches.pending and len(self._told.get(name, ())) >= needed:
            self.ready[name] = None

    def settle(self, block: Block) -> None:
        """`block` was delivered: its batches need no times any more."""
        for name in block.batches:
            self.ready.pop(name, None)
            self._untold.pop(name, None)
            self._told.pop(name, None)

    # Proposing

    def choose(self) -> tuple[tuple[bytes, ...], tuple[Ack, ...]]:
        """As primary: the batches of the next block in their order, and the acks that prove it.
        Nothing while a moment's wait for acks is worth it."""
        state, config, pending = self._state, self._state.config, self._batches.pending
        oldest = next(iter(pending))
        if len(pending) == 1:
            return (oldest,), ()
        for name in [name for name in self.ready if name not in pending]:
            del self.ready[name]
        since_us = max(self._batches.held[oldest].since_us, self._view_since_us)
        if self.ready:
            since_us = max(since_us, self._alone_us)
        due_us = since_us + (ALONE_US if self.ready else WAIT_US)
        if oldest not in self.ready and (due_us <= state.now_us or since_us > state.now_us):
            self._alone_us = state.now_us
            return (oldest,), ()
        chosen = self._batches.choose(self.ready, config.block_orders_max, config.block_bytes_max)
        acks: tuple[Ack, ...] = ()
        if len(chosen) > 1:
            chosen, acks = self._prove(chosen)
        if not chosen:
            self._arm(max(due_us - state.now_us, WAIT_US) if self.ready else due_us - state.now_us)
        return chosen, acks

    def _prove(self, chosen: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], tuple[Ack, ...]]:
        """Order batches that are ready, as many as one proof has room for."""
        acks: dict[int, Ack] = {}  # by identity: two may claim one signature
        listed: list[bytes] = []
        items = len(chosen)
        for name in chosen:
            picked = self._pick(name, acks)
            items += sum(len(ack.items) for ack in picked)
            if listed and (len(acks) + len(picked) >= ACKS_MAX or items > PROOF_ITEMS_MAX):
                break
            if name in self.ready:
                acks.update({id(ack): ack for ack in picked})
                listed.append(name)
        if len(listed) < 2:
            return tuple(listed), ()
        proof = (self._sign(listed), *acks.values())
        return compute_order(listed, proof), proof

    def _pick(self, name: bytes, carried: dict[int, Ack]) -> list[Ack]:
        """The acks to add so that a batch has enough times: few, and each with a good signature."""
        told, missing = self._told.get(name, {}), self._state.replicas.collect - 1
        missing -= sum(id(ack) in carried for ack in told.values())
        picked: list[Ack] = []
        for ack in [ack for _, ack in sorted(told.items()) if id(ack) not in carried]:
            if len(picked) >= missing:
                break
            if self._is_signed(ack):
                picked.append(ack)
        if len(picked) < missing:
            self.ready.pop(name, None)
        return picked

    def _is_signed(self, ack: Ack) -> bool:
        """Whether the ack may be shown; whoever sent a forged one is not listened to in this view."""
        try:
            check_ack(self._state.authority, ack)
        except ProtocolError as error:
            if self._epoch_since_us <= self._state.now_us < self._epoch_since_us + GRACE_US:
                return False  # it may have been under way since the last epoch
            self._state.blame(ack.replica, error)
            self._distrusted.add(ack.replica)
            for other in self._acks.pop(ack.replica, ()):
                self._drop(other)
            return False
        return True
