"""What a node writes when its state turns out to be wrong, and how it is replayed elsewhere.

    data/diverged-SEQ/
        dump.json      both results, each table's roots on both sides, and what ran here
        network.toml   the chain: genesis and rules
        base/          the last snapshot, as an LMDB environment; absent: the replay begins at genesis
        blocks         [certificate, [payload, …]] of every block from there to SEQ, as msgpack

A snapshot is only written once a quorum attests this node's own result, so the base is sound. A dump
is bounded; `notes` say what was left out.
"""

import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgpack

from consensus.effects import Diverged
from consensus.messages import CODEC, CommitCert, batch_digest
from consensus.primitives.errors import ConfigError, ProtocolError, StorageError
from consensus.proofs import StateSummary, compute_result_digest
from engine.machine import Machine
from engine.tables.manifest import table_shapes
from node.ledger import Ledger
from node.network import Network, load_network
from node.snapshots import Snapshots
from node.versions import WrongVersion, own_versions

PACKAGES = ("kontor", "numpy", "numba", "llvmlite", "blake3", "msgpack", "lmdb", "pynacl")
_MAP_BYTES = 1 << 40  # a dump is only read
_BLOCK_BYTES_MAX = 1 << 31


def dump_path(data: Path, seq: int) -> Path:
    """Where the dump of a divergence at block `seq` lies."""
    return data / f"diverged-{seq}"


