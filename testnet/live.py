"""`kontor testnet up`: a network that runs until Ctrl-C, and one live view of it."""

import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from node.views import StatusView
from node.warm import warm_kernels
from testnet.launcher import Launcher
from testnet.load import Pace, Tally
from testnet.session import open_network, run_nodes, run_session
from testnet.sources import Source

REFRESH_SECONDS = 0.5
LINE_SECONDS = 5.0  # between two lines where there is no terminal


@dataclass(frozen=True)
class Load:
    """Orders to send, and how fast."""

    source: Source
    pace: Pace


async def run_live(
    root: Path, nodes: int, load: Load | None, seconds: float | None, console: Console
) -> None:
    """Run the network under `root` until cancelled or `seconds` are over; without `load`, no orders flow."""
    homes = open_network(root, nodes)
    report = partial(console.print, highlight=False, soft_wrap=True)
    tally = Tally()
    async with AsyncExitStack() as stack:
        if load is None:
            await trio.to_thread.run_sync(warm_kernels, report)
            launcher = await stack.enter_async_context(run_nodes(homes, report))
        else:
            session = await stack.enter_async_context(run_session(homes, load.source, report))
            launcher = session.launcher
        try:
            with trio.move_on_after(seconds if seconds is not None else float("inf")):
                async with trio.open_nursery() as nursery:
                    if load is not None:
                        nursery.start_soon(session.load, load.pace, tally)
                    show = _show_live if sys.stdout.isatty() else _show_lines
                    nursery.start_soon(show, launcher, tally, console)
        finally:
            report("stopping the nodes")


async def _show_live(launcher: Launcher, tally: Tally, console: Console) -> None:
    started = time.monotonic()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            statuses = await launcher.statuses(range(launcher.count))
            live.update(_view(launcher, statuses, tally, time.monotonic() - started), refresh=True)
            await trio.sleep(REFRESH_SECONDS)


async def _show_lines(launcher: Launcher, tally: Tally, console: Console) -> None:
    """The same in one line every few seconds, for logs."""
    while True:
        statuses = await launcher.statuses()
        console.print(_line(launcher, statuses, tally), highlight=False, soft_wrap=True)
        await trio.sleep(LINE_SECONDS)


def _view(
    launcher: Launcher, statuses: dict[int, StatusView | None], tally: Tally, running_s: float
) -> Panel:
    living = launcher.living()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("node", "votes", "view", "height", "proven", "orders"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("journal", "state root"):
        table.add_column(column, no_wrap=True)
    for node, status in statuses.items():
        table.add_row(*_row(node, status, node in living))
    hint = Text(f"{running_s:,.0f} s   clients: {launcher.homes.network_file}   Ctrl-C stops", style="dim")
    return Panel(Group(table, Text(), _figures(tally), hint), title=f"kontor testnet: {len(living)} nodes")


def _figures(tally: Tally) -> Text:
    latency = tally.recent_latencies_ms()
    return Text.assemble(
        (f"{tally.recent_rate():,.0f}", "bold"),
        " orders/s   latency ",
        (f"{latency['p50']:.1f} / {latency['p99']:.1f} ms", "bold"),
        " (p50 / p99)   ",
        (f"{tally.orders_committed:,}", "bold"),
        " committed",
    )


def _row(node: int, status: StatusView | None, lives: bool) -> list[str]:
    if status is None:
        return [str(node), "[yellow]?[/]" if lives else "[red]down[/]", *[""] * 6]
    votes = "[red]halted[/]" if status.halted else "[green]yes[/]"
    numbers = (status.view, status.executed, status.proven, status.orders)
    roots = (status.journal_root.hex()[:8], f"{status.state_root.hex()[:8]} @ {status.state_root_height:,}")
    return [str(node), votes, *(f"{number:,}" for number in numbers), *roots]


def _line(launcher: Launcher, statuses: dict[int, StatusView | None], tally: Tally) -> str:
    heights = " ".join(f"{node}:{status.executed if status else '-'}" for node, status in statuses.items())
    views = max((status.view for status in statuses.values() if status), default=0)
    latency = tally.recent_latencies_ms()
    return (
        f"{len(launcher.living())} nodes  heights {heights}  view {views}"
        f"  {tally.recent_rate():,.0f} orders/s"
        f"  latency {latency['p50']:.1f}/{latency['p99']:.1f} ms  {tally.orders_committed:,} committed"
    )
