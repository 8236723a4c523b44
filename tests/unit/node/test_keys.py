"""Keys on disk: secret, never overwritten, and tied to a validator."""

import stat
from pathlib import Path

import pytest

from consensus.primitives.errors import ConfigError
from node.config import Home
from node.keys import load_certificate, load_signer, new_seed, write_seed, write_tls_identity
from node.setup import check_node_identity, create_network


def test_a_seed_reads_back_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "a.seed"
    seed = new_seed()
    write_seed(path, seed)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_signer(path).public_key == load_signer(path).public_key
    assert bytes.fromhex(path.read_text()) == seed


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.seed"
    write_seed(path, new_seed())
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="never overwritten"):
        write_seed(path, new_seed())
    with pytest.raises(ConfigError, match="never overwritten"):
        write_tls_identity(path, tmp_path / "cert", "x")
    assert path.read_bytes() == before


def test_a_seed_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.seed"
    write_seed(path, new_seed())
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_signer(path)


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"00" * 31, b"\xff" * 64])
def test_a_damaged_seed_is_refused_without_being_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.seed"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="64 hex digits") as refusal:
        load_signer(path)
    assert not content or content.decode("latin1") not in str(refusal.value)


def test_missing_keys_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without one, `kontor recover` makes this node a new"):
        load_signer(tmp_path / "a.seed")
    with pytest.raises(ConfigError, match="without one, `kontor recover` makes this node a new"):
        load_certificate(tmp_path / "tls.crt")


def test_a_network_is_not_written_over_another(tmp_path: Path) -> None:
    create_network(tmp_path / "net", 1)
    with pytest.raises(ConfigError, match="not empty"):
        create_network(tmp_path / "net", 1)


def test_a_home_with_keys_of_another_validator_is_refused(tmp_path: Path) -> None:
    homes = create_network(tmp_path / "net", 2)
    check_node_identity(homes.nodes[0], homes.network, 0)
    with pytest.raises(ConfigError, match="not the key of validator 1"):
        check_node_identity(homes.nodes[0], homes.network, 1)
    with pytest.raises(ConfigError, match="lists only 2 validators"):
        check_node_identity(homes.nodes[0], homes.network, 2)


def test_a_renewed_certificate_that_is_not_in_the_network_file_is_refused(tmp_path: Path) -> None:
    homes = create_network(tmp_path / "net", 1)
    home: Home = homes.nodes[0]
    home.tls_certificate.unlink()
    home.tls_key.unlink()
    write_tls_identity(home.tls_key, home.tls_certificate, "new")
    with pytest.raises(ConfigError, match="not the certificate of validator 0"):
        check_node_identity(home, homes.network, 0)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"peer_port": 99999}, "between 1 and 65535"),
        ({"peer_port": 65533}, "between 1 and 65535"),
        ({"peer_port": 7000, "client_port": 7002}, "127.0.0.1:7002 would be listened on 2 times"),
        ({"client_port": 7199}, "127.0.0.1:7200 would be listened on 2 times"),
        ({"name": "No Name"}, "'name'"),
    ],
)
def test_a_network_that_is_refused_leaves_nothing_behind(tmp_path: Path, choices: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_network(tmp_path / "net", 4, **choices)
    assert not (tmp_path / "net").exists()
    create_network(tmp_path / "net", 4)


def test_hosts_of_their_own_may_use_the_same_ports(tmp_path: Path) -> None:
    hosts = ["10.0.0.1", "10.0.0.2"]
    create_network(tmp_path / "net", 2, host=hosts, ports=[(7000, 7001)] * 2, metrics_port=None)
