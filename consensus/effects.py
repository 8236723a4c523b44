"""Every event that enters a replica and every effect that leaves it.

The order in which effects must be carried out: within one turn of the node's loop, first all
`Persist`, `Erase`, `StoreBlock`, `StoreBatches`, `SwapState` and `ForgetBatches` in one durable
transaction, then everything else in the order given. A replica that sent before it persisted could
vote twice after a crash.

Those that come with every message are not frozen, since that makes them three times as dear to create.
Nobody changes one all the same.
"""

from dataclasses import dataclass
from typing import TypeAlias

from consensus.messages import Block, CommitCert, Message
from consensus.proofs import CheckpointCert, Epoch, StateSummary

# Events


@dataclass(slots=True)
class Received:
    """`message` arrived over the authenticated link of replica `sender`."""

    sender: int
    message: Message


@dataclass(slots=True)
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


@dataclass(slots=True)
class TimerFired:
    """A timer set by `SetTimer` ran out."""

    name: str


@dataclass(frozen=True)
class Executed:
    """Block `seq` ran. `state` and `epoch`, the validators for seq + 1, come at checkpoints, which are
    replayable from disk. `boundary`, the boundary scheduled by then, comes with every block: until the
    next checkpoint it is our own word only, which suffices to hasten there."""

    seq: int
    block_digest: bytes
    journal_root: bytes
    state: StateSummary | None = None
    epoch: Epoch | None = None
    boundary: int = 0


@dataclass(frozen=True)
class Connected:
    """The link to `replica` came up: what was sent before may be lost, so the two compare notes."""

    replica: int


@dataclass(frozen=True)
class SnapshotTaken:
    """The state at the checkpoint of `cert` can be served to others from now on, instead of an older one.

    None: a newer state took its place that nothing proves yet, so that none can be served."""

    cert: CheckpointCert | None


@dataclass(frozen=True)
class ManifestChecked:
    """The manifest for `seq` that `sender` sent agrees with its certificate: the state has `chunks` chunks,
    of which those in `have` are staged already."""

    sender: int
    seq: int
    chunks: int
    have: tuple[int, ...]


@dataclass(frozen=True)
class ManifestRefused:
    """It does not."""

    sender: int
    seq: int


@dataclass(frozen=True)
class ChunkStaged:
    """Chunk `index` of the state at `seq` is what the manifest says, and is kept."""

    sender: int
    seq: int
    index: int


@dataclass(frozen=True)
class ChunkRefused:
    """It is not."""

    sender: int
    seq: int
    index: int


@dataclass(frozen=True)
class StateInstalled:
    """The staged state at `seq` was read whole, has the certificate's root, and is ready to run.

    `epoch`: the validators for seq + 1. The node executes nothing until `SwapState` is carried out.
    """

    seq: int
    epoch: Epoch


Event: TypeAlias = (
    Received
    | BatchReady
    | TimerFired
    | Executed
    | Connected
    | SnapshotTaken
    | ManifestChecked
    | ManifestRefused
    | ChunkStaged
    | ChunkRefused
    | StateInstalled
)

# Effects


@dataclass(slots=True)
class Persist:
    """Write `value` under `key` in the vote log, before anything of this turn is sent."""

    key: bytes
    value: bytes


@dataclass(slots=True)
class Erase:
    """Remove `key` from the vote log, in the same transaction."""

    key: bytes


@dataclass(slots=True)
class StoreBatches:
    """Make the payloads with these digests durable, in the same transaction."""

    digests: tuple[bytes, ...]


@dataclass(frozen=True)
class StoreBlock:
    """Make a committed block and its certificate durable, in the same transaction."""

    cert: CommitCert


@dataclass(frozen=True)
class SwapState:
    """In the same transaction: the staged state at `seq` is this replica's state. What remains to be done
    for that (a node swaps directories) is done at once, and again after a crash.

    `base`: blocks up to here may be absent from now on; 0: none that was there before.
    """

    seq: int
    base: int


@dataclass(frozen=True)
class ForgetBatches:
    """In the same transaction: these payloads are not waited for any more. Blocks that were skipped may
    hold them; should a later block list one, it is fetched.

    The node lets go of those that are not stored before it feeds another event, and keeps every
    `BatchReady` back whose payload is gone: the replica would take it for held.
    """

    digests: tuple[bytes, ...]


@dataclass(slots=True)
class Send:
    """Send `message` to replica `to`."""

    to: int
    message: Message


@dataclass(slots=True)
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
class SendManifest:
    """Answer replica `to` with the manifest of the state at `seq`, or an empty one."""

    to: int
    seq: int


@dataclass(frozen=True)
class SendChunks:
    """Answer replica `to` with these chunks of the state at `seq`, or empty ones."""

    to: int
    seq: int
    indexes: tuple[int, ...]


@dataclass(frozen=True)
class CheckManifest:
    """Compare what `sender` says of the state with the certificate; answer `ManifestChecked` or `Refused`.
    From then on the staged state is meant to be the certificate's; chunks staged before are kept where
    they are equal."""

    sender: int
    cert: CheckpointCert
    data: bytes


@dataclass(frozen=True)
class StageChunk:
    """Check a chunk against the manifest and keep it; answer `ChunkStaged` or `ChunkRefused`."""

    sender: int
    seq: int
    index: int
    data: bytes


@dataclass(frozen=True)
class InstallState:
    """Every chunk is staged: make the state whole and readable, drop what still waits to be executed, and
    answer `StateInstalled`."""

    cert: CheckpointCert


@dataclass(frozen=True)
class Execute:
    """Run a committed block; answer with `Executed`. Emitted once a seq, in order, without gaps."""

    block: Block


@dataclass(slots=True)
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
class EpochStarted:
    """Block `epoch.first_seq` and those after it are these validators' to decide: links and timers of
    those who left may go, new ones are welcome."""

    epoch: Epoch


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
    """f+1 others attest another result for `seq`: stop voting, dump, stay queryable.

    The summaries are there at checkpoints only: their parts show in which tables the states differ.
    """

    seq: int
    ours: bytes
    theirs: bytes
    our_state: StateSummary | None = None
    their_state: StateSummary | None = None


Effect: TypeAlias = (
    Persist
    | Erase
    | StoreBatches
    | StoreBlock
    | SwapState
    | ForgetBatches
    | Send
    | Broadcast
    | SendBatches
    | SendBlocks
    | SendManifest
    | SendChunks
    | CheckManifest
    | StageChunk
    | InstallState
    | Execute
    | SetTimer
    | CancelTimer
    | Stable
    | EpochStarted
    | Blame
    | Diverged
)
