"""`kontor sim`: exit codes, the JSON object, and how a failing seed is shown."""

import json
from argparse import ArgumentParser

import pytest

from consensus.simulator.options import SimOptions
from consensus.simulator.trial import SimResult
from testnet import sim, sim_runs


def call(*words: str) -> int:
    parser = ArgumentParser()
    sim.add_arguments(parser)
    return sim.run_command(parser.parse_args(words))


def fail(seed: int, n: int, options: SimOptions | None = None, trace: bool = False) -> SimResult:
    return SimResult(seed, n, failure="SafetyViolation: told so", options=options or SimOptions(n=n))


def test_clean_seeds_exit_with_zero_and_report_counters(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--seeds", "3", "--nodes", "4,5", "--jobs", "1", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seeds"] == 3 and result["nodes"] == [4, 5] and result["failures"] == []
    assert result["counters"]["checker.committed"] > 0 and result["virtual_seconds"] > 3


def test_two_processes_give_the_same_counters_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for jobs in ("1", "2"):
        assert call("--seeds", "4", "--first", "40", "--jobs", jobs, "--json") == 0
        outputs.append(json.loads(capsys.readouterr().out))
    assert outputs[0]["counters"] == outputs[1]["counters"]
    assert outputs[0]["events"] == outputs[1]["events"]


def test_a_failing_seed_exits_with_one_and_prints_one_line_that_replays_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim_runs.trial, "run", fail)
    assert call("--seeds", "2", "--first", "7", "--nodes", "4", "--jobs", "1", "--shrink", "0") == 1
    shown = capsys.readouterr().out
    assert "told so" in shown and "    kontor sim --replay '1,seed=7,n=4'\n" in shown
    assert call("--seeds", "1", "--nodes", "7", "--jobs", "1", "--json") == 1
    assert json.loads(capsys.readouterr().out)["failures"][0]["replay"].startswith("kontor sim --replay '1,")


def test_a_path_that_no_seed_met_is_a_failure_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tame(seed: int, n: int, options: SimOptions | None = None, trace: bool = False) -> SimResult:
        return SimResult(seed, n)

    monkeypatch.setattr(sim_runs.trial, "run", tame)
    words = ("--seeds", "200", "--jobs", "1", "--json")
    assert call(*words) == 1
    assert "checker.wipes" in json.loads(capsys.readouterr().out)["unmet"]
    assert call(*words, "--no-coverage") == 0
    assert call("--seeds", "10", "--jobs", "1", "--json") == 0


def test_a_line_is_replayed_and_a_wrong_one_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--replay", "1,seed=3,n=4,batches=5,network.loss_rate=0.1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counters"]["network.lost"] > 0
    assert call("--replay", "1,seed=3,network.weather=2") == 2
    assert "network.weather" in capsys.readouterr().err


def test_all_mutants_are_listed_and_a_survivor_is_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim_runs, "hunt", lambda mutant: fail(9, mutant.n))
    assert call("--mutants", "--jobs", "1") == 0
    assert "quorum_off_by_one" in capsys.readouterr().out
    monkeypatch.setattr(sim_runs, "hunt", lambda mutant: None)
    assert call("--mutants", "--jobs", "1", "--json") == 1
    assert "quorum_off_by_one" in json.loads(capsys.readouterr().out)["survivors"]


def test_one_seed_can_be_traced(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--seed", "5", "--trace") == 0
    shown = capsys.readouterr().out
    assert "PrePrepare v=0 n=1" in shown and "every rule held" in shown


@pytest.mark.parametrize(
    "words",
    [
        ("--seeds", "0"),
        ("--jobs", "0"),
        ("--seed", "-1"),
        ("--trace",),
        ("--shrink", "-1"),
        ("--shrink", "nan"),
    ],
)
def test_arguments_without_sense_exit_with_two_and_say_why(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize("nodes", ["0", "99", "4,", "4,x", ""])
def test_a_cluster_size_that_cannot_be_is_refused(nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call("--nodes", nodes)
    assert "1 to 13" in capsys.readouterr().err
