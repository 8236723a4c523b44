"""What mutants do wrong: each takes the right method and returns a broken one.

`mutants` says which method each replaces, and what must bring it to light.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from consensus import view_change
from consensus.batches import Batches
from consensus.checkpoints import Checkpoints
from consensus.durable import VoteLog
from consensus.effects import Effect, Erase, Executed, Persist
from consensus.log import Slot, Stash, Tally
from consensus.messages import Block, CommitCert, Message, PreparedCert, PrePrepare, ViewChange
from consensus.ordering import Ordering
from consensus.primitives.crypto import digest
from consensus.proofs import CheckpointCert, EpochProof, StateSummary, Vote
from consensus.quorum import ReplicaSet
from consensus.simulator.app import ChainApp
from consensus.simulator.disk import Disk
from consensus.simulator.node import DURABLE_KINDS, SimNode
from consensus.simulator.snapshot import Snapshot
from consensus.state import ReplicaState

# Quorums and signatures


def quorum_less_one(original: Any) -> Any:
    return property(lambda self: (self.n + self.f) // 2)


def quorum_2f_plus_1(original: Any) -> Any:
    return property(lambda self: 2 * self.f + 1)


def count_all(original: Any) -> Any:
    def count(self: Tally, name: bytes) -> int:
        return sum(self._counts.values())

    return count


def show_all(original: Any) -> Any:
    def votes(self: Tally, name: bytes, needed: int) -> tuple[Vote, ...]:
        return tuple(Vote(replica, self._votes[replica][1]) for replica in sorted(self._votes)[:needed])

    return votes


def nothing(original: Any) -> Any:
    def skip(*args: Any, **kwargs: Any) -> None:
        return

    return skip


# Votes and the log


def without(prefix: bytes) -> Callable[[Any], Any]:
    """The log never writes entries of this kind."""

    def make(original: Any) -> Any:
        def emit(self: ReplicaState, effect: Effect) -> None:
            if not (isinstance(effect, Persist) and effect.key.startswith(prefix)):
                original(self, effect)

        return emit

    return make


def without_erasing(original: Any) -> Any:
    def emit(self: ReplicaState, effect: Effect) -> None:
        if not isinstance(effect, Erase):
            original(self, effect)

    return emit


def forget_at_restart(prefix: bytes) -> Callable[[Any], Any]:
    """The log is written but not read back."""

    def make(original: Any) -> Any:
        def restore(self: VoteLog, key: bytes, value: bytes) -> None:
            if not key.startswith(prefix):
                original(self, key, value)

        return restore

    return make


def accept_anything(original: Any) -> Any:
    def accept(self: VoteLog, proposal: PrePrepare) -> None:
        self.accepted.pop(proposal.block.seq, None)
        original(self, proposal)

    return accept


def take_second_proposal(original: Any) -> Any:
    def on_pre_prepare(self: Ordering, sender: int, m: PrePrepare) -> None:
        slot = self.slots.get(m.block.seq)
        if slot is not None and slot.digest != m.block.digest and not slot.certified:
            self.slots.pop(m.block.seq, None)
        original(self, sender, m)

    return on_pre_prepare


def take_second_proposal_later(original: Any) -> Any:
    """In the first epoch nothing is wrong."""
    broken = take_second_proposal(original)

    def on_pre_prepare(self: Ordering, sender: int, m: PrePrepare) -> None:
        (broken if self._state.replicas.epoch else original)(self, sender, m)

    return on_pre_prepare


def release_first(original: Any) -> Any:
    def commit(self: SimNode, effects: list[Effect]) -> None:
        self._release(effects)
        original(self, [effect for effect in effects if type(effect) in DURABLE_KINDS])

    return commit


def skip_effects(*kinds: type) -> Callable[[Any], Any]:
    """The replica never asks for effects of these kinds."""

    def make(original: Any) -> Any:
        def emit(self: ReplicaState, effect: Effect) -> None:
            if not isinstance(effect, kinds):
                original(self, effect)

        return emit

    return make


def invent_root(original: Any) -> Any:
    def sign_attest(self: ReplicaState, result: Executed) -> Any:
        return original(self, replace(result, journal_root=digest("hash", result.journal_root)))

    return sign_attest


# Disks


def keep_torn(original: Any) -> Any:
    """After a power failure, whatever part of a commit is whole counts."""

    def recover(self: Disk) -> Any:
        if self._journal is not None:
            effects, pool, whole = self._journal
            kept = [effect for effect, intact in zip(effects, whole, strict=True) if intact]
            self._journal = (kept, pool, [True] * len(kept))
        return original(self)

    return recover


def lie_about_fsync(original: Any) -> Any:
    """What a commit wrote is lost in the next power failure, though it was reported as durable."""

    def tear(self: Disk, effects: Any, pool: Any, torn_rate: float) -> None:
        if self.blocks:
            lost = max(self.blocks)
            del self.blocks[lost]
            self.votes = {key: value for key, value in self.votes.items() if not key.endswith(bytes([lost]))}
            self._committed = 0
        original(self, effects, pool, torn_rate)

    return tear


# Bounds


def unbounded(original: Any) -> Any:
    """A stash without a limit."""

    def put(self: Stash, sender: int, message: Message) -> None:
        self._queues.setdefault(sender, deque()).append(message)

    return put


def run_repeats(original: Any) -> Any:
    def is_repeat(self: ChainApp, name: bytes) -> bool:
        return False

    return is_repeat


def rewind(original: Any) -> Any:
    """A new view sets everybody back to its base, as if nothing had been delivered above it."""

    def enter_view(self: Ordering, base: int, proposals: Any) -> None:
        if base < self._state.committed:
            self._state.committed = base
        original(self, base, proposals)

    return enter_view


def refuse_old(original: Any) -> Any:
    def hold(self: SimNode, payload: bytes, origin: int) -> None:
        self.wanted.clear()
        original(self, payload, origin)

    return hold


# Delivery


def deliver_prepared(original: Any) -> Any:
    def prepare(self: Ordering, slot: Slot, cert: PreparedCert) -> None:
        original(self, slot, cert)
        commits = slot.commits.votes(cert.proposal.block.digest, 1)
        if slot.seq > self._state.committed:
            self._certify(CommitCert(cert.proposal.view, cert.proposal.block, commits))

    return prepare


def prepare_without_payloads(original: Any) -> Any:
    def want(self: Batches, block: Block, source: int) -> bool:
        original(self, block, source)
        return True

    return want


def hash_order(original: Any) -> Any:
    """Runs a block's batches in the order of a hash that differs between processes, as that of a set does."""

    def apply(self: ChainApp, block: Block, payloads: list[bytes]) -> tuple[bytes, bytes]:
        salt = bytes([self.owner])
        return original(self, block, sorted(payloads, key=lambda payload: digest("hash", salt, payload)))

    return apply


