"""Replicas with known bugs. The simulator must catch every one, or it guards nothing.

Each mutant replaces a few methods while its runs last, and says which faults bring the bug to light.
A test runs them all, and runs the same seeds unbroken, so that only the bug can be what was caught.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from consensus import certificates, membership, ordering, view_change
from consensus.batches import Batches
from consensus.catch_up import CatchUp
from consensus.checkpoints import Checkpoints
from consensus.durable import ACCEPTED, CHECKPOINT, EPOCH, NEW_VIEW, PREPARED, VIEW, VIEW_CHANGE, VoteLog
from consensus.effects import Effect, Erase, Executed, Persist, StoreBatches, StoreBlock
from consensus.log import Slot, Stash, Tally
from consensus.messages import Block, CommitCert, Message, PreparedCert, PrePrepare, ViewChange
from consensus.ordering import Ordering
from consensus.pacemaker import Pacemaker
from consensus.primitives.crypto import digest
from consensus.proofs import CheckpointCert, Vote
from consensus.quorum import ReplicaSet
from consensus.replica import Replica
from consensus.simulator.app import ChainApp
from consensus.simulator.disk import Disk
from consensus.simulator.node import DURABLE_KINDS, SimNode
from consensus.simulator.options import DiskOptions, FaultOptions, NetworkOptions, SimOptions, draw_options
from consensus.simulator.sync import StateSync
from consensus.simulator.trial import SimResult, run
from consensus.state import ReplicaState

SEEDS_MAX = 100  # a mutant that survives so many seeds has survived


@dataclass(frozen=True)
class Patch:
    """Replaces `owner.name` by `make(original)`."""

    owner: Any
    name: str
    make: Callable[[Any], Any]


@dataclass(frozen=True)
class Mutant:
    """A bug: what is broken, how, and under which conditions it shows."""

    name: str
    breaks: str
    patches: tuple[Patch, ...]
    strategies: tuple[str, ...] = ()
    n: int = 4
    prepare: Callable[[SimOptions], SimOptions] = lambda options: options

    def options(self, seed: int) -> SimOptions:
        """Faults of this seed, with the liars that the bug needs."""
        drawn = draw_options(Random(seed), self.n)
        # No more than f may be faulty, and here the liars are: all disks keep what they took.
        drawn = replace(
            drawn,
            strategies=self.strategies,
            leave_dead=0,
            changes=0,
            spares=0,
            twin_views=drawn.twin_views if "twins" in self.strategies else 0,
            disk=replace(drawn.disk, bad_disks=0),
            faults=replace(drawn.faults, wipe_gap_us=0),
        )
        return self.prepare(drawn)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Break every replica of this process for a while."""
        with ExitStack() as stack:
            for patch in self.patches:
                original = patch.owner.__dict__[patch.name]
                stack.callback(setattr, patch.owner, patch.name, original)
                setattr(patch.owner, patch.name, patch.make(original))
            yield

    def run(self, seed: int) -> SimResult:
        """One seed with the bug in place."""
        with self.applied():
            # Without the second lock: the checker is to see what the first one lets through.
            return run(seed, self.n, replace(self.options(seed), signers_remember=False))


def hunt(mutant: Mutant, seeds_max: int = SEEDS_MAX) -> SimResult | None:
    """The first seed that catches the mutant, or None if it survives `seeds_max` of them."""
    for seed in range(seeds_max):
        result = mutant.run(seed)
        if result.failure:
            return result
    return None


# Conditions


def _crashing(options: SimOptions) -> SimOptions:
    """Frequent crashes and short downtimes."""
    faults = replace(options.faults, crash_gap_us=300_000, down_us=50_000)
    return replace(options, faults=faults, commit_us=2_000, batches=80)


def _unstable(options: SimOptions) -> SimOptions:
    """Partitions and short timeouts, so that views change often amid work."""
    faults = replace(options.faults, partition_gap_us=300_000, partition_us=400_000)
    return replace(
        options,
        faults=faults,
        batches=80,
        request_timeout_us=150_000,
        view_timeout_us=150_000,
        in_flight_max=8,
    )


def _dead_primary(options: SimOptions) -> SimOptions:
    """Nothing but one replica that stays away."""
    return replace(options, faults=FaultOptions(), network=NetworkOptions(), strategies=("silent",))


