"""The network file: strict, and the source of the chain id."""

from dataclasses import replace
from pathlib import Path

import pytest

from consensus.certificates import new_view_bytes_max
from consensus.primitives.errors import ConfigError
from consensus.quorum import REPLICAS_MAX, ReplicaSet
from node.network import (
    FRAME_BYTES_MAX,
    Address,
    Capacity,
    Network,
    Rules,
    load_network,
    parse_address,
    render_network,
)
from node.setup import NetworkHomes, create_network, with_addresses


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> NetworkHomes:
    return create_network(tmp_path_factory.mktemp("net") / "net", 4)


@pytest.fixture
def network(homes: NetworkHomes) -> Network:
    return homes.network


def test_a_network_file_reads_back_as_it_was_written(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "network.toml"
    path.write_text(render_network(network))
    assert load_network(path) == network
    assert load_network(path).chain_id == network.chain_id


def test_every_node_gets_the_same_network_file(homes: NetworkHomes) -> None:
    assert {home.network.read_text() for home in homes.nodes} == {homes.network_file.read_text()}


def test_moving_a_validator_keeps_the_chain_id(network: Network) -> None:
    peers = [Address("10.0.0.1", 7000 + index) for index in range(4)]
    clients = [Address("10.0.0.1", 8000 + index) for index in range(4)]
    assert with_addresses(network, peers, clients).chain_id == network.chain_id


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"admin_keys": (bytes(32),)},
        {"rules": Rules(window=256)},
        {"capacity": Capacity(orders=2048)},
        {"plugins": ("elsewhere.options:Plugin",)},
    ],
)
def test_changing_what_replicas_must_agree_on_changes_the_chain_id(
    network: Network, change: dict[str, object]
) -> None:
    assert replace(network, **change).chain_id != network.chain_id  # type: ignore[arg-type]


def test_changing_a_validator_key_changes_the_chain_id(network: Network) -> None:
    changed = replace(network.validators[2], consensus_key=bytes(32))
    validators = (*network.validators[:2], changed, network.validators[3])
    assert replace(network, validators=validators).chain_id != network.chain_id


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 2", "reads format 1"),
        ("format = 1", "format = 1\nsecret = 3", "unknown key 'secret'"),
        ('name = "local"', 'name = "Not Good"', "'name' is 'Not Good'"),
        ('name = "local"', "name = 5", "'name' is 5; it must be a string"),
        ("window = 128", "window = 8", "at least twice"),
        ("window = 128", "window = 128\nspeed = 1", r"\[rules\] unknown key 'speed'"),
        ("window = 128", "window = true", "it must be a whole number"),
        ("window = 128", "window = 1000000", "between 4 and 4096"),
        ("window = 128", "window = 4096", "'rules.window' is 4096; .* of at most 18[0-9][0-9]"),
        ("id = 3", "id = 2", "in order with ids"),
        ('peer_address = "127.0.0.1:7003"', 'peer_address = "127.0.0.1"', "must be host:port"),
        ('peer_address = "127.0.0.1:7003"', 'peer_address = "127.0.0.1:7002"', "share a peer_address"),
        ('tls_certificate = "M', 'tls_certificate = "!', "is not base64"),
        ('tls_certificate = "MIIB', 'tls_certificate = "AAAA', "is not an X.509 certificate"),
        ('consensus_key = "', 'consensus_key = "zz', "64 lower-case hex digits"),
    ],
)
def test_a_wrong_network_file_is_refused_with_key_and_remedy(
    homes: NetworkHomes, tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "network.toml"
    text = homes.network_file.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as refusal:
        load_network(path)
    assert str(path) in str(refusal.value)


def test_a_missing_network_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kontor testnet init"):
        load_network(tmp_path / "network.toml")


@pytest.mark.parametrize("text", ["", "host", ":80", "host:", "host:x", "host:99999", "::1:80", "host:-1"])
def test_a_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"'here'"):
        parse_address(text, "here")


@pytest.mark.parametrize("text", ["127.0.0.1:7000", "[::1]:7000", "node.example:0"])
def test_an_address_prints_as_it_was_read(text: str) -> None:
    assert str(parse_address(text, "here")) == text


def test_a_new_view_of_the_largest_network_fits_one_message() -> None:
    replicas = ReplicaSet.genesis(bytes(32), tuple(bytes([index]) * 32 for index in range(REPLICAS_MAX)))
    assert new_view_bytes_max(replicas, Rules().window) <= FRAME_BYTES_MAX
