"""A node that is alone asks around; what it wrote down of validators leads there."""

from dataclasses import replace
from pathlib import Path

from consensus.proofs import Epoch, Member
from engine.machine import Machine
from node.config import Config, Home
from node.introduction import HINTS_MAX, Introduction, known_addresses, note_addresses
from node.network import Address, Network
from node.setup import create_network
from node.validators import Endpoint, Membership, Validators, read_validators


def _network(tmp_path: Path) -> Network:
    return create_network(tmp_path / "net", 4).network


def _introduction(tmp_path: Path, network: Network, connected: list[int]) -> Introduction:
    membership = Membership(Machine(network.genesis), network)
    unused: object = None
    return Introduction(
        Home(tmp_path),
        Config(),
        network,
        membership,
        lambda: connected,
        lambda: network.replicas,
        unused,  # type: ignore[arg-type]
    )


def test_a_node_is_alone_without_f_plus_one_of_the_newest_validators(tmp_path: Path) -> None:
    network = _network(tmp_path)
    for connected, is_alone in (([], True), ([1], True), ([7, 8, 9], True), ([1, 2], False)):
        assert _introduction(tmp_path, network, connected).is_alone() is is_alone


def test_a_network_of_one_is_not_alone(tmp_path: Path) -> None:
    network = create_network(tmp_path / "one", 1).network
    assert not _introduction(tmp_path, network, []).is_alone()


def test_addresses_are_written_down_and_read_with_those_given_by_hand(tmp_path: Path) -> None:
    network, home = _network(tmp_path), Home(tmp_path)
    home.data.mkdir()
    note_addresses(home.known_validators, read_validators(Machine(network.genesis), network))
    known = known_addresses(home, ("10.0.0.9:7100", "127.0.0.1:7101"))
    assert known == ["10.0.0.9:7100", "127.0.0.1:7101", "127.0.0.1:7100", "127.0.0.1:7102", "127.0.0.1:7103"]


def test_a_damaged_file_of_addresses_costs_hints_and_no_more(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert known_addresses(home, ("10.0.0.9:7100",)) == ["10.0.0.9:7100"]
    home.data.mkdir()
    home.known_validators.write_bytes(b"\xff\xfe\n127.0.0.1:7100\nnowhere\n1.2.3.4:0\n" + bytes(1 << 20))
    assert known_addresses(home, ()) == ["127.0.0.1:7100"]
    home.known_validators.write_text("".join(f"10.0.0.1:{port}\n" for port in range(1, 2 * HINTS_MAX)))
    assert len(known_addresses(home, ())) == HINTS_MAX


def test_introduced_validators_are_peers_until_the_state_knows_of_them(tmp_path: Path) -> None:
    network = _network(tmp_path)
    membership = Membership(Machine(network.genesis), network)
    told: list[Validators] = []
    membership.callbacks.append(told.append)
    place = Endpoint(b"certificate", Address("10.0.0.9", 7000), Address("10.0.0.9", 7100))
    newest, older = Epoch(3, 161, (Member(9, bytes(32)),)), Epoch(2, 81, (Member(8, bytes(32)),))
    assert not membership.introduce(network.replicas.record, {})  # the state knows as much
    assert membership.introduce(newest, {9: place})
    assert not membership.introduce(newest, {9: place})
    assert not membership.introduce(older, {8: place})
    assert sorted(membership.current.endpoints) == [0, 1, 2, 3, 9] == sorted(told[-1].endpoints)
    # Whose signatures count is not their affair, but the state's.
    assert membership.current.epoch == network.replicas.record and 9 not in membership.current.spans
    later = read_validators(Machine(network.genesis), network)
    membership.update(((3, 0, False), later))
    assert sorted(membership.current.endpoints) == [0, 1, 2, 3, 9]
    membership.update(((3, 0, False), replace(later, epoch=newest)))
    assert sorted(membership.current.endpoints) == [0, 1, 2, 3]
