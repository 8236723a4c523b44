"""`kontor testnet chaos`: real partitions, crashes and bad disks on real processes, and a verdict.

Each scenario starts a fresh network of real nodes, with four clients that each ask one node only and an
order load beside them; breaks something; heals it; waits until every node is at the head; stops; audits
every ledger; and checks that what the clients saw can have happened one operation after the other.
Exit status 0 only if every run passed.

  kontor testnet chaos --list
  kontor testnet chaos isolate-primary --times 3
  kontor testnet chaos all --json
  kontor testnet chaos split-2-2 --mode kernel

In user mode validators reach each other through TCP proxies in this process: no privileges are needed,
and a cut holds bytes. In kernel mode each node lives in a network namespace of its own, and a cut drops
packets: Linux only, as root or where users may make namespaces; all of it is gone when the command ends.
"""

import argparse
import json
import sys
from pathlib import Path

from consensus.primitives.errors import ConfigError
from testnet.chaos.faults import Slow
from testnet.chaos.scenarios import SCENARIOS, Scenario
from testnet.chaos.verdict import Finding

MODES = ("user", "kernel")
TIMES_MAX = 1000
SECONDS_MIN, SECONDS_MAX = 4.0, 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kontor testnet chaos`."""
    parser.add_argument("scenario", nargs="?", metavar="SCENARIO", help="a name from --list, or 'all'")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="runs of each (1)")
    parser.add_argument("--mode", choices=MODES, default="user", help="how wires are cut (user)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each run's load")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="keep the networks there, one for each run")
    parser.add_argument("--json", action="store_true", help="print JSON, one object for each run")


def run_command(args: argparse.Namespace) -> int:
    """Run, judge, print."""
    if args.list:
        print("\n".join(f"{item.name:18} {item.about}" for item in SCENARIOS.values()))
        return 0
    scenarios = _chosen(args)
    if args.mode == "kernel":
        from testnet.chaos.namespaces import enter

        enter(_words(args))  # returns inside namespaces of our own
        scenarios = _possible(scenarios)
    failed = 0
    for scenario in scenarios:
        for number in range(1, args.times + 1):
            finding = _play(args, scenario, number)
            if finding is None:
                return 130
            failed += not finding.is_good
    return 1 if failed else 0


def describe(finding: Finding) -> str:
    """A run in a few lines."""
    lines = [
        f"{finding.scenario} ({finding.mode}): {'passed' if finding.is_good else 'FAILED'} in"
        f" {finding.seconds} s, height {finding.height:,}, {finding.view_changes} view changes",
        f"  {finding.transfers:,} transfers ({finding.unknown} unknown), {finding.readings:,} readings,"
        f" {finding.orders:,} orders, {finding.fills:,} fills",
        f"  longest wait with a quorum {finding.longest_wait_ms:,.0f} ms; first fault to next commit"
        f" {_ms(finding.fault_to_commit_ms)}; last step to all at the head {_ms(finding.heal_to_level_ms)}",
    ]
    lines += [
        f"  {role} had no quorum for {seconds} s and told its clients {finding.stranded_errors[role]} errors"
        for role, seconds in finding.stranded_seconds.items()
    ]
    lines += [f"  {role} halted: {reason}" for role, reason in finding.halted.items()]
    return "\n".join(lines + [f"  FAULT: {fault}" for fault in finding.faults])


def _play(args: argparse.Namespace, scenario: Scenario, number: int) -> Finding | None:
    """One run; None if it was interrupted."""
    from testnet.chaos.run import open_user_ground, run_scenario
    from testnet.cli import run_until_signal

    if args.mode == "kernel":
        from testnet.chaos.namespaces import open_kernel_ground as open_ground
    else:
        open_ground = open_user_ground
    _say(f"{scenario.name}, run {number} of {args.times}: {scenario.about}")
    found: list[Finding] = []
    root = args.dir / f"{scenario.name}-{number}" if args.dir else None

    async def main() -> None:
        found.append(await run_scenario(scenario, open_ground, args.seconds, root, _say))

    run_until_signal(main)
    if not found:
        return None
    print(json.dumps(found[0].to_json()) if args.json else describe(found[0]), flush=True)
    return found[0]


def _chosen(args: argparse.Namespace) -> list[Scenario]:
    if args.scenario is None:
        raise ConfigError("name a scenario, or 'all'; --list says what there is")
    if args.scenario != "all" and args.scenario not in SCENARIOS:
        raise ConfigError(f"no scenario is called {args.scenario!r}; use one of: all, {', '.join(SCENARIOS)}")
    if not 1 <= args.times <= TIMES_MAX:
        raise ConfigError(f"--times is {args.times}; it must lie between 1 and {TIMES_MAX}")
    if args.seconds is not None and not SECONDS_MIN <= args.seconds <= SECONDS_MAX:
        raise ConfigError(
            f"--seconds is {args.seconds:g}; it must lie between {SECONDS_MIN:g} and {SECONDS_MAX:g}"
        )
    return list(SCENARIOS.values()) if args.scenario == "all" else [SCENARIOS[args.scenario]]


def _possible(scenarios: list[Scenario]) -> list[Scenario]:
    """What this kernel can do of `scenarios`. Raises `ConfigError` if that is nothing."""
    from testnet.chaos.namespaces import has_netem

    if has_netem():
        return scenarios
    late = [item for item in scenarios if any(isinstance(step.fault, Slow) for step in item.steps)]
    why = f"this kernel has no netem, so {', '.join(item.name for item in late)} needs --mode user"
    if late == scenarios:
        raise ConfigError(why)
    if late:
        _say(f"skipped: {why}")
    return [item for item in scenarios if item not in late]


def _words(args: argparse.Namespace) -> list[str]:
    """The command line that means `args`."""
    words = ["testnet", "chaos", args.scenario, "--mode", args.mode, "--times", str(args.times)]
    words += ["--seconds", str(args.seconds)] if args.seconds is not None else []
    words += ["--dir", str(args.dir)] if args.dir else []
    return words + (["--json"] if args.json else [])


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f} ms"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