def _long_and_quiet(options: SimOptions) -> SimOptions:
    """Many small blocks, small windows, no faults."""
    return replace(
        options.calm(), batches=200, block_orders_max=8, in_flight_max=1, window=4, checkpoint_interval=2
    )


def _gappy(options: SimOptions) -> SimOptions:
    """So much loss that blocks are prepared here and there, in several views, and committed in none."""
    network = NetworkOptions(delay_us=2_000, jitter_us=8_000, loss_rate=0.4)
    calm = replace(_unstable(options), faults=FaultOptions(), network=network, commit_us=300)
    return replace(calm, window=64, checkpoint_interval=16)


def _crowded(options: SimOptions) -> SimOptions:
    """So much work at once that blocks hold several batches; clocks agree."""
    return replace(options.calm(), strategies=options.strategies, batches=200, fault_phase_us=300_000)


def _changing(options: SimOptions) -> SimOptions:
    """Validators change every second or so."""
    return replace(_lossy(options), spares=2, changes=6, batches=80)


def _lossy(options: SimOptions) -> SimOptions:
    return replace(options, network=NetworkOptions(loss_rate=0.3), faults=FaultOptions())


def _torn(options: SimOptions) -> SimOptions:
    """Crashes that tear commits."""
    return replace(_crashing(options), disk=DiskOptions(torn_rate=0.5))


def _rotten(options: SimOptions) -> SimOptions:
    """One disk whose writes go astray, and crashes, so that it is read."""
    return replace(_crashing(options), disk=DiskOptions(bad_disks=1, misdirect_rate=0.1))


def _emptied(options: SimOptions) -> SimOptions:
    """Disks are lost, and everybody drops old blocks, so that only a state helps."""
    faults = replace(_crashing(options).faults, wipe_gap_us=500_000, down_us=400_000)
    return replace(
        options, faults=faults, batches=80, commit_us=300, transfer_gap=4, checkpoint_interval=2, window=8
    )


def _small_stash(options: SimOptions) -> SimOptions:
    return replace(options, stash_max=16, batches=80)


# Quorums and signatures


