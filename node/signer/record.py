"""A signer's durable record: whose it is, what was signed at each place, and the floor.

    H  format, public key, chain id   first entry of the file; the chain is zeros until it is known
    B  chain id                       from now on of this chain
    L  ledger id                      votes with this ledger, and with no other ever (see `binding`)
    T  turn                           what follows was signed in this transaction of the ledger
    F  view, seq                      the floor rose
    M  export id                      moved: signs nothing until it is imported again
    1…7  view, seq, digest            a vote, by the place of its kind in KINDS

Entries stand one after another in the frames of a `Journal`. There is one way to begin a record: with
a key that has never signed. A key whose record is lost is dead.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from consensus.certificates import ATTEST, CHECKPOINT, COMMIT, NEW_VIEW, PRE_PREPARE, PREPARE, VIEW_CHANGE
from consensus.primitives.crypto import DIGEST_SIZE, PUBLIC_KEY_SIZE, ZERO_DIGEST
from consensus.primitives.errors import ConfigError, StorageError
from consensus.signing import GENESIS, NUMBER_MAX, Floor, Place, VoteRecord
from node.signer.binding import LEDGER_ID_SIZE, Standing, check_standing
from node.signer.journal import BODY_MAX, DEAD_KEY, Journal
from node.versions import WrongVersion

FORMAT = 2
KINDS = (PRE_PREPARE, PREPARE, COMMIT, ATTEST, CHECKPOINT, VIEW_CHANGE, NEW_VIEW)
EXPORT_ID_SIZE = 16

_HEADER, _BOUND, _LEDGER, _TURN, _FLOOR, _MOVED = 0x48, 0x42, 0x4C, 0x54, 0x46, 0x4D
_SIZES = {
    _HEADER: 2 + PUBLIC_KEY_SIZE + DIGEST_SIZE,
    _BOUND: DIGEST_SIZE,
    _LEDGER: LEDGER_ID_SIZE,
    _TURN: 8,
    _FLOOR: 16,
    _MOVED: EXPORT_ID_SIZE,
    **dict.fromkeys(range(1, len(KINDS) + 1), 16 + DIGEST_SIZE),
}
_CODES = {kind: code for code, kind in enumerate(KINDS, 1)}


class SigningRecord:
    """An open record. `votes` is what its file holds; one thread at a time may append."""

    def __init__(self, path: Path, public_key: bytes, chain_id: bytes, votes: VoteRecord) -> None:
        self.path = path
        self.public_key = public_key
        self.chain_id = chain_id
        self.votes = votes
        self.ledger_id = b""  # unknown until the key may sign for the first time
        self.turn = 0  # of the ledger's transactions, the last one that something was signed in
        self.moved = b""  # the id of the export that took it elsewhere
        self._journal: Journal

    @classmethod
    def create(
        cls,
        path: Path,
        public_key: bytes,
        chain_id: bytes = ZERO_DIGEST,
        votes: VoteRecord | None = None,
        ledger_id: bytes = b"",
        turn: int = 0,
        replaces: bool = False,
    ) -> "SigningRecord":
        """Begin the record of a key. The caller knows that the key signed nothing but `votes`."""
        if path.exists() and not replaces:
            raise ConfigError(f"{path} exists, and a record is never begun twice: choose another directory")
        record = cls(path, public_key, chain_id, votes or VoteRecord())
        record.ledger_id, record.turn = ledger_id, turn
        record._journal = Journal.create(path, _bodies(record._entries()))
        return record

    @classmethod
    def open(cls, path: Path) -> "SigningRecord":
        """Read a record back. Raises `ConfigError` if it is missing, `StorageError` if it is damaged."""
        try:
            journal, bodies = Journal.open(path)
        except FileNotFoundError as error:
            raise ConfigError(
                f"{path} does not exist: the signing record is lost, or this home comes from a version that"
                f" kept none; {DEAD_KEY}"
            ) from error
        record: SigningRecord | None = None
        try:
            for body in bodies:
                record = _replay(path, record, body)
            if record is None:
                raise StorageError(f"{path} is damaged: it begins with no header; {DEAD_KEY}")
        except BaseException:
            journal.close()
            raise
        record._journal = journal
        return record

    def check_ready(self, public_key: bytes) -> None:
        """Raise `ConfigError` unless this record lets `public_key` sign."""
        if self.public_key != public_key:
            raise ConfigError(
                f"{self.path} belongs to the key {self.public_key.hex()[:16]}, not to"
                f" {public_key.hex()[:16]}: put back the record of this key; keys and records are never mixed"
            )
        if self.moved:
            raise ConfigError(
                f"{self.path} was exported to another home (export {self.moved.hex()[:8]}) and signs no more:"
                " start the signer there, or `kontor signer import` here what that home exports"
            )

    def bind(self, chain_id: bytes) -> None:
        """Use this record for `chain_id`, and for no other ever. Raises `ConfigError`."""
        if self.chain_id == ZERO_DIGEST:
            self._journal.append([bytes([_BOUND]) + chain_id])
            self.chain_id = chain_id
        if self.chain_id != chain_id:
            raise ConfigError(
                f"{self.path} belongs to chain {self.chain_id.hex()[:16]}, but the network is chain"
                f" {chain_id.hex()[:16]}: use the network.toml that this key signs for, or a new key"
            )

    def bind_ledger(self, standing: Standing) -> None:
        """Vote with this ledger, and with no other ever. Raises `ConfigError` if it is not the one, whole."""
        if not self.ledger_id and not self.votes.places and self.votes.floor == GENESIS:
            self._journal.append([bytes([_LEDGER]) + standing.ledger_id])
            self.ledger_id = standing.ledger_id
        check_standing(self.ledger_id, self.turn, self.votes.floor, standing)

    def append(self, votes: Sequence[tuple[Place, bytes]], floor: Floor | None = None, turn: int = 0) -> None:
        """Make votes and a risen floor durable, signed in the ledger's transaction `turn`.

        Raises `StorageError`, also if no ledger was bound.
        """
        if not self.ledger_id:
            raise StorageError(f"{self.path} knows no ledger, so its key signs nothing yet")
        entries = [_encode_turn(turn)] if turn > self.turn else []
        self.turn = max(self.turn, turn)
        entries += [_encode_vote(place, message) for place, message in votes]
        if floor is not None:
            entries.append(_encode_floor(floor))
        for place, message in votes:
            self.votes.add(place, message)
        if floor is not None:
            self.votes.raise_floor(floor)
        if self._journal.is_full:
            self._rewrite()
        else:
            self._journal.append(_bodies(entries))

    def move(self, export_id: bytes) -> None:
        """Sign no more: another home goes on with this record."""
        self._journal.append([bytes([_MOVED]) + export_id])
        self.moved = export_id

    def close(self) -> None:
        """Close the file; nothing may be called afterwards."""
        self._journal.close()

    def _rewrite(self) -> None:
        """Start a new file with what still counts; a crash leaves the old one or the new one."""
        journal = Journal.create(self.path, _bodies(self._entries()))
        self._journal.close()
        self._journal = journal

    def _entries(self) -> Iterator[bytes]:
        yield bytes([_HEADER]) + FORMAT.to_bytes(2, "big") + self.public_key + self.chain_id
        if self.ledger_id:
            yield bytes([_LEDGER]) + self.ledger_id
        if self.turn:
            yield _encode_turn(self.turn)
        yield _encode_floor(self.votes.floor)
        for place, message in self.votes.places.items():
            yield _encode_vote(place, message)


# Entries


def _encode_vote(place: Place, message: bytes) -> bytes:
    numbers = place.view.to_bytes(8, "big") + place.seq.to_bytes(8, "big")
    return bytes([_CODES[place.kind]]) + numbers + message


def _encode_turn(turn: int) -> bytes:
    return bytes([_TURN]) + turn.to_bytes(8, "big")


def _encode_floor(floor: Floor) -> bytes:
    return bytes([_FLOOR]) + floor.view.to_bytes(8, "big") + floor.seq.to_bytes(8, "big")


def _bodies(entries: Iterable[bytes]) -> list[bytes]:
    """Entries in frames, as many in each as fit."""
    bodies: list[bytes] = []
    body = b""
    for entry in entries:
        if len(body) + len(entry) > BODY_MAX:
            bodies.append(body)
            body = b""
        body += entry
    return [*bodies, body]


def _split(path: Path, body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        size = _SIZES.get(body[at], -1)
        content = body[at + 1 : at + 1 + size]
        if len(content) != size:
            raise StorageError(f"{path} has an entry {body[at]} that this version does not write; {DEAD_KEY}")
        yield body[at], content
        at += 1 + size


def _replay(path: Path, record: SigningRecord | None, body: bytes) -> SigningRecord:
    """Apply one frame."""
    for code, content in _split(path, body):
        if record is None:
            record = _begin(path, code, content)
        elif code == _BOUND:
            record.chain_id = content
        elif code == _LEDGER:
            record.ledger_id = content
        elif code == _TURN:
            record.turn = int.from_bytes(content, "big")
        elif code == _FLOOR:
            record.votes.raise_floor(Floor(*_numbers(content)))
        elif code == _MOVED:
            record.moved = content
        elif code == _HEADER:
            raise StorageError(f"{path} is damaged: it has a second header; {DEAD_KEY}")
        else:
            _replay_vote(path, record.votes, code, content)
    if record is None:
        raise StorageError(f"{path} is damaged: it begins with no header; {DEAD_KEY}")
    return record


def _begin(path: Path, code: int, content: bytes) -> SigningRecord:
    if code != _HEADER:
        raise StorageError(f"{path} is damaged: it begins with no header; {DEAD_KEY}")
    version = int.from_bytes(content[:2], "big")
    if version != FORMAT:
        raise WrongVersion(
            f"{path} has format {version}; this version of Kontor reads {FORMAT}: run the version that wrote"
            " it, and leave the record as it is"
        )
    key, chain_id = content[2 : 2 + PUBLIC_KEY_SIZE], content[2 + PUBLIC_KEY_SIZE :]
    return SigningRecord(path, key, chain_id, VoteRecord())


def _replay_vote(path: Path, votes: VoteRecord, code: int, content: bytes) -> None:
    view, seq = _numbers(content[:16])
    place, message = Place(KINDS[code - 1], view, seq), content[16:]
    if max(view, seq) >= NUMBER_MAX or votes.places.get(place, message) != message:
        raise StorageError(f"{path} is damaged: it signed twice at {tuple(place)}; {DEAD_KEY}")
    votes.add(place, message)


def _numbers(content: bytes) -> tuple[int, int]:
    return int.from_bytes(content[:8], "big"), int.from_bytes(content[8:16], "big")
