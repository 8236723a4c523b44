"""`kontor testnet`, `kontor flow`, `kontor bench`, `kontor sim`: parsers, and how a run is started.

What a command needs is imported when it runs: `--help` stays quick.
"""

import argparse
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.primitives.errors import ConfigError

if TYPE_CHECKING:
    from ops.cli import Subparsers
    from testnet.sources import Source

SEED = 1
DESKS = 4
NODES_HELP = "how many nodes (default 4; 3f+1 nodes survive f faulty ones)"

UP_HELP = """\
Writes node directories, starts real nodes, lists markets, funds accounts, sends a live order flow
and shows heights, views, orders/s, latency and roots in one view. Ctrl-C stops everything cleanly;
starting again continues the same ledger. While it runs, `kontor status` works in another terminal,
and clients connect with DIR/network.toml.
"""

REPLACE_ORDERS_PER_SECOND = 10_000.0  # a newcomer has to catch up with the load beside it
FAULT_MARGIN_SECONDS = 2.0  # of load after the last planned fault

RUN_HELP = """\
Runs a bounded load on a network of real processes, then waits until every living node has executed the
same height, stops them, and audits every ledger from its disk. Exit status 0 only if all state roots and
journal roots are equal, value is conserved, every envelope that a client was told about is in every
ledger, and none took effect twice. With faults, --orders are spread over the time until after the last
fault, so that there is load before, during and after it.

  kontor testnet run --orders 200000 --json
  kontor testnet run --orders 200000 --kill-primary-at 3 --restart-at 6 --json
  kontor testnet run --replace-validator-at 2 --json
  kontor testnet run --flow bitstamp.flow

With --replace-validator-at a fifth node is started and takes the place of another by an ordered command,
while 10,000 orders/s go on; the old node is stopped once the new one votes. Unless --orders or --seconds
say otherwise, the load ends a second later.
"""

INIT_HELP = """\
Writes the homes of N nodes, network.toml, and the venue's secret admin.seed under DIR, and starts
nothing. With --hosts, node i gets the i-th address, for one home per machine: copy DIR/node<i> to
host i and run `kontor start --home` there. Keys are never overwritten.
"""

IMPORT_HELP = """\
Turns recorded market data into a flow that `kontor testnet run --flow` replays through real nodes.
Gzip is unpacked. Formats:

"""


def register(subparsers: "Subparsers") -> None:
    """Add this package's commands to `kontor`."""
    _register_testnet(subparsers)
    _register_flow(subparsers)
    _register_bench(subparsers)
    _register_sim(subparsers)
    actions = _group(subparsers, "engine", "execute recorded blocks again, and explain them")
    _delegated(actions, "replay", "why each order was filled, refused or cancelled", "testnet.engine_replay")


# -- parsers -----------------------------------------------------------------------------------------


