"""Signers that remember, in front of vote logs that a crash set back by a turn."""

from collections import Counter
from dataclasses import replace
from random import Random

from consensus.simulator.options import FaultOptions, draw_options
from consensus.simulator.trial import run


def test_a_signer_that_is_ahead_of_its_vote_log_stops_no_honest_replica() -> None:
    """Replicas crash amid commits all the time, next to liars; whatever a signer refuses is withheld."""
    seen: Counter[str] = Counter()
    for seed in range(30):
        faults = FaultOptions(crash_gap_us=150_000, down_us=30_000)
        options = replace(draw_options(Random(seed), 4), faults=faults, commit_us=5_000, batches=60)
        result = run(seed, 4, options)
        assert not result.failure, f"seed {seed}: {result.failure}"
        seen.update(result.counters)
    assert seen["node.crash.signed_ahead"] > 0
    assert seen["replica.refused_signatures"] > 0
