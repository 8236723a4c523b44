"""`kontor validator`: who votes, and how an admin changes it while the network runs."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.primitives.errors import ConfigError, LedgerError
from ops.peers import add_peers

if TYPE_CHECKING:
    from node.client import Client, Rejected
    from node.views import MembershipView, ValidatorView
    from ops.cli import Subparsers

HELP = """\
Shows and changes the validators of a running network. A change is an ordered command, signed with the
venue's admin key: it is scheduled at once and takes effect some hundred blocks later, at a checkpoint,
one change at a time. The command waits until it is in force, unless --no-wait is given.

  kontor validator list --network network.toml
  kontor validator replace 2 --entry new.toml --network network.toml --admin admin.seed

An entry is what `kontor init --join network.toml --as-validator` prints on the new node.
"""
ROTATE_HELP = """\
Makes another consensus key with a signing record of its own in DIR, beside the present ones, and has
the ledger name it. Run it on the node's machine, as the node's user. The node may run: it opens the key by
itself, and signs with it from the next epoch on. A key whose change was refused is used next time.
Former keys and their records stay in DIR. A node whose key a separate signer holds is replaced instead.
"""
MOVE_HELP = """\
Tells the ledger where a validator is reached, and by which certificate it is known. What is not named
stays as it is; so does the consensus key. Once the change is in force, the others connect to the new address:
stop the node, move it, correct peer_listen and client_listen in its config.toml where they are set, and
start it. `kontor validator move` with the former address takes it back.
"""
POLL_SECONDS = 0.25


def register(subparsers: "Subparsers") -> None:
    """Add `kontor validator`."""
    parser = _add(subparsers, "validator", "show and change who validates", HELP)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    shown = _add(actions, "list", "print all validators and the pending change", HELP)
    _add_common(shown, show, is_change=False)

    add = _add(actions, "add", "one more validator", HELP)
    replace = _add(actions, "replace", "remove one, add another", HELP)
    move = _add(actions, "move", "another address or certificate for one", MOVE_HELP)
    remove = _add(actions, "remove", "one validator less", HELP)
    for action in (replace, move, remove):
        action.add_argument("validator", type=int, metavar="ID", help="the validator's id")
    for action in (add, replace):
        action.add_argument("--entry", type=Path, required=True, metavar="FILE", help="the validator's entry")
    move.add_argument("--to-peer", metavar="HOST:PORT", help="where validators connect from now on")
    move.add_argument("--to-client", metavar="HOST:PORT", help="where clients connect from now on")
    move.add_argument("--certificate", type=Path, metavar="FILE", help="its new keys/tls.crt")
    rotate = _add(actions, "rotate", "another consensus key for a running node", ROTATE_HELP)
    rotate.add_argument("--home", type=Path, required=True, metavar="DIR", help="the node's directory")
    wedge = _add(actions, "wedge", "stop at a checkpoint, for an upgrade", HELP)
    wedge.add_argument("height", type=int, nargs="?", default=0, help="default: as soon as possible")
    rule = _add(actions, "rule", "what happens to validators that evidence convicts", HELP)
    rule.add_argument("rule", choices=("manual", "automatic"), help="automatic: they are removed")
    for action in (add, replace, move, remove, rotate, wedge, rule):
        _add_common(action, change, is_change=True)


def show(args: argparse.Namespace) -> int:
    """Ask one node, print."""

    async def ask(client: "Client") -> int:
        rows, membership = await client.validators(), await client.membership()
        if args.json:
            print(json.dumps(_plain({"membership": membership, "validators": rows}), indent=2))
        else:
            _print_list(rows, membership)
        return 0

    return _run(args, ask)


def change(args: argparse.Namespace) -> int:
    """Submit one command; wait until it is in force."""
    ask = {"rotate": _make_rotation, "move": _make_move}.get(args.action)
    command = () if ask else _make_command(args)  # before connecting: a bad entry needs no network

    async def submit(client: "Client") -> int:
        line = await client.command(await ask(args, client) if ask else command)
        epoch, boundary = int(line["qty"]), int(line["detail"])
        report: dict[str, Any] = {"boundary": boundary, "epoch": epoch}
        if args.action == "rotate":
            report["validator"] = int(line["account"])
        elif args.action in ("add", "replace"):
            report["validator"] = int(line["account" if args.action == "add" else "counter_account"])
        if args.action != "rule":
            _say(f"scheduled: in force after block {boundary:,}")
            if not args.no_wait:
                await _wait(client, args.action, epoch, boundary)
        print(json.dumps(report) if args.json else _describe(args.action, report))
        return 0

    return _run(args, submit)


async def _wait(client: "Client", action: str, epoch: int, boundary: int) -> None:
    import trio

    told = -1
    while True:
        now = await client.membership()
        if now.epoch >= epoch if action != "wedge" else now.height >= boundary:
            return
        if now.height != told:
            told = now.height
            _say(f"block {now.height:,}: {boundary - now.height:,} left")
        await trio.sleep(POLL_SECONDS)


def _make_command(args: argparse.Namespace) -> tuple[Any, ...]:
    from engine import commands
    from engine.layout import ExclusionRule
    from node.network import load_entry

    if args.action == "wedge":
        return commands.Wedge(args.height)
    if args.action == "rule":
        return commands.SetExclusionRule(int(ExclusionRule[args.rule.upper()]))
    if args.action == "remove":
        return commands.RemoveValidator(args.validator)
    entry = load_entry(args.entry)
    endpoint = (entry.tls_certificate, str(entry.peer_address), str(entry.client_address))
    if args.action == "add":
        return commands.AddValidator(entry.consensus_key, *endpoint)
    return commands.ReplaceValidator(args.validator, entry.consensus_key, *endpoint)


async def _make_move(args: argparse.Namespace, client: "Client") -> tuple[Any, ...]:
    """Where the validator will be; what `args` leave out stays. Raises `ConfigError`."""
    from engine.commands import MoveValidator
    from node.keys import load_certificate
    from node.network import load_network, parse_address

    if not (args.to_peer or args.to_client or args.certificate):
        raise ConfigError(
            "what changes? Name --to-peer HOST:PORT, --to-client HOST:PORT or --certificate FILE"
        )
    certificate, peer, client_address = await _ask_place(client, args.validator)
    if not certificate:  # a founder that never moved
        founder = load_network(args.network).validators[args.validator]
        certificate, peer = founder.tls_certificate, str(founder.peer_address)
        client_address = str(founder.client_address)
    return MoveValidator(
        args.validator,
        load_certificate(args.certificate) if args.certificate else certificate,
        str(parse_address(args.to_peer, "--to-peer")) if args.to_peer else peer,
        str(parse_address(args.to_client, "--to-client")) if args.to_client else client_address,
    )


async def _ask_place(client: "Client", validator: int) -> tuple[bytes, str, str]:
    """Certificate and addresses in the ledger, as f+1 nodes tell them: the admin signs what comes back."""
    from consensus.primitives.errors import InputError

    told: list[tuple[bytes, str, str] | None] = []
    for node in client.nodes:
        try:
            rows = await client.validators(node)
        except (LedgerError, InputError):
            continue
        told.append(next(((r.certificate, r.peer, r.client) for r in rows if r.id == validator), None))
        if told.count(told[-1]) >= client.weak_quorum:
            if told[-1] is None:
                raise ConfigError(f"no validator has id {validator}: see `kontor validator list`")
            return told[-1]
    raise ConfigError(
        f"{client.weak_quorum} nodes must tell alike where validator {validator} is, and of {len(told)}"
        " that answered they do not: see `kontor status`, and try again"
    )


async def _make_rotation(args: argparse.Namespace, client: "Client") -> tuple[Any, ...]:
    """Make the key that follows. Raises `ConfigError` where the node's key is not in its home."""
    from engine.commands import RotateValidatorKey
    from node.config import Home, load_config
    from node.joining import own_id
    from node.keys import load_signer
    from node.network import load_network
    from node.signer.ring import make_next_key

    home = Home(args.home)
    config = load_config(home.config)
    if config.signer.socket:
        raise ConfigError(
            f"{home.config} names a separate signer, which holds one key: its key cannot be rotated in place,"
            " use `kontor validator replace`"
        )
    validator, chain_id = own_id(home, config), load_network(args.network).chain_id
    if load_network(home.network).chain_id != chain_id:
        raise ConfigError(f"{home.network} is of another chain than {args.network}: name the node's own")
    rows = await client.validators()
    mine = [span.key for row in rows if row.id == validator for span in row.keys]
    if load_signer(home.consensus_seed).public_key not in mine:
        raise ConfigError(f"the ledger knows no key of {home.root} as validator {validator}'s")
    used = {span.key for row in rows for span in row.keys}
    return RotateValidatorKey(validator, make_next_key(home, chain_id, used))