def _register_testnet(subparsers: "Subparsers") -> None:
    actions = _group(subparsers, "testnet", "a local network of real processes")
    up = _command(actions, "up", "run a network with a live view", UP_HELP, testnet_up)
    up.add_argument("--nodes", type=_nodes, default=4, metavar="N", help=NODES_HELP)
    up.add_argument(
        "--dir", type=Path, metavar="DIR", help="where the network lives (default .kontor/testnet)"
    )
    up.add_argument("--flow", choices=("demo", "none"), default="demo", help="orders to send (default demo)")
    up.add_argument("--rate", type=_positive, default=20_000, metavar="N", help="orders/s (default 20000)")
    up.add_argument("--seconds", type=_seconds, metavar="S", help="stop by itself after S seconds")

    run = _command(actions, "run", "a bounded run with a verdict", RUN_HELP, testnet_run)
    run.add_argument("--nodes", type=_nodes, default=4, metavar="N", help=NODES_HELP)
    run.add_argument(
        "--flow", default="synthetic", metavar="FLOW", help="'synthetic' (default) or a flow file"
    )
    run.add_argument("--orders", type=_positive, metavar="N", help="stop after N order operations")
    run.add_argument("--seconds", type=_seconds, metavar="S", help="stop after S seconds")
    run.add_argument(
        "--kill-primary-at", type=_seconds, metavar="S", help="kill -9 the primary after S seconds"
    )
    run.add_argument("--restart-at", type=_seconds, metavar="S", help="start it again after S seconds")
    run.add_argument(
        "--replace-validator-at", type=_seconds, metavar="S", help="replace a validator after S seconds"
    )
    run.add_argument("--replace-primary", action="store_true", help="the primary, and not another")
    run.add_argument(
        "--envelope", type=_envelope, default=1000, metavar="N", help="orders per envelope (1000)"
    )
    run.add_argument(
        "--window", type=_positive, default=2, metavar="N", help="envelopes under way per desk (2)"
    )
    run.add_argument("--desks", type=_positive, default=DESKS, metavar="N", help=f"client keys ({DESKS})")
    run.add_argument("--seed", type=int, default=SEED, metavar="N", help="of the synthetic flow")
    run.add_argument("--dir", type=Path, metavar="DIR", help="keep the network there (default: temporary)")
    run.add_argument("--json", action="store_true", help="print the result as JSON")

    _delegated(actions, "chaos", "partitions, crashes, bad disks; and a verdict", "testnet.chaos.command")

    init = _command(actions, "init", "write a network's files, for several hosts", INIT_HELP, testnet_init)
    init.add_argument("--nodes", type=_nodes, default=4, metavar="N", help=NODES_HELP)
    init.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new directory")
    init.add_argument("--name", default="kontor", help="name of the network")
    init.add_argument("--hosts", metavar="A,B,…", help="addresses of the nodes, in order (default 127.0.0.1)")
    init.add_argument("--peer-port", type=_positive, default=7000, metavar="P", help="of node 0 (7000)")
    init.add_argument("--client-port", type=_positive, default=7100, metavar="P", help="of node 0 (7100)")


def _register_flow(subparsers: "Subparsers") -> None:
    from testnet.importers.formats import ACCOUNTS, FORMATS

    actions = _group(subparsers, "flow", "turn recorded market data into flows")
    formats = "\n".join(f"  {name:18} {item.help}" for name, item in FORMATS.items())
    command = _command(actions, "import", "turn a recording into a flow", IMPORT_HELP + formats, flow_import)
    command.add_argument("--format", required=True, choices=FORMATS, help="of FILE")
    command.add_argument("file", type=Path, metavar="FILE", help="the recording")
    command.add_argument("--out", type=Path, required=True, metavar="FLOW", help="the flow file to write")
    command.add_argument(
        "--trades", type=Path, metavar="FILE", help="bitstamp-l3: trades, if not beside FILE"
    )
    command.add_argument(
        "--accounts",
        type=_positive,
        default=ACCOUNTS,
        metavar="N",
        help=f"to spread orders over ({ACCOUNTS})",
    )


def _register_bench(subparsers: "Subparsers") -> None:
    actions = _group(subparsers, "bench", "measure, print a table or JSON")
    _delegated(actions, "engine", "matching, funds and fees on one core, no network", "testnet.bench_engine")
    _delegated(
        actions, "cluster", "durable nodes: throughput, and latency at light load", "testnet.bench_cluster"
    )
    _delegated(
        actions, "failover", "primary killed: how long until the next answer", "testnet.bench_failover"
    )
    _delegated(
        actions, "flood", "a lying validator and strangers flood: memory and service", "testnet.bench_flood"
    )
    _delegated(actions, "join", "an empty node fetches a large state; a restart at it", "testnet.bench_join")


def _register_sim(subparsers: "Subparsers") -> None:
    _delegated(subparsers, "sim", "run the protocol's deterministic simulator", "testnet.sim")


# -- commands ----------------------------------------------------------------------------------------


