"""All keys of a node that signs itself: one, and another for each time it was rotated.

    keys/consensus.seed     signer/record       the first
    keys/consensus-2.seed   signer/record-2     the next, and so on

An epoch names one of them, and only that one signs in it. Records of former keys stay: what a key signed
is never forgotten. A record is begun before its seed is written, so a seed always has one.
"""

from collections.abc import Callable, Container
from pathlib import Path

from consensus.primitives.errors import ConfigError
from consensus.signing import SignatureRefused
from node.config import Home
from node.keys import load_signer, new_signer, write_seed
from node.signer.binding import VotingLedger
from node.signer.local import LocalSigner
from node.signer.record import SigningRecord

KEYS_MAX = 64  # of one home


class KeyRing:
    """The open keys. The loop treats them as one signer; the replica picks."""

    def __init__(self, home: Home, chain_id: bytes, first: LocalSigner) -> None:
        self.signers: tuple[LocalSigner, ...] = (first,)
        self._home = home
        self._chain_id = chain_id
        self._ledger: VotingLedger | None = None
        self._records: list[SigningRecord] = []
        self._on_refused: Callable[[SignatureRefused], None] = lambda error: None

    @property
    def public_key(self) -> bytes:
        """The first key: the one that the network file or the ledger got to know this node by."""
        return self.signers[0].public_key

    def open_more(self) -> list[LocalSigner]:
        """Open the keys that were made since the last call. Raises `ConfigError` or `StorageError`.

        The files are read in the caller's thread; the caller hands what comes to the replica.
        """
        found: list[LocalSigner] = []
        for number in rotated(self._home)[len(self.signers) - 1 :]:
            seed, record_path = _paths(self._home, number)
            signer, record = load_signer(seed), SigningRecord.open(record_path)
            self._records.append(record)
            record.check_ready(signer.public_key)
            record.bind(self._chain_id)
            found.append(LocalSigner(signer, self._chain_id, record, self._on_refused))
            if self._ledger is not None:
                found[-1].bind(self._ledger)
            self.signers = (*self.signers, found[-1])
        return found

    def bind(self, ledger: VotingLedger) -> None:
        """Vote with `ledger`, by every key. Raises `ConfigError` if one of them voted with another."""
        for signer in self.signers:
            signer.bind(ledger)
        self._ledger = ledger

    def close(self) -> None:
        """Close the keys, and all records but the first, which its opener closes."""
        for signer in self.signers:
            signer.close()
        for record in self._records:
            record.close()

    @property
    def on_refused(self) -> Callable[[SignatureRefused], None]:
        """Called with every refusal."""
        return self._on_refused

    @on_refused.setter
    def on_refused(self, callback: Callable[[SignatureRefused], None]) -> None:
        self._on_refused = callback
        for signer in self.signers:
            signer.on_refused = callback

    def sign_vote(self, kind: str, epoch: int, view: int, seq: int, body: bytes, message: bytes) -> bytes:
        """With the first key."""
        return self.signers[0].sign_vote(kind, epoch, view, seq, body, message)

    @property
    def is_urgent(self) -> bool:
        """Whether votes were signed that are not on their way to disk."""
        return any(signer.is_urgent for signer in self.signers)

    @property
    def is_settled(self) -> bool:
        """Whether everything signed is durable."""
        return all(signer.is_settled for signer in self.signers)

    def begin(self) -> None:
        """Start to write down what was signed."""
        for signer in self.signers:
            signer.begin()

    def finish(self) -> None:
        """Wait until all that was begun is durable. Raises `StorageError`."""
        for signer in self.signers:
            signer.finish()

    def raise_floor(self, view: int, seq: int) -> None:
        """For every key: former ones sign nothing any more anyway."""
        for signer in self.signers:
            signer.raise_floor(view, seq)


def rotated(home: Home) -> list[int]:
    """Numbers of the keys after the first, in order; they leave no gap. Raises `ConfigError`."""
    found = 1
    while _paths(home, found + 1)[0].exists():
        found += 1
        if found > KEYS_MAX:
            raise ConfigError(f"{home.root} holds more than {KEYS_MAX} keys: replace this validator")
    return list(range(2, found + 1))


def make_next_key(home: Home, chain_id: bytes, used: Container[bytes]) -> bytes:
    """The public key to rotate to: the newest one, unless it is among `used`, else a new one.

    Raises `ConfigError`. May be called while the node runs: nothing that exists is touched.
    """
    numbers = rotated(home)
    if numbers:
        newest = load_signer(_paths(home, numbers[-1])[0]).public_key
        if newest not in used:
            return newest
    if len(numbers) + 2 > KEYS_MAX:
        raise ConfigError(f"{home.root} holds {KEYS_MAX} keys already: replace this validator")
    seed, record_path = _paths(home, len(numbers) + 2)
    if record_path.exists():
        _remove_unused(record_path)
    secret, public_key = new_signer()
    SigningRecord.create(record_path, public_key, chain_id).close()
    write_seed(seed, secret)
    return public_key


def _remove_unused(path: Path) -> None:
    """A crash came between record and seed: that key is gone, and signed nothing. Raises `ConfigError`."""
    record = SigningRecord.open(path)
    record.close()
    if record.votes.places:
        raise ConfigError(f"{path} tells of a key that signed, and its seed is gone: put the seed back")
    path.unlink()


def _paths(home: Home, number: int) -> tuple[Path, Path]:
    return (
        home.consensus_seed.with_name(f"consensus-{number}.seed"),
        home.signing_record.with_name(f"record-{number}"),
    )
