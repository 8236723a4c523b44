"""The command line: help worth reading, errors in one line, exit statuses."""

import argparse
import re

import pytest

from consensus.primitives.errors import ConfigError, LedgerError, StorageError
from ops import cli


def walk(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()):
    """Every parser of the tree, with its words."""
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from walk(child, (*path, name))


COMMANDS = dict(walk(cli.build_parser()))


def main_with(monkeypatch, run, *arguments: str) -> int:
    """`main` with one command, `go`, that calls `run`."""

    def build_parser():
        parser = argparse.ArgumentParser()
        parser.add_subparsers().add_parser("go").set_defaults(run=run)
        return parser

    monkeypatch.setattr(cli, "build_parser", build_parser)
    return cli.main(["go", *arguments])


def raising(error: BaseException):
    def run(args):
        raise error

    return run


def test_every_documented_command_is_there():
    wanted = (
        "init|start|status|keys show|keys new|test|testnet up|testnet run|testnet init|flow import"
        "|bench engine|bench cluster|sim"
    )
    assert {tuple(words.split()) for words in wanted.split("|")} <= COMMANDS.keys()


@pytest.mark.parametrize("path", [path for path in COMMANDS if len(path) > 0], ids=" ".join)
def test_help_says_more_than_the_name(path):
    parser = COMMANDS[path]
    if not parser.add_help:
        pytest.skip("its module writes the help, when it is called")
    text = parser.format_help()
    assert parser.description and len(parser.description) > 20, text
    undocumented = [action.dest for action in parser._actions if not action.help and action.dest != "COMMAND"]
    assert [name for name in undocumented if name != argparse.SUPPRESS] in ([], ["==SUPPRESS=="]), (
        undocumented
    )
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("command", ["bench cluster", "sim"])
def test_delegated_commands_show_their_own_help(command, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main([*command.split(), "--help"])
    assert exit.value.code == 0
    out = capsys.readouterr().out
    assert f"kontor {command}" in out and "--json" in out


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("'node.id' is 9: correct it"), 2, "kontor: 'node.id' is 9: correct it\n"),
        (StorageError("the disk is full"), 1, "kontor: the disk is full\n"),
        (
            OSError(13, "Permission denied", "x"),
            1,
            "kontor: x: Permission denied: run as its owner, or choose another path\n",
        ),
        (
            OSError(17, "File exists", "/y"),
            1,
            "kontor: /y: File exists: choose another path, or move what is there\n",
        ),
        (OSError(5, "Input/output error", "z"), 1, "kontor: z: Input/output error\n"),
        (OSError("all attempts failed"), 1, "kontor: all attempts failed\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            BaseExceptionGroup("g", [ExceptionGroup("h", [LedgerError("deep inside")])]),
            1,
            "kontor: deep inside\n",
        ),
        (ExceptionGroup("g", [ConfigError("change it")]), 2, "kontor: change it\n"),
    ],
)
def test_errors_are_one_line_and_a_status(monkeypatch, capsys, error, code, line):
    assert main_with(monkeypatch, raising(error)) == code
    assert capsys.readouterr().err == line


def test_bugs_are_not_hidden(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        main_with(monkeypatch, raising(ZeroDivisionError()))
    with pytest.raises(ExceptionGroup):
        main_with(monkeypatch, raising(ExceptionGroup("g", [ZeroDivisionError()])))


@pytest.mark.parametrize("words", ["", "testnet", "keys", "flow"])
def test_a_missing_command_is_answered_with_the_help(capsys, words):
    with pytest.raises(SystemExit) as exit:
        cli.main(words.split())
    assert exit.value.code == 2
    assert capsys.readouterr().err == COMMANDS[tuple(words.split())].format_help()


def test_unknown_arguments_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit) as exit:
        main_with(monkeypatch, lambda args: 0, "--wrong")
    assert exit.value.code == 2
    assert "--wrong" in capsys.readouterr().err


def test_a_broken_plugin_leaves_the_core_commands_usable(monkeypatch, capsys):
    class Broken:
        name = "broken"

        def load(self):
            raise ImportError("nothing there")

    monkeypatch.setattr(cli, "entry_points", lambda group: [Broken()])
    assert "status" in cli.build_parser().format_help()
    assert re.search("commands of 'broken' are not available.*nothing there", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("testnet run --restart-at 3", "give both"),
        ("testnet run --kill-primary-at 5 --restart-at 3", "later"),
        ("testnet run --nodes 3 --kill-primary-at 1", "cannot go on without one"),
        ("testnet run --flow /nonexistent.flow", "No such file"),
        ("start --home /nonexistent", "does not exist"),
        ("keys show --home /nonexistent", "does not exist"),
        ("status --home /nonexistent", "does not exist"),
        ("status --network /nonexistent.toml", "does not exist"),
    ],
)
def test_mistakes_get_an_answer_that_helps(capsys, words, message):
    assert cli.main(words.split()) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "words", ["testnet run --orders 0", "testnet run --nodes x", "testnet up --seconds -1"]
)
def test_numbers_out_of_range_are_refused_by_name(capsys, words):
    with pytest.raises(SystemExit) as exit:
        cli.main(words.split())
    assert exit.value.code == 2
    assert words.split()[2] in capsys.readouterr().err
