"""A home's blocks, to be executed again elsewhere: read beside a running node, from a copy, or from a dump.

The replay begins at genesis where the ledger holds every block, else at the home's last checkpoint: what lies
before that can only be replayed from a node that keeps all blocks.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from consensus.messages import CommitCert
from consensus.primitives.errors import ConfigError, ProtocolError, StorageError
from engine.machine import Machine
from node.config import Home
from node.dumps import load_base, read_blocks
from node.ledger import Ledger
from node.network import load_network
from node.snapshots import Snapshots
from node.state_sync.swap import STATE

_MAP_BYTES = 1 << 40  # nothing is written


class StoredBlock(NamedTuple):
    """What `Machine.apply` takes."""

    height: int
    digest: bytes
    time_ms: int
    payloads: list[bytes]


class Recording(NamedTuple):
    """A machine, and the blocks that follow it.

    A quorum vouched for `attested_root` as the journal's root at `attested_height`; 0: unknown.
    """

    machine: Machine
    blocks: Iterator[StoredBlock]
    attested_height: int = 0
    attested_root: bytes = b""


@contextmanager
def open_recording(path: Path, first: int) -> Iterator[Recording]:
    """The blocks of a home or of a dump, from a state before block `first` on.

    Raises `ConfigError` where there is none to be had, and `StorageError` where something is damaged.
    """
    if (path / "dump.json").exists():
        yield _open_dump(path)
        return
    home = Home(path)
    if not (home.data / "ledger").is_dir():
        raise ConfigError(f"{path} is neither a node's home nor a DATA/diverged-SEQ")
    network = load_network(home.network)
    ledger = Ledger(home.data / "ledger", network.chain_id, None, _MAP_BYTES)
    try:
        snapshots = _open_state(home)
        try:
            meta = snapshots.meta() if snapshots is not None else None
            attested = (meta.height, meta.journal_root) if meta is not None else (0, b"")
            if ledger.block(1) is not None or meta is None or snapshots is None:
                yield Recording(Machine(network.genesis), _stored(ledger, 1), *attested)
                return
            if meta.height >= first:
                raise ConfigError(
                    f"{path} no longer holds what came before block {meta.height}, where its state stands:"
                    f" ask from block {meta.height + 1} on, or ask a node that keeps all blocks"
                )
            try:
                machine = Machine.restore(network.genesis, snapshots.pages(), meta.state.root)
            except ProtocolError as error:
                raise StorageError(f"{snapshots.path} is damaged: {error}") from error
            yield Recording(machine, _stored(ledger, meta.height + 1))
        finally:
            if snapshots is not None:
                snapshots.close()
    finally:
        ledger.close()


def _open_state(home: Home) -> Snapshots | None:
    path = home.data / STATE
    return Snapshots(path, _MAP_BYTES, readonly=True) if (path / "data.mdb").exists() else None


def _open_dump(path: Path) -> Recording:
    try:
        base = int(json.loads((path / "dump.json").read_text("utf-8"))["base"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no dump of a divergence ({error})") from error
    blocks = (_block(cert, list(payloads)) for cert, payloads in read_blocks(path / "blocks", base))
    return Recording(load_base(path, load_network(path / "network.toml"), base), blocks)


def _stored(ledger: Ledger, first: int) -> Iterator[StoredBlock]:
    for cert in ledger.blocks(first, ledger.committed_after(first - 1)):
        payloads = [ledger.batch(name) for name in cert.block.batches]
        if None in payloads:
            raise ConfigError(f"{ledger.path} lacks a payload of block {cert.block.seq}: ask another node")
        yield _block(cert, [payload for payload in payloads if payload is not None])


def _block(cert: CommitCert, payloads: list[bytes]) -> StoredBlock:
    return StoredBlock(cert.block.seq, cert.block.digest, cert.block.time_ms, payloads)
