"""`kontor sim`: exit codes, the JSON object, and how a failing seed is shown."""

import json
from argparse import ArgumentParser

import pytest

from consensus.simulator.trial import SimResult
from testnet import sim


def call(*words: str) -> int:
    parser = ArgumentParser()
    sim.add_arguments(parser)
    return sim.run_command(parser.parse_args(words))


def fail(seed: int, n: int = 4, trace: bool = False) -> SimResult:
    return SimResult(seed, n, failure="SafetyViolation: told so", trace=["0.1 crash 2"] if trace else [])


def test_clean_seeds_exit_with_zero_and_report_counters(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--seeds", "3", "--jobs", "1", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seeds"] == 3 and result["nodes"] == 4 and result["failures"] == []
    assert result["counters"]["checker.committed"] > 0 and result["virtual_seconds"] > 3


def test_two_processes_give_the_same_counters_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for jobs in ("1", "2"):
        assert call("--seeds", "4", "--first", "40", "--jobs", jobs, "--json") == 0
        outputs.append(json.loads(capsys.readouterr().out))
    assert outputs[0]["counters"] == outputs[1]["counters"]
    assert outputs[0]["events"] == outputs[1]["events"]


def test_a_failing_seed_exits_with_one_and_prints_how_to_replay_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim, "run", fail)
    assert call("--seeds", "2", "--first", "7", "--jobs", "1") == 1
    shown = capsys.readouterr().out
    assert "told so" in shown and "kontor sim --nodes 4 --seed 7 --trace" in shown
    assert call("--seeds", "1", "--jobs", "1", "--json") == 1
    assert json.loads(capsys.readouterr().out)["failures"][0]["replay"].endswith("--seed 0 --trace")


def test_one_seed_can_be_traced(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--seed", "5", "--trace") == 0
    shown = capsys.readouterr().out
    assert "PrePrepare v=0 n=1" in shown and "every rule held" in shown


@pytest.mark.parametrize(
    "words",
    [("--nodes", "0"), ("--nodes", "99"), ("--seeds", "0"), ("--jobs", "0"), ("--seed", "-1"), ("--trace",)],
)
def test_arguments_without_sense_exit_with_two_and_say_why(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    assert words[0] in capsys.readouterr().err
