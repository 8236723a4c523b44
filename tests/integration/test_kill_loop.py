"""`kill -9` of random nodes at random moments, under load: one history, and no second vote."""

import json
import random
from collections import defaultdict
from pathlib import Path

import trio

from consensus.durable import ACCEPTED, PREPARED
from consensus.messages import CODEC
from node.config import Home, load_config
from node.ledger import Ledger
from node.network import load_network
from node.setup import NetworkHomes
from testnet.load import Pace, Tally
from testnet.run import audit_all, find_doubled, find_lost, wait_level
from testnet.session import Session, open_network, run_session
from testnet.sources import SyntheticSource

SEED = 20261124
KILLS = 8
NODES = 4
MIB = 1 << 20


def test_killed_nodes_return_to_the_same_root_and_never_vote_twice(tmp_path):
    trio.run(kill_and_check, tmp_path / "net")


async def kill_and_check(root: Path) -> None:
    homes = open_network(root, NODES)
    tally = Tally()
    async with run_session(homes, SyntheticSource(2), lambda line: None) as session:
        await kill_loop(session, tally)
        await wait_level(session.launcher)
        exits = await session.launcher.stop()
    assert set(exits.values()) == {0}, exits
    audits = await audit_all(homes, range(NODES))
    assert len({(audit.height, audit.state_root, audit.journal_root) for audit in audits}) == 1
    assert all(audit.conserved for audit in audits), [audit.problem for audit in audits]
    assert tally.acknowledged and not find_lost(tally, audits) and not find_doubled(audits)
    check_votes(homes)
    assert equivocations(homes) == []


async def kill_loop(session: Session, tally: Tally) -> None:
    """Kill and restart one random node after the other while orders flow."""
    rng = random.Random(SEED)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.load, Pace(100, window=2), tally)
        for _ in range(KILLS):
            node = rng.randrange(NODES)
            await trio.sleep(rng.uniform(0.05, 0.6))
            await session.launcher.kill(node)
            await trio.sleep(rng.uniform(0.0, 0.6))
            await session.launcher.start(node)
            await session.launcher.wait_ready([node])
        nursery.cancel_scope.cancel()


def check_votes(homes: NetworkHomes) -> None:
    """Everything that any node ever stored, its own or of others, shows one digest per vote."""
    votes: dict[tuple[str, int, int, int], set[bytes]] = defaultdict(set)
    for home in homes.nodes:
        for kind, replica, view, seq, digest in stored_votes(home):
            votes[kind, replica, view, seq].add(digest)
    assert len(votes) > 100
    assert {place: digests for place, digests in votes.items() if len(digests) > 1} == {}


def stored_votes(home: Home):
    """(kind, replica, view, seq, digest) of every vote in a node's certificates and vote log."""
    config, network = load_config(home.config), load_network(home.network)
    ledger = Ledger(home.data / "ledger", network.chain_id, config.node.id, config.ledger.blocks_mib * MIB)
    try:
        for cert in ledger.blocks(1, ledger.committed_after(0)):
            for vote in cert.commits:
                yield "commit", vote.replica, cert.view, cert.block.seq, cert.block.digest
        for key, value in ledger.votes().items():
            if key.startswith(ACCEPTED):
                yield proposal_vote(network, CODEC.decode(value))
            elif key.startswith(PREPARED):
                cert = CODEC.decode(value)
                yield proposal_vote(network, cert.proposal)
                for vote in cert.prepares:
                    proposal = cert.proposal
                    yield "prepare", vote.replica, proposal.view, proposal.block.seq, proposal.block.digest
    finally:
        ledger.close()


def proposal_vote(network, proposal):
    primary = network.replicas.primary(proposal.view)
    return "pre-prepare", primary, proposal.view, proposal.block.seq, proposal.block.digest


def equivocations(homes: NetworkHomes) -> list[str]:
    """What nodes logged about validators that signed two votes for one place."""
    lines = [line for home in homes.nodes for line in home.log.read_text().splitlines()]
    return [line for line in lines if json.loads(line).get("reason") == "equivocation"]
