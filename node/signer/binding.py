"""Which ledger a key votes with, and how far that ledger had come when the key signed last.

A signature promises what the ledger remembers: its view, its stable checkpoint, what it prepared. With
an empty ledger, or an older copy, a node would sign a view change without its locks, at a place where
the record holds nothing that could refuse it. So the record knows its ledger by a random id, and notes
with each signature the number of the ledger's transaction that belongs to it (`turn`).

    noticed      an empty or another ledger; an older copy, from two transactions back on; a ledger whose
                 view or stable checkpoint lies below the record's floor
    unnoticed    a copy one transaction old (a crash between the two syncs leaves the same); an older copy
                 of the whole home, record and ledger together; a copied home that runs beside the first
"""

from typing import NamedTuple, Protocol

from consensus.durable import VoteLog
from consensus.primitives.errors import ConfigError
from consensus.signing import Floor

LEDGER_ID_SIZE = 16
REMEDY = "put back the ledger as it was when the node stopped, or run `kontor recover`"


class VotingLedger(Protocol):
    """What a signer must know of a ledger."""

    @property
    def id(self) -> bytes:
        """Random, drawn when the ledger was created."""
        ...

    @property
    def turns(self) -> int:
        """Transactions made durable since then."""
        ...

    def votes(self) -> dict[bytes, bytes]: ...


class Standing(NamedTuple):
    """Where a ledger stands, as it starts."""

    ledger_id: bytes
    turns: int
    view: int
    low: int  # seq of its stable checkpoint


def standing_of(ledger: VotingLedger) -> Standing:
    """Read it from an open ledger. Raises `StorageError` if its votes are damaged."""
    log = VoteLog(lambda effect: None, ledger.votes())
    return Standing(ledger.id, ledger.turns, log.view, log.low)


def check_standing(ledger_id: bytes, turn: int, floor: Floor, standing: Standing) -> None:
    """Raise `ConfigError` unless a record with these marks may go on with the ledger at `standing`."""
    if standing.ledger_id != ledger_id:
        raise ConfigError(f"this ledger is not the one the key voted with: {REMEDY}")
    if turn > standing.turns + 1:
        raise ConfigError(
            f"this ledger is an older copy of the one the key voted with: it ends at transaction"
            f" {standing.turns}, the key signed in {turn}: {REMEDY}"
        )
    if floor.view > standing.view or floor.seq > standing.low:
        raise ConfigError(
            f"this ledger knows less than the key's record: it stands at (view {standing.view}, seq"
            f" {standing.low}), the record's floor is {tuple(floor)}: {REMEDY}"
        )
