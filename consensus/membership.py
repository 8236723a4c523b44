"""Moving from one epoch's validators to the next.

An ordered command schedules a change for a boundary: a checkpoint so far ahead that nobody votes
above it before the change is known to all who may (`ReplicaState.ceiling`). There the old validators
vote for the last time, on a checkpoint that names the new ones; once it is stable, that certificate
proves the next epoch to anybody who trusts the one before. Old votes, locks and complaints are
dropped with the epoch they belong to: its blocks are settled by the checkpoint.
"""

from consensus.certificates import check_epoch_proof
from consensus.checkpoints import Checkpoints
from consensus.effects import Executed
from consensus.messages import EPOCHS_FETCH_MAX, Epochs, FetchEpochs
from consensus.ordering import Ordering
from consensus.pacemaker import Pacemaker
from consensus.primitives.errors import ensure
from consensus.proofs import Epoch, EpochProof
from consensus.state import ReplicaState
from consensus.view_change import ViewChanges


class Membership:
    """The next epoch, as far as our own execution or a peer told of it."""

    def __init__(
        self,
        state: ReplicaState,
        ordering: Ordering,
        checkpoints: Checkpoints,
        pacemaker: Pacemaker,
        view_changes: ViewChanges,
    ) -> None:
        self._state = state
        self._ordering = ordering
        self._checkpoints = checkpoints
        self._pacemaker = pacemaker
        self._view_changes = view_changes
        self._next: Epoch | None = None

    def on_executed(self, result: Executed) -> None:
        """A checkpoint ran here: it may name the validators of the next epoch."""
        if result.state is None or result.epoch is None:
            return
        ensure(
            result.epoch.digest == result.state.epoch,
            f"block {result.seq} came with epoch {result.epoch.number}, its state names another",
        )
        if result.epoch.number == self._state.replicas.epoch + 1:
            self._next = result.epoch

    def settle(self) -> None:
        """After every step: start the next epoch if the last checkpoint of this one is stable."""
        stable, record = self._state.votes.stable, self._next
        if stable is not None and record is not None and stable.state.epoch == record.digest:
            self._start(EpochProof(record, stable))

    def _start(self, proof: EpochProof) -> None:
        self._next = None
        self._state.start_epoch(proof)
        self._ordering.start_epoch(proof.epoch.first_seq)
        self._view_changes.start_epoch()
        self._pacemaker.start_epoch()

    # Peers

    def on_epochs(self, m: Epochs) -> None:
        """Changes of validators that a peer shows us: each is proved by the validators before it."""
        state = self._state
        for proof in m.proofs:
            if proof.epoch.number <= state.replicas.epoch:
                continue
            check_epoch_proof(state.authority, proof)
            self._checkpoints.adopt(proof.cert)
            ensure(state.low == proof.cert.seq, f"checkpoint {state.low} is stable, the epoch ended before")
            state.count("epochs_learnt")
            self._start(proof)

    def ask(self, peer: int) -> None:
        """Have a peer that seems to live in a later epoch show how it got there."""
        state = self._state
        if state.may("fetch-epochs", peer, state.config.status_us):
            state.send(peer, FetchEpochs(state.replicas.epoch + 1))
            state.count("epoch_asks")

    def show(self, peer: int, first: int) -> None:
        """Send a peer the changes from epoch `first` on, as many as fit one message."""
        state = self._state
        last = min(state.replicas.epoch, max(first, 1) + EPOCHS_FETCH_MAX - 1)
        proofs = tuple(state.votes.epochs[number] for number in range(max(first, 1), last + 1))
        if proofs and state.may("show-epochs", peer, state.config.status_us // 4):
            state.send(peer, Epochs(proofs))
            state.count("epochs_shown", len(proofs))