# Views and checkpoints


def hide_prepared(original: Any) -> Any:
    def leave(self: view_change.ViewChanges, view: int, complaints: Any) -> None:
        kept, self._state.votes.prepared = self._state.votes.prepared, {}
        original(self, view, complaints)
        self._state.votes.prepared = kept

    return leave


def forget_older_views(original: Any) -> Any:
    """Keeps only certificates of the view just left: the bug of more than one published PBFT."""

    def leave(self: view_change.ViewChanges, view: int, complaints: Any) -> None:
        votes = self._state.votes
        votes.prepared = {
            seq: cert for seq, cert in votes.prepared.items() if cert.proposal.view == self._state.view
        }
        original(self, view, complaints)

    return leave


def null_only(original: Any) -> Any:
    """Fills every gap with a null block and looks at no certificate."""

    def compute(changes: tuple[ViewChange, ...]) -> tuple[int, list[Block]]:
        base, blocks = original(changes)
        return base, [Block.null(block.seq) for block in blocks]

    return compute


def lowest_view(original: Any) -> Any:
    """Takes the certificate of the lowest view, not of the highest."""

    def compute(changes: tuple[ViewChange, ...]) -> tuple[int, list[Block]]:
        base, blocks = original(changes)
        for place, block in enumerate(blocks):
            certs = [cert for change in changes for cert in change.prepared]
            fitting = [cert.proposal for cert in certs if cert.proposal.block.seq == block.seq]
            if fitting:
                blocks[place] = min(fitting, key=lambda proposal: proposal.view).block
        return base, blocks

    return compute


def believe_checkpoint(original: Any) -> Any:
    def on_checkpoint_cert(self: Checkpoints, cert: CheckpointCert) -> None:
        self.adopt(cert)

    return on_checkpoint_cert


def ignore_boundary(original: Any) -> Any:
    return property(lambda self: self.low + self.config.window)


def keep_removed(original: Any) -> Any:
    """The next epoch has its validators, and those of this one."""

    def start_epoch(self: ReplicaState, proof: EpochProof) -> None:
        before = self.replicas.record.members
        original(self, proof)
        kept = {member.id: member for member in (*before, *proof.epoch.members)}
        members = tuple(kept[replica] for replica in sorted(kept))
        self.replicas = ReplicaSet(self.replicas.chain_id, replace(proof.epoch, members=members))

    return start_epoch


def ignore_wedge(original: Any) -> Any:
    def learn_boundary(self: ReplicaState, seq: int, summary: StateSummary) -> None:
        is_wedge = summary.boundary == seq and summary.epoch == self.replicas.record.digest
        original(self, seq, replace(summary, boundary=0) if is_wedge else summary)

    return learn_boundary


def never_resume(original: Any) -> Any:
    def learn_boundary(self: ReplicaState, seq: int, summary: StateSummary) -> None:
        named, self.config = self.config, replace(self.config, resume_after=0)
        original(self, seq, summary)
        self.config = named

    return learn_boundary


# States


def only_restore(original: Any) -> Any:
    def go_on_from(self: SimNode, snapshot: Snapshot, stored: int) -> None:
        self.app.restore(snapshot)

    return go_on_from
