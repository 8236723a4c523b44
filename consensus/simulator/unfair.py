"""Primaries that break no rule of agreement and still cheat: whom they propose, in which order, how fast.

These lie in what they choose, not in what they say, so each is a core of its own: a correct replica
whose choice of the next block is bent.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from consensus.messages import Ack, Arrival, BatchPayload, Message, Prepare
from consensus.receive_times import ReceiveTimes
from consensus.replica import Replica
from consensus.simulator.app import make_payload
from consensus.simulator.liar import Liar

DAWDLE_US = 300_000  # between two proposals: just fast enough for the simulator's request timeout
LEAP_US = 3_600_000_000
Choice = tuple[tuple[bytes, ...], tuple[Ack, ...]]
NOTHING: Choice = ((), ())


class _Misordering(ReceiveTimes):
    """Lists the batches of a block in reverse."""

    def choose(self) -> Choice:
        chosen, acks = super().choose()
        return chosen[::-1], acks


class _Censoring(ReceiveTimes):
    """Never proposes what came from one replica."""

    def choose(self) -> Choice:
        victims = self._hide()
        try:
            return super().choose() if self._batches.pending else NOTHING
        finally:
            self._batches.pending.update(victims)

    def _hide(self) -> dict[bytes, None]:
        """Take the victim's batches out of what is pending for a moment."""
        pending, held = self._batches.pending, self._batches.held
        victim = (self._state.id + 1) % self._state.replicas.n
        hidden = {name: None for name in pending if held[name].origin == victim}
        for name in hidden:
            del pending[name]
        return hidden


class _Postponing(_Censoring):
    """Proposes what came from one replica only when nothing else waits."""

    def choose(self) -> Choice:
        chosen = super().choose()
        return chosen if chosen[0] or len(self._batches.pending) > 1 else ReceiveTimes.choose(self)


class _Dawdling(ReceiveTimes):
    """Proposes everything, as slowly as the timeouts permit."""

    _next_us = 0

    def choose(self) -> Choice:
        now_us = self._state.now_us
        if now_us < self._next_us:
            self._arm(self._next_us - now_us)
            return NOTHING
        self._next_us = now_us + DAWDLE_US
        return super().choose()


class _Dripping(ReceiveTimes):
    """One batch a block, however many wait."""

    def choose(self) -> Choice:
        return (next(iter(self._batches.pending)),), ()


def _core(kind: type[ReceiveTimes]) -> type[Replica]:
    class Unfair(Replica):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._ordering.times = kind(self._state, self._batches)

    return Unfair


class Misdating(Liar):
    """Signs receive times hours off, keeps some to itself, forges others, and votes like anybody."""

    def send(self, source: int, to: int, message: Message) -> None:
        if not isinstance(message, Ack):
            self.put(to, message)
        elif (chance := self.rng.random()) < 0.6:
            leaps = (self.rng.choice((-LEAP_US, 0, LEAP_US)) for _ in message.items)
            items = tuple(
                Arrival(item.batch, item.time_us + leap)
                for item, leap in zip(message.items, leaps, strict=True)
            )
            bent = replace(message, items=items, signature=b"")
            self.put(to, replace(bent, signature=self.sign("ack", 0, 0, bent.items_digest)))
        elif chance < 0.65:
            self.put(to, replace(message, signature=self.rng.randbytes(64)))


class Framing(Liar):
    """Gives each backup micro-batches that nobody else gets, so that an honest primary seems to leave them
    out, and withholds its acks."""

    def send(self, source: int, to: int, message: Message) -> None:
        if not isinstance(message, Ack):
            self.put(to, message)
        primary = self.replicas.primary(message.view) if isinstance(message, Prepare) else self.id
        if primary not in (self.id, to) and self.rng.random() < 0.3:
            self.put(to, BatchPayload(make_payload(self.rng.randrange(1 << 40, 1 << 41), 1)))


CORES: dict[str, type[Replica]] = {
    "misorder": _core(_Misordering),
    "censor": _core(_Censoring),
    "postpone": _core(_Postponing),
    "dawdle": _core(_Dawdling),
    "drip": _core(_Dripping),
}
UNFAIR: dict[str, Callable[..., Liar]] = {
    "misdate": Misdating,
    "frame": Framing,
    **dict.fromkeys(CORES, Liar),
}