def write_dump(
    data: Path,
    network_file: Path,
    found: Diverged,
    ledger: Ledger,
    snapshots: Snapshots,
    bytes_max: int,
) -> Path:
    """Write everything needed to replay the blocks up to the one that came out differently. Slow."""
    path, notes = dump_path(data, found.seq), list[str]()
    path.mkdir(exist_ok=True)
    shutil.copyfile(network_file, path / "network.toml")
    network = load_network(network_file)
    meta = snapshots.meta()
    base = meta.height if meta is not None and meta.height < found.seq else 0
    left = bytes_max
    if meta is not None and base == 0:
        notes.append(f"the snapshot at {meta.height} is of no use here: the replay begins at genesis")
    if base:
        size = snapshots.size_bytes()
        if size > left:
            notes.append(
                f"the base snapshot was left out, since its {size} bytes exceed {left}:"
                " `kontor heal` moves it here; until then copy DATA/state to base/"
            )
        else:
            snapshots.copy_to(path / "base")
            left -= size
    last = _write_blocks(path / "blocks", ledger, base + 1, found.seq, left)
    if last < found.seq:
        notes.append(f"blocks {last + 1} to {found.seq} are missing: not held, or beyond {bytes_max} bytes")
    content = {
        "seq": found.seq,
        "base": base,
        "last_block": last,
        "ours": _describe_side(found.ours, found.our_state, network),
        "theirs": _describe_side(found.theirs, found.their_state, network),
        "notes": notes,
        "build": describe_build(),
    }
    (path / "dump.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return path


def describe_build() -> dict[str, Any]:
    """What may make two machines compute differently."""
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.platform(),
        "machine": platform.machine(),
        **own_versions()._asdict(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _describe_side(result: bytes, state: StateSummary | None, network: Network) -> dict[str, Any]:
    if state is None:
        return {"result": result.hex()}
    names = [shape.name for shape in table_shapes(network.genesis)]
    tables = {name: part.hex() for name, part in zip(names, state.parts, strict=False)}
    return {"result": result.hex(), "state_root": state.root.hex(), "tables": tables}


def _write_blocks(path: Path, ledger: Ledger, first: int, last: int, bytes_max: int) -> int:
    """Append blocks while they fit; return the last one written, `first` − 1 if none was."""
    written = first - 1
    with path.open("wb") as file:
        for cert in ledger.blocks(first, last):
            payloads = [ledger.batch(name) for name in cert.block.batches]
            record = msgpack.packb([CODEC.encode(cert), payloads], use_bin_type=True)
            bytes_max -= len(record)
            if bytes_max < 0 or None in payloads:
                break
            file.write(record)
            written = cert.block.seq
    return written


# Replaying


@dataclass(frozen=True)
class ReplayedBlock:
    """One block of a replay. `state_root` is there at checkpoints."""

    seq: int
    block_digest: bytes
    journal_root: bytes
    result: bytes
    state_root: bytes


@dataclass(frozen=True)
class Replay:
    """What came of a dump on this machine. `side`: "ours" (the node's that wrote it), "theirs" or
    "neither"; "incomplete" if the dump does not reach its block."""

    seq: int
    blocks: tuple[ReplayedBlock, ...]
    tables: dict[str, bytes]
    differing: tuple[str, ...]  # tables whose roots differ between both sides, where they are known
    side: str
    notes: tuple[str, ...]


def replay_dump(path: Path) -> Replay:
    """Run the blocks of a dump again. Raises `ConfigError` if it is none, or another version's, and
    `StorageError` if it is damaged."""
    try:
        content = json.loads((path / "dump.json").read_text("utf-8"))
        seq, base = int(content["seq"]), int(content["base"])
        sides = {name: bytes.fromhex(content[name]["result"]) for name in ("ours", "theirs")}
        tables = [content[name].get("tables", {}) for name in ("ours", "theirs")]
        build = {name: content["build"][name] for name in own_versions()._asdict()}
        packages = dict(content["build"]["packages"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no dump of a divergence ({error}): name a directory DATA/diverged-SEQ"
        ) from error
    if build != own_versions()._asdict():
        raise WrongVersion(
            f"{path} was written by Kontor {packages.get('kontor')} with {_name(build)}; this version has"
            f" {_name(own_versions()._asdict())}: replay it with the version that wrote it"
        )
    network = load_network(path / "network.toml")
    machine = load_base(path, network, base)
    interval = network.rules.checkpoint_interval
    blocks = tuple(_run_block(machine, *item, interval) for item in read_blocks(path / "blocks", base))
    side = "incomplete"
    if blocks and blocks[-1].seq == seq:
        side = next((name for name, result in sides.items() if result == blocks[-1].result), "neither")
    differing = tuple(name for name in tables[0] if tables[0][name] != tables[1].get(name))
    notes = tuple(str(note) for note in content.get("notes", ()))
    return Replay(seq, blocks, machine.table_roots(), differing, side, notes)


def _name(versions: Mapping[str, object]) -> str:
    return " and ".join(f"{name} {number}" for name, number in versions.items())


def load_base(path: Path, network: Network, base: int) -> Machine:
    """The machine at the dump's base."""
    if base == 0:
        return Machine(network.genesis)
    if not (path / "base").is_dir():
        raise ConfigError(
            f"{path / 'base'} is missing: copy the node's data/state there, as it was before `kontor heal`"
        )
    snapshots = Snapshots(path / "base", _MAP_BYTES, sync=False)
    try:
        meta = snapshots.meta()
        if meta is None or meta.height != base:
            raise StorageError(f"{path / 'base'} is not the state at {base}")
        return Machine.restore(network.genesis, snapshots.pages(), meta.state.root)
    except ProtocolError as error:
        raise StorageError(f"{path / 'base'} is damaged: {error}") from error
    finally:
        snapshots.close()


def read_blocks(path: Path, base: int) -> Iterator[tuple[CommitCert, Sequence[bytes]]]:
    """The blocks behind `base`, with their payloads."""
    expected = base + 1
    try:
        with path.open("rb") as file:
            for record in msgpack.Unpacker(file, raw=False, max_buffer_size=_BLOCK_BYTES_MAX):
                cert, payloads = CODEC.decode(record[0]), record[1]
                names = tuple(batch_digest(payload) for payload in payloads)
                if not isinstance(cert, CommitCert) or cert.block.seq != expected:
                    raise StorageError(f"{path} lacks block {expected}")
                if names != cert.block.batches:
                    raise StorageError(f"{path} has other payloads for block {expected}")
                yield cert, payloads
                expected += 1
    except (OSError, ValueError, TypeError, IndexError, msgpack.UnpackException, ProtocolError) as error:
        raise StorageError(f"{path} cannot be read ({error}): copy the dump again") from error


def _run_block(machine: Machine, cert: CommitCert, payloads: Sequence[bytes], interval: int) -> ReplayedBlock:
    block = cert.block
    result = machine.apply(block.seq, block.digest, block.time_ms, payloads)
    state = machine.summary() if block.seq % interval == 0 else None
    digest = compute_result_digest(block.digest, result.journal_root, state.digest if state else b"")
    return ReplayedBlock(block.seq, block.digest, result.journal_root, digest, state.root if state else b"")
