"""config.toml: typed, bounded, and every error names the key."""

from dataclasses import replace
from pathlib import Path

import pytest

from consensus.primitives.errors import ConfigError
from node.config import (
    Config,
    NodeSettings,
    PeerSettings,
    load_config,
    parse_routes,
    render_config,
    write_config,
)
from node.network import Address


def test_the_default_config_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    config = replace(Config(), node=NodeSettings(id=3, client_listen="[::1]:99"))
    write_config(path, config)
    assert load_config(path) == config


def test_every_setting_is_explained_in_the_default_config() -> None:
    lines = render_config(Config()).splitlines()
    for index, line in enumerate(lines):
        if "=" in line and not line.startswith("#"):
            assert lines[index - 1].startswith("# ") and len(lines[index - 1]) > 4, line


def test_an_empty_config_means_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    assert load_config(path) == Config()


def test_routes_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    config = replace(Config(), peers=PeerSettings(routes=("2=127.0.0.1:9000", "3=[::1]:9001")))
    write_config(path, config)
    assert load_config(path) == config
    assert parse_routes(config.peers.routes) == {2: Address("127.0.0.1", 9000), 3: Address("::1", 9001)}


def test_a_config_is_never_overwritten(tmp_path: Path) -> None:
    write_config(tmp_path / "config.toml", Config())
    with pytest.raises(ConfigError, match="exists"):
        write_config(tmp_path / "config.toml", Config())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[nodes]\nid = 1", "unknown key 'nodes'"),
        ("[node]\nidentity = 1", r"\[node\] unknown key 'identity'.*worker_threads"),
        ("[node]\nid = -1", "'node.id' is -1; it must be between 0 and 4095"),
        ("[node]\nid = '1'", "'node.id' is '1'; it must be a whole number"),
        ("[node]\nid = true", "it must be a whole number"),
        ("node = 3", r"\[node\] must be a table"),
        ("[node]\nid = ", "not valid TOML"),
        ("[node]\npeer_listen = 'here'", "'node.peer_listen' is 'here'; it must be host:port"),
        ("[telemetry]\nmetrics_listen = '0.0.0.0:9100'", "metrics have no password"),
        ("[telemetry]\nlog_level = 'loud'", "use one of debug, info"),
        ("[peers]\nreconnect_ms_min = 5000", "above 'peers.reconnect_ms_max'"),
        ("[peers]\nroutes = '2=a:1'", "'peers.routes' is '2=a:1'; it must be a list of strings"),
        ("[peers]\nroutes = [2]", r"'peers.routes' is \[2\]; it must be a list of strings"),
        ("[peers]\nroutes = ['2:a:1']", "lists '2:a:1'; an entry is ID=host:port"),
        ("[peers]\nroutes = ['4096=a:1']", "a validator's id from 0 to 4095"),
        ("[peers]\nroutes = ['2=a']", "'peers.routes' is 'a'; it must be host:port"),
        ("[peers]\nroutes = ['2=a:0']", "port 0 cannot be dialled"),
        ("[peers]\nroutes = ['2=a:1', '2=b:1']", "lists validator 2 twice"),
        ("[node]\nid = 2\n[peers]\nroutes = ['1=a:1']", "validator 1, which validator 2 never dials"),
        ("[node]\nid = 2\n[peers]\nroutes = ['2=a:1']", "validator 2, which validator 2 never dials"),
    ],
)
def test_a_wrong_config_is_refused_with_key_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as refusal:
        load_config(path)
    assert str(path) in str(refusal.value)


def test_a_missing_config_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="put it back, or write a new one"):
        load_config(tmp_path / "config.toml")


def test_a_config_of_other_bytes_than_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(path)
