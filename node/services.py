"""What a running node offers to admission, ingress and receipts: the seam between them and the runtime.

Everything here is called from trio tasks of the same run. Nothing blocks the protocol: callbacks
must return at once, and queries run in a worker thread between two blocks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from consensus.messages import Attest
from consensus.primitives.trees import PageProof
from consensus.proofs import CheckpointCert, EpochProof
from engine.journal import BlockResult
from engine.machine import Machine
from node.network import Network
from node.remembered import Remembered

T = TypeVar("T")
VERDICTS_MAX = 65_536  # a miss costs one more check of a signature


@dataclass(frozen=True)
class ProvenBlock:
    """An executed block whose result f+1 replicas attest: one of them at least is honest.

    `previous_root` is the journal root before it. The attestations are equal but for replica and
    signature, and equal to our own result.
    """

    height: int
    block_digest: bytes
    previous_root: bytes
    result: BlockResult
    attestations: tuple[Attest, ...]


@dataclass(frozen=True)
class BalanceAnswer:
    """What the newest durable snapshot says of one account's balance of one asset.

    `page` holds its row, with the way to the state's root, which `cert` proves. None: there is no such row,
    which is this node's word.
    """

    cert: CheckpointCert
    page: PageProof | None


@dataclass(frozen=True)
class ValidatorsAnswer:
    """How the present validators are reached, in the newest durable snapshot.

    `pages` hold their rows, each with the way to the state's root, which `cert` proves. Any change of these
    rows begins an epoch: whoever finds it named in `cert` knows that they still hold.
    """

    cert: CheckpointCert
    pages: tuple[PageProof, ...]


@dataclass(frozen=True)
class TransferStatus:
    """A state on its way to this node. `height` is 0 until there is a target, `chunks` until its manifest
    is here; `staged` of them are checked and on disk."""

    height: int
    chunks: int
    staged: int
    bytes: int  # that arrived
    bytes_per_second: int


@dataclass(frozen=True)
class NodeStatus:
    """Where this node stands."""

    replica: int
    view: int  # of the epoch
    committed: int
    executed: int
    proven: int  # highest height with f+1 equal attestations
    time_ms: int  # of the last executed block
    journal_root: bytes
    state_root_height: int  # last checkpoint
    state_root: bytes
    peers_connected: int
    halted: str  # why it no longer votes; empty: it does
    orders: int  # ever executed here since the process started
    fills: int
    rejected: int
    view_changes: int
    transfer: TransferStatus | None = None
    epoch: int = 0
    boundary: int = 0  # the last block of the epoch, or of the chain until an upgrade; 0: none is in sight
    wedged: bool = False  # the chain stands at the boundary
    votes: bool = True  # it is a validator of this epoch, and fit to vote


def describe_wedge(height: int) -> str:
    """Why the chain stands at `height`, and what leads on, for an operator."""
    return (
        f"the network was stopped at block {height:,} for an upgrade; to go on, stop every node, upgrade it,"
        f" write 'resume_after = {height}' under [ledger] in its config.toml, and start it"
    )


class VerdictCache:
    """Envelopes whose signatures worker threads found valid, by digest; forgets the oldest.

    Execution asks here and verifies by itself on a miss, so a verdict never depends on the cache.
    """

    def __init__(self, count_max: int = VERDICTS_MAX) -> None:
        self._valid = Remembered(count_max)

    def get(self, envelope_digest: bytes) -> bool | None:
        """True: valid; None: not known."""
        return True if envelope_digest in self._valid else None

    @property
    def size_bytes(self) -> int:
        """Memory taken."""
        return self._valid.size_bytes

    def add(self, envelope_digest: bytes) -> None:
        """Remember a valid one. Safe to call from worker threads."""
        self._valid.add(envelope_digest)


class Services(Protocol):
    """A running node, as its front sees it."""

    @property
    def network(self) -> Network: ...

    @property
    def replica_id(self) -> int: ...

    @property
    def verdicts(self) -> VerdictCache: ...

    def now_ms(self) -> int:
        """The node's clock, in milliseconds since the Unix epoch."""

    def submit_batch(self, payload: bytes, orders: int) -> None:
        """Disseminate an own micro-batch (`engine.batch` bytes) and have it ordered.

        The caller has checked every signature in it. Raises `InputError` OVERLOADED when too many
        own micro-batches wait to be ordered, HALTED when this node no longer votes, and
        WEDGED while the network stands for an upgrade.
        """

    def on_proven_block(self, callback: Callable[[ProvenBlock], None]) -> None:
        """Call `callback` with every block as soon as it is proven: usually in order of height, but one whose
        attestations were lost comes later or never."""

    async def query(self, read: Callable[[Machine], T]) -> T:
        """Run `read` in a worker thread while no block is being applied; it must not write."""

    async def find_envelope(self, envelope_digest: bytes) -> tuple[int, int] | None:
        """(height, index of its ENVELOPE record) of an envelope: where it was executed or, if no copy
        was, where one was refused."""

    async def load_block(self, height: int) -> ProvenBlock | None:
        """An executed and proven block from the history, or None."""

    async def prove_balance(self, account: int, asset: int) -> BalanceAnswer:
        """The balance in the newest durable snapshot. Raises `InputError` NOT_PROVEN before the first."""

    async def prove_validators(self) -> ValidatorsAnswer:
        """How the newest epoch's members are reached, in the newest durable snapshot. Raises `InputError`
        NOT_PROVEN before the first."""

    def epoch_proofs(self) -> Sequence[EpochProof]:
        """Every change of validators since genesis, ascending; the first leads to epoch 1."""

    def checkpoint(self) -> CheckpointCert | None:
        """The certificate of the newest stable checkpoint; None before the first."""

    def status(self) -> NodeStatus:
        """Where this node stands now."""
