"""`kontor heal` and `kontor debug replay`: what to do about a node whose state went wrong."""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.primitives.errors import ConfigError

if TYPE_CHECKING:
    from node.config import Home
    from node.dumps import Replay
    from ops.cli import Subparsers

HEAL_HELP = """\
Makes a stopped node fetch its state from the others when it starts next. Use it on a node that halted
because f+1 others came to another result, or whose data/state is damaged. Its votes, blocks and
keys stay; so does the dump in data/diverged-SEQ. Until the state is there it signs nothing, and it
never attests a block again that it attested before.
"""

REPLAY_HELP = """\
Runs the blocks of a dump (a node's data/diverged-SEQ) on this machine, and says which side's result it
reproduces. "theirs": the node that wrote it computed wrongly, then and there; look at its memory, its
disk, its processor. "ours": the fault is reproducible, so look at what differs between the builds.
Exit status 0: one of the two; 1: neither, or the dump does not reach the block.
"""


def register(subparsers: "Subparsers") -> None:
    """Add both commands."""
    heal = _add(subparsers, "heal", "have a stopped node fetch its state from the others", HEAL_HELP)
    heal.add_argument("--home", type=Path, required=True, metavar="DIR", help="the node's directory")
    heal.set_defaults(run=heal_node)
    debug = _add(subparsers, "debug", "look into a divergence", "Tools to find out what went wrong.")
    actions = debug.add_subparsers(title="actions", metavar="ACTION", required=True)
    replay = _add(actions, "replay", "run the blocks of a dump again", REPLAY_HELP)
    replay.add_argument("dump", type=Path, metavar="DUMP", help="a node's data/diverged-SEQ")
    replay.add_argument("--json", action="store_true", help="print JSON")
    replay.set_defaults(run=replay_node)


def heal_node(args: argparse.Namespace) -> int:
    """Change the vote log, and put the state aside."""
    from node.config import Home

    home = Home(args.home)
    committed = heal_home(home)
    print(
        f"{home.root}: the next start fetches the state from the others;"
        f" results are attested above block {committed}"
    )
    return 0


def heal_home(home: "Home") -> int:
    """Prepare a stopped node's home; return the block above which it will attest again.

    The vote log goes first: from then on the node fetches its state, whatever still lies there.
    """
    from consensus.durable import plan_heal
    from node.config import load_config
    from node.joining import own_id
    from node.ledger import Ledger, Turn
    from node.network import load_network
    from node.state_sync.swap import OLD, STAGING, STATE, finish_swap
    from node.storage import HomeLock
    from node.versions import own_versions

    config, network = load_config(home.config), load_network(home.network)
    if len(network.validators) < 2:
        raise ConfigError(f"{home.network} lists one validator: there is nobody to fetch a state from")
    if not (home.data / "ledger").exists():
        raise ConfigError(
            f"{home.data} holds no ledger to heal: a node that voted before has lost its promises"
            " with it, and comes back by `kontor recover`; one that never did needs no healing"
        )
    with HomeLock(home.data):
        ledger = Ledger(
            home.data / "ledger", network.chain_id, own_id(home, config), config.ledger.blocks_mib << 20
        )
        try:
            finish_swap(home.data, ledger)
            committed = ledger.committed_after(ledger.base())
            ledger.commit(Turn(votes=plan_heal(ledger.votes(), committed)))
            ledger.take_versions(own_versions())  # those of the state that will be fetched
        finally:
            ledger.close()
        _keep_base(home.data)
        for name in (STATE, STAGING, OLD, "history"):
            shutil.rmtree(home.data / name, ignore_errors=True)
    return committed


def _keep_base(data: Path) -> None:
    """A dump that was too large for a copy of its base gets the state itself."""
    from node.state_sync.swap import STATE

    for path in data.glob("diverged-*/dump.json"):
        base = path.parent / "base"
        if json.loads(path.read_text("utf-8")).get("base") and not base.exists() and (data / STATE).exists():
            os.rename(data / STATE, base)


def replay_node(args: argparse.Namespace) -> int:
    """Replay and print."""
    from node.dumps import replay_dump

    replay = replay_dump(args.dump)
    print(json.dumps(to_json(replay), indent=2) if args.json else to_text(replay))
    return 0 if replay.side in ("ours", "theirs") else 1


def to_json(replay: "Replay") -> dict[str, Any]:
    """The replay as plain values."""
    return {
        "seq": replay.seq,
        "side": replay.side,
        "blocks": [
            {name: value.hex() if isinstance(value, bytes) else value for name, value in vars(block).items()}
            for block in replay.blocks
        ],
        "tables": {name: root.hex() for name, root in replay.tables.items()},
        "differing_tables": list(replay.differing),
        "notes": list(replay.notes),
    }


def to_text(replay: "Replay") -> str:
    """The replay for people."""
    lines = [f"{'block':>10}  {'journal root':16}  state root"]
    lines += [
        f"{block.seq:>10,}  {block.journal_root.hex()[:16]}  {block.state_root.hex()[:16]}"
        for block in replay.blocks
    ]
    lines += [f"table {name:16} {root.hex()[:16]}" for name, root in replay.tables.items()]
    if replay.differing:
        lines.append(f"both sides differ in: {', '.join(replay.differing)}")
    lines += [f"note: {note}" for note in replay.notes]
    lines.append(f"this machine reproduces: {replay.side}")
    return "\n".join(lines)


def _add(subparsers: "Subparsers", name: str, help: str, description: str) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=help,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
