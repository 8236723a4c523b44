"""A prepared network begins where it says, and `kontor bench join` prints what it measured."""

import json
from pathlib import Path

import pytest

from node.config import load_config
from node.recovery import recover
from node.setup import create_network
from node.start import open_stores
from testnet.bench_join import Join, _to_text, read_events, summarise
from testnet.prepared import prepare


def test_every_node_starts_from_the_same_conserved_state(tmp_path: Path) -> None:
    homes = create_network(tmp_path / "net", 4)
    prepared = prepare(homes, accounts=300, orders=1000)
    assert prepared.orders == 1000 and prepared.height % homes.network.rules.checkpoint_interval == 0
    roots = set()
    for home in homes.nodes:
        with open_stores(home, load_config(home.config), homes.network) as stores:
            genesis, rules = homes.network.genesis, homes.network.rules
            found = recover(genesis, rules, stores.ledger, stores.snapshots, stores.history)
            assert (found.committed, found.executed) == (prepared.height, prepared.height)
            assert stores.history.height() == prepared.height
            found.machine.check_conservation()
            assert found.machine.state.used(found.machine.state.accounts) == 301
            roots.add(found.machine.full_state_root())
    assert len(roots) == 1


def test_figures_are_printed_with_where_they_were_measured(tmp_path: Path) -> None:
    join = Join(64, 1000, 2000, 226.742, 448, 227.38, 7.123, 10.77, 6.56, 36.7)
    result = summarise(join)
    assert (result["transfer_s"], result["chunks"]) == (7.12, 448) and result["cores"] >= 1
    assert json.loads(json.dumps(result)) == result
    text = _to_text(result)
    assert "joined empty in 10.77 s" in text and "448 chunks" in text


def test_the_last_line_of_each_kind_is_read(tmp_path: Path) -> None:
    homes = create_network(tmp_path / "net", 1)
    lines = [{"event": "state to fetch", "chunks": 1}, {"event": "state to fetch", "chunks": 2}]
    homes.nodes[0].log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_events(homes.nodes[0]) == {"state to fetch": lines[1]}


@pytest.mark.parametrize("orders", [0, 1])
def test_few_orders_are_a_state_too(tmp_path: Path, orders: int) -> None:
    assert prepare(create_network(tmp_path / "net", 1), accounts=1, orders=orders).orders == orders
