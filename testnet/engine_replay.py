"""Runs recorded blocks again and, with --explain, says why every order operation came out as it did.

  kontor engine replay HOME --explain --account 12      a node's directory; the node may be running
  kontor engine replay HOME/data/diverged-SEQ           what a node wrote about a divergence
  kontor engine replay FILE.flow --explain --order 7    a flow of `kontor flow`, on an empty ledger

For each operation: filled, partly filled, resting, rejected or cancelled, the rule and the values that it
compared (funds needed and available, best price, bounds, place in the queue), whom it met at which price, and
fees with their rounding. The blocks are executed by the ledger's own rules; where the home holds a checkpoint
that validators signed, the journal's root is compared with theirs.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from consensus.primitives.crypto import Ed25519Signer, digest
from consensus.primitives.errors import StorageError
from engine.batch import encode_batch
from engine.commands import EXPIRY_NEVER, Deposit, ListMarket, OpenAccount, RegisterAsset, encode
from engine.envelope import ENVELOPE_ORDERS_MAX, encode_commands, encode_orders
from engine.explain.explain import Explainer, Wanted, to_text
from engine.genesis import VENUE_ACCOUNT, Genesis
from engine.machine import Machine
from node.replaying import Recording, StoredBlock, open_recording
from testnet.flows import Flow, read_flow, segments

_FLOW_START_MS = 1_700_000_000_000
_COMMANDS = 1000  # in one envelope
LAST = 1 << 62


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a node's home, a dump, or a flow file")
    parser.add_argument("--explain", action="store_true", help="say why, operation by operation")
    parser.add_argument("--account", type=int, metavar="ID", help="of this account only")
    parser.add_argument("--order", type=int, metavar="ID", help="of this client order id only")
    parser.add_argument("--first", type=int, default=1, metavar="BLOCK", help="from this block on")
    parser.add_argument("--last", type=int, default=LAST, metavar="BLOCK", help="up to this block")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run_command(args: argparse.Namespace) -> int:
    """Replay and print, block by block."""
    if args.path.is_file():
        _print(args, _recording_of(read_flow(args.path)))
        return 0
    with open_recording(args.path, args.first) as recording:
        _print(args, recording)
    return 0


def _print(args: argparse.Namespace, recording: Recording) -> None:
    machine, wanted = recording.machine, Wanted(args.account, args.order)
    explainer = Explainer(machine, wanted)
    for block in recording.blocks:
        if block.height > args.last:
            break
        is_shown = block.height >= args.first
        if args.explain and is_shown:
            _, found = explainer.apply(*block)
            for item in found:
                print(json.dumps(item.as_json()) if args.json else to_text(item))
        else:
            machine.apply(*block)
        if block.height == recording.attested_height and machine.journal_root != recording.attested_root:
            raise StorageError(
                f"block {block.height} came out otherwise than validators attested:"
                f" {machine.journal_root.hex()} here, {recording.attested_root.hex()} there;"
                " nothing printed here is to be trusted"
            )
        if is_shown and not args.explain:
            _print_block(machine, block, args.json)


def _print_block(machine: Machine, block: StoredBlock, as_json: bool) -> None:
    root = machine.journal_root.hex()
    fields = {"height": block.height, "time_ms": block.time_ms, "journal_root": root}
    print(json.dumps(fields) if as_json else f"{block.height:>10,}  {block.time_ms}  {root}")


def _recording_of(flow: Flow) -> Recording:
    """A flow on a ledger of its own, an envelope a block; account n of the flow is n + 1 there."""
    signer = Ed25519Signer(digest("kontor.replay"))
    chain_id = digest("kontor.replay.chain", flow.name.encode())
    return Recording(Machine(Genesis(chain_id, (signer.public_key,))), _blocks(flow, signer, chain_id))


def _blocks(flow: Flow, signer: Ed25519Signer, chain_id: bytes) -> Iterator[StoredBlock]:
    for height, envelope in enumerate(_envelopes(flow, signer, chain_id), 1):
        batch = encode_batch([envelope])
        yield StoredBlock(height, digest("kontor.replay.block", batch), _FLOW_START_MS + height, [batch])


def _envelopes(flow: Flow, signer: Ed25519Signer, chain_id: bytes) -> Iterator[bytes]:
    """The world first, then each stretch between two fences."""
    nonce = 0
    commands: list[tuple] = [
        RegisterAsset(asset.name, asset.decimals, VENUE_ACCOUNT) for asset in flow.assets
    ]
    commands += [ListMarket(*vars(market).values()) for market in flow.markets]
    commands += [OpenAccount(signer.public_key)] * flow.accounts
    commands += [
        Deposit(account + 1, asset, amount)
        for account, row in enumerate(flow.funding.tolist())
        for asset, amount in enumerate(row)
        if amount
    ]
    for start in range(0, len(commands), _COMMANDS):
        nonce += 1
        payload = encode(commands[start : start + _COMMANDS])
        yield encode_commands(signer, chain_id, VENUE_ACCOUNT, nonce, EXPIRY_NEVER, payload)
    for first, end in segments(flow):
        for start in range(first, end, ENVELOPE_ORDERS_MAX):
            nonce += 1
            ops = flow.ops[start : min(start + ENVELOPE_ORDERS_MAX, end)].copy()
            ops["account"] += 1
            yield encode_orders(signer, chain_id, VENUE_ACCOUNT, nonce, EXPIRY_NEVER, ops)
