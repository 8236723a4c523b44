"""What a node tells about contracts, positions and margin."""

from types import SimpleNamespace

import pytest

from engine.perpetuals.commands import AddCollateral, SetIsolation
from node.position_views import MarginView, PositionView, view_contracts, view_margin, view_positions
from node.views import VIEWS
from tests.helpers.perpetual_floor import HOUR_MS, PerpetualFloor, contract
from tests.unit.engine.perpetuals.test_trading import BUY, FREE, new, run, trade


@pytest.fixture
def floor():
    return PerpetualFloor(accounts=4, funds=100_000, contracts=(FREE, contract(group=4)))


def test_positions_and_margin_say_what_an_account_has_and_must_have(floor):
    trade(floor, 2, 1, 100, 1000)
    run(floor, new(2, 1, BUY, 99, 7))
    floor.price(1, 104)
    machine = SimpleNamespace(state=floor.state)
    assert view_positions(machine, 2) == [
        PositionView(1, 1000, 300_000, 12_000, 0, 0, 7, 0, False, 0, 0, 0, 0)
    ]
    assert view_margin(machine, 2) == [MarginView(1, True, 112_000, 31_419, 15_600, 0, 0)]
    floor.price(1, 0)
    assert not view_margin(machine, 2)[0].known


def test_an_isolated_position_has_margins_of_its_own(floor):
    floor.command(SetIsolation(2, 1, 1))
    floor.command(AddCollateral(2, 1, 5000))
    trade(floor, 2, 1, 100, 100)
    view = view_positions(SimpleNamespace(state=floor.state), 2)[0]
    assert (view.isolated, view.collateral) == (True, 5000)
    assert (view.equity, view.initial, view.maintenance) == (5000, 3000, 1500)


def test_contracts_are_shown_with_terms_and_open_interest_and_travel(floor):
    trade(floor, 2, 1, 100, 30)
    found = view_contracts(SimpleNamespace(state=floor.state))
    assert [(c.market, c.name, c.open_interest, c.group) for c in found] == [
        (1, "P0", 30, 0),
        (2, "P1", 0, 4),
    ]
    assert found[0].funding_interval_ms == HOUR_MS
    assert VIEWS.from_fields(type(found[0]), VIEWS.to_fields(found[0])) == found[0]


@pytest.mark.parametrize("account", [-1, 4, 2**40])
def test_nobody_has_nothing(floor, account):
    machine = SimpleNamespace(state=floor.state)
    assert view_positions(machine, account) == view_margin(machine, account) == []
