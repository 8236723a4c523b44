"""`kontor test`: which tools run, with what, and what the exit status says."""

import argparse

from ops import checks, cli


def run(monkeypatch, capsys, *words: str, fail: str = "") -> tuple[int, list[list[str]], str]:
    """`kontor test` with tools that only record their call; the one named `fail` fails."""
    calls: list[list[str]] = []

    def tool(command):
        calls.append(list(command))
        return 5 if command[0] == fail else 0

    monkeypatch.setattr(checks, "_run", tool)
    return cli.main(["test", *words]), calls, capsys.readouterr().out


def test_all_checks_run_in_order(monkeypatch, capsys):
    code, calls, out = run(monkeypatch, capsys)
    assert code == 0
    assert [call[:2] for call in calls] == [["ruff", "format"], ["ruff", "check"], ["mypy"], ["pytest", "-n"]]
    assert out.count("passed in") == 4 and out.endswith("all checks passed\n")


def test_a_failed_check_does_not_stop_the_others(monkeypatch, capsys):
    code, calls, out = run(monkeypatch, capsys, fail="mypy")
    assert code == 1 and len(calls) == 4
    assert "types: failed with status 5" in out and out.endswith("failed: types\n")


def test_other_arguments_go_to_pytest(monkeypatch, capsys):
    _, calls, _ = run(monkeypatch, capsys, "--only", "tests", "-k", "book", "-x")
    assert calls == [["pytest", "-n", "2", "-k", "book", "-x"]]


def test_only_chosen_checks_run(monkeypatch, capsys):
    _, calls, _ = run(monkeypatch, capsys, "--only", "lint", "types")
    assert [call[0] for call in calls] == ["ruff", "mypy"]


def test_outside_a_checkout_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(checks, "ROOT", tmp_path)
    assert cli.main(["test"]) == 2
    assert "source checkout" in capsys.readouterr().err


def test_a_check_runs_as_a_module_of_this_interpreter():
    args = argparse.Namespace(only=["types"], extra=[])
    assert checks.run_checks(args, lambda command: 0) == 0
