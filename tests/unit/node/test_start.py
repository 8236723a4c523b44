"""What a node tells its operator as it starts."""

from node.network import parse_address
from node.start import _elsewhere
from node.validators import Endpoint

PLACE = Endpoint(b"", parse_address("10.0.0.9:7000", ""), parse_address("10.0.0.9:7100", ""))


def warnings(peers: str, clients: str) -> list[str]:
    return _elsewhere(800, PLACE, parse_address(peers, ""), parse_address(clients, ""))


def test_a_node_that_listens_elsewhere_than_its_ledger_says_names_both_addresses():
    (line,) = warnings("10.0.0.9:7000", "10.0.0.9:7200")
    assert "10.0.0.9:7200" in line and "10.0.0.9:7100" in line and "block 800" in line
    assert "'node.client_listen'" in line and "--to-client" in line
    (line,) = warnings("10.0.0.8:7000", "10.0.0.9:7100")
    assert "'node.peer_listen'" in line


def test_listening_on_every_address_is_no_mistake():
    assert warnings("0.0.0.0:7000", "[::]:7100") == []


def test_a_node_that_its_ledger_does_not_know_yet_is_told_nothing():
    assert _elsewhere(0, None, PLACE.peer, PLACE.client) == []
