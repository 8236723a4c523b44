"""`kontor signer export|import`, `kontor recover`: what operators type, and what they are told."""

import json
import shutil
import tomllib

import pytest

from node import ledger
from node.config import Home, load_config
from node.keys import load_signer
from node.ledger import Ledger
from node.network import load_entry, load_network
from node.setup import create_network
from node.signer import record
from node.signer.opening import open_signer
from node.start import open_stores
from ops import cli


@pytest.fixture
def home(tmp_path):
    return create_network(tmp_path / "net", 4).nodes[2]


def bind(home):
    """What a first start does before anything is signed."""
    config, network = load_config(home.config), load_network(home.network)
    with open_signer(home, config, network) as signer, open_stores(home, config, network) as stores:
        signer.bind(stores.ledger)


def test_a_record_goes_to_a_home_of_its_own(home, tmp_path, capsys):
    bind(home)
    signer = Home(tmp_path / "signer")
    file = str(tmp_path / "record.json")
    assert cli.main(["signer", "export", "--home", str(home.root), "--out", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["votes"] == 0
    assert cli.main(["signer", "import", "--home", str(signer.root), file]) == 2
    assert "consensus.seed does not exist" in capsys.readouterr().err
    signer.consensus_seed.parent.mkdir(parents=True)
    shutil.move(home.consensus_seed, signer.consensus_seed)
    assert cli.main(["signer", "import", "--home", str(signer.root), file]) == 0
    assert "signs with key" in capsys.readouterr().out


def test_a_signer_learns_its_chain_from_no_node(home, capsys):
    home.network.unlink()
    assert cli.main(["signer", "--home", str(home.root)]) == 2
    assert "copy network.toml" in capsys.readouterr().err


def test_a_moved_key_does_not_start_a_node(home, tmp_path, capsys):
    bind(home)
    assert cli.main(["signer", "export", "--home", str(home.root), "--out", str(tmp_path / "f")]) == 0
    assert cli.main(["start", "--home", str(home.root)]) == 2
    assert "exported to another home" in capsys.readouterr().err


def test_a_key_without_its_record_does_not_start_a_node(home, capsys):
    home.signing_record.unlink()
    assert cli.main(["start", "--home", str(home.root)]) == 2
    assert "kontor recover" in capsys.readouterr().err
    shutil.rmtree(home.signer)
    assert cli.main(["start", "--home", str(home.root)]) == 2
    assert "kontor recover" in capsys.readouterr().err


def test_a_damaged_record_does_not_start_a_node(home, capsys):
    data = bytearray(home.signing_record.read_bytes())
    data[40] ^= 4
    home.signing_record.write_bytes(data)
    assert cli.main(["start", "--home", str(home.root)]) == 1
    assert "damaged" in capsys.readouterr().err


def test_the_record_of_another_key_does_not_start_a_node(home, capsys):
    other = Home(home.root.parent / "node1")
    shutil.copy(other.signing_record, home.signing_record)
    assert cli.main(["start", "--home", str(home.root)]) == 2
    assert "belongs to the key" in capsys.readouterr().err


def test_a_node_that_names_a_signer_holds_no_seed_and_needs_the_signer(home, capsys):
    text = home.config.read_text().replace('socket = ""', 'socket = "signer/socket"')
    home.config.write_text(text)
    assert cli.main(["start", "--home", str(home.root)]) == 2
    assert "a key has one home" in capsys.readouterr().err
    home.consensus_seed.unlink()
    assert cli.main(["start", "--home", str(home.root)]) == 2
    assert "no signer answers" in capsys.readouterr().err


def test_recover_makes_a_new_validator_and_says_how_it_takes_the_place(home, capsys):
    old_key = load_signer(home.consensus_seed).public_key
    home.signing_record.unlink()
    assert cli.main(["recover", "--home", str(home.root), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["old"] == 2
    network, admin = home.network, home.root.parent / "admin.seed"
    entry = f"--entry {facts['entry']}"
    assert facts["command"] == f"kontor validator replace 2 {entry} --network {network} --admin {admin}"
    assert cli.build_parser().parse_args(facts["command"].split()[1:]).admin == admin
    with open(facts["entry"], "rb") as file:
        (entry,) = tomllib.load(file)["validators"]
    new_key = load_signer(home.consensus_seed).public_key
    assert bytes.fromhex(entry["consensus_key"]) == new_key != old_key
    assert load_config(home.config).node.joins
    assert home.signing_record.exists()
    assert load_signer(Home(home.root / "dead-1").consensus_seed).public_key == old_key


def test_recover_touches_nothing_of_a_home_that_can_sign(home, capsys):
    (home.data / "ledger").mkdir(parents=True)
    before = home.consensus_seed.read_bytes()
    assert cli.main(["recover", "--home", str(home.root)]) == 2
    assert "nothing is lost" in capsys.readouterr().err
    assert home.consensus_seed.read_bytes() == before


def test_recover_does_not_take_what_another_version_wrote_for_lost(home, monkeypatch, capsys):
    bind(home)
    before = home.consensus_seed.read_bytes()
    for module in (record, ledger):
        with monkeypatch.context() as patch:
            patch.setattr(module, "FORMAT", b"99" if module is ledger else 99)
            assert cli.main(["recover", "--home", str(home.root)]) == 2
        assert "this version of Kontor reads 99" in capsys.readouterr().err
    assert home.consensus_seed.read_bytes() == before


@pytest.mark.parametrize("loss", ["empty", "other"])
def test_a_lost_ledger_does_not_start_a_node_and_recover_says_it_is_lost(home, tmp_path, capsys, loss):
    bind(home)
    assert cli.main(["recover", "--home", str(home.root)]) == 2
    assert "nothing is lost" in capsys.readouterr().err
    shutil.rmtree(home.data)
    if loss == "other":  # of the same validator, from a home that was set up twice
        Ledger(home.data / "ledger", load_network(home.network).chain_id, 2, 16 << 20).close()
    assert cli.main(["start", "--home", str(home.root)]) == 2
    said = capsys.readouterr().err
    assert "not the one the key voted with" in said and "kontor recover" in said
    assert cli.main(["recover", "--home", str(home.root)]) == 0
    bind(home)  # the new identity has a record and a ledger of its own


@pytest.mark.parametrize("left", ["config.toml", "keys/consensus.seed", "keys/tls.crt"])
def test_recover_finds_whom_to_replace_by_whatever_is_left(home, capsys, left):
    for path in ("config.toml", "keys/consensus.seed", "keys/tls.crt"):
        if path != left:
            (home.root / path).unlink()
    shutil.rmtree(home.signer)
    assert cli.main(["recover", "--home", str(home.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["old"] == 2


def test_recover_knows_the_id_that_the_ledger_gave(home, capsys):
    text = home.config.read_text()
    home.config.write_text(text.replace("joins = false", "joins = true").replace("id = 2", "id = 0"))
    home.data.mkdir(exist_ok=True)
    home.validator_id.write_text("9\n")
    shutil.rmtree(home.signer)
    assert cli.main(["recover", "--home", str(home.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["old"] == 9


@pytest.mark.parametrize(
    ("before", "after"), [("0.0.0.0:7003", "0.0.0.0:7003"), ("10.0.0.3:7000", "10.0.0.9:7003")]
)
def test_a_recovered_node_listens_where_its_entry_says(home, before, after):
    text = home.config.read_text()
    home.config.write_text(text.replace('peer_listen = ""', f'peer_listen = "{before}"'))
    shutil.rmtree(home.signer)
    assert cli.main(["recover", "--home", str(home.root), "--peer", "10.0.0.9:7003"]) == 0
    node = load_config(home.config).node
    assert (node.peer_listen, node.client_listen) == (after, "127.0.0.1:7100")
    (entry,) = home.root.glob("validator-*.toml")
    assert str(load_entry(entry).peer_address) == "10.0.0.9:7003" and "\nid" not in entry.read_text()


def test_a_joiner_that_lost_its_ledger_is_told_at_once_and_asks_nobody(home, capsys):
    bind(home)
    text = home.config.read_text()
    home.config.write_text(text.replace("joins = false", "joins = true"))
    shutil.rmtree(home.data)
    assert cli.main(["start", "--home", str(home.root)]) == 2
    assert "not the one the key voted with" in capsys.readouterr().err


def test_recover_on_an_empty_disk_asks_whom_to_replace(tmp_path, capsys):
    words = ["recover", "--home", str(tmp_path / "fresh")]
    assert cli.main(words) == 2
    assert "--old" in capsys.readouterr().err
    assert not (tmp_path / "fresh").exists()
    assert cli.main([*words, "--old", "1", "--admin", "a b.seed"]) == 0
    said = capsys.readouterr().out
    assert "kontor validator replace 1 --entry" in said and "--admin 'a b.seed'" in said
    assert "network.toml is lost, too" in said
    assert not (tmp_path / "fresh" / "dead-1").exists()


def test_the_signer_needs_a_home(capsys):
    assert cli.main(["signer"]) == 2
    assert "--home" in capsys.readouterr().err