def _run(args: argparse.Namespace, work: Callable[["Client"], Any]) -> int:
    import trio

    from consensus.primitives.crypto import Ed25519Signer
    from node.client import Rejected, open_client
    from node.keys import load_signer, new_seed
    from node.network import load_network

    network = load_network(args.network)
    if hasattr(args, "admin") and not args.admin.exists():
        raise ConfigError(
            f"{args.admin} does not exist: name the venue's secret, admin.seed beside network.toml where the"
            " network was made"
        )
    # Queries are not signed, so any key does.
    key = load_signer(args.admin) if hasattr(args, "admin") else Ed25519Signer(new_seed())

    async def connected() -> int:
        async with open_client(network, key, peers=args.peer) as client:
            if args.peer:
                await client.sync_epochs()
            try:
                return int(await work(client))
            except Rejected as error:
                raise LedgerError(f"refused: {_remedy(error)}") from error

    return trio.run(connected)


def _remedy(error: "Rejected") -> str:
    """What a refusal means here."""
    from engine.records import Code

    remedies = {
        Code.CHANGE_PENDING: "another change is pending: wait until it is in force",
        Code.UNKNOWN_VALIDATOR: "no such validator votes now, see `kontor validator list`",
        Code.KEY_USED: "the entry's key is or was a validator's: make a new home",
        Code.ENDPOINT_TAKEN: "another validator has this certificate or address",
        Code.TOO_FEW_VALIDATORS: "fewer than four would remain, or none: use `kontor validator replace`",
        Code.TOO_MANY_VALIDATORS: "the network has as many validators as its rules allow",
        Code.HEIGHT_OUT_OF_RANGE: "the height is too near or too far: leave it out to stop soon",
        Code.NOT_AUTHORISED: "the key of --admin does not administer the venue",
    }
    return remedies.get(Code(error.code), str(error))


