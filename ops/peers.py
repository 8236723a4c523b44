"""`--peer`: where the network can be reached although the network file's validators have left."""

import argparse


def add_peers(parser: argparse.ArgumentParser) -> None:
    """Add the option; `args.peer` lists the addresses."""
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="client address of one more node, which need not be trusted; may be repeated",
    )
