"""The simulated network: delays with a heavy tail, loss, reordering, duplicates, replays, clogs, cuts.

A message is delivered to `receive(sender, to, message)` of the cluster. Nothing here knows what a
message means; a small share of them goes through the codec, so that whatever replicas exchange is
also what the wire can carry.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random

from consensus.messages import CODEC, Message
from consensus.simulator.options import NetworkOptions
from consensus.simulator.scheduler import Scheduler

HISTORY_MAX = 64  # messages remembered on each link for replays

Deliver = Callable[[int, int, Message], None]
Connect = Callable[[int, int], None]


class Network:
    """Directed links between addresses 0..count−1, all with the same options."""

    def __init__(
        self,
        scheduler: Scheduler,
        rng: Random,
        options: NetworkOptions,
        count: int,
        deliver: Deliver,
        connected: Connect,
    ) -> None:
        self.options = options
        self.counters: dict[str, int] = {}
        self._scheduler = scheduler
        self._rng = rng
        self._deliver = deliver
        self._connected = connected
        self._count = count
        self._cut: set[tuple[int, int]] = set()
        self._clogged_until: dict[tuple[int, int], int] = {}
        self._under_way: dict[tuple[int, int], int] = {}
        self._last_arrival: dict[tuple[int, int], int] = {}
        self._history: dict[tuple[int, int], list[Message]] = {}

    def send(self, sender: int, to: int, message: Message) -> None:
        """Put `message` on the link, or lose it."""
        options, rng, link = self.options, self._rng, (sender, to)
        if link in self._cut:
            self._note("cut")
        elif options.loss_rate and rng.random() < options.loss_rate:
            self._note("lost")
        elif self._under_way.get(link, 0) >= options.link_capacity:
            self._note("overflowed")
        else:
            self._put(link, message)
            if options.duplicate_rate and rng.random() < options.duplicate_rate:
                self._note("duplicated")
                self._put(link, message)
        if options.replay_rate:
            self._replay(link, message)

    def _replay(self, link: tuple[int, int], message: Message) -> None:
        history = self._history.setdefault(link, [])
        if history and self._rng.random() < self.options.replay_rate and link not in self._cut:
            self._note("replayed")
            self._put(link, history[self._rng.randrange(len(history))])
        if len(history) < HISTORY_MAX:
            history.append(message)
        else:
            history[self._rng.randrange(HISTORY_MAX)] = message

    def _put(self, link: tuple[int, int], message: Message) -> None:
        options, rng = self.options, self._rng
        if rng.random() < options.codec_rate:
            message = CODEC.decode(CODEC.encode(message))
        self._under_way[link] = self._under_way.get(link, 0) + 1
        delay = options.delay_us + int(rng.random() * options.jitter_us)
        if options.tail_rate and rng.random() < options.tail_rate:
            delay += int(rng.expovariate(1 / options.tail_us))
        arrival = self._scheduler.now_us + delay
        if self._clogged_until and arrival < (clogged := self._clogged_until.get(link, 0)):
            arrival = clogged + int(rng.random() * options.jitter_us)
        if not options.reorders:
            arrival = max(arrival, self._last_arrival.get(link, 0))
            self._last_arrival[link] = arrival
        self._scheduler.at(arrival, self._arrive, link, message)

    def _arrive(self, link: tuple[int, int], message: Message) -> None:
        self._under_way[link] -= 1
        if link in self._cut:
            self._note("cut")
            return
        self._deliver(link[0], link[1], message)

    def clog(self, link: tuple[int, int], duration_us: int) -> None:
        """Hold back everything sent on `link` for `duration_us`."""
        self._note("clogs")
        until = self._scheduler.now_us + duration_us
        self._clogged_until[link] = max(until, self._clogged_until.get(link, 0))

    def clog_address(self, address: int, duration_us: int) -> None:
        """Hold back everything to and from `address` for `duration_us`."""
        for other in range(self._count):
            if other != address:
                self.clog((address, other), duration_us)
                self.clog((other, address), duration_us)

    def cut(self, from_side: Iterable[int], to_side: Iterable[int], symmetric: bool = True) -> None:
        """Lose everything from one side to the other; if symmetric, also back."""
        self._note("partitions")
        targets = list(to_side)
        for a in from_side:
            for b in targets:
                if a != b:
                    self._cut.add((a, b))
                    if symmetric:
                        self._cut.add((b, a))

    def isolate(self, address: int) -> None:
        """Cut one address off from all others, both ways."""
        self.cut([address], [other for other in range(self._count) if other != address])

    def heal_cuts(self) -> None:
        """Rejoin all partitions; delays and losses stay."""
        links = sorted({(min(link), max(link)) for link in self._cut})
        self._cut.clear()
        for a, b in links:
            self._connect(a, b)

    def connect(self, address: int) -> None:
        """`address` came up: its links to all others do, too, unless they are cut."""
        for other in range(self._count):
            if other != address:
                self._connect(address, other)

    def _connect(self, a: int, b: int) -> None:
        """Both ends notice a new link after a round trip."""
        if not self._cut.isdisjoint(((a, b), (b, a))):
            return
        delay_us = 2 * self.options.delay_us
        self._scheduler.after(delay_us, self._connected, a, b)
        self._scheduler.after(delay_us, self._connected, b, a)

    def heal(self) -> None:
        """Rejoin everything, and lose, repeat or hold back nothing from now on."""
        self.heal_cuts()
        self._clogged_until.clear()
        self.options = replace(
            self.options,
            tail_rate=0.0,
            loss_rate=0.0,
            duplicate_rate=0.0,
            replay_rate=0.0,
            link_capacity=1 << 20,
        )

    def _note(self, what: str) -> None:
        name = f"network.{what}"
        self.counters[name] = self.counters.get(name, 0) + 1
