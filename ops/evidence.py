"""`kontor evidence`: whom the ledger convicted, and proofs that anybody can check."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.primitives.errors import ConfigError

if TYPE_CHECKING:
    from consensus.evidence import Evidence
    from ops.cli import Subparsers

HELP = """\
A validator that signs two contradicting votes convicts itself. The ledger keeps each proof; `list` prints
the convictions that one node tells of, and `export` writes their proofs to files. `verify` checks
one such file, or one from a node's data/evidence, offline, under the keys in the network file. Nothing
secret is needed.
"""


def register(subparsers: "Subparsers") -> None:
    """Add `kontor evidence`."""
    parser = _add(subparsers, "evidence", "show and check proofs against validators")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    shown = _add(actions, "list", "print convictions")
    shown.set_defaults(run=show)
    verify = _add(actions, "verify", "check a proof offline")
    verify.add_argument("file", type=Path, metavar="FILE", help="one line of hex")
    verify.set_defaults(run=check)
    export = _add(actions, "export", "write all proofs to a directory")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty directory")
    export.set_defaults(run=write)
    for action in (shown, verify, export):
        action.add_argument("--network", type=Path, required=True, metavar="FILE", help="the network file")
        action.add_argument("--json", action="store_true", help="print JSON")


def show(args: argparse.Namespace) -> int:
    """Print what the first node that answers tells."""
    from consensus.evidence import decode_evidence

    rows = [{"height": height} | _fields(decode_evidence(proof)) for height, proof in _ask(args.network)]
    if args.json:
        print(json.dumps(rows, indent=2))
    for row in rows if not args.json else ():
        print(f"block {row['height']}: {_describe(row)}")
    if not rows and not args.json:
        print("nobody is convicted")
    return 0


def check(args: argparse.Namespace) -> int:
    """Verify both signatures under the founders' keys. Raises `ProtocolError` if they prove nothing."""
    from consensus.evidence import check_evidence, decode_evidence
    from consensus.primitives.crypto import Ed25519Verifier
    from node.network import load_network
    from node.reports import read_proof

    network = load_network(args.network)
    evidence = decode_evidence(read_proof(args.file))
    keys = network.replicas.keys
    if evidence.replica not in keys:
        raise ConfigError(f"{args.network} has no key of validator {evidence.replica}, who came later")
    check_evidence(network.chain_id, lambda replica, _: keys.get(replica), Ed25519Verifier(), evidence)
    row = _fields(evidence)
    print(json.dumps(row) if args.json else f"proven: {_describe(row)}")
    return 0


def write(args: argparse.Namespace) -> int:
    """One file for each conviction."""
    if args.out.exists() and any(args.out.iterdir()):
        raise ConfigError(f"{args.out} is not empty: choose a new directory")
    args.out.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (_, proof) in enumerate(_ask(args.network)):
        path = args.out / f"conviction-{number}.hex"
        path.write_text(proof.hex() + "\n", "ascii")
        paths.append(str(path))
    print(json.dumps(paths) if args.json else f"{len(paths)} proofs are in {args.out}")
    return 0


def _ask(network_file: Path) -> list[tuple[int, bytes]]:
    import trio

    from consensus.primitives.crypto import Ed25519Signer
    from node.client import open_client
    from node.keys import new_seed
    from node.network import load_network

    async def ask() -> list[tuple[int, bytes]]:
        async with open_client(load_network(network_file), Ed25519Signer(new_seed())) as client:
            return [(row.height, row.proof) for row in await client.convictions()]

    return trio.run(ask)


def _fields(evidence: "Evidence") -> dict[str, Any]:
    from consensus.quorum import round_of

    return {
        "validator": evidence.replica,
        "kind": evidence.kind,
        "epoch": evidence.epoch,
        "view": round_of(evidence.view),
        "seq": evidence.seq,
        "digests": [evidence.first.digest.hex(), evidence.second.digest.hex()],
    }


def _describe(row: dict[str, Any]) -> str:
    return (
        f"validator {row['validator']} signed two {row['kind']} votes in epoch {row['epoch']},"
        f" view {row['view']}, block {row['seq']}: {row['digests'][0][:16]} and {row['digests'][1][:16]}"
    )


def _add(subparsers: "Subparsers", name: str, help: str) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=help,
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