def _quorum_less_one(original: Any) -> Any:
    return property(lambda self: (self.n + self.f) // 2)


def _quorum_2f_plus_1(original: Any) -> Any:
    return property(lambda self: 2 * self.f + 1)


def _count_all(original: Any) -> Any:
    def count(self: Tally, name: bytes) -> int:
        return sum(self._counts.values())

    return count


def _show_all(original: Any) -> Any:
    def votes(self: Tally, name: bytes, needed: int) -> tuple[Vote, ...]:
        return tuple(Vote(replica, self._votes[replica][1]) for replica in sorted(self._votes)[:needed])

    return votes


def _nothing(original: Any) -> Any:
    def skip(*args: Any, **kwargs: Any) -> None:
        return

    return skip


# Votes and the log


def _without(prefix: bytes) -> Callable[[Any], Any]:
    """The log never writes entries of this kind."""

    def make(original: Any) -> Any:
        def emit(self: ReplicaState, effect: Effect) -> None:
            if not (isinstance(effect, Persist) and effect.key.startswith(prefix)):
                original(self, effect)

        return emit

    return make


def _without_erasing(original: Any) -> Any:
    def emit(self: ReplicaState, effect: Effect) -> None:
        if not isinstance(effect, Erase):
            original(self, effect)

    return emit


def _forget_at_restart(prefix: bytes) -> Callable[[Any], Any]:
    """The log is written but not read back."""

    def make(original: Any) -> Any:
        def restore(self: VoteLog, key: bytes, value: bytes) -> None:
            if not key.startswith(prefix):
                original(self, key, value)

        return restore

    return make


def _accept_anything(original: Any) -> Any:
    def accept(self: VoteLog, proposal: PrePrepare) -> None:
        self.accepted.pop(proposal.block.seq, None)
        original(self, proposal)

    return accept


def _take_second_proposal(original: Any) -> Any:
    def on_pre_prepare(self: Ordering, sender: int, m: PrePrepare) -> None:
        slot = self.slots.get(m.block.seq)
        if slot is not None and slot.digest != m.block.digest and not slot.certified:
            self.slots.pop(m.block.seq, None)
        original(self, sender, m)

    return on_pre_prepare


def _release_first(original: Any) -> Any:
    def commit(self: SimNode, effects: list[Effect]) -> None:
        self._release(effects)
        original(self, [effect for effect in effects if type(effect) in DURABLE_KINDS])

    return commit


def _skip_effects(*kinds: type) -> Callable[[Any], Any]:
    """The replica never asks for effects of these kinds."""

    def make(original: Any) -> Any:
        def emit(self: ReplicaState, effect: Effect) -> None:
            if not isinstance(effect, kinds):
                original(self, effect)

        return emit

    return make


def _invent_root(original: Any) -> Any:
    def sign_attest(self: ReplicaState, result: Executed) -> Any:
        return original(self, replace(result, journal_root=digest("hash", result.journal_root)))

    return sign_attest


# Disks


def _keep_torn(original: Any) -> Any:
    """After a power failure, whatever part of a commit is whole counts."""

    def recover(self: Disk) -> Any:
        if self._journal is not None:
            effects, pool, whole = self._journal
            kept = [effect for effect, intact in zip(effects, whole, strict=True) if intact]
            self._journal = (kept, pool, [True] * len(kept))
        return original(self)

    return recover


def _lie_about_fsync(original: Any) -> Any:
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


def _unbounded(original: Any) -> Any:
    """A stash without a limit."""

    def put(self: Stash, sender: int, message: Message) -> None:
        self._queues.setdefault(sender, deque()).append(message)

    return put


def _run_repeats(original: Any) -> Any:
    def is_repeat(self: ChainApp, name: bytes) -> bool:
        return False

    return is_repeat


def _rewind(original: Any) -> Any:
    """A new view sets everybody back to its base, as if nothing had been delivered above it."""

    def enter_view(self: Ordering, base: int, proposals: Any) -> None:
        if base < self._state.committed:
            self._state.committed = base
        original(self, base, proposals)

    return enter_view


def _refuse_old(original: Any) -> Any:
    def hold(self: SimNode, payload: bytes, origin: int) -> None:
        self.wanted.clear()
        original(self, payload, origin)

    return hold


# Delivery


def _deliver_prepared(original: Any) -> Any:
    def prepare(self: Ordering, slot: Slot, cert: PreparedCert) -> None:
        original(self, slot, cert)
        commits = slot.commits.votes(cert.proposal.block.digest, 1)
        if slot.seq > self._state.committed:
            self._certify(CommitCert(cert.proposal.view, cert.proposal.block, commits))

    return prepare


def _prepare_without_payloads(original: Any) -> Any:
    def want(self: Batches, block: Block, source: int) -> bool:
        original(self, block, source)
        return True

    return want


def _hash_order(original: Any) -> Any:
    """Runs a block's batches in the order of a hash that differs between processes, as that of a set does."""

    def apply(self: ChainApp, block: Block, payloads: list[bytes]) -> tuple[bytes, bytes]:
        salt = bytes([self.owner])
        return original(self, block, sorted(payloads, key=lambda payload: digest("hash", salt, payload)))

    return apply


# Views and checkpoints


def _hide_prepared(original: Any) -> Any:
    def leave(self: view_change.ViewChanges, view: int, complaints: Any) -> None:
        kept, self._state.votes.prepared = self._state.votes.prepared, {}
        original(self, view, complaints)
        self._state.votes.prepared = kept

    return leave


def _forget_older_views(original: Any) -> Any:
    """Keeps only certificates of the view just left: the bug of more than one published PBFT."""

    def leave(self: view_change.ViewChanges, view: int, complaints: Any) -> None:
        votes = self._state.votes
        votes.prepared = {
            seq: cert for seq, cert in votes.prepared.items() if cert.proposal.view == self._state.view
        }
        original(self, view, complaints)

    return leave


def _null_only(original: Any) -> Any:
    """Fills every gap with a null block and looks at no certificate."""

    def compute(changes: tuple[ViewChange, ...]) -> tuple[int, list[Block]]:
        base, blocks = original(changes)
        return base, [Block.null(block.seq) for block in blocks]

    return compute


def _lowest_view(original: Any) -> Any:
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


def _believe_checkpoint(original: Any) -> Any:
    def on_checkpoint_cert(self: Checkpoints, cert: CheckpointCert) -> None:
        self.adopt(cert)

    return on_checkpoint_cert


def _ignore_boundary(original: Any) -> Any:
    return property(lambda self: self.low + self.config.window)


MUTANTS = (
    Mutant(
        "block_not_stored",
        "a committed block runs, and is never stored",
        (Patch(ReplicaState, "emit", _skip_effects(StoreBlock)),),
    ),
    Mutant(
        "payloads_not_stored",
        "votes leave before the payloads they vouch for are durable",
        (Patch(ReplicaState, "emit", _skip_effects(StoreBatches)),),
    ),
    Mutant(
        "certificate_not_persisted",
        "a commit is sent without its prepared certificate in the log",
        (Patch(ReplicaState, "emit", _without(PREPARED)),),
    ),
    Mutant(
        "view_change_not_persisted",
        "a view change is sent but not kept",
        (Patch(ReplicaState, "emit", _without(VIEW_CHANGE)),),
        prepare=_unstable,
    ),
    Mutant(
        "new_view_not_persisted",
        "a new view is announced but not kept",
        (Patch(ReplicaState, "emit", _without(NEW_VIEW)),),
        prepare=_unstable,
    ),
    Mutant(
        "checkpoint_not_persisted",
        "a checkpoint is attested but not kept",
        (Patch(ReplicaState, "emit", _without(CHECKPOINT)),),
    ),
    Mutant(
        "root_invented",
        "attestations say another root than execution came to",
        (Patch(ReplicaState, "sign_attest", _invent_root),),
    ),
    Mutant(
        "new_view_of_too_few",
        "one view change less than n−f starts a view",
        (Patch(ReplicaSet, "collect", lambda original: property(lambda self: self.n - self.f - 1)),),
        prepare=_unstable,
    ),
    Mutant(
        "new_view_rewinds",
        "what was delivered above a new view's base is delivered again",
        (Patch(Ordering, "enter_view", _rewind), Patch(Replica, "check_invariants", _nothing)),
        prepare=_unstable,
    ),
    Mutant(
        "repeats_run_again",
        "a batch that stands in two blocks runs twice, on every replica alike",
        (Patch(ChainApp, "is_repeat", _run_repeats),),
        ("repeat",),
    ),
    Mutant(
        "torn_commit_kept",
        "half a commit counts after a power failure",
        (Patch(Disk, "recover", _keep_torn),),
        prepare=_torn,
    ),
    Mutant(
        "fsync_lies",
        "a power failure takes what was durable, too",
        (Patch(Disk, "tear", _lie_about_fsync),),
        prepare=_torn,
    ),
    Mutant(
        "checksums_ignored",
        "a record is taken for what it should be, whatever is there",
        (Patch(Disk, "_check", _nothing),),
        prepare=_rotten,
    ),
    Mutant(
        "never_serves_states",
        "nobody hands out a state, though the blocks that led to it are gone",
        (Patch(StateSync, "_held", _nothing),),
        prepare=_emptied,
    ),
    Mutant(
        "votes_while_fetching",
        "a replica without a state of its own votes as if it had one",
        (Patch(ReplicaState, "may_vote", lambda original: property(lambda self: self.is_member)),),
        prepare=_emptied,
    ),
    Mutant(
        "retired_votes",
        "who is no validator votes",
        (Patch(ReplicaState, "may_vote", lambda original: property(lambda self: not self.is_silent)),),
        prepare=_changing,
    ),
    Mutant(
        "stash_unbounded",
        "messages for later are kept without limit",
        (Patch(Stash, "put", _unbounded),),
        ("flood",),
        prepare=_small_stash,
    ),
    Mutant(
        "quorum_off_by_one",
        "one vote less than a quorum makes a certificate",
        (Patch(ReplicaSet, "quorum", _quorum_less_one),),
    ),
    Mutant(
        "quorum_2f_plus_1",
        "2f+1 votes make a certificate of five replicas",
        (Patch(ReplicaSet, "quorum", _quorum_2f_plus_1),),
        n=5,
    ),
    Mutant(
        "votes_of_any_digest",
        "commits for different blocks are counted together",
        (Patch(Tally, "count", _count_all), Patch(Tally, "votes", _show_all)),
        ("equivocate",),
    ),
    Mutant(
        "signatures_unchecked",
        "every signature is believed",
        (Patch(certificates.Authority, "check", _nothing),),
        ("forge",),
    ),
    Mutant(
        "vote_not_persisted",
        "a proposal is voted for but not kept",
        (Patch(ReplicaState, "emit", _without(ACCEPTED)),),
    ),
    Mutant(
        "vote_forgotten_at_restart",
        "what was voted for is not read back after a crash",
        (Patch(VoteLog, "_restore", _forget_at_restart(ACCEPTED)),),
        prepare=_crashing,
    ),
    Mutant(
        "view_lowered_at_restart",
        "a restarted replica is back in view 0",
        (Patch(VoteLog, "_restore", _forget_at_restart(VIEW)),),
        prepare=lambda options: _unstable(_crashing(options)),
    ),
    Mutant(
        "sent_before_durable",
        "messages leave before the commit they depend on",
        (Patch(SimNode, "_commit", _release_first),),
        prepare=_crashing,
    ),
    Mutant(
        "never_erases",
        "the vote log grows for ever",
        (Patch(ReplicaState, "emit", _without_erasing),),
        prepare=_long_and_quiet,
    ),
    Mutant(
        "second_proposal_accepted",
        "a later pre-prepare for the same place replaces the first",
        (
            Patch(VoteLog, "accept", _accept_anything),
            Patch(Ordering, "on_pre_prepare", _take_second_proposal),
        ),
        ("twins",),
    ),
    Mutant(
        "executed_when_prepared",
        "blocks run before a quorum committed them",
        (Patch(Ordering, "_prepare", _deliver_prepared),),
    ),
    Mutant(
        "prepared_without_payloads",
        "votes for blocks whose payloads are not held",
        (Patch(Batches, "want", _prepare_without_payloads),),
        prepare=_lossy,
    ),
    Mutant(
        "old_payloads_refused",
        "a restarted node gives no payload that stands in a stored block, though one was asked for",
        (Patch(SimNode, "_hold", _refuse_old),),
        ("repeat",),
        prepare=_crashing,
    ),
    Mutant(
        "hash_order_execution",
        "batches run in the order of a set",
        (Patch(ChainApp, "apply", _hash_order),),
    ),
    Mutant(
        "view_change_hides_prepared",
        "a view change carries no prepared certificates",
        (Patch(view_change.ViewChanges, "leave", _hide_prepared),),
        prepare=_unstable,
    ),
    Mutant(
        "view_change_forgets_older_views",
        "a certificate is dropped when a later view did not repeat it",
        (Patch(view_change.ViewChanges, "leave", _forget_older_views),),
        prepare=_unstable,
    ),
    Mutant(
        "new_view_unchecked",
        "whatever the new primary proposes is taken",
        (Patch(view_change, "check_new_view", _nothing),),
        ("amnesia",),
        prepare=_unstable,
    ),
    Mutant(
        "new_view_of_nulls",
        "everybody agrees to fill the new view with null blocks",
        (
            Patch(view_change, "compute_proposals", _null_only),
            Patch(certificates, "compute_proposals", _null_only),
        ),
        prepare=_unstable,
    ),
    Mutant(
        "new_view_takes_lowest_view",
        "of two prepared certificates for one place, the older one wins",
        (
            Patch(view_change, "compute_proposals", _lowest_view),
            Patch(certificates, "compute_proposals", _lowest_view),
        ),
        prepare=_gappy,
    ),
    Mutant(
        "checkpoint_unchecked",
        "any stable certificate is believed",
        (Patch(Checkpoints, "on_checkpoint_cert", _believe_checkpoint),),
        ("forge",),
    ),
    Mutant(
        "votes_above_the_boundary",
        "old validators go on where new ones are due",
        (
            Patch(ReplicaState, "ceiling", _ignore_boundary),
            Patch(certificates.Authority, "end_at", _nothing),
        ),
        prepare=_changing,
    ),
    Mutant(
        "epoch_unproven",
        "whatever somebody calls the next epoch is believed",
        (Patch(membership, "check_epoch_proof", _nothing),),
        ("forge",),
        prepare=_lossy,
    ),
    Mutant(
        "epoch_proof_not_kept",
        "an epoch is entered, and its proof is not on disk",
        (Patch(ReplicaState, "emit", _without(EPOCH)),),
        prepare=_changing,
    ),
    Mutant(
        "order_unchecked",
        "a primary lists the batches of a block as it likes",
        (Patch(ordering, "check_order", _nothing),),
        ("misorder",),
        prepare=_crowded,
    ),
    Mutant(
        "never_complains",
        "a dead primary stays primary",
        (Patch(Pacemaker, "_complain", _nothing),),
        prepare=_dead_primary,
    ),
    Mutant(
        "never_fetches_payloads",
        "a payload that got lost stays lost",
        (Patch(CatchUp, "on_fetch_timer", _nothing),),
        prepare=_lossy,
    ),
)
