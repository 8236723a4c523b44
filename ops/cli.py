"""`kontor`: one command line for operators, tests and local networks.

A command is a function from parsed arguments to an exit status, set as the parser's default `run`.
Core commands stand in this package; others come through the entry-point group `kontor.commands`,
each a function `register(subparsers)`.
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from consensus.primitives.errors import ConfigError, InputError, LedgerError
from ops import balance, checks, debug, evidence, nodes, prices, signing, status, validators

if TYPE_CHECKING:
    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

GROUP = "kontor.commands"
EXIT_FAILED = 1
EXIT_USAGE = 2  # the user must change something: argparse's own status for bad arguments
EXIT_INTERRUPTED = 130

REMEDIES = {
    errno.EEXIST: "choose another path, or move what is there",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another path",
    errno.EISDIR: "name a file, not a folder",
    errno.EACCES: "run as its owner, or choose another path",
    errno.EROFS: "choose a path that can be written",
    errno.ENOSPC: "free some space",
    errno.EADDRINUSE: "stop what uses the port, or choose another",
}

DESCRIPTION = """\
Kontor is a Byzantine-fault-tolerant replicated exchange ledger. This command runs nodes, asks them
how they are, and starts whole local networks.

  kontor testnet up                 four nodes, live order flow, one view; Ctrl-C stops them
  kontor testnet run --json         the same, bounded and checked
  kontor init --home DIR …          a home for one node of a real network
  kontor start --home DIR           run it
"""


class Parser(argparse.ArgumentParser):
    """A parser, as are those of its commands, that answers a missing command with its help."""

    def error(self, message: str) -> NoReturn:
        """Leave with the usage, or the help if only the choice of a command is missing."""
        commands = [item for item in self._actions if isinstance(item, argparse._SubParsersAction)]
        if any(message.endswith(f"required: {item.metavar}") for item in commands):
            self.print_help(sys.stderr)
            self.exit(EXIT_USAGE)
        super().error(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status. Errors we raise ourselves become one line."""
    parser = build_parser()
    args, extra = parser.parse_known_args(argv)
    if extra and not getattr(args, "takes_extra", False):
        parser.error(f"unknown arguments: {' '.join(extra)}")
    args.extra = extra
    try:
        return int(args.run(args))
    except BaseExceptionGroup as group:
        return _explain(_first_error(group))
    except (Exception, KeyboardInterrupt) as error:
        return _explain(error)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line, with the commands of installed plugins."""
    parser: argparse.ArgumentParser = Parser(
        prog="kontor",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kontor {version('kontor')}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    nodes.register(subparsers)
    signing.register(subparsers)
    status.register(subparsers)
    validators.register(subparsers)
    evidence.register(subparsers)
    balance.register(subparsers)
    prices.register(subparsers)
    debug.register(subparsers)
    checks.register(subparsers)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            point.load()(subparsers)
        except Exception as error:  # a broken plugin must not keep an operator from `kontor status`
            print(f"kontor: the commands of '{point.name}' are not available: {error!r}", file=sys.stderr)
    return parser


def _explain(error: BaseException) -> int:
    """Turn an error into one line and an exit status; what is a bug of ours is raised again."""
    match error:
        case ConfigError() | InputError():
            return _say(error, EXIT_USAGE)
        case KeyboardInterrupt():
            return EXIT_INTERRUPTED
        case BrokenPipeError():
            # Whoever read our output left. With stdout pointing nowhere, the flush at exit stays quiet.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_FAILED
        case LedgerError():
            return _say(error, EXIT_FAILED)
        case OSError():
            return _say(_describe(error), EXIT_FAILED)
    raise error


def _first_error(group: BaseExceptionGroup) -> BaseException:
    """The error that matters in a group: one of ours if there is one, else the group as it is."""
    for kind in (LedgerError, OSError, KeyboardInterrupt):
        found: BaseException | None = group.subgroup(kind)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if found is not None:
            return found
    return group


def _describe(error: OSError) -> str:
    """What the system refused, on which path, and what helps where that is known."""
    text = error.strerror or str(error) or type(error).__name__
    if error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {text}"
    remedy = REMEDIES.get(error.errno or 0)
    return f"{text}: {remedy}" if remedy else text


def _say(error: BaseException | str, code: int) -> int:
    print(f"kontor: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