def testnet_up(args: argparse.Namespace) -> int:
    """Run until Ctrl-C."""
    from rich.console import Console

    from testnet.live import Load, run_live
    from testnet.load import Pace
    from testnet.session import LOCAL_DIR
    from testnet.sources import SyntheticSource, session_order_id

    load = None
    if args.flow == "demo":
        size = max(1, min(1000, args.rate // 50))
        source = SyntheticSource(DESKS, SEED, first_order_id=session_order_id())
        load = Load(source, Pace(size, envelopes_per_second=args.rate / size))
    root = args.dir or LOCAL_DIR
    run_until_signal(partial(run_live, root, args.nodes, load, args.seconds, Console()))
    return 0


def testnet_run(args: argparse.Namespace) -> int:
    """Run, judge, print."""
    from testnet.load import Pace
    from testnet.run import RunPlan, RunReport, run_bounded

    if args.restart_at is not None and (args.kill_primary_at or 0) >= args.restart_at:
        raise ConfigError("--restart-at must be later than --kill-primary-at")
    if args.restart_at is not None and args.kill_primary_at is None:
        raise ConfigError("--restart-at restarts what --kill-primary-at killed: give both")
    if args.dir is not None and (args.dir / "network.toml").exists():
        raise ConfigError(f"{args.dir} holds a network already: a run needs a new directory")
    if args.kill_primary_at is not None and args.restart_at is None and args.nodes < 4:
        raise ConfigError(
            f"{args.nodes} nodes cannot go on without one: use --nodes 4 or more, or --restart-at"
        )
    _check_replacement(args)
    source = _source(args)
    if args.seconds is not None and source.fills_expected is not None:
        _progress("with --seconds the flow may not be sent whole: its fills are not compared")
    plan = RunPlan(
        nodes=args.nodes,
        seconds=args.seconds,
        kill_primary_at=args.kill_primary_at,
        restart_at=args.restart_at,
        replace_at=args.replace_validator_at,
        replace_primary=args.replace_primary,
        until_replaced=_is_until_replaced(args),
        pace=Pace(args.envelope, args.window, envelopes_per_second_max=_stretch(args)),
        fills_expected=source.fills_expected if args.seconds is None else None,
        root=args.dir,
    )
    results: list[RunReport] = []

    async def run() -> None:
        results.append(await run_bounded(plan, source, _progress))

    run_until_signal(run)
    if not results:
        return 130
    fields = results[0].to_json()
    print(json.dumps(fields) if args.json else _run_text(fields))
    return 0 if results[0].is_good else 1


def _check_replacement(args: argparse.Namespace) -> None:
    if args.replace_validator_at is None:
        if args.replace_primary:
            raise ConfigError("--replace-primary says whom --replace-validator-at replaces: give both")
        return
    if args.kill_primary_at is not None:
        raise ConfigError("--replace-validator-at and --kill-primary-at exclude one another")
    if args.nodes < 4:
        raise ConfigError(f"{args.nodes} nodes cannot go on while one is new: use --nodes 4 or more")


def _is_until_replaced(args: argparse.Namespace) -> bool:
    """Whether nothing else says when the load ends."""
    is_open = args.orders is None and args.seconds is None and args.flow == "synthetic"
    return args.replace_validator_at is not None and is_open


def _stretch(args: argparse.Namespace) -> float | None:
    """Envelopes per second with which `--orders` outlast the last planned fault; None: no limit."""
    if args.replace_validator_at is not None:
        return REPLACE_ORDERS_PER_SECOND / args.envelope
    if args.kill_primary_at is None or args.orders is None or args.flow != "synthetic":
        return None
    seconds = (args.restart_at or args.kill_primary_at) + FAULT_MARGIN_SECONDS
    return float(args.orders / args.envelope / seconds)


def testnet_init(args: argparse.Namespace) -> int:
    """Write files only."""
    from node.setup import create_network

    hosts = args.hosts.split(",") if args.hosts else "127.0.0.1"
    homes = create_network(
        args.out, args.nodes, args.name, hosts, args.peer_port, args.client_port, metrics_port=None
    )
    print(f"chain {homes.network.chain_id.hex()}")
    for validator, home in zip(homes.network.validators, homes.nodes, strict=True):
        print(f"  {home.root}   peers {validator.peer_address}   clients {validator.client_address}")
    print(f"the venue's secret key is {homes.admin_seed}; the nodes do not need it", file=sys.stderr)
    return 0


def flow_import(args: argparse.Namespace) -> int:
    """Read a recording, write a flow."""
    from testnet.flows import write_flow
    from testnet.importers.formats import import_flow

    flow = import_flow(args.format, args.file, args.trades, args.accounts)
    write_flow(args.out, flow)
    print(
        f"{args.out}: {len(flow.ops):,} operations on {len(flow.markets)} markets by {flow.accounts}"
        f" accounts, {len(flow.fences):,} fences, {flow.fills_expected:,} fills expected"
    )
    return 0


# -- helpers -----------------------------------------------------------------------------------------


def _source(args: argparse.Namespace) -> "Source":
    from testnet.flows import read_flow
    from testnet.sources import RecordedSource, SyntheticSource

    if args.flow != "synthetic":
        return RecordedSource(read_flow(Path(args.flow)), args.orders)
    if args.orders is None and args.seconds is None and not _is_until_replaced(args):
        args.orders = 200_000
    return SyntheticSource(args.desks, args.seed, args.orders)


def run_until_signal(main: Callable[[], Awaitable[Any]]) -> None:
    """Run `main`; Ctrl-C and SIGTERM cancel it, so that every process it started is stopped."""
    import trio

    async def watch(scope: trio.CancelScope, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                scope.cancel()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch, nursery.cancel_scope)
            await main()
            nursery.cancel_scope.cancel()

    trio.run(run)


def _run_text(fields: dict[str, Any]) -> str:
    roots = set(fields["state_roots"].values())
    lines = [
        f"{fields['orders_committed']:,} of {fields['orders_sent']:,} orders committed"
        f" in {fields['seconds']} s: {fields['orders_per_second']:,} orders/s,"
        f" latency p50 {fields['latency_ms']['p50']} ms, p99 {fields['latency_ms']['p99']} ms",
        f"{fields['fills']:,} fills, {fields['rejected']:,} rejected, height {fields['height']:,},"
        f" {fields['view_changes']} view changes",
        f"state root {' ≠ '.join(root[:16] for root in sorted(roots))}, journal root"
        f" {fields['journal_root'][:16]} on nodes {', '.join(fields['state_roots'])}",
    ]
    if done := fields["replaced"]:
        lines.append(
            f"validator {done['old']} replaced by {done['new']} in {done['seconds']} s, epoch {done['epoch']}"
            f" after block {done['boundary']:,}; longest wait for an answer {fields['longest_wait_ms']} ms"
        )
    lines += [f"FAULT: {fault}" for fault in fields["faults"]] or ["all nodes agree, value is conserved"]
    return "\n".join(lines)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _group(subparsers: "Subparsers", name: str, help: str) -> "Subparsers":
    parser = subparsers.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False
    )
    return parser.add_subparsers(title="actions", metavar="ACTION", required=True)


def _command(
    subparsers: "Subparsers", name: str, help: str, text: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        name,
        help=help,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def _delegated(subparsers: "Subparsers", name: str, help: str, module: str) -> None:
    """A command whose module declares its own arguments, and is imported only when it is called."""
    parser = subparsers.add_parser(name, help=help, add_help=False, allow_abbrev=False)
    parser.set_defaults(run=partial(_run_delegated, parser.prog, module), takes_extra=True)


def _run_delegated(prog: str, module_name: str, args: argparse.Namespace) -> int:
    module = import_module(module_name)
    parser = argparse.ArgumentParser(
        prog=prog,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return int(module.run_command(parser.parse_args(args.extra)))


def _positive(text: str) -> int:
    return _number(text, 1, 1 << 40)


def _nodes(text: str) -> int:
    return _number(text, 1, 64)


def _envelope(text: str) -> int:
    return _number(text, 1, 4096)


def _number(text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value
