"""`kontor testnet up`: a network that runs until Ctrl-C, and one live view of it."""

import sys
import time
from functools import partial
from pathlib import Path

import trio
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from node.setup import NetworkHomes
from node.views import StatusView
from testnet.launcher import Launcher
from testnet.load import Pace, Tally
from testnet.session import Session, open_network, run_session
from testnet.sources import Source

REFRESH_SECONDS = 0.5
LINE_SECONDS = 5.0  # between two lines where there is no terminal


async def run_live(
    root: Path, nodes: int, source: Source, pace: Pace | None, seconds: float | None, console: Console
) -> None:
    """Run the network under `root` until cancelled or `seconds` are over; without `pace`, no orders flow."""
    homes = open_network(root, nodes)
    tally = Tally()
    async with run_session(homes, source, partial(console.print, highlight=False, soft_wrap=True)) as session:
        try:
            with trio.move_on_after(seconds if seconds is not None else float("inf")):
                async with trio.open_nursery() as nursery:
                    if pace is not None:
                        nursery.start_soon(session.load, pace, tally)
                    show = _show_live if sys.stdout.isatty() else _show_lines
                    nursery.start_soon(show, session, homes, tally, console)
        finally:
            console.print("stopping the nodes", highlight=False)


async def _show_live(session: Session, homes: NetworkHomes, tally: Tally, console: Console) -> None:
    launcher = session.launcher
    started = time.monotonic()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            statuses = await launcher.statuses(range(launcher.count))
            living = launcher.living()
            live.update(_view(homes, statuses, living, tally, time.monotonic() - started), refresh=True)
            await trio.sleep(REFRESH_SECONDS)


async def _show_lines(session: Session, homes: NetworkHomes, tally: Tally, console: Console) -> None:
    """The same in one line every few seconds, for logs."""
    while True:
        statuses = await session.launcher.statuses()
        console.print(_line(session.launcher, statuses, tally), highlight=False, soft_wrap=True)
        await trio.sleep(LINE_SECONDS)


def _view(
    homes: NetworkHomes,
    statuses: dict[int, StatusView | None],
    living: list[int],
    tally: Tally,
    running_s: float,
) -> Panel:
    table = Table(expand=True, box=None, header_style="bold")
    for column in ("node", "state", "view", "height", "proven", "peers", "orders", "fills"):
        table.add_column(column, justify="left" if column == "state" else "right")
    table.add_column("journal root")
    table.add_column("state root at checkpoint")
    for node, status in statuses.items():
        table.add_row(*_row(node, status, node in living))
    latency = tally.recent_latencies_ms()
    figures = Text.assemble(
        (f"{tally.recent_rate():,.0f}", "bold"),
        " orders/s    latency ",
        (f"{latency['p50']:.1f} / {latency['p99']:.1f} ms", "bold"),
        " (p50 / p99)    ",
        (f"{tally.orders_committed:,}", "bold"),
        f" orders committed for {len(tally.acknowledged):,} envelopes, {tally.retries:,} retries",
    )
    hint = Text(
        f"{running_s:,.0f} s   {homes.network_file}   clients: {homes.network.validators[0].client_address} …"
        "   Ctrl-C stops",
        style="dim",
    )
    return Panel(Group(table, Text(), figures, hint), title=f"kontor testnet: {len(living)} nodes")


def _row(node: int, status: StatusView | None, lives: bool) -> list[str]:
    if status is None:
        return [str(node), "[yellow]no answer[/]" if lives else "[red]down[/]", *[""] * 8]
    state = f"[red]halted: {status.halted}[/]" if status.halted else "[green]voting[/]"
    numbers = (
        status.view,
        status.executed,
        status.proven,
        status.peers_connected,
        status.orders,
        status.fills,
    )
    roots = (status.journal_root.hex()[:16], f"{status.state_root.hex()[:16]} @ {status.state_root_height:,}")
    return [str(node), state, *(f"{number:,}" for number in numbers), *roots]


def _line(launcher: Launcher, statuses: dict[int, StatusView | None], tally: Tally) -> str:
    heights = " ".join(f"{node}:{status.executed if status else '-'}" for node, status in statuses.items())
    views = max((status.view for status in statuses.values() if status), default=0)
    latency = tally.recent_latencies_ms()
    return (
        f"{len(launcher.living())} nodes  heights {heights}  view {views}"
        f"  {tally.recent_rate():,.0f} orders/s"
        f"  latency {latency['p50']:.1f}/{latency['p99']:.1f} ms  {tally.orders_committed:,} committed"
    )
