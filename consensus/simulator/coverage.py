"""Paths that a fair number of runs must have met, or their faults are too tame to prove anything.

"Sometimes" assertions, as Antithesis calls them: a rule that never had occasion to be broken was not
tested. Every path is a counter, of a replica, a node, a disk, the network or the checker.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SEEDS_MIN = 200  # below so many runs nothing can be said of a path that was not met


@dataclass(frozen=True)
class Path:
    """`counter` counts how often `what` happened. In `seeds` runs it is all but certain to have done so:

    ten of them or more are expected to meet it, as measured over disjoint ranges of seeds.
    """

    counter: str
    what: str
    seeds: int = SEEDS_MIN


PATHS = (
    Path("checker.new_views_sent", "a primary was replaced"),
    Path("checker.nulls_committed", "a gap was filled with a null block, which committed"),
    Path("replica.reproposals", "a new view proposed a prepared block again"),
    Path("replica.view_joins", "a replica joined others in leaving a view"),
    Path("replica.complaint_echoes", "f+1 complaints made a replica complain"),
    Path("replica.contradicted_proposals", "a proposal contradicted what was delivered", 1000),
    Path("replica.stashed", "a message came too early and was kept"),
    Path("replica.checkpoints", "a checkpoint became stable"),
    Path("replica.batch_fetches", "a payload was fetched"),
    Path("replica.block_fetches", "committed blocks were fetched"),
    Path("replica.equivocations", "two votes of one replica were noticed"),
    Path("replica.clock_waits", "a block's time was too far from a clock"),
    Path("replica.refused", "a message was refused"),
    Path("twins.two_leaders", "both twins led a view, with different proposals"),
    Path("checker.rival_certificates", "two blocks were prepared at one place, in different views", 1000),
    Path("replica.transfer_bans", "who sent a wrong piece of a state was asked no more", 1000),
    Path("replica.chunks_kept", "pieces of a former target were those of the next", 1000),
    Path("disk.torn_commits_dropped", "a commit torn by a crash was dropped whole"),
    Path("disk.commits_completed", "a commit under way at a crash was whole"),
    Path("disk.corrupt_reads_detected", "a damaged record was noticed"),
    Path("disk.read_errors_detected", "a misread record was noticed", 400),
    Path("node.stopped_by_disk", "a node stopped for its disk"),
    Path("checker.wipes", "a replica lost its disk and came back empty"),
    Path("node.crash.after_commit", "a crash fell between commit and sending"),
    Path("node.crash.amid_commit", "a crash fell amid a commit"),
    Path("node.crash.before_commit", "a crash fell before a commit"),
    Path("checker.states_swapped", "a replica went on from a state it had fetched"),
    Path("checker.ingesting_amid_view_change", "a state was fetched amid a view change", 1000),
    Path("node.prunes", "a node dropped the blocks below its snapshot"),
    Path("change.replace", "a validator was to be replaced"),
    Path("change.add", "a validator was to be added"),
    Path("change.rotate", "a validator was to have another key"),
    Path("change.remove", "a validator was to leave, and nobody to come"),
    Path("wedge.resumed", "operators led a wedged chain on"),
    Path("operator.heals", "an operator had a node fetch its state"),
    Path("node.batches_forgotten", "payloads that skipped blocks may hold were let go"),
    Path("replica.epochs", "an epoch began"),
    Path("replica.epochs_learnt", "a replica was shown an epoch it had missed"),
    Path("fault.partition_amid_change", "a partition fell amid a change of validators", 400),
    Path("fault.clock_jump", "a clock leapt"),
    Path("fault.clog", "links were clogged"),
    Path("fault.partition", "the network was partitioned"),
    Path("fault.pause", "a node was paused"),
    Path("fault.slow", "a node was slow"),
    Path("fault.swizzle", "a group was clogged one by one and unclogged in another order"),
    Path("network.duplicated", "a message came twice"),
    Path("network.lost", "a message was lost"),
    Path("network.overflowed", "a link was full"),
    Path("network.replayed", "an old message came again"),
    Path("liveness.missing_quorum", "too many were dead to go on, and nothing broke", 1000),
    Path("liveness.with_dead", "the rest finished although some stayed away"),
)


def list_unmet(counters: Mapping[str, int], seeds: int) -> list[Path]:
    """Paths that never happened in so many runs, and should have."""
    return [path for path in PATHS if seeds >= path.seeds and not counters.get(path.counter)]
