"""The figures of `kontor bench failover`: from the kill to an answer that was due after it."""

from argparse import ArgumentParser

import pytest
import trio

from ops.cli import main
from testnet import bench_failover
from testnet.bench_failover import Samples, summarise, wait_answer
from testnet.load import Tally


def arguments(*words: str):
    parser = ArgumentParser()
    bench_failover.add_arguments(parser)
    return parser.parse_args(words)


def test_the_summary_holds_percentiles_the_largest_and_all_samples():
    samples = Samples([0.4, 0.2, 0.3], [1.0, 3.0, 2.0])
    result = summarise(arguments("--kills", "3"), samples)
    assert result["failover_ms"] == {"p50": 300.0, "p99": 400.0, "max": 400.0}
    assert result["return_ms"]["p50"] == 2000.0
    assert result["samples_ms"] == [400.0, 200.0, 300.0] and result["kills"] == 3


def test_defaults_are_those_of_the_documented_figure():
    args = arguments()
    assert (args.kills, args.nodes, args.rate, args.json) == (50, 4, 50.0, False)


def test_only_what_was_due_after_the_kill_ends_the_wait():
    """An answer that arrives late, to an order due before, says nothing of the new primary."""
    tally = Tally()
    tally.recent.extend([(10.4, 1, 0.5), (10.9, 1, 0.2), (10.8, 1, 0.1)])
    assert trio.run(wait_answer, tally, 10.0) == 10.8


def test_no_answer_is_an_error(monkeypatch):
    monkeypatch.setattr(bench_failover, "WAIT_SECONDS", 0.0)
    with pytest.raises(bench_failover.LedgerError, match="no order was answered"):
        trio.run(wait_answer, Tally(), 0.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kills", "0"], "--kills is 0; it must lie between 1 and 10000"),
        (["--nodes", "3"], "--nodes is 3; 4 to 64 can go on without one"),
        (["--rate", "0.5"], "--rate is 0.5; it must lie between 1 and 1000"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(capsys, words, message):
    assert main(["bench", "failover", *words]) == 2
    assert message in capsys.readouterr().err
