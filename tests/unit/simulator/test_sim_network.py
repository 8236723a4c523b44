"""The simulated network loses, repeats, holds back and cuts exactly what its options say."""

from dataclasses import replace
from random import Random

import pytest

from consensus.messages import FetchBlocks, Message
from consensus.simulator.network import Network
from consensus.simulator.options import NetworkOptions
from consensus.simulator.scheduler import Scheduler


class Wire:
    """A network of three addresses and what arrived."""

    def __init__(self, options: NetworkOptions, seed: int = 1) -> None:
        self.scheduler = Scheduler()
        self.arrived: list[tuple[int, int, int, int]] = []
        self.connected: list[tuple[int, int]] = []
        self.network = Network(self.scheduler, Random(seed), options, 3, self._note, self._link)

    def _note(self, sender: int, to: int, message: Message) -> None:
        assert isinstance(message, FetchBlocks)
        self.arrived.append((self.scheduler.now_us, sender, to, message.first))

    def _link(self, address: int, peer: int) -> None:
        self.connected.append((address, peer))

    def send(self, count: int, sender: int = 0, to: int = 1) -> None:
        for number in range(1, count + 1):
            self.network.send(sender, to, FetchBlocks(number, number))

    def drain(self) -> list[int]:
        self.scheduler.run_until(self.scheduler.now_us + 60_000_000)
        return [number for *_, number in self.arrived]


def test_a_calm_network_delivers_everything_once() -> None:
    wire = Wire(NetworkOptions())
    wire.send(50)
    assert sorted(wire.drain()) == list(range(1, 51))


def test_an_ordered_link_never_reorders_and_a_plain_one_does() -> None:
    shaky = NetworkOptions(jitter_us=20_000, reorders=False)
    ordered, plain = Wire(shaky), Wire(replace(shaky, reorders=True))
    for wire in (ordered, plain):
        wire.send(50)
    assert ordered.drain() == list(range(1, 51))
    assert plain.drain() != list(range(1, 51))


def test_loss_duplication_and_replay_happen_at_their_rates() -> None:
    lossy = Wire(NetworkOptions(loss_rate=0.3))
    lossy.send(1000)
    assert 600 < len(lossy.drain()) < 800
    doubling = Wire(NetworkOptions(duplicate_rate=0.5))
    doubling.send(1000)
    assert 1400 < len(doubling.drain()) < 1600
    replaying = Wire(NetworkOptions(replay_rate=0.1))
    replaying.send(1000)
    assert 1050 < len(replaying.drain()) < 1150


def test_a_link_over_capacity_drops() -> None:
    wire = Wire(NetworkOptions(link_capacity=20))
    wire.send(50)
    assert len(wire.drain()) == 20
    assert wire.network.counters["network.overflowed"] == 30


def test_a_clogged_link_delivers_only_afterwards() -> None:
    wire = Wire(NetworkOptions())
    wire.network.clog((0, 1), 1_000_000)
    wire.send(3)
    wire.send(1, sender=2)
    wire.drain()
    times = {sender: time_us for time_us, sender, _, _ in wire.arrived}
    assert times[2] < 10_000 and times[0] >= 1_000_000


def test_a_clogged_address_neither_hears_nor_is_heard_for_a_while() -> None:
    wire = Wire(NetworkOptions())
    wire.network.clog_address(1, 1_000_000)
    for sender, to in ((0, 1), (1, 2), (0, 2)):
        wire.send(1, sender, to)
    wire.drain()
    times = {(sender, to): time_us for time_us, sender, to, _ in wire.arrived}
    assert times[0, 2] < 10_000 and min(times[0, 1], times[1, 2]) >= 1_000_000


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_cut_loses_one_direction_or_both_until_healed(symmetric: bool) -> None:
    wire = Wire(NetworkOptions())
    wire.network.cut([0], [1, 2], symmetric)
    wire.send(1, 0, 1)
    wire.send(1, 1, 0)
    wire.send(1, 1, 2)
    wire.drain()
    expected = {(1, 2)} if symmetric else {(1, 2), (1, 0)}
    assert {(sender, to) for _, sender, to, _ in wire.arrived} == expected
    wire.network.heal_cuts()
    wire.send(1, 0, 1)
    wire.drain()
    assert sorted(wire.connected) == [(0, 1), (0, 2), (1, 0), (2, 0)]
    assert (0, 1) in {(sender, to) for _, sender, to, _ in wire.arrived}


def test_what_is_under_way_when_a_cut_falls_is_lost() -> None:
    wire = Wire(NetworkOptions())
    wire.send(5)
    wire.network.isolate(1)
    assert wire.drain() == []


def test_the_same_seed_gives_the_same_arrivals() -> None:
    options = NetworkOptions(loss_rate=0.2, duplicate_rate=0.2, tail_rate=0.1)
    first, second, other = Wire(options, 5), Wire(options, 5), Wire(options, 6)
    for wire in (first, second, other):
        wire.send(100)
        wire.drain()
    assert first.arrived == second.arrived != other.arrived
