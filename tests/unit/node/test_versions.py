"""What another version wrote is refused, or taken over at the wedge that operators acknowledge."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.durable import STABLE
from consensus.messages import CODEC, Block, CommitCert
from consensus.primitives.errors import ConfigError
from consensus.proofs import CheckpointCert, StateSummary, Vote
from node import ledger as ledgers
from node import versions
from node.config import load_config
from node.ledger import Ledger, Turn
from node.network import load_network
from node.setup import create_network
from node.start import open_stores
from node.versions import PROTOCOL_VERSION, Versions, WrongVersion, check_versions, own_versions
from ops.debug import heal_home

CHAIN, WEDGE = bytes([7]) * 32, 3
OLD = Versions(PROTOCOL_VERSION - 1, own_versions().layout)
VOTES = (Vote(0, bytes(64)),)


def checkpoint(seq: int, boundary: int) -> bytes:
    state = StateSummary(bytes(32), (bytes(32),), bytes(32), boundary)
    return CODEC.encode(CheckpointCert(seq, bytes(32), bytes(32), state, VOTES))


def stopped(path: Path, stable: bytes, blocks: int = WEDGE) -> Ledger:
    """A ledger of the old protocol with so many blocks."""
    ledger = Ledger(path / "ledger", CHAIN, 0, 16 << 20)
    certs = [CommitCert(0, Block(seq, seq, ()), VOTES) for seq in range(1, blocks + 1)]
    ledger.commit(Turn({STABLE: stable}, certs))
    ledger.take_versions(OLD)
    return ledger


def test_a_ledger_of_this_version_goes_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", CHAIN, 0, 16 << 20)
    check_versions(ledger, 0)
    assert ledger.versions == own_versions()


def test_a_ledger_of_another_protocol_goes_on_at_the_acknowledged_wedge_and_is_of_this_one_then(
    tmp_path: Path,
) -> None:
    ledger = stopped(tmp_path, checkpoint(WEDGE, WEDGE))
    check_versions(ledger, WEDGE)
    ledger.close()
    again = Ledger(tmp_path / "ledger", CHAIN, 0, 16 << 20)
    check_versions(again, 0)


@pytest.mark.parametrize(
    ("stable", "blocks", "resume_after"),
    [
        (checkpoint(WEDGE, WEDGE), WEDGE, 0),  # nobody acknowledged it
        (checkpoint(WEDGE, WEDGE), WEDGE, WEDGE + 1),  # another height was
        (checkpoint(WEDGE, 0), WEDGE, WEDGE),  # a checkpoint, and no wedge
        (checkpoint(WEDGE, WEDGE), WEDGE + 1, WEDGE),  # the chain went on
    ],
)
def test_a_ledger_of_another_protocol_is_refused_elsewhere(
    tmp_path: Path, stable: bytes, blocks: int, resume_after: int
) -> None:
    ledger = stopped(tmp_path, stable, blocks)
    told = f"{ledger.path} .* protocol {PROTOCOL_VERSION - 1}; .* {PROTOCOL_VERSION}.*kontor validator wedge"
    with pytest.raises(WrongVersion, match=told):
        check_versions(ledger, resume_after)
    assert ledger.versions == OLD


def test_a_state_of_another_layout_is_refused_even_at_the_wedge(tmp_path: Path) -> None:
    ledger = stopped(tmp_path, checkpoint(WEDGE, WEDGE))
    layout = own_versions().layout
    ledger.take_versions(Versions(PROTOCOL_VERSION, layout - 1))
    with pytest.raises(WrongVersion, match=f"layout {layout - 1}; .* layout {layout},.*kontor heal"):
        check_versions(ledger, WEDGE)


def test_a_ledger_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger(tmp_path / "ledger", CHAIN, 0, 16 << 20).close()
    monkeypatch.setattr(ledgers, "FORMAT", b"99")
    with pytest.raises(
        WrongVersion, match=r"has format .; this version of Kontor reads 99: start the version"
    ):
        Ledger(tmp_path / "ledger", CHAIN, 0, 16 << 20)


def _newer_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PROTOCOL_VERSION", PROTOCOL_VERSION + 1)


def _newer_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "LAYOUT_VERSION", own_versions().layout + 1)


@pytest.mark.parametrize("upgrade", [_newer_protocol, _newer_layout])
def test_a_home_of_another_version_opens_only_once_it_is_to_be_healed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upgrade: Callable[[pytest.MonkeyPatch], None]
) -> None:
    home = create_network(tmp_path / "net", 4).nodes[0]
    config, network = load_config(home.config), load_network(home.network)
    config = replace(config, ledger=replace(config.ledger, blocks_mib=16, state_mib=16, history_mib=16))
    with open_stores(home, config, network):
        pass
    upgrade(monkeypatch)
    with pytest.raises(ConfigError, match="this version of Kontor"), open_stores(home, config, network):
        pass
    heal_home(home)
    with open_stores(home, config, network) as stores:
        assert stores.ledger.versions == own_versions()
