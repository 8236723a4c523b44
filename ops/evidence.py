"""`kontor evidence`: whom the ledger convicted, and proofs that anybody can check."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.primitives.errors import ConfigError
from ops.peers import add_peers

if TYPE_CHECKING:
    from consensus.evidence import Evidence
    from consensus.proofs import EpochProof
    from ops.cli import Subparsers

EPOCHS_BYTES_MAX = 64 << 20

HELP = """\
A validator that signs two contradicting votes convicts itself. The ledger keeps each proof; `list` prints
the convictions that one node tells of, and `export` writes their proofs to files. `verify` checks
one such file, or one from a node's data/evidence, under the keys of the epoch that it is of: those of the
founders are in the network file; later ones are proved by the changes of validators since, which any node of
the network hands out. `epochs` saves these changes; `verify --epochs FILE` then needs no network.
Nothing secret is needed.
"""


def register(subparsers: "Subparsers") -> None:
    """Add `kontor evidence`."""
    parser = _add(subparsers, "evidence", "show and check proofs against validators")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    shown = _add(actions, "list", "print convictions")
    shown.set_defaults(run=show)
    verify = _add(actions, "verify", "check a proof")
    verify.add_argument("file", type=Path, metavar="FILE", help="one line of hex")
    verify.add_argument(
        "--epochs",
        type=Path,
        metavar="FILE",
        help="changes of validators, saved with `kontor evidence epochs`",
    )
    verify.set_defaults(run=check)
    export = _add(actions, "export", "write all proofs to a directory")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty directory")
    export.set_defaults(run=write)
    epochs = _add(actions, "epochs", "save all changes of validators")
    epochs.add_argument("--out", type=Path, required=True, metavar="FILE", help="where they go")
    epochs.set_defaults(run=save_epochs)
    for action in (shown, verify, export, epochs):
        add_peers(action)
        action.add_argument("--network", type=Path, required=True, metavar="FILE", help="the network file")
        action.add_argument("--json", action="store_true", help="print JSON")


def show(args: argparse.Namespace) -> int:
    """Print what the first node that answers tells."""
    from consensus.evidence import decode_evidence

    rows = [{"height": height} | _fields(decode_evidence(proof)) for height, proof in _ask(args)]
    if args.json:
        print(json.dumps(rows, indent=2))
    for row in rows if not args.json else ():
        print(f"block {row['height']}: {_describe(row)}")
    if not rows and not args.json:
        print("nobody is convicted")
    return 0


def check(args: argparse.Namespace) -> int:
    """Verify both signatures under the keys of the evidence's epoch. Raises `ProtocolError` if they prove
    nothing."""
    from consensus.evidence import check_evidence, decode_evidence
    from consensus.light import LightClient
    from consensus.primitives.crypto import Ed25519Verifier
    from node.network import load_network
    from node.reports import read_proof

    network = load_network(args.network)
    evidence = decode_evidence(read_proof(args.file))
    light = LightClient(network.chain_id, network.replicas.record)
    if args.epochs is not None:
        proofs = _read_epochs(args.epochs)
    else:
        proofs = _ask_epochs(args, evidence.epoch) if evidence.epoch > 0 else []
    for proof in proofs:
        light.advance(proof)
    if evidence.epoch > light.epoch.number:
        raise ConfigError(
            f"the proof is of epoch {evidence.epoch}, and {args.epochs} ends with {light.epoch.number}:"
            " save them again with `kontor evidence epochs`"
        )
    keys = light.replicas_of(evidence.epoch).keys
    check_evidence(network.chain_id, lambda replica, _: keys.get(replica), Ed25519Verifier(), evidence)
    row = _fields(evidence)
    print(json.dumps(row) if args.json else f"proven: {_describe(row)}")
    return 0


def save_epochs(args: argparse.Namespace) -> int:
    """Write every change of validators so far to a file."""
    from node.receipts import RECEIPTS

    if args.out.exists():
        raise ConfigError(f"{args.out} exists: choose another --out")
    proofs = _ask_epochs(args, None)
    args.out.write_text("".join(RECEIPTS.encode(proof).hex() + "\n" for proof in proofs), "ascii")
    print(json.dumps(len(proofs)) if args.json else f"changes of validators in {args.out}: {len(proofs)}")
    return 0


def _ask_epochs(args: argparse.Namespace, last: int | None) -> "list[EpochProof]":
    """Changes of validators up to epoch `last`, or to the newest, from whoever proves them."""
    import trio

    from consensus.primitives.crypto import Ed25519Signer
    from node.client import open_client
    from node.keys import new_seed
    from node.network import load_network

    async def ask() -> "list[EpochProof]":
        network, key = load_network(args.network), Ed25519Signer(new_seed())
        async with open_client(network, key, peers=args.peer) as client:
            return await client.epoch_proofs((await client.sync_epochs()).number if last is None else last)

    return trio.run(ask)


def _read_epochs(path: Path) -> "list[EpochProof]":
    """What `save_epochs` wrote. Raises `ConfigError`; whether they prove anything is for others to say."""
    from consensus.primitives.errors import ProtocolError
    from consensus.proofs import EpochProof
    from node.receipts import RECEIPTS

    try:
        with path.open("rb") as file:
            lines = file.read(EPOCHS_BYTES_MAX + 1)
        if len(lines) > EPOCHS_BYTES_MAX:
            raise ConfigError(f"{path} has more than {EPOCHS_BYTES_MAX} bytes: save it again")
        proofs = [RECEIPTS.decode(bytes.fromhex(line.decode("ascii"))) for line in lines.split()]
    except (OSError, ValueError, ProtocolError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}): save it again with `kontor evidence epochs`"
        ) from error
    if not all(isinstance(proof, EpochProof) for proof in proofs):
        raise ConfigError(f"{path} holds other proofs: save it again with `kontor evidence epochs`")
    return proofs


def write(args: argparse.Namespace) -> int:
    """One file for each conviction."""
    if args.out.exists() and any(args.out.iterdir()):
        raise ConfigError(f"{args.out} is not empty: choose a new directory")
    args.out.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (_, proof) in enumerate(_ask(args)):
        path = args.out / f"conviction-{number}.hex"
        path.write_text(proof.hex() + "\n", "ascii")
        paths.append(str(path))
    print(json.dumps(paths) if args.json else f"proofs in {args.out}: {len(paths)}")
    return 0


def _ask(args: argparse.Namespace) -> list[tuple[int, bytes]]:
    import trio

    from consensus.primitives.crypto import Ed25519Signer
    from node.client import open_client
    from node.keys import new_seed
    from node.network import load_network

    async def ask() -> list[tuple[int, bytes]]:
        network, key = load_network(args.network), Ed25519Signer(new_seed())
        async with open_client(network, key, peers=args.peer) as client:
            await client.sync_epochs()
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
