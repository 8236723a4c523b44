"""`kontor init` and `kontor keys`: files, and what is never overwritten or shown."""

import re

import pytest

from node.config import Home, load_config
from node.keys import load_signer
from node.network import load_entry
from node.setup import create_network
from ops import cli


@pytest.fixture
def home(tmp_path):
    assert cli.main(["init", "--home", str(tmp_path / "a"), "--id", "2", "--peer", "10.0.0.3:7000"]) == 0
    return Home(tmp_path / "a")


def test_init_makes_keys_and_a_config_and_prints_the_public_entry(tmp_path, capsys):
    assert cli.main(["init", "--home", str(tmp_path / "a"), "--id", "2", "--peer", "10.0.0.3:7000"]) == 0
    home, out = Home(tmp_path / "a"), capsys.readouterr().out
    assert load_config(home.config).node.id == 2
    assert f'consensus_key = "{load_signer(home.consensus_seed).public_key.hex()}"' in out
    assert 'peer_address = "10.0.0.3:7000"' in out
    assert home.consensus_seed.read_text().strip() not in out
    assert home.consensus_seed.stat().st_mode & 0o777 == 0o600


def test_init_never_overwrites_keys(home, capsys):
    before = {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}
    assert cli.main(["init", "--home", str(home.root)]) == 2
    assert "exists" in capsys.readouterr().err
    home.config.unlink()  # even if somebody removed the config
    assert cli.main(["init", "--home", str(home.root)]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert all(path.read_bytes() == data for path, data in before.items() if path != home.config)


def test_join_takes_only_a_network_that_names_our_keys(home, tmp_path, capsys):
    homes = create_network(tmp_path / "net", 4)
    assert cli.main(["init", "--home", str(home.root), "--join", str(homes.network_file)]) == 2
    assert "not the key of validator 2" in capsys.readouterr().err
    assert not home.network.exists()


def test_join_copies_the_network_into_its_home(tmp_path):
    homes = create_network(tmp_path / "net", 4)
    homes.nodes[1].network.unlink()
    assert cli.main(["init", "--home", str(homes.nodes[1].root), "--join", str(homes.network_file)]) == 0
    assert homes.nodes[1].network.read_text() == homes.network_file.read_text()
    assert cli.main(["init", "--home", str(homes.nodes[1].root), "--join", str(homes.network_file)]) == 2


def test_keys_show_prints_public_keys_only(tmp_path, capsys):
    homes = create_network(tmp_path / "net", 4)
    assert cli.main(["keys", "show", "--home", str(homes.nodes[3].root)]) == 0
    out = capsys.readouterr().out
    assert homes.network.validators[3].consensus_key.hex() in out
    assert homes.network.chain_id.hex() in out
    assert homes.nodes[3].consensus_seed.read_text().strip() not in out


def test_keys_new_writes_a_seed_once(tmp_path, capsys):
    path = tmp_path / "trader.seed"
    assert cli.main(["keys", "new", "--out", str(path)]) == 0
    assert capsys.readouterr().out.strip() == load_signer(path).public_key.hex()
    assert cli.main(["keys", "new", "--out", str(path)]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_keys_that_others_can_read_are_refused(home, capsys):
    home.consensus_seed.chmod(0o644)
    assert cli.main(["keys", "show", "--home", str(home.root)]) == 2
    assert re.search(r"chmod 600", capsys.readouterr().err)


@pytest.mark.parametrize("address", ["localhost", "host:port", "host:99999", "::1:7000"])
def test_addresses_that_cannot_be_are_refused_by_name(tmp_path, capsys, address):
    assert cli.main(["init", "--home", str(tmp_path / "a"), "--client", address]) == 2
    assert "--client" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_config_with_an_unknown_key_is_refused_before_anything_starts(tmp_path, capsys):
    homes = create_network(tmp_path / "net", 4)
    with homes.nodes[0].config.open("a") as file:
        file.write("\n[surprise]\nx = 1\n")
    assert cli.main(["start", "--home", str(homes.nodes[0].root)]) == 2
    err = capsys.readouterr().err
    assert "unknown key 'surprise'" in err and err.count("\n") == 1
    assert not homes.nodes[0].data.exists()


def test_a_network_file_of_another_chain_is_refused(tmp_path, capsys):
    homes, others = create_network(tmp_path / "a", 4), create_network(tmp_path / "b", 4, name="other")
    homes.nodes[0].network.write_bytes(others.network_file.read_bytes())
    assert cli.main(["start", "--home", str(homes.nodes[0].root)]) == 2
    assert "not the key of validator 0" in capsys.readouterr().err


def test_testnet_init_writes_files_for_several_hosts_once(tmp_path, capsys):
    words = [
        "testnet",
        "init",
        "--out",
        str(tmp_path / "net"),
        "--hosts",
        "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4",
    ]
    assert cli.main(words) == 0
    assert "10.0.0.3:7002" in capsys.readouterr().out
    assert (tmp_path / "net" / "node3" / "config.toml").exists()
    assert cli.main(words) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert cli.main([*words[:3], str(tmp_path / "other"), "--hosts", "10.0.0.1,10.0.0.2"]) == 2
    assert "2 hosts were given for 4 nodes" in capsys.readouterr().err


def test_the_entry_of_a_newcomer_has_no_id_and_whom_it_asks_goes_to_its_config(tmp_path, capsys):
    network = str(create_network(tmp_path / "net", 4).network_file)
    words = ["init", "--home", str(tmp_path / "new"), "--join", network, "--known", "10.0.0.9:7100"]
    assert cli.main(words) == 2
    assert "--known is for --as-validator" in capsys.readouterr().err
    assert cli.main([*words[:-1], "10.0.0.9:0", "--as-validator"]) == 2
    assert "port 0 cannot be connected to" in capsys.readouterr().err
    assert cli.main([*words, "--as-validator", "--peer", "10.0.0.8:7000"]) == 0
    entry = tmp_path / "entry.toml"
    entry.write_text(capsys.readouterr().out)
    assert "\nid" not in entry.read_text()
    home = Home(tmp_path / "new")
    assert load_entry(entry).consensus_key == load_signer(home.consensus_seed).public_key
    assert load_config(home.config).peers.known == ("10.0.0.9:7100",)
    entry.write_text(f"{entry.read_text()}id = 7\n")  # as former versions printed it
    assert str(load_entry(entry).peer_address) == "10.0.0.8:7000"


@pytest.mark.parametrize(
    "words",
    [
        ["start"],
        ["heal"],
        ["keys", "show"],
        ["signer"],
        ["signer", "export", "--out", "record"],
        ["status"],
        ["recover"],
    ],
)
def test_a_home_that_is_not_there_is_named_and_not_begun(tmp_path, capsys, words):
    assert cli.main([*words, "--home", str(tmp_path / "missing")]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "missing") in said and ("kontor init" in said or "--old" in said)
    assert "testnet" not in said
    assert not list(tmp_path.iterdir())


def test_a_joiner_without_an_id_says_so_instead_of_id_0(tmp_path, capsys):
    network = str(create_network(tmp_path / "net", 4).network_file)
    home = Home(tmp_path / "new")
    assert cli.main(["init", "--home", str(home.root), "--join", network, "--as-validator"]) == 0
    capsys.readouterr()
    assert cli.main(["keys", "show", "--home", str(home.root)]) == 0
    assert "node id          none yet" in capsys.readouterr().out
    home.data.mkdir()
    home.validator_id.write_text("9\n")
    assert cli.main(["keys", "show", "--home", str(home.root)]) == 0
    assert "node id          9\n" in capsys.readouterr().out
