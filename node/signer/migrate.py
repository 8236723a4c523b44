"""Moving a signing record to another home: export here, import there, and never both at work.

The file holds no secret: the seed is copied by hand. Exporting marks the record here as moved first and
writes the file then, so a crash between leaves a record that signs nothing and can be exported
again. Importing takes nothing that knows less than what is there.

The file names the ledger that the key voted with, and a node signs with that ledger alone: of the homes
that import one file, only the one that goes on with this ledger has a key that signs.
"""

import json
import os
from pathlib import Path
from typing import Any

from blake3 import blake3

from consensus.primitives.crypto import DIGEST_SIZE, PUBLIC_KEY_SIZE
from consensus.primitives.errors import ConfigError
from consensus.signing import NUMBER_MAX, PLACES_MAX, Floor, Place, SignatureRefused, VoteRecord, check_place
from node.config import Home
from node.keys import load_signer
from node.signer.binding import LEDGER_ID_SIZE
from node.signer.opening import signer_lock
from node.signer.record import EXPORT_ID_SIZE, KINDS, SigningRecord
from node.signer.ring import rotated
from node.versions import WrongVersion

FORMAT = 2
FILE_MAX = 64 << 20


def export_record(home: Home, out: Path) -> dict[str, Any]:
    """Write the record of `home` to a new file `out` and let `home` sign no more; return a summary."""
    if out.exists():
        raise ConfigError(f"{out} exists: choose another --out")
    if rotated(home):
        raise ConfigError(
            f"{home.root} holds more than one key, and an export takes one: `kontor validator replace` it"
        )
    with signer_lock(home):
        record = SigningRecord.open(home.signing_record)
        try:
            if not record.ledger_id:
                raise ConfigError(
                    f"{home.signing_record} knows no ledger yet, so two homes could begin with its export:"
                    " start the node once, stop it, and export then"
                )
            if not record.moved:
                record.move(os.urandom(EXPORT_ID_SIZE))
            content = _describe(record)
        finally:
            record.close()
        text = json.dumps({**content, "checksum": _checksum(content)}) + "\n"
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    return _summary(content)


def import_record(home: Home, path: Path, undo: bool = False) -> dict[str, Any]:
    """Let `home` sign from where the exported record at `path` stands; return a summary.

    `undo` takes an export of this very home back: the caller knows that nobody else imported it.
    """
    content = _read(path)
    public_key, chain_id = bytes.fromhex(content["public_key"]), bytes.fromhex(content["chain_id"])
    own = load_signer(home.consensus_seed).public_key
    if own != public_key:
        raise ConfigError(
            f"{path} is the record of key {public_key.hex()[:16]}, but {home.consensus_seed} holds"
            f" {own.hex()[:16]}: copy the seed that belongs to it"
        )
    votes = _votes(content, path)
    home.signer.mkdir(parents=True, exist_ok=True)
    with signer_lock(home):
        if home.signing_record.exists():
            _check_newer(home.signing_record, path, content, votes, undo)
        ledger_id, turn = bytes.fromhex(content["ledger"]), content["turn"]
        SigningRecord.create(
            home.signing_record, public_key, chain_id, votes, ledger_id, turn, replaces=True
        ).close()
    return _summary(content)


def _check_newer(
    record_path: Path, path: Path, content: dict[str, Any], votes: VoteRecord, undo: bool
) -> None:
    """Raise `ConfigError` unless `content` may take the place of the record at `record_path`."""
    record = SigningRecord.open(record_path)
    record.close()
    names = ("public_key", "chain_id", "ledger")
    own = (record.public_key.hex(), record.chain_id.hex(), record.ledger_id.hex() or content["ledger"])
    if own != tuple(content[name] for name in names):
        raise ConfigError(
            f"{record_path} belongs to another key, chain or ledger than {path}: choose another --home"
        )
    if not record.moved:
        raise ConfigError(f"{record_path} signs here; only one that was exported is replaced: nothing to do")
    floor = record.votes.floor
    if votes.floor.view < floor.view or votes.floor.seq < floor.seq or content["turn"] < record.turn:
        raise ConfigError(
            f"{path} has the floor {tuple(votes.floor)} and turn {content['turn']}, below {tuple(floor)} or"
            f" turn {record.turn} of {record_path}: it is older; import the newest export"
        )
    for place, message in record.votes.places.items():
        is_history = _is_below(votes, place)
        if not is_history and votes.places.get(place) != message:
            raise ConfigError(
                f"{record_path} signed at {tuple(place)} what {path} does not know: import the newest export"
            )
    if record.moved.hex() == content["export"] and not undo:
        raise ConfigError(
            f"{path} was exported from this home, and another may sign with it by now: if none imported it,"
            " say so with --undo"
        )


