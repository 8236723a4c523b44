"""`kontor signer`, `kontor recover`: the key of a validator, where it lives, and when it is dead."""

import argparse
import json
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.primitives.errors import ConfigError

if TYPE_CHECKING:
    from node.config import Home
    from ops.cli import Subparsers

SIGNER_HELP = """\
Runs the signer of a validator as a process of its own, until SIGTERM or Ctrl-C. Its home DIR holds
keys/consensus.seed and the signing record, signer/record. The node asks it for signatures over a local
socket; name that in the node's config.toml, as 'socket' under [signer]. The signer never signs two
different votes at one place, whatever the node asks. Start it before the node: a node whose signer
goes away halts, and answers queries only.

To move the key of an existing node into a signer of its own, with both stopped:

  kontor signer export --home NODE --out record.json
  move NODE/keys/consensus.seed to SIGNER/keys/consensus.seed
  kontor signer import --home SIGNER record.json
  kontor signer --home SIGNER

Never restore signer/record from a backup: an old record would sign again what it signed before.
"""

EXPORT_HELP = """\
Writes the signing record of DIR to FILE, and marks it as moved: DIR signs no more. FILE holds nothing
secret; copy keys/consensus.seed by hand to the new home, and run `kontor signer import` there.
"""

IMPORT_HELP = """\
Lets DIR sign from where the exported record FILE stands. DIR must hold the seed that belongs to it. A
record that is there is replaced only if it was exported before, and FILE knows at least as much.
"""

RECOVER_HELP = """\
For a validator whose disk, key or signing record is lost. Its key is dead: nobody knows any more what it
signed, so it must never sign again. This makes a new identity: new keys, an empty signing record and
config.toml. What is left of the old one is put aside into DIR/dead-1, and nothing is deleted. It
prints the command by which an admin lets the new validator take the old one's place; the ledger
gives it an id of its own then.

To make the home of a first node, use `kontor init`.
"""


def register(subparsers: "Subparsers") -> None:
    """Add the commands about a validator's key."""
    signer = _add(subparsers, "signer", "run a validator's key apart from its node", SIGNER_HELP)
    signer.add_argument("--home", type=Path, metavar="DIR", help="the signer's directory")
    signer.add_argument("--listen", type=Path, metavar="PATH", help="the socket (default DIR/signer/socket)")
    signer.set_defaults(run=run_signer)
    actions = signer.add_subparsers(title="actions", metavar="ACTION")
    export = _add(actions, "export", "take a signing record elsewhere", EXPORT_HELP)
    export.add_argument("--home", type=Path, required=True, metavar="DIR", help="whose record")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="where it goes")
    export.add_argument("--json", action="store_true", help="print one JSON object")
    export.set_defaults(run=export_record)
    bring = _add(actions, "import", "go on with an exported record", IMPORT_HELP)
    bring.add_argument("--home", type=Path, required=True, metavar="DIR", help="who signs from now on")
    bring.add_argument("file", type=Path, metavar="FILE", help="what `kontor signer export` wrote")
    bring.add_argument(
        "--undo", action="store_true", help="take back an export of this home that nobody imported"
    )
    bring.add_argument("--json", action="store_true", help="print one JSON object")
    bring.set_defaults(run=import_record)

    recover = _add(subparsers, "recover", "make a new validator for one whose disk is lost", RECOVER_HELP)
    recover.add_argument("--home", type=Path, required=True, metavar="DIR", help="the node's directory")
    recover.add_argument(
        "--old", type=int, metavar="N", help="the lost validator's id (default: as its home tells)"
    )
    recover.add_argument(
        "--admin", type=Path, metavar="FILE", help="the admin's seed, for the printed command"
    )
    recover.add_argument("--peer", default="127.0.0.1:7000", metavar="HOST:PORT", help="for validators")
    recover.add_argument("--client", default="127.0.0.1:7100", metavar="HOST:PORT", help="for clients")
    recover.add_argument("--json", action="store_true", help="print one JSON object")
    recover.set_defaults(run=recover_node)


