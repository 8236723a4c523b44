"""`kontor testnet chaos`: what it refuses before anything starts, and what it lists."""

import subprocess
import sys

import pytest

from consensus.primitives.errors import ConfigError
from ops.cli import main
from testnet.chaos import command, namespaces
from testnet.chaos.scenarios import SCENARIOS


def test_every_scenario_is_listed_with_what_it_is_about(capsys):
    assert main(["testnet", "chaos", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SCENARIOS)
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a scenario, or 'all'"),
        (["meteor"], "no scenario is called 'meteor'; use one of: all, isolate-primary"),
        (["pause", "--times", "0"], "--times is 0; it must lie between 1 and 1000"),
        (["pause", "--seconds", "1"], "--seconds is 1; it must lie between 4 and 3600"),
        (["pause", "--seconds", "nan"], "--seconds is nan"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(capsys, words, message):
    assert main(["testnet", "chaos", *words]) == 2
    assert message in capsys.readouterr().err


def test_kernel_mode_is_refused_with_the_reason_where_it_is_not_permitted(capsys, monkeypatch):
    def refuse(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "unshare: unshare failed: Operation not permitted\n")

    monkeypatch.delenv(namespaces.MARK, raising=False)
    monkeypatch.setattr(namespaces.subprocess, "run", refuse)
    monkeypatch.setattr(namespaces.shutil, "which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr(namespaces.sys, "platform", "linux")
    assert main(["testnet", "chaos", "pause", "--mode", "kernel"]) == 2
    message = capsys.readouterr().err
    assert "not permitted here (unshare: unshare failed: Operation not permitted)" in message
    assert "or use --mode user" in message


def test_kernel_mode_names_the_tools_that_are_missing(capsys, monkeypatch):
    monkeypatch.delenv(namespaces.MARK, raising=False)
    monkeypatch.setattr(namespaces.sys, "platform", "linux")
    monkeypatch.setattr(namespaces.shutil, "which", lambda tool: None if tool in ("tc", "ip") else tool)
    assert main(["testnet", "chaos", "pause", "--mode", "kernel"]) == 2
    assert "kernel mode needs ip, tc: install util-linux and iproute2" in capsys.readouterr().err


def test_kernel_mode_needs_linux(monkeypatch):
    monkeypatch.delenv(namespaces.MARK, raising=False)
    monkeypatch.setattr(namespaces.sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="needs Linux's network namespaces, and this is darwin"):
        namespaces.enter(["testnet", "chaos", "pause"])


def test_the_command_inside_means_the_same_as_the_one_outside():
    words = ["pause", "--mode", "kernel", "--times", "3", "--seconds", "8.0", "--dir", "/d", "--json"]
    parser = command.argparse.ArgumentParser()
    command.add_arguments(parser)
    inside = command._words(parser.parse_args(words))
    assert inside[:2] == ["testnet", "chaos"] and parser.parse_args(inside[2:]) == parser.parse_args(words)


def test_scenarios_that_delay_packets_are_left_out_where_the_kernel_cannot(capsys, monkeypatch):
    monkeypatch.setattr(namespaces, "has_netem", lambda: False)
    every = list(SCENARIOS.values())
    assert [item.name for item in every if item not in command._possible(every)] == ["latency"]
    assert "skipped: this kernel has no netem, so latency needs --mode user" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no netem"):
        command._possible([SCENARIOS["latency"]])


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_a_cut_in_the_kernel_drops_one_direction_and_leaves_nothing_behind():
    """Real namespaces and packets, without nodes."""
    try:
        prefix = namespaces._prefix()
    except ConfigError as error:
        pytest.skip(str(error))
    if subprocess.run([*prefix, "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True).returncode:
        pytest.skip("namespaces are not permitted here")
    before = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    program = [sys.executable, "-P", "-m", "tests.helpers.packets"]
    done = subprocess.run([*prefix, *program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["arrived", "dropped", "arrived-back", "arrived-again"]
    assert subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout == before
