"""What a node must never forget: its votes, the committed blocks, and the payloads they name.

One LMDB environment; one transaction with fsync per turn of the loop holds everything that turn
must make durable (`Turn`). Only when it has returned may a message of the turn be sent.

    meta     chain, replica, format; protocol, layout: see `node.versions`;
             id: random, the signer's record knows it; turns: transactions so far;
             base: blocks up to here may be absent, since a state was fetched instead;
             swap: the height of a fetched state that is to replace the directory of the old one
    votes    the replica's vote log: key -> checksum, value
    blocks   seq (8 bytes, big-endian) -> commit certificate
    batches  digest -> payload
    pending  digests of stored payloads that no stored block names yet

LMDB keeps pages whole but does not notice a flipped bit, so everything read back is checked:
votes by a checksum, payloads by their digest, blocks by their canonical encoding.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from consensus.messages import CODEC, CommitCert, batch_digest
from consensus.primitives.errors import ConfigError, ProtocolError
from node import faults
from node.signer.binding import LEDGER_ID_SIZE
from node.storage import check_damage, open_environment, storage_errors
from node.versions import Versions, WrongVersion, own_versions

FORMAT = b"3"
CHECKSUM_SIZE = 8
_SWAP, _BASE, _ID, _TURNS = b"swap", b"base", b"id", b"turns"
_PROTOCOL, _LAYOUT = b"protocol", b"layout"
_SETTING = "ledger.blocks_mib"


@dataclass
class Turn:
    """Everything one turn of the loop makes durable, in one transaction."""

    votes: dict[bytes, bytes | None] = field(default_factory=dict)  # None: erase
    blocks: list[CommitCert] = field(default_factory=list)
    batches: dict[bytes, bytes] = field(default_factory=dict)  # digest -> payload
    ordered: list[bytes] = field(default_factory=list)  # digests that committed blocks name
    swap: int = 0  # the staged state at this height is the state from now on
    base: int = 0  # and blocks up to here may be absent

    def __bool__(self) -> bool:
        return bool(self.votes or self.blocks or self.batches or self.swap)

    @property
    def size_bytes(self) -> int:
        """Payload and vote bytes; certificates are small."""
        return sum(map(len, self.batches.values())) + sum(len(value or b"") for value in self.votes.values())


class Ledger:
    """The durable log of one replica. Methods may be called from any thread."""

    def __init__(self, path: Path, chain_id: bytes, replica: int | None, map_bytes: int) -> None:
        """Open or create. Raises `ConfigError` if it belongs to another network or replica,
        `WrongVersion` if it has another format, and `StorageError` if it cannot be used.

        Whoever goes on with it calls `check_versions` first. Without a `replica` it is only read, be it a
        running node's."""
        self.path = path
        reads = replica is None
        self._env = open_environment(path, map_bytes, 5, _SETTING, readonly=reads)
        with storage_errors(path, _SETTING):
            self._meta = self._env.open_db(b"meta", create=not reads)
            self._votes = self._env.open_db(b"votes", create=not reads)
            self._blocks = self._env.open_db(b"blocks", create=not reads)
            self._batches = self._env.open_db(b"batches", create=not reads)
            self._pending = self._env.open_db(b"pending", create=not reads)
        try:
            identity = {b"format": FORMAT, b"chain": chain_id}
            self._claim(identity if reads else identity | {b"replica": str(replica).encode()})
            self._turns = self._number(_TURNS)
        except BaseException:
            self._env.close()
            raise

    @property
    def id(self) -> bytes:
        """Random, drawn when this ledger was created: a key votes with one ledger."""
        return self._own_id

    @property
    def turns(self) -> int:
        """Turns made durable since it was created."""
        return self._turns

    @property
    def versions(self) -> Versions:
        """What it is written under."""
        return Versions(self._number(_PROTOCOL), self._number(_LAYOUT))

    def take_versions(self, versions: Versions) -> None:
        """What it is written under from now on."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._meta, write=True) as txn:
            for key, number in zip((_PROTOCOL, _LAYOUT), versions, strict=True):
                txn.put(key, _seq_key(number))

    def commit(self, turn: Turn) -> None:
        """Make all of `turn` durable, or nothing of it. Raises `StorageError`."""
        with storage_errors(self.path, _SETTING), self._env.begin(write=True) as txn:
            for key, value in turn.votes.items():
                if value is None:
                    txn.delete(key, db=self._votes)
                else:
                    txn.put(key, _checksum(key, value) + value, db=self._votes)
            for name, payload in turn.batches.items():
                if txn.put(name, payload, db=self._batches, overwrite=False):
                    txn.put(name, b"", db=self._pending)
            for cert in turn.blocks:
                txn.put(_seq_key(cert.block.seq), CODEC.encode(cert), db=self._blocks)
                for name in cert.block.batches:
                    txn.delete(name, db=self._pending)
            for name in turn.ordered:
                txn.delete(name, db=self._pending)
            if turn.swap:
                txn.put(_SWAP, _seq_key(turn.swap), db=self._meta)
            if turn.base:
                txn.put(_BASE, _seq_key(turn.base), db=self._meta)
            turns = int.from_bytes(txn.get(_TURNS, b"", db=self._meta), "big") + 1
            txn.put(_TURNS, _seq_key(turns), db=self._meta)
        self._turns = turns
        faults.slow_disk()

    def votes(self) -> dict[bytes, bytes]:
        """The whole vote log, in key order."""
        found: dict[bytes, bytes] = {}
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._votes) as txn:
            for key, sealed in txn.cursor():
                value = sealed[CHECKSUM_SIZE:]
                check_damage(
                    sealed[:CHECKSUM_SIZE] == _checksum(key, value), self.path, "a vote's checksum is wrong"
                )
                found[key] = value
        return found

    def swap(self) -> int:
        """Height of a fetched state whose directory is still to be put in place; 0: there is none."""
        return self._number(_SWAP)

    def finish_swap(self) -> None:
        """Its directory is in place."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._meta, write=True) as txn:
            txn.delete(_SWAP)

    def base(self) -> int:
        """Blocks up to here may be absent; 0: none is."""
        return self._number(_BASE)

    def _number(self, key: bytes) -> int:
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._meta) as txn:
            return int.from_bytes(txn.get(key, b""), "big")

    def block(self, seq: int) -> CommitCert | None:
        """The committed block `seq`, if it is stored."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._blocks) as txn:
            data = txn.get(_seq_key(seq))
        return None if data is None else self._decode(seq, data)

    def blocks(self, first: int, last: int) -> Iterator[CommitCert]:
        """The stored blocks first, first+1, … up to `last` or the first gap."""
        for seq in range(first, last + 1):
            cert = self.block(seq)
            if cert is None:
                return
            yield cert

    def committed_after(self, seq: int) -> int:
        """Highest s such that every block seq+1..s is stored; `seq` if there is none."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._blocks) as txn:
            cursor = txn.cursor()
            more = cursor.set_key(_seq_key(seq + 1))
            while more and cursor.key() == _seq_key(seq + 1):
                seq += 1
                more = cursor.next()
        return seq

    def batch(self, name: bytes) -> bytes | None:
        """The payload called `name`, if it is stored."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._batches) as txn:
            payload = txn.get(name)
        if payload is not None:
            check_damage(
                batch_digest(payload) == name, self.path, f"payload {name.hex()[:16]} has other bytes"
            )
        return payload

    def has_batches(self, names: Iterable[bytes]) -> list[bool]:
        """For each name, whether its payload is stored."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._batches) as txn:
            cursor = txn.cursor()
            return [cursor.set_key(name) for name in names]

    def pending(self) -> list[bytes]:
        """Digests of stored payloads that are not in any stored block, in order of digest."""
        with storage_errors(self.path, _SETTING), self._env.begin(db=self._pending) as txn:
            return list(txn.cursor().iternext(keys=True, values=False))

    def size_bytes(self) -> int:
        """Bytes in use on disk."""
        info = self._env.info()
        return int((info["last_pgno"] + 1) * self._env.stat()["psize"])

    def close(self) -> None:
        """Close the environment; nothing may be called afterwards."""
        self._env.close()

    def _decode(self, seq: int, data: bytes) -> CommitCert:
        try:
            cert = CODEC.decode(data)
        except ProtocolError as error:
            check_damage(False, self.path, f"block {seq} does not decode ({error})")
        check_damage(
            isinstance(cert, CommitCert) and cert.block.seq == seq, self.path, f"block {seq} is another"
        )
        return cert

    def _claim(self, identity: Mapping[bytes, bytes]) -> None:
        """Write our identity, and a new id, into a new ledger; refuse one that has another."""
        with storage_errors(self.path, _SETTING):
            with self._env.begin(db=self._meta) as txn:
                found = dict(txn.cursor())
            if not found:
                own = own_versions()
                found = {**identity, _ID: os.urandom(LEDGER_ID_SIZE)}
                found |= {_PROTOCOL: _seq_key(own.protocol), _LAYOUT: _seq_key(own.layout)}
                with self._env.begin(db=self._meta, write=True) as txn:
                    for key, value in found.items():
                        txn.put(key, value)
        for key, value in identity.items():
            if found.get(key) != value:
                raise self._mismatch(key, value, found.get(key, b""))
        self._own_id = found.get(_ID, b"")
        check_damage(len(self._own_id) == LEDGER_ID_SIZE, self.path, "its id is missing")

    def _mismatch(self, key: bytes, wanted: bytes, found: bytes) -> ConfigError:
        if key == b"chain":
            return ConfigError(
                f"{self.path} belongs to chain {found.hex()[:16]}, but network.toml describes chain"
                f" {wanted.hex()[:16]}: put back that chain's network.toml, or start with an empty home"
            )
        if key == b"replica":
            return ConfigError(
                f"{self.path} holds the votes of validator {found.decode()}, but 'node.id' is"
                f" {wanted.decode()}: correct config.toml"
            )
        return WrongVersion(
            f"{self.path} has format {found.decode()}; this version of Kontor reads {wanted.decode()}:"
            " start the version that wrote it"
        )


def _seq_key(seq: int) -> bytes:
    return seq.to_bytes(8, "big")


def _checksum(key: bytes, value: bytes) -> bytes:
    return blake3(len(key).to_bytes(2, "big") + key + value).digest(length=CHECKSUM_SIZE)
