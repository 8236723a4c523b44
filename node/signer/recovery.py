"""A new identity in the home of a validator whose key is dead. Nothing of the old one is deleted."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from consensus.primitives.errors import ConfigError, LedgerError, StorageError
from node.config import Config, Home, load_config, write_config
from node.joining import own_id
from node.keys import load_certificate, load_signer
from node.ledger import Ledger
from node.network import Address, Validator, load_network, parse_address
from node.setup import create_node_keys
from node.signer.binding import check_standing, standing_of
from node.signer.journal import sync_folder
from node.signer.record import SigningRecord
from node.storage import HomeLock
from node.versions import WrongVersion


def make_new_identity(
    home: Home, old_id: int | None, peer: Address, client: Address
) -> tuple[int, Validator, Path | None]:
    """Return the lost validator's id, the new one's entry, and where the rest of the old one lies now. The
    entry's id counts for nothing: the ledger gives one.

    Raises `ConfigError` if the home can still sign, or if it is not known who is to be replaced.
    """
    old = _find_old(home) if old_id is None else old_id  # first: a refusal leaves no folder behind
    home.root.mkdir(parents=True, exist_ok=True)
    with HomeLock(home.data):
        config = load_config(home.config) if home.config.exists() else Config()
        _check_lost(home, config)
        aside = _put_aside(home)
        validator = create_node_keys(home, 0, peer, client)
        node = replace(
            config.node,
            id=0,
            joins=True,  # the ledger gives the id
            peer_listen=_listen_at(config.node.peer_listen, peer, "node.peer_listen"),
            client_listen=_listen_at(config.node.client_listen, client, "node.client_listen"),
        )
        changed = replace(config, node=node, signer=replace(config.signer, socket=""))
        write_config(home.config, changed)
    return old, validator, aside


def _listen_at(before: str, told: Address, key: str) -> str:
    """Where it listens, if others are told that it is at `told`: as before if that has the same port, since
    the host may differ by right (0.0.0.0, NAT); else there."""
    return before if before and parse_address(before, key).port == told.port else str(told)


def _find_old(home: Home) -> int:
    """Whose home this is, by whatever of it is left. Raises `ConfigError` if nothing tells."""
    with suppress(LedgerError):
        return own_id(home, load_config(home.config))
    with suppress(LedgerError):
        for validator in load_network(home.network).validators:
            if _has_key_of(home, validator):
                return validator.id
    raise ConfigError(
        f"nothing in {home.root} says whom the new validator replaces: say it with --old"
        " (`kontor validator list` shows who there is)"
    )


def _has_key_of(home: Home, validator: Validator) -> bool:
    with suppress(LedgerError):
        if load_signer(home.consensus_seed).public_key == validator.consensus_key:
            return True
    with suppress(LedgerError):
        return load_certificate(home.tls_certificate) == validator.tls_certificate
    return False


def _check_lost(home: Home, config: Config) -> None:
    """Raise `ConfigError` if key, record and the ledger they voted with are there: then nothing is lost."""
    try:
        public_key = load_signer(home.consensus_seed).public_key
        record = SigningRecord.open(home.signing_record)
        record.close()
        record.check_ready(public_key)
    except WrongVersion:
        raise  # whether anything is lost is for the version that wrote it to say
    except LedgerError:
        return
    if (home.data / "ledger").exists() and _is_ours(home, config, record):
        raise ConfigError(
            f"{home.root} has its key, its signing record and its ledger: nothing is lost;"
            f" run `kontor start --home {home.root}`"
        )


def _is_ours(home: Home, config: Config, record: SigningRecord) -> bool:
    """Whether the key may go on with the ledger here. Raises `ConfigError` if config.toml is wrong."""
    if not record.ledger_id:
        return True  # it never signed
    path, size = home.data / "ledger", config.ledger.blocks_mib << 20
    try:
        ledger = Ledger(path, record.chain_id, own_id(home, config), size)
    except StorageError:
        return False
    try:
        check_standing(record.ledger_id, record.turn, record.votes.floor, standing_of(ledger))
    except LedgerError:
        return False
    finally:
        ledger.close()
    return True


def _put_aside(home: Home) -> Path | None:
    """Move everything that belongs to the old identity into a folder of its own; None: nothing was left."""
    left = [path for name in ("keys", "signer", "config.toml") if (path := home.root / name).exists()]
    left += [path for path in sorted(home.data.iterdir()) if path.name != "lock"]
    if not left:
        return None
    number = 1
    while (aside := home.root / f"dead-{number}").exists():
        number += 1
    (aside / "data").mkdir(parents=True)
    for path in left:
        os.rename(path, aside / path.relative_to(home.root))
    sync_folder(home.root)
    return aside
