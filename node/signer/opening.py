"""Beginning a signing record, and opening the signer of a home: in the node's process, or over a socket."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from consensus.primitives.crypto import ZERO_DIGEST
from consensus.primitives.errors import ConfigError
from consensus.signing import SignatureRefused, VoteSigner
from node.config import Config, Home
from node.keys import load_signer
from node.network import Network
from node.signer.binding import REMEDY, VotingLedger
from node.signer.local import LocalSigner
from node.signer.record import SigningRecord
from node.signer.remote import RemoteSigner
from node.signer.ring import KeyRing
from node.storage import HomeLock

_IN_USE = "a signer or a node already signs with this key; stop it first"


class NodeSigner(VoteSigner, Protocol):
    """What the node's loop asks of its signer, wherever that is.

    In every turn: sign (inside `Replica.step`), `begin`, `finish`, and only then send.
    """

    on_refused: Callable[[SignatureRefused], None]

    def bind(self, ledger: VotingLedger) -> None:
        """Vote with `ledger`; called before anything is signed.

        Raises `ConfigError` if the key voted with another one, or if this is an older copy of it.
        """
        ...

    @property
    def is_urgent(self) -> bool:
        """Whether votes were signed since `begin`; results of execution may wait a little."""
        ...

    @property
    def is_settled(self) -> bool:
        """Whether everything signed is durable."""
        ...

    def begin(self) -> None:
        """Start to make durable what was signed."""
        ...

    def finish(self) -> None:
        """Wait until that is done; from any thread. Raises `StorageError`."""
        ...

    def raise_floor(self, view: int, seq: int) -> None:
        """The checkpoint at `seq` is stable and durable, and so is `view`: sign nothing below."""
        ...


@contextmanager
def open_signer(home: Home, config: Config, network: Network) -> Iterator[NodeSigner]:
    """The signer that config.toml names. Raises `ConfigError` or `StorageError` unless it may sign."""
    if config.signer.socket:
        path = home.root / config.signer.socket
        check_no_seed(home, path)
        remote = RemoteSigner(path, network.chain_id)
        try:
            yield remote
        finally:
            remote.close()
        return
    with open_record(home, network.chain_id) as record:
        if record.ledger_id and not home.ledger.exists():  # a joiner would ask for its id for ever
            raise ConfigError(
                f"{home.ledger} is gone, and a new ledger is not the one the key voted with: {REMEDY}"
            )
        first = LocalSigner(load_signer(home.consensus_seed), network.chain_id, record)
        ring = KeyRing(home, network.chain_id, first)
        try:
            ring.open_more()
            yield ring
        finally:
            ring.close()


@contextmanager
def open_record(home: Home, chain_id: bytes | None) -> Iterator[SigningRecord]:
    """Lock a home's signing record and check that its key may sign, for `chain_id` or for the record's."""
    public_key = load_signer(home.consensus_seed).public_key
    with signer_lock(home):
        record = SigningRecord.open(home.signing_record)
        try:
            record.check_ready(public_key)
            if chain_id is not None:
                record.bind(chain_id)
            elif record.chain_id == ZERO_DIGEST:
                raise ConfigError(
                    f"{home.signing_record} belongs to no chain yet: copy network.toml into {home.root}"
                )
            yield record
        finally:
            record.close()


@contextmanager
def signer_lock(home: Home) -> Iterator[None]:
    """Whoever signs with the key of `home`, or changes its record, is alone."""
    if not home.signer.is_dir():
        raise ConfigError(
            f"{home.signer} does not exist, so nobody knows what the key in {home.root} signed: put it back,"
            " or make a new validator with `kontor recover`"
        )
    with HomeLock(home.signer, _IN_USE):
        yield


def begin_record(home: Home, public_key: bytes) -> None:
    """Begin the record of a key that was made just now. Refuses where one exists."""
    SigningRecord.create(home.signing_record, public_key).close()


def check_no_seed(home: Home, socket: Path) -> None:
    """Raise `ConfigError` if a node that uses a separate signer still holds a seed itself."""
    if home.consensus_seed.exists():
        raise ConfigError(
            f"'signer.socket' names {socket}, but {home.consensus_seed} is here, too: a key has one home;"
            " move the seed to the signer's home"
        )


def signer_key(home: Home, config: Config, network: Network) -> bytes:
    """The public key that a home signs with; asks the signer if that is another process."""
    if not config.signer.socket:
        return load_signer(home.consensus_seed).public_key
    remote = RemoteSigner(home.root / config.signer.socket, network.chain_id)
    remote.close()
    return remote.public_key