def _is_below(votes: VoteRecord, place: Place) -> bool:
    try:
        votes.check(place, bytes(DIGEST_SIZE))
    except SignatureRefused as refusal:
        return refusal.code == "below-floor"
    return False


def _describe(record: SigningRecord) -> dict[str, Any]:
    floor = record.votes.floor
    return {
        "format": FORMAT,
        "export": record.moved.hex(),
        "public_key": record.public_key.hex(),
        "chain_id": record.chain_id.hex(),
        "ledger": record.ledger_id.hex(),
        "turn": record.turn,
        "floor": [floor.view, floor.seq],
        "votes": [[*place, message.hex()] for place, message in record.votes.places.items()],
    }


def _summary(content: dict[str, Any]) -> dict[str, Any]:
    view, seq = content["floor"]
    return {
        "public_key": content["public_key"],
        "chain_id": content["chain_id"],
        "ledger": content["ledger"],
        "export": content["export"],
        "floor_view": view,
        "floor_seq": seq,
        "votes": len(content["votes"]),
    }


def _checksum(content: dict[str, Any]) -> str:
    return blake3(json.dumps(content, sort_keys=True).encode()).hexdigest()


# Reading


def _read(path: Path) -> dict[str, Any]:
    """A checked export file. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}): name what `kontor signer export` wrote"
        ) from error
    try:
        content = json.loads(data) if len(data) <= FILE_MAX else None
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.pop("checksum", "") != _checksum(content):
        raise ConfigError(f"{path} is damaged, or no export of a signing record: export it again")
    if content.get("format") != FORMAT:
        raise WrongVersion(
            f"{path} has format {content.get('format')!r}; this version of Kontor reads {FORMAT}:"
            " import it with the version that exported it"
        )
    sizes = {
        "export": EXPORT_ID_SIZE,
        "public_key": PUBLIC_KEY_SIZE,
        "chain_id": DIGEST_SIZE,
        "ledger": LEDGER_ID_SIZE,
    }
    if not all(_is_hex(content.get(name), size) for name, size in sizes.items()):
        raise ConfigError(f"{path} names no key, chain, ledger and export: export it again")
    if type(content.get("turn")) is not int or not 0 <= content["turn"] < NUMBER_MAX:
        raise ConfigError(f"{path} names no turn of the ledger: export it again")
    return content


def _votes(content: dict[str, Any], path: Path) -> VoteRecord:
    floor, items = content.get("floor"), content.get("votes")
    try:
        votes = VoteRecord(Floor(*_numbers(floor)))
        if not isinstance(items, list) or len(items) > PLACES_MAX:
            raise ValueError(f"at most {PLACES_MAX} votes are kept")
        for kind, view, seq, message in items:
            place = Place(kind, *_numbers([view, seq]))
            check_place(place)
            if kind not in KINDS or not _is_hex(message, DIGEST_SIZE):
                raise ValueError(f"{kind} at {tuple(place)} is no vote")
            if votes.check(place, bytes.fromhex(message)):
                votes.add(place, bytes.fromhex(message))
    except (TypeError, ValueError, SignatureRefused) as error:
        raise ConfigError(f"{path} holds what no record holds ({error}): export it again") from error
    return votes


def _numbers(values: object) -> tuple[int, int]:
    if not isinstance(values, list) or [type(value) for value in values] != [int, int]:
        raise ValueError(f"{values!r} is not a view and a seq")
    return values[0], values[1]


def _is_hex(value: object, size: int) -> bool:
    if not isinstance(value, str) or len(value) != 2 * size:
        return False
    return all(letter in "0123456789abcdef" for letter in value)
