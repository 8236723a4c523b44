"""`kontor init`, `kontor start`, `kontor keys`: one node of a network."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from consensus.primitives.errors import ConfigError

if TYPE_CHECKING:
    from trio import CancelScope

    from node.config import Config, Home
    from ops.cli import Subparsers

INIT_HELP = """\
Makes the home of one node: a consensus key, a TLS key with its certificate, and config.toml. Keys are
never overwritten. It prints the node's entry for network.toml, which holds nothing secret: whoever
sets up the network collects the entries of all validators into one network.toml, and every node
puts that file into its home. For a network on this machine, or files for several hosts at once, use
`kontor testnet init`.

With --join, the finished network.toml is copied into the home, and checked against the keys there.

With --join and --as-validator, the home is one for a network that runs already. The printed entry goes to
an admin, who adds it (`kontor validator add`) or puts it in another's place (`kontor validator replace`);
the node may be started before that: it waits, then follows, and votes from its first epoch on.
"""

START_HELP = """\
Runs the node whose home is DIR until SIGTERM or Ctrl-C. The first start after an installation
compiles the engine's kernels: some 40 s of a free core, longer on a busy machine; it says how far it is.
Later starts load them in seconds. The log is DIR/node.log unless config.toml says otherwise. After a
crash or a power cut, start it again: it recovers from its ledger, and never signs two different votes.
"""

NEW_HELP = """\
Makes an Ed25519 key: the secret seed goes to FILE, readable by you alone and never overwritten; the
public key is printed. Name it in network.toml under admin_keys to run the venue, or give it to the
venue to have an account opened.
"""


def register(subparsers: "Subparsers") -> None:
    """Add the commands of one node."""
    init = _add(subparsers, "init", "make the home of one node", INIT_HELP)
    init.add_argument("--home", type=Path, required=True, metavar="DIR", help="the node's directory")
    init.add_argument("--id", type=int, default=0, metavar="N", help="the validator's id (default 0)")
    init.add_argument(
        "--peer", default="127.0.0.1:7000", metavar="HOST:PORT", help="where validators connect"
    )
    init.add_argument("--client", default="127.0.0.1:7100", metavar="HOST:PORT", help="where clients connect")
    init.add_argument(
        "--as-validator",
        action="store_true",
        help="with --join: make a home for a validator that is still to be added to a running network",
    )
    init.add_argument(
        "--known",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="with --as-validator: client address of a node to ask where the founders have left; repeatable",
    )
    init.add_argument("--join", type=Path, metavar="FILE", help="the network.toml of a finished network")
    init.set_defaults(run=init_node)

    start = _add(subparsers, "start", "run a node", START_HELP)
    start.add_argument("--home", type=Path, required=True, metavar="DIR", help="the node's directory")
    start.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop as well when standard input ends: whoever started the node is gone then",
    )
    start.set_defaults(run=start_node)

    keys = _add(
        subparsers, "keys", "show a node's public keys", "Shows what others may know of a node's keys."
    )
    actions = keys.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = _add(
        actions, "show", "print the public keys", "Prints public keys only; no secret leaves the home."
    )
    show.add_argument("--home", type=Path, required=True, metavar="DIR", help="the node's directory")
    show.set_defaults(run=show_keys)
    new = _add(actions, "new", "make a key for a client or an admin", NEW_HELP)
    new.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the secret seed goes")
    new.set_defaults(run=new_key)


def init_node(args: argparse.Namespace) -> int:
    """Make keys and config, or add the network file to a home that has them."""
    from node.config import Config, Home, NodeSettings, check_hints, load_config, write_config
    from node.network import load_network, parse_address, render_entry, render_validator
    from node.setup import check_node_identity, create_joiner, create_node_keys, write_network
    from node.signer.opening import signer_key

    home = Home(args.home)
    if args.as_validator and args.join is None:
        raise ConfigError("--as-validator needs --join FILE: the network.toml of the running network")
    if args.known and not args.as_validator:
        raise ConfigError("--known is for --as-validator: founders find each other by network.toml")
    check_hints(args.known, "--known")
    if args.join is not None and not args.as_validator:
        network = load_network(args.join)
        own = load_config(home.config)
        check_node_identity(home, network, own.node.id, signer_key(home, own, network))
        write_network(home.network, network)
        print(f"{home.network} written: run `kontor start --home {home.root}`")
        return 0
    peer, client = parse_address(args.peer, "--peer"), parse_address(args.client, "--client")
    if args.as_validator:
        validator = create_joiner(home, load_network(args.join), peer, client, known=tuple(args.known))
        print(render_entry(validator), end="")
        print(
            f"{home.root} is ready: give the entry to an admin, and run `kontor start --home {home.root}`",
            file=sys.stderr,
        )
        return 0
    if home.config.exists():
        raise ConfigError(f"{home.config} exists: edit it, or choose another --home")
    validator = create_node_keys(home, args.id, peer, client)
    write_config(home.config, Config(node=NodeSettings(id=args.id)))
    print(f"# The entry of node {args.id} for network.toml\n{render_validator(validator)}", end="")
    print(f"{home.root} is ready; add the network with --join network.toml", file=sys.stderr)
    return 0


def start_node(args: argparse.Namespace) -> int:
    """Run a node in the foreground."""
    import trio

    from node.start import run_node

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            if args.until_stdin_closes:
                nursery.start_soon(_cancel_at_end_of_input, nursery.cancel_scope)
            await run_node(args.home, report=_report, handle_signals=True)
            nursery.cancel_scope.cancel()

    trio.run(run)
    return 0


async def _cancel_at_end_of_input(scope: "CancelScope") -> None:
    import trio

    # A copy: closing the stream must leave the interpreter's own standard input alone.
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        async for _ in stream:
            continue
    _report("standard input ended: stopping")
    scope.cancel()


def show_keys(args: argparse.Namespace) -> int:
    """Print the public halves of a node's keys."""
    from consensus.primitives.crypto import digest
    from node.config import Home, load_config
    from node.keys import load_certificate, load_signer
    from node.network import load_network

    home = Home(args.home)
    config, certificate = load_config(home.config), load_certificate(home.tls_certificate)
    validator = _describe_id(home, config)
    print(f"node id          {validator}")
    socket = config.signer.socket
    key = f"held by the signer at {socket}" if socket else load_signer(home.consensus_seed).public_key.hex()
    print(f"consensus key    {key}")
    print(f"tls certificate  {digest('kontor.certificate', certificate).hex()} (digest)")
    if home.network.exists():
        print(f"chain id         {load_network(home.network).chain_id.hex()}")
    return 0


def _describe_id(home: "Home", config: "Config") -> str:
    from node.joining import read_id

    found = read_id(home) if config.node.joins else config.node.id
    return "none yet: the ledger gives it" if found is None else str(found)


def new_key(args: argparse.Namespace) -> int:
    """Write a new secret seed; print its public key."""
    from node.keys import load_signer, new_seed, write_seed

    write_seed(args.out, new_seed())
    print(load_signer(args.out).public_key.hex())
    return 0


def _report(line: str) -> None:
    print(line, flush=True)


def _add(subparsers: "Subparsers", name: str, help: str, description: str) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=help,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
