"""Replicas with known bugs. The simulator must catch every one, or it guards nothing.

Each mutant replaces a few methods while its runs last, and says which faults bring the bug to light.
A test runs them all, and runs the same seeds unbroken, so that only the bug can be what was caught.
"""

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
from consensus.effects import StoreBatches, StoreBlock
from consensus.log import Stash, Tally
from consensus.ordering import Ordering
from consensus.pacemaker import Pacemaker
from consensus.quorum import ReplicaSet
from consensus.replica import Replica
from consensus.simulator import bugs
from consensus.simulator.app import ChainApp
from consensus.simulator.disk import Disk
from consensus.simulator.node import SimNode
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
            wedges=0,
            spares=0,
            funnels=False,
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


def _scheduled(options: SimOptions) -> SimOptions:
    """Leaders and partitions of the first views are drawn, and nothing else goes wrong."""
    return replace(
        options,
        faults=FaultOptions(),
        network=NetworkOptions(),
        twin_views=8,
        request_timeout_us=150_000,
        view_timeout_us=150_000,
        window=64,
        checkpoint_interval=16,
        batches=60,
    )


def _funnelled(options: SimOptions) -> SimOptions:
    """Several blocks are prepared at one place, in different views, each by one replica."""
    return replace(_scheduled(options), funnels=True)


def _scheduled_epochs(options: SimOptions) -> SimOptions:
    """The same in each of several epochs, in which twins have other keys, or are gone."""
    return replace(
        _scheduled(options),
        twin_views=3,
        changes=4,
        window=8,
        checkpoint_interval=4,
        batches=120,
        fault_phase_us=6_000_000,
    )


def _shrinking(options: SimOptions) -> SimOptions:
    """Validators leave, and nobody takes their place."""
    return replace(options.calm(), changes=8, batches=80)


def _wedged(options: SimOptions) -> SimOptions:
    """The chain stops now and then, and is led on."""
    return replace(options.calm(), wedges=3, batches=80)


def _healing(options: SimOptions) -> SimOptions:
    """Nodes have their state fetched all the time; some blocks above it are on their disks."""
    return replace(options.calm(), faults=FaultOptions(heal_gap_us=300_000), batches=80)


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


