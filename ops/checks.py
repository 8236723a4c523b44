"""`kontor test`: format, lint, types and tests, in this order, each under a header with its time."""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from consensus.primitives.errors import ConfigError

if TYPE_CHECKING:
    from ops.cli import Subparsers

ROOT = Path(__file__).resolve().parents[1]
CHECKS: dict[str, tuple[str, ...]] = {
    "format": ("ruff", "format", "--check", "."),
    "lint": ("ruff", "check", "."),
    "types": ("mypy",),
    "tests": ("pytest", "-n", "2"),
}
Runner = Callable[[Sequence[str]], int]

HELP = """\
Runs what a change must pass: ruff format, ruff check, mypy and pytest. All of them run, even if one
fails, and the last line says which did. Arguments that are not listed here go to pytest:

  kontor test                              everything
  kontor test --only lint types            two of them
  kontor test --only tests -k book -x      one part of the tests
"""


def register(subparsers: "Subparsers") -> None:
    """Add `kontor test`."""
    parser = subparsers.add_parser(
        "test",
        help="check a source checkout: format, lint, types, tests",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--only", nargs="+", choices=CHECKS, metavar="CHECK", help=f"of {', '.join(CHECKS)}")
    parser.set_defaults(run=run_checks, takes_extra=True)


def run_checks(args: argparse.Namespace, run: Runner | None = None) -> int:
    """Run the chosen checks; 0 if all pass."""
    if not (ROOT / "tests").is_dir():
        raise ConfigError(f"`kontor test` checks a source checkout, and {ROOT} is none: clone the project")
    failed = [
        name
        for name, command in CHECKS.items()
        if (not args.only or name in args.only)
        and not _passes(name, [*command, *(args.extra if name == "tests" else [])], run or _run)
    ]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nall checks passed", flush=True)
    return 1 if failed else 0


def _passes(name: str, command: Sequence[str], run: Runner) -> bool:
    print(f"\n== {name}: {' '.join(command)}", flush=True)
    started = time.monotonic()
    code = run(command)
    verdict = "passed" if code == 0 else f"failed with status {code}"
    print(f"== {name}: {verdict} in {time.monotonic() - started:.1f} s", flush=True)
    return code == 0


def _run(command: Sequence[str]) -> int:
    """Tools run as modules of this interpreter, so that PATH does not matter."""
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, stdin=subprocess.DEVNULL).returncode
