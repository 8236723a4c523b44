"""Plugins from other packages: their tables are state, their lines journal, their absence an error."""

import pytest

from consensus.primitives.errors import ConfigError
from engine.commands import FOREIGN_COMMANDS_FIRST
from engine.genesis import Genesis
from engine.machine import Machine
from engine.plugins import make_plugins, new_state
from engine.records import Code, Kind
from engine.tables.manifest import table_shapes
from tests.helpers.tally_plugin import AddTally
from tests.helpers.venue import Venue, new

TALLY = "tests.helpers.tally_plugin:TallyPlugin"


@pytest.fixture
def venue():
    venue = Venue(plugins=(TALLY,))
    venue.keys = venue.open_market(traders=2)
    return venue


def test_a_plugins_rows_are_part_of_the_state_root_and_of_snapshots(venue):
    venue.commands(AddTally(2, 40))
    venue.block()
    machine, root = venue.machine, venue.machine.state_root()
    table = machine.state.table("tallies")
    assert machine.state.used(table) == 3
    assert table.columns["total"][:3].tolist() == [0, 0, 40]
    assert root == machine.full_state_root()
    copy = Machine.restore(venue.genesis, machine.snapshot(), root)
    assert copy.state.used(copy.state.table("tallies")) == 3
    table.columns["total"][1] += 1
    table.mark(1)
    assert machine.state_root() != root


def test_lines_of_commands_stand_before_fills_and_lines_of_the_blocks_end_behind_them(venue):
    keys = venue.keys
    venue.orders(keys[0], 1, [new(0, 1, 1, 1, 100, 5)])
    venue.orders(keys[1], 2, [new(0, 2, 1, 0, 100, 5)])
    venue.commands(AddTally(0, 7), AddTally(0, 8))
    result = venue.block()
    lines = result.journal[result.journal["kind"] >= Kind.FILL]
    assert lines["kind"].tolist() == [Kind.FOREIGN, Kind.FOREIGN, Kind.FILL, Kind.FOREIGN]
    assert lines["qty"].tolist()[:2] == [7, 8]
    assert lines["detail"].tolist()[3] == result.height
    assert result.counts.fills == 1


def test_lines_of_commands_are_there_in_a_block_without_orders(venue):
    venue.commands(AddTally(0, 7))
    result = venue.block()
    assert result.journal["kind"].tolist() == [Kind.ENVELOPE, Kind.COMMAND, Kind.FOREIGN, Kind.FOREIGN]


def test_commands_from_elsewhere_have_numbers_of_their_own(venue):
    venue.commands(AddTally(1, 1), AddTally(1_000_000, 1))
    result = venue.block()
    lines = result.journal[result.journal["kind"] == Kind.COMMAND]
    assert (lines["op"] >= FOREIGN_COMMANDS_FIRST).all()
    assert lines["code"].tolist() == [Code.OK, Code.UNKNOWN_ACCOUNT]


def test_a_table_of_a_plugin_has_a_place_in_every_manifest(venue):
    names = [shape.name for shape in table_shapes(venue.genesis)]
    assert names[-1] == "tallies"
    assert names == [table.name for table in new_state(venue.genesis).tables]


@pytest.mark.parametrize("name", ["nowhere.at.all:Plugin", "tests.helpers.tally_plugin:Missing"])
def test_a_plugin_that_is_not_installed_is_named(name):
    genesis = Genesis(bytes(32), (bytes(32),), plugins=(name,))
    with pytest.raises(ConfigError, match=name):
        make_plugins(genesis)


@pytest.mark.parametrize("names", [("plain",), ("a:B", "a:B"), ("../x:Y",), ("a:b c",)])
def test_genesis_refuses_what_names_no_plugin(names):
    with pytest.raises(ConfigError):
        Genesis(bytes(32), (bytes(32),), plugins=names)
