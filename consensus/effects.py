"""Every event that enters a replica and every effect that leaves it.

The order in which effects must be carried out: within one turn of the node's loop, first all
`Persist`, `Erase`, `StoreBlock` and `StoreBatches` in one durable transaction, then everything
else in the order given. A replica that sent before it persisted could vote twice after a crash.
"""

from dataclasses import dataclass
from typing import TypeAlias

from consensus.messages import Block, CommitCert, Message
from consensus.proofs import Epoch, StateSummary

# Events


@dataclass(frozen=True)
class Received:
    """`message` arrived over the authenticated link of replica `sender`."""

    sender: int
    message: Message


@dataclass(frozen=True)
class BatchReady:
    """A micro-batch is held, well-formed, and every signature in it is valid.

    `orders` and `size` (bytes) bound how much a block takes. `origin` is the replica that sent it.
    Not for a batch that stands in a stored block, unless the replica asked for it by `FetchBatches`: a
    liar may propose an old batch again, and blocks that list it must still complete. After a restart
    the node says it again for every stored batch that no stored block lists.
    """

    digest: bytes
    orders: int
    size: int
    origin: int


@dataclass(frozen=True)
class TimerFired:
    """A timer set by `SetTimer` ran out."""

    name: str


@dataclass(frozen=True)
class Executed:
    """Block `seq` ran. `state` and `epoch`, the validators for seq + 1, come at checkpoints, which are
    replayable from disk."""

    seq: int
    block_digest: bytes
    journal_root: bytes
    state: StateSummary | None = None
    epoch: Epoch | None = None


@dataclass(frozen=True)
class Connected:
    """The link to `replica` came up: what was sent before may be lost, so the two compare notes."""

    replica: int


Event: TypeAlias = Received | BatchReady | TimerFired | Executed | Connected

# Effects


@dataclass(frozen=True)
class Persist:
    """Write `value` under `key` in the vote log, before anything of this turn is sent."""

    key: bytes
    value: bytes


@dataclass(frozen=True)
class Erase:
    """Remove `key` from the vote log, in the same transaction."""

    key: bytes


@dataclass(frozen=True)
class StoreBatches:
    """Make the payloads with these digests durable, in the same transaction."""

    digests: tuple[bytes, ...]


@dataclass(frozen=True)
class StoreBlock:
    """Make a committed block and its certificate durable, in the same transaction."""

    cert: CommitCert


@dataclass(frozen=True)
class Send:
    """Send `message` to replica `to`."""

    to: int
    message: Message


@dataclass(frozen=True)
class Broadcast:
    """Send `message` to every other replica."""

    message: Message


@dataclass(frozen=True)
class SendBatches:
    """Answer replica `to` with the payloads held under these digests; skip those that are not."""

    to: int
    digests: tuple[bytes, ...]


@dataclass(frozen=True)
class SendBlocks:
    """Answer replica `to` with the stored commit certificates first..last."""

    to: int
    first: int
    last: int


@dataclass(frozen=True)
class Execute:
    """Run a committed block; answer with `Executed`. Emitted once a seq, in order, without gaps."""

    block: Block


@dataclass(frozen=True)
class SetTimer:
    """Fire `TimerFired(name)` after `delay_us`; a second one of the same name replaces the first."""

    name: str
    delay_us: int


@dataclass(frozen=True)
class CancelTimer:
    """Forget the timer `name`, if it is set."""

    name: str


@dataclass(frozen=True)
class Stable:
    """The checkpoint at `seq` is stable: older vote-log entries and checkpoints may go."""

    seq: int


@dataclass(frozen=True)
class Blame:
    """Replica `replica` broke a rule: count it. `reason` is a stable short code.

    `evidence` holds two signed messages that contradict each other, where there are such.
    """

    replica: int
    reason: str
    evidence: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Diverged:
    """f+1 others attest another result for `seq`: stop voting, dump, stay queryable."""

    seq: int
    ours: bytes
    theirs: bytes


Effect: TypeAlias = (
    Persist
    | Erase
    | StoreBatches
    | StoreBlock
    | Send
    | Broadcast
    | SendBatches
    | SendBlocks
    | Execute
    | SetTimer
    | CancelTimer
    | Stable
    | Blame
    | Diverged
)