def _print_list(rows: "list[ValidatorView]", membership: "MembershipView") -> None:
    from engine.layout import ChangeKind, ExclusionRule, ValidatorStatus

    rule = ExclusionRule(membership.exclusion_rule).name.lower()
    print(f"epoch {membership.epoch} since block {membership.first_seq:,}; convicted validators: {rule}")
    for row in rows:
        last = "" if row.last_epoch is None else f"{row.last_epoch}"
        convicted = f"  convicted {row.convictions} times" if row.convictions else ""
        where = row.peer or "as in network.toml"
        status = ValidatorStatus(row.status).name.lower()
        print(f"{row.id:>4}  {status:<8} epochs {row.first_epoch}–{last:<6} {where}{convicted}")
    if membership.change:
        kind = ChangeKind(membership.change).name.lower()
        print(f"pending: {kind}, in force after block {membership.boundary:,} (now {membership.height:,})")


def _describe(action: str, report: dict[str, Any]) -> str:
    if action == "rule":
        return "the rule is in force"
    if action == "wedge":
        return f"the ledger stops at block {report['boundary']}"
    if action == "rotate":
        return f"validator {report['validator']} signs with its new key after block {report['boundary']}"
    who = f"; the new validator has id {report['validator']}" if "validator" in report else ""
    return f"epoch {report['epoch']} starts after block {report['boundary']}{who}"


def _plain(value: Any) -> Any:
    """JSON of views: bytes as hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _plain(asdict(value)) if hasattr(value, "__dataclass_fields__") else value


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _add_common(parser: argparse.ArgumentParser, run: Callable[..., int], is_change: bool) -> None:
    parser.add_argument("--network", type=Path, required=True, metavar="FILE", help="the network file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_peers(parser)
    if is_change:
        parser.add_argument("--admin", type=Path, required=True, metavar="FILE", help="the admin's seed")
        parser.add_argument("--no-wait", action="store_true", help="return once it is scheduled")
    parser.set_defaults(run=run, action=parser.prog.split()[-1])


def _add(subparsers: "Subparsers", name: str, help: str, description: str) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=help,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