def run_signer(args: argparse.Namespace) -> int:
    """Serve votes until a signal."""
    from node.config import Home, check_home
    from node.keys import load_signer
    from node.signer.opening import open_record
    from node.signer.server import SignerServer

    if args.home is None:
        raise ConfigError("whose key is it? Give --home DIR, or see `kontor signer --help`")
    check_home(args.home)
    home = Home(args.home)
    path = args.listen or home.signer_socket
    with open_record(home, _chain_of(home)) as record:
        server = SignerServer(load_signer(home.consensus_seed), record, path, _report)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        _report(f"signing for key {record.public_key.hex()[:16]} at {path}: {len(record.votes.places)} votes")
        server.serve()
    _report("stopped")
    return 0


def _chain_of(home: "Home") -> bytes | None:
    """The chain that network.toml in the home names; None: the one the record names."""
    from node.network import load_network

    return load_network(home.network).chain_id if home.network.exists() else None


def export_record(args: argparse.Namespace) -> int:
    """Write a record to a file and retire it here."""
    from node.config import Home, check_home
    from node.signer.migrate import export_record

    check_home(args.home)
    summary = export_record(Home(args.home), args.out)
    _print(args, {"home": str(args.home), "file": str(args.out), **summary}, [
        f"{args.home} signs no more; {args.out} holds {summary['votes']} votes above"
        f" block {summary['floor_seq']}",
        "copy keys/consensus.seed to the new home, then `kontor signer import` there",
    ])  # fmt: skip
    return 0


def import_record(args: argparse.Namespace) -> int:
    """Go on with an exported record."""
    from node.config import Home
    from node.signer.migrate import import_record

    summary = import_record(Home(args.home), args.file, args.undo)
    _print(args, {"home": str(args.home), **summary}, [
        f"{args.home} signs with key {summary['public_key'][:16]} from now on, above"
        f" block {summary['floor_seq']}",
    ])  # fmt: skip
    return 0


def recover_node(args: argparse.Namespace) -> int:
    """Make a new identity in place of a lost one."""
    from node.config import Home
    from node.network import parse_address, render_entry
    from node.signer.recovery import make_new_identity

    home = Home(args.home)
    peer, client = parse_address(args.peer, "--peer"), parse_address(args.client, "--client")
    old, validator, aside = make_new_identity(home, args.old, peer, client)
    entry = home.root / f"validator-{validator.consensus_key.hex()[:8]}.toml"
    with entry.open("x", encoding="ascii") as file:
        file.write(render_entry(validator))
    words = ["kontor", "validator", "replace", str(old), "--entry", str(entry)]
    words += ["--network", str(home.network), "--admin", str(args.admin or _find_admin(home))]
    command = shlex.join(words)
    _print(args, {
        "home": str(home.root), "old": old, "entry": str(entry),
        "consensus_key": validator.consensus_key.hex(), "aside": str(aside) if aside else None,
        "command": command,
    }, [
        f"a new validator is ready in {home.root}; the key of validator {old} is dead",
        *([f"what was left of it is in {aside}"] if aside else []),
        *([] if home.network.exists() else [f"{home.network} is lost, too: copy it from another validator"]),
        f"its entry is {entry}; whoever runs the venue has it voted in with",
        f"  {command}",
        f"then it takes part by `kontor start --home {home.root}`",
    ])  # fmt: skip
    return 0


def _find_admin(home: "Home") -> Path:
    """The admin's seed of a network on this machine; else what it is called elsewhere."""
    beside = home.root.parent / "admin.seed"
    return beside if beside.exists() else Path("admin.seed")


def _print(args: argparse.Namespace, facts: dict[str, Any], lines: list[str]) -> None:
    print(json.dumps(facts) if args.json else "\n".join(lines))


def _report(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        return  # nobody reads our words any more; votes matter more


def _add(subparsers: "Subparsers", name: str, help: str, description: str) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=help,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
