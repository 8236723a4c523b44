"""`kontor balance`: what an account has of an asset, as a node says or as the validators signed."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.primitives.errors import InputError
from ops.peers import add_peers

if TYPE_CHECKING:
    from ops.cli import Subparsers

HELP = """\
Prints what an account has of one asset: available, and held by open orders. By default that is the word of
the node that answers. With --prove it is what a quorum of validators signed at the checkpoint whose block is
printed, checked here from the keys in the network file on; checkpoints lag some seconds behind.
"""


def register(subparsers: "Subparsers") -> None:
    """Add `kontor balance`."""
    parser = subparsers.add_parser(
        "balance",
        help="show or prove an account's balance",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--network", type=Path, required=True, metavar="FILE", help="the network file")
    parser.add_argument("--account", type=int, required=True, metavar="ID", help="whose balance")
    parser.add_argument("--asset", required=True, metavar="NAME", help="of what")
    parser.add_argument("--prove", action="store_true", help="check a quorum's signatures")
    parser.add_argument("--since", type=int, default=0, metavar="BLOCK", help="wait for a proof this recent")
    add_peers(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=show)


def show(args: argparse.Namespace) -> int:
    """Print the balance. Raises `NotFound` if there is none."""
    if args.since and not args.prove:
        raise InputError("SINCE", "--since is about proofs: add --prove")
    row = _ask(args, args.since if args.prove else None)
    if args.json:
        print(json.dumps(row))
        return 0
    source = f"proved at block {row['height']}" if args.prove else "as one node says"
    print(f"account {args.account}: {row['available']} {args.asset} available, {row['held']} held ({source})")
    return 0


def _ask(args: argparse.Namespace, since: int | None) -> dict[str, Any]:
    """`since` None: without a proof."""
    import trio

    from consensus.primitives.crypto import Ed25519Signer
    from node.client import NotFound, ProvenBalance, open_client
    from node.keys import new_seed
    from node.network import load_network

    async def ask() -> dict[str, Any]:
        network, key = load_network(args.network), Ed25519Signer(new_seed())
        async with open_client(network, key, peers=args.peer) as client:
            if args.peer or since is not None:
                await client.sync_epochs()
            if since is not None:
                proven: ProvenBalance = await client.prove_balance(args.account, args.asset, since)
                return {
                    "height": proven.height,
                    "available": str(proven.available),
                    "held": str(proven.held),
                }
            for row in await client.balances(args.account):
                if row.asset == args.asset:
                    return {"available": str(row.available), "held": str(row.held)}
            raise NotFound(f"account {args.account} has no balance of {args.asset}, as one node says")

    return trio.run(ask)
