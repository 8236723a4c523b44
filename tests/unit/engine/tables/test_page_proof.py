"""Pages of a real state, proved to a light client."""

from dataclasses import replace

import numpy as np
import pytest

from consensus.light import BALANCE_ROW, Balance, LightClient, Unproven
from consensus.primitives.crypto import digest
from consensus.primitives.trees import CHUNK_RECORDS, GROUP_SIZE, RECORD_SIZE, PageProof, compute_table_root
from consensus.proofs import CheckpointCert, Epoch, Member, StateSummary, Vote, signing_digest
from consensus.simulator.crypto import SimKeyring
from engine.genesis import Capacity
from engine.layout import BALANCE, PAGE_SIZE
from engine.records import JOURNAL
from engine.state import State
from engine.tables.root import StateTree

CHAIN = digest("test.chain")
KEYS = SimKeyring(3, 1)
EPOCH = Epoch(0, 1, (Member(0, KEYS.public_keys[0]),))
HELD = {(7, 0): (500, 20, 3), (7, 1): (1, 0, 0), (9, 0): (2**40, 5, 0)}


def funded_state() -> State:
    """Some 2000 balances over several pages, a few of which tests know."""
    state = State(Capacity())
    for account, asset in [*HELD, *((account, 2) for account in range(2_000))]:
        row = state.add_balance(account, asset)
        available, held, reserved = HELD.get((account, asset), (account, 0, 0))
        columns = state.balances.columns
        columns["available"][row], columns["held"][row] = available, held
        columns["reserved"][row] = reserved
        state.balances.mark(row)
    return state


def certify(tree: StateTree) -> CheckpointCert:
    """A checkpoint of this state by the only validator."""
    parts = tuple(tree.table_roots().values())
    summary = StateSummary(tree.root(), parts, EPOCH.digest, 0)
    bare = CheckpointCert(32, digest("block"), digest("journal"), summary, ())
    message = signing_digest(CHAIN, 0, "checkpoint", 0, 32, bare.result_digest)
    return replace(bare, votes=(Vote(0, KEYS.signers[0].sign(message)),))


def test_every_page_leads_to_its_tables_root() -> None:
    state = funded_state()
    tree = StateTree(state)
    roots = tree.table_roots()
    for table in state.tables:
        for page in (0, table.pages.shape[0] - 1, table.pages.shape[0] + 40_000):
            assert compute_table_root(tree.page_proof(table, page)) == roots[table.name]


def test_a_balance_is_read_from_a_proved_page() -> None:
    state = funded_state()
    tree, light = StateTree(state), LightClient(CHAIN, EPOCH, KEYS)
    cert = certify(tree)
    for (account, asset), (available, held, reserved) in HELD.items():
        page = state.balance_row(account, asset) // state.balances.page_rows
        proof = tree.page_proof(state.balances, page)
        found = light.read_balance(cert, proof, account, asset)
        assert found == Balance(account, asset, available, held, reserved)
        with pytest.raises(Unproven, match="no-balance"):
            light.read_balance(cert, proof, 70_000, 0)


def test_no_changed_proof_is_believed() -> None:
    state = funded_state()
    tree, light = StateTree(state), LightClient(CHAIN, EPOCH, KEYS)
    cert = certify(tree)
    proof = tree.page_proof(state.balances, 1)
    light.verify_page(cert, proof)
    richer = bytearray(proof.data)
    richer[8] ^= 1
    other = next(number for number, table in enumerate(state.tables) if table is not state.balances)
    wrong: list[PageProof] = [
        replace(proof, data=bytes(richer)),
        replace(proof, data=proof.data[:-1]),
        replace(proof, page=0),
        replace(proof, page=-1),
        replace(proof, page=1 << 40),
        replace(proof, rows=proof.rows + 1),
        replace(proof, row_size=64),
        replace(proof, name="balance"),
        replace(proof, name="b" * 100),
        replace(proof, table=other),
        replace(proof, table=99),
        replace(proof, path=proof.path[:-1]),
        replace(proof, path=(*proof.path, bytes(GROUP_SIZE))),
        replace(proof, path=(proof.path[0][:-1], *proof.path[1:])),
        replace(proof, path=proof.path[::-1]),
    ]
    for bent in wrong:
        with pytest.raises(Unproven, match="page"):
            light.verify_page(cert, bent)
    with pytest.raises(Unproven, match="bad-signature"):
        light.verify_page(replace(cert, journal_root=digest("other")), proof)


def test_rows_beyond_those_in_use_are_no_balances() -> None:
    """A page's tail may hold anything; its table says where it ends."""
    state = State(Capacity())
    row = state.add_balance(5, 0)
    stray = np.zeros((), dtype=BALANCE)
    stray["account"], stray["available"] = 6, 1_000
    state.balances.data[row + 1] = stray
    state.balances.mark(row + 1)
    tree, light = StateTree(state), LightClient(CHAIN, EPOCH, KEYS)
    cert, proof = certify(tree), tree.page_proof(state.balances, 0)
    light.read_balance(cert, proof, 5, 0)
    with pytest.raises(Unproven, match="no-balance"):
        light.read_balance(cert, proof, 6, 0)


def test_the_light_clients_layout_is_the_engines() -> None:
    record = np.zeros(1, dtype=BALANCE)
    values = (3, 4, 5, 6, 7)
    for name, value in zip(BALANCE.names or (), values, strict=True):
        record[name] = value
    assert BALANCE_ROW.unpack(record.tobytes()) == values
    assert BALANCE.names == ("account", "asset", "available", "held", "reserved")
    assert (JOURNAL.itemsize, 0, 64) == (RECORD_SIZE, PAGE_SIZE % RECORD_SIZE, CHUNK_RECORDS)