MUTANTS = (
    Mutant(
        "block_not_stored",
        "a committed block runs, and is never stored",
        (Patch(ReplicaState, "emit", bugs.skip_effects(StoreBlock)),),
    ),
    Mutant(
        "payloads_not_stored",
        "votes leave before the payloads they vouch for are durable",
        (Patch(ReplicaState, "emit", bugs.skip_effects(StoreBatches)),),
    ),
    Mutant(
        "certificate_not_persisted",
        "a commit is sent without its prepared certificate in the log",
        (Patch(ReplicaState, "emit", bugs.without(PREPARED)),),
    ),
    Mutant(
        "view_change_not_persisted",
        "a view change is sent but not kept",
        (Patch(ReplicaState, "emit", bugs.without(VIEW_CHANGE)),),
        prepare=_unstable,
    ),
    Mutant(
        "new_view_not_persisted",
        "a new view is announced but not kept",
        (Patch(ReplicaState, "emit", bugs.without(NEW_VIEW)),),
        prepare=_unstable,
    ),
    Mutant(
        "checkpoint_not_persisted",
        "a checkpoint is attested but not kept",
        (Patch(ReplicaState, "emit", bugs.without(CHECKPOINT)),),
    ),
    Mutant(
        "root_invented",
        "attestations say another root than execution came to",
        (Patch(ReplicaState, "sign_attest", bugs.invent_root),),
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
        (Patch(Ordering, "enter_view", bugs.rewind), Patch(Replica, "check_invariants", bugs.nothing)),
        prepare=_unstable,
    ),
    Mutant(
        "repeats_run_again",
        "a batch that stands in two blocks runs twice, on every replica alike",
        (Patch(ChainApp, "is_repeat", bugs.run_repeats),),
        ("repeat",),
    ),
    Mutant(
        "torn_commit_kept",
        "half a commit counts after a power failure",
        (Patch(Disk, "recover", bugs.keep_torn),),
        prepare=_torn,
    ),
    Mutant(
        "fsync_lies",
        "a power failure takes what was durable, too",
        (Patch(Disk, "tear", bugs.lie_about_fsync),),
        prepare=_torn,
    ),
    Mutant(
        "checksums_ignored",
        "a record is taken for what it should be, whatever is there",
        (Patch(Disk, "_check", bugs.nothing),),
        prepare=_rotten,
    ),
    Mutant(
        "never_serves_states",
        "nobody hands out a state, though the blocks that led to it are gone",
        (Patch(StateSync, "_held", bugs.nothing),),
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
        (Patch(Stash, "put", bugs.unbounded),),
        ("flood",),
        prepare=_small_stash,
    ),
    Mutant(
        "quorum_off_by_one",
        "one vote less than a quorum makes a certificate",
        (Patch(ReplicaSet, "quorum", bugs.quorum_less_one),),
    ),
    Mutant(
        "quorum_2f_plus_1",
        "2f+1 votes make a certificate of five replicas",
        (Patch(ReplicaSet, "quorum", bugs.quorum_2f_plus_1),),
        n=5,
    ),
    Mutant(
        "votes_of_any_digest",
        "commits for different blocks are counted together",
        (Patch(Tally, "count", bugs.count_all), Patch(Tally, "votes", bugs.show_all)),
        ("equivocate",),
    ),
    Mutant(
        "signatures_unchecked",
        "every signature is believed",
        (Patch(certificates.Authority, "check", bugs.nothing),),
        ("forge",),
    ),
    Mutant(
        "vote_not_persisted",
        "a proposal is voted for but not kept",
        (Patch(ReplicaState, "emit", bugs.without(ACCEPTED)),),
    ),
    Mutant(
        "vote_forgotten_at_restart",
        "what was voted for is not read back after a crash",
        (Patch(VoteLog, "_restore", bugs.forget_at_restart(ACCEPTED)),),
        prepare=_crashing,
    ),
    Mutant(
        "view_lowered_at_restart",
        "a restarted replica is back in view 0",
        (Patch(VoteLog, "_restore", bugs.forget_at_restart(VIEW)),),
        prepare=lambda options: _unstable(_crashing(options)),
    ),
    Mutant(
        "sent_before_durable",
        "messages leave before the commit they depend on",
        (Patch(SimNode, "_commit", bugs.release_first),),
        prepare=_crashing,
    ),
    Mutant(
        "never_erases",
        "the vote log grows for ever",
        (Patch(ReplicaState, "emit", bugs.without_erasing),),
        prepare=_long_and_quiet,
    ),
    Mutant(
        "second_proposal_accepted",
        "a later pre-prepare for the same place replaces the first",
        (
            Patch(VoteLog, "accept", bugs.accept_anything),
            Patch(Ordering, "on_pre_prepare", bugs.take_second_proposal),
        ),
        ("twins",),
        prepare=_scheduled,
    ),
    Mutant(
        "second_proposal_accepted_later",
        "the same, in every epoch but the first",
        (
            Patch(VoteLog, "accept", bugs.accept_anything),
            Patch(Ordering, "on_pre_prepare", bugs.take_second_proposal_later),
        ),
        ("twins",),
        prepare=_scheduled_epochs,
    ),
    Mutant(
        "executed_when_prepared",
        "blocks run before a quorum committed them",
        (Patch(Ordering, "_prepare", bugs.deliver_prepared),),
    ),
    Mutant(
        "prepared_without_payloads",
        "votes for blocks whose payloads are not held",
        (Patch(Batches, "want", bugs.prepare_without_payloads),),
        prepare=_lossy,
    ),
    Mutant(
        "old_payloads_refused",
        "a restarted node gives no payload that stands in a stored block, though one was asked for",
        (Patch(SimNode, "_hold", bugs.refuse_old),),
        ("repeat", "repeat"),
        n=7,
        prepare=_crashing,
    ),
    Mutant(
        "hash_order_execution",
        "batches run in the order of a set",
        (Patch(ChainApp, "apply", bugs.hash_order),),
    ),
    Mutant(
        "view_change_hides_prepared",
        "a view change carries no prepared certificates",
        (Patch(view_change.ViewChanges, "leave", bugs.hide_prepared),),
        prepare=_unstable,
    ),
    Mutant(
        "view_change_forgets_older_views",
        "a certificate is dropped when a later view did not repeat it",
        (Patch(view_change.ViewChanges, "leave", bugs.forget_older_views),),
        prepare=_unstable,
    ),
    Mutant(
        "new_view_unchecked",
        "whatever the new primary proposes is taken",
        (Patch(view_change, "check_new_view", bugs.nothing),),
        ("amnesia",),
        prepare=_unstable,
    ),
    Mutant(
        "new_view_of_nulls",
        "everybody agrees to fill the new view with null blocks",
        (
            Patch(view_change, "compute_proposals", bugs.null_only),
            Patch(certificates, "compute_proposals", bugs.null_only),
        ),
        prepare=_unstable,
    ),
    Mutant(
        "new_view_takes_lowest_view",
        "of two prepared certificates for one place, the older one wins",
        (
            Patch(view_change, "compute_proposals", bugs.lowest_view),
            Patch(certificates, "compute_proposals", bugs.lowest_view),
        ),
        prepare=_funnelled,
    ),
    Mutant(
        "checkpoint_unchecked",
        "any stable certificate is believed",
        (Patch(Checkpoints, "on_checkpoint_cert", bugs.believe_checkpoint),),
        ("forge",),
    ),
    Mutant(
        "votes_above_the_boundary",
        "old validators go on where new ones are due",
        (
            Patch(ReplicaState, "ceiling", bugs.ignore_boundary),
            Patch(certificates.Authority, "end_at", bugs.nothing),
        ),
        prepare=_changing,
    ),
    Mutant(
        "removed_still_counts",
        "who was removed with nobody in its place stays among the validators",
        (Patch(ReplicaState, "start_epoch", bugs.keep_removed),),
        n=7,
        prepare=_shrinking,
    ),
    Mutant(
        "wedge_ignored",
        "a chain that should stand goes on by itself",
        (Patch(ReplicaState, "learn_boundary", bugs.ignore_wedge),),
        prepare=_wedged,
    ),
    Mutant(
        "never_resumes",
        "a wedged chain stands whatever height its operators name",
        (Patch(ReplicaState, "learn_boundary", bugs.never_resume),),
        prepare=_wedged,
    ),
    Mutant(
        "stored_blocks_not_run",
        "a node that fetched a state waits for blocks that it has",
        (Patch(SimNode, "_go_on_from", bugs.only_restore),),
        prepare=_healing,
    ),
    Mutant(
        "epoch_unproven",
        "whatever somebody calls the next epoch is believed",
        (Patch(membership, "check_epoch_proof", bugs.nothing),),
        ("forge",),
        prepare=_lossy,
    ),
    Mutant(
        "epoch_proof_not_kept",
        "an epoch is entered, and its proof is not on disk",
        (Patch(ReplicaState, "emit", bugs.without(EPOCH)),),
        prepare=_changing,
    ),
    Mutant(
        "order_unchecked",
        "a primary lists the batches of a block as it likes",
        (Patch(ordering, "check_order", bugs.nothing),),
        ("misorder",),
        prepare=_crowded,
    ),
    Mutant(
        "never_complains",
        "a dead primary stays primary",
        (Patch(Pacemaker, "_complain", bugs.nothing),),
        prepare=_dead_primary,
    ),
    Mutant(
        "never_fetches_payloads",
        "a payload that got lost stays lost",
        (Patch(CatchUp, "on_fetch_timer", bugs.nothing),),
        prepare=_lossy,
    ),
)
