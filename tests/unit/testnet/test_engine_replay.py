"""`kontor engine replay`: homes, checkpoints, flows; what it prints and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from consensus.messages import Block, CommitCert, batch_digest
from consensus.proofs import Vote
from engine.batch import encode_batch
from engine.commands import Deposit, ListMarket, OpenAccount, RegisterAsset, encode
from engine.envelope import encode_commands, encode_orders, orders_array
from engine.machine import Machine
from engine.records import ORDER_OP, Side, TimeInForce
from node.config import Home
from node.keys import load_signer
from node.ledger import Ledger, Turn
from node.network import load_network
from node.setup import create_network
from node.snapshots import SnapshotMeta, Snapshots
from ops import cli
from testnet.flows import Flow, FlowAsset, FlowMarket, write_flow
from tests.helpers.venue import NEVER, new

MIB = 1 << 20
BUY, SELL = Side.BUY, Side.SELL


class Recorder:
    """A home whose ledger and state hold a few blocks, as a node would have written them."""

    def __init__(self, root: Path) -> None:
        homes = create_network(root, 1, metrics_port=None)
        self.home = Home(homes.nodes[0].root)
        self.network = load_network(self.home.network)
        self.admin = load_signer(homes.admin_seed)
        self.machine = Machine(self.network.genesis)
        self.ledger = Ledger(self.home.data / "ledger", self.network.chain_id, 0, 64 * MIB)
        self.nonce = 0
        self.block(
            RegisterAsset("BTC", 0, 0),
            RegisterAsset("USD", 0, 0),
            ListMarket("BTC/USD", 0, 1, 10, 1, 1000, 1000, 0, 0, 0),
            *[OpenAccount(self.admin.public_key)] * 2,
            *[Deposit(account, asset, 10_000) for account in (1, 2) for asset in (0, 1)],
        )

    def block(self, *commands: tuple, orders: list | None = None) -> None:
        """Execute and store one block."""
        self.nonce += 1
        names = (self.admin, self.network.chain_id, 0, self.nonce, NEVER)
        envelope = (
            encode_orders(*names, orders_array(orders))
            if orders
            else encode_commands(*names, encode(commands))
        )
        payload = encode_batch([envelope])
        name, height = batch_digest(payload), self.machine.height + 1
        cert = CommitCert(0, Block(height, 1000 * height, (name,)), (Vote(0, bytes(64)),))
        self.ledger.commit(Turn({}, [cert], {name: payload}))
        self.machine.apply(height, cert.block.digest, cert.block.time_ms, [payload])

    def checkpoint(self, root: bytes | None = None) -> None:
        """Store the state."""
        snapshots = Snapshots(self.home.data / "state", 64 * MIB)
        machine = self.machine
        summary = machine.summary()
        meta = SnapshotMeta(machine.height, bytes(32), root or machine.journal_root, summary)
        snapshots.write(meta, machine.take_pages())
        snapshots.close()


@pytest.fixture
def recorder(tmp_path):
    made = Recorder(tmp_path / "net")
    made.block(orders=[new(0, 1, 1, SELL, 100, 5), new(0, 2, 1, SELL, 100, 5)])
    made.checkpoint()
    made.block(orders=[new(0, 2, 7, BUY, 101, 8, TimeInForce.IOC), new(0, 2, 8, BUY, 99, 900)])
    made.ledger.close()
    return made


def run(capsys, *words: str) -> tuple[int, str]:
    code = cli.main(["engine", "replay", *words])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_home_explains_an_accounts_orders(recorder, capsys):
    code, text = run(capsys, str(recorder.home.root), "--explain", "--account", "2")
    assert code == 0
    assert "behind 1 orders with 5 lots shown" in text
    assert "5 lots at 100 with account 1, order 1: number 1 in the queue" in text
    assert "SELF_TRADE" in text
    assert "it needed 89,100 USD, and 9,500 USD was available" in text


def test_a_running_nodes_home_can_be_read(recorder):
    ledger = Ledger(recorder.home.data / "ledger", recorder.network.chain_id, 0, 64 * MIB)
    words = ("engine", "replay", str(recorder.home.root), "--last", "1", "--json")
    code = f"import sys; from ops.cli import main; sys.exit(main({list(words)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    ledger.close()
    assert (done.returncode, json.loads(done.stdout)["height"]) == (0, 1), done.stderr


def test_json_is_one_object_a_line(recorder, capsys):
    code, text = run(capsys, str(recorder.home.root), "--explain", "--order", "7", "--json")
    [item] = [json.loads(line) for line in text.splitlines()]
    assert (code, item["height"], item["account"], item["trades"][0]["qty"]) == (0, 3, 2, 5)


def test_without_explain_the_journal_roots_are_shown(recorder, capsys):
    code, text = run(capsys, str(recorder.home.root), "--first", "3")
    assert code == 0
    assert text.split() == ["3", "3000", recorder.machine.journal_root.hex()]


def test_a_root_that_validators_did_not_attest_is_an_error(recorder, capsys):
    recorder.checkpoint(root=bytes(32))
    code, text = run(capsys, str(recorder.home.root))
    assert code == 1
    assert "block 3 came out otherwise than validators attested" in text


def test_where_early_blocks_are_gone_the_replay_begins_at_the_checkpoint(recorder, capsys):
    with lmdb.open(str(recorder.home.data / "ledger"), max_dbs=5) as env:
        blocks = env.open_db(b"blocks")
        with env.begin(write=True, db=blocks) as txn:
            txn.delete((1).to_bytes(8, "big"))
    code, text = run(capsys, str(recorder.home.root), "--first", "3", "--explain", "--order", "7")
    assert (code, "5 lots at 100" in text) == (0, True)
    code, text = run(capsys, str(recorder.home.root), "--first", "2")
    assert (code, "ask from block 3 on" in text) == (2, True)


def test_what_is_no_home_is_refused(tmp_path, capsys):
    code, text = run(capsys, str(tmp_path))
    assert (code, "neither a node's home" in text) == (2, True)


def test_a_flow_is_replayed_on_an_empty_ledger(tmp_path, capsys):
    ops = np.array([new(0, 0, 1, SELL, 10, 5), new(0, 1, 2, BUY, 10, 9)], dtype=ORDER_OP)
    flow = Flow(
        "two orders",
        "a test",
        (FlowAsset("BTC", 0), FlowAsset("USD", 0)),
        (FlowMarket("BTC/USD", 0, 1, 1, 1, 100, 100),),
        ops,
        np.array([1], dtype=np.int64),
        np.full((2, 2), 1000, dtype=np.int64),
    )
    write_flow(tmp_path / "two.flow", flow)
    code, text = run(capsys, str(tmp_path / "two.flow"), "--explain", "--account", "2")
    assert code == 0
    assert "partly filled, the rest stays (OK)" in text
    assert "5 lots at 10 with account 1, order 1" in text
