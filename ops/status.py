"""`kontor status`: where every node of a network stands, as the nodes themselves say."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.primitives.errors import ConfigError, InputError, LedgerError
from ops.peers import add_peers

if TYPE_CHECKING:
    from rich.table import Table

    from node.network import Network
    from node.services import TransferStatus
    from node.views import StatusView
    from ops.cli import Subparsers

ASK_SECONDS = 3.0
FIND_SECONDS = 1.0  # to follow changes of validators

HELP = """\
Asks every present validator of a network where it stands and prints a table, or JSON. FILE is any node's
network.toml, from which changes of validators are followed; by default that of the local network which
`kontor testnet up` runs. Nothing secret is needed. Exit status 0: all nodes answered and none has halted;
1: some did not.
"""
EXPLANATION = """\
view: epoch, and view within it
proven: up to here f+1 nodes attest one result
orders, fills: since the node's process started
roots: first 8 digits; the state root is that of a checkpoint"""
WIDE = 200  # columns: a table wider than the terminal is printed whole rather than cut


def register(subparsers: "Subparsers") -> None:
    """Add `kontor status`."""
    parser = subparsers.add_parser(
        "status",
        help="where the nodes of a network stand",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--network", type=Path, metavar="FILE", help="the network file")
    place.add_argument("--home", type=Path, metavar="DIR", help="a node's home: its network file is used")
    add_peers(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=show_status)


def show_status(args: argparse.Namespace) -> int:
    """Ask, print, judge."""
    import trio

    from node.network import load_network

    network = load_network(_network_file(args))
    answers = trio.run(ask_all, network, args.peer)
    if args.json:
        print(json.dumps({str(node): to_json(answer) for node, answer in answers.items()}, indent=2))
    else:
        from rich.console import Console

        Console(width=WIDE).print(status_table(network.name, answers))
        print(EXPLANATION)
        for node, answer in answers.items():
            if isinstance(answer, str):
                print(f"node {node}: {answer}", file=sys.stderr)
            elif answer.halted:
                print(f"node {node} has halted: {answer.halted}", file=sys.stderr)
            elif answer.transfer is not None:
                print(f"node {node} is fetching its state: {describe_transfer(answer.transfer)}")
        for line in describe_wedges(answers):
            print(line)
        if all(isinstance(answer, str) for answer in answers.values()):
            print(
                "nobody answered: do the nodes run? Where the founders have left, name the client address"
                " of a node that is there with --peer HOST:PORT",
                file=sys.stderr,
            )
    return 0 if all(not isinstance(item, str) and not item.halted for item in answers.values()) else 1


async def ask_all(network: "Network", peers: Sequence[str] = ()) -> "dict[int, StatusView | str]":
    """What each member of the newest epoch says of itself; a string says why one did not answer."""
    import trio

    from consensus.primitives.crypto import Ed25519Signer
    from node.client import NotConnected, open_client
    from node.keys import new_seed

    answers: dict[int, StatusView | str] = {}
    # Queries are not signed, so any key does.
    async with open_client(network, Ed25519Signer(new_seed()), peers=peers) as client:
        client.timeout_s = FIND_SECONDS
        with suppress(NotConnected):  # of whom is known, all are asked: this is for networks in trouble, too
            await client.sync_epochs()

        async def ask(node: int) -> None:
            answers[node] = "no answer"
            with trio.move_on_after(ASK_SECONDS):
                try:
                    answers[node] = await client.status(node)
                except (LedgerError, InputError) as error:
                    answers[node] = str(error)

        async with trio.open_nursery() as nursery:
            for member in client.epoch.members:
                nursery.start_soon(ask, member.id)
    return dict(sorted(answers.items()))


def to_json(answer: "StatusView | str") -> dict[str, Any]:
    """One node's answer as plain values."""
    if isinstance(answer, str):
        return {"error": answer}
    fields = asdict(answer)
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


def status_table(name: str, answers: "dict[int, StatusView | str]") -> "Table":
    """A table of what nodes said."""
    from rich.table import Table

    numbers = ("node", "view", "height", "proven", "orders", "fills")
    table = Table(
        title=f"network {name}",
        title_justify="left",
        box=None,
        header_style="bold",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("journal", "state root", "votes"):
        table.add_column(column, no_wrap=True)
    for node, answer in answers.items():
        if isinstance(answer, str):
            table.add_row(str(node), *[""] * 7, "[red]silent[/red]")
            continue
        counts = (answer.executed, answer.proven, answer.orders, answer.fills)
        table.add_row(
            str(node),
            f"{answer.epoch}.{answer.view}",
            *(f"{count:,}" for count in counts),
            answer.journal_root.hex()[:8] or "–",
            f"{answer.state_root.hex()[:8]} @ {answer.state_root_height:,}" if answer.state_root else "–",
            _votes(answer),
        )
    return table


def describe_transfer(transfer: "TransferStatus") -> str:
    """How far the fetching of a state is, and how long it may still take."""
    if transfer.height == 0:
        return "no other node has offered it one yet"
    if transfer.chunks == 0:
        return f"height {transfer.height:,}, what it consists of is not known yet"
    done = f"height {transfer.height:,}, {transfer.staged:,} of {transfer.chunks:,} chunks"
    rate = transfer.bytes_per_second
    if not rate or not transfer.staged:
        return done
    left_s = (transfer.chunks - transfer.staged) * transfer.bytes / transfer.staged / rate
    return f"{done}, {transfer.bytes / 1e6:,.0f} MB at {rate / 1e6:,.1f} MB/s, about {left_s:,.0f} s left"


def describe_wedges(answers: "dict[int, StatusView | str]") -> list[str]:
    """Where nodes stand at a wedge, and what leads on; one line for each block."""
    from node.services import describe_wedge

    places: dict[int, list[str]] = {}
    for node, answer in answers.items():
        if not isinstance(answer, str) and answer.wedged:
            places.setdefault(answer.boundary, []).append(str(node))
    return [f"nodes {', '.join(nodes)}: {describe_wedge(height)}" for height, nodes in sorted(places.items())]


def _votes(answer: "StatusView") -> str:
    if answer.halted:
        return "[red]halted[/red]"
    if answer.transfer:
        return "[yellow]syncs[/yellow]"
    if answer.wedged:
        return "[yellow]wedged[/yellow]"
    return "[green]yes[/green]" if answer.votes else "[yellow]no[/yellow]"


def _network_file(args: argparse.Namespace) -> Path:
    from node.config import check_home

    if args.network is not None:
        return Path(args.network)
    if args.home is not None:
        check_home(args.home)
        return Path(args.home) / "network.toml"
    local = Path(".kontor") / "testnet" / "network.toml"
    if not local.exists():
        raise ConfigError(f"there is no local network at {local}: name one with --network FILE or --home DIR")
    return local
