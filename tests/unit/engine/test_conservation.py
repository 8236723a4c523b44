"""The check of every block finds kernels and plugins that create or lose value."""

import numpy as np
import pytest

from consensus.primitives.errors import InvariantViolation
from engine import conservation
from engine.accounts import funds
from engine.commands import Deposit, OpenAccount, RegisterAsset, Transfer
from engine.conservation import ConservationCheck
from engine.machine import Machine
from engine.records import Side
from tests.helpers.venue import Venue, new, signer


@pytest.fixture
def venue():
    made = Venue()
    made.keys = made.open_market(traders=3)
    return made


def trade(venue, number):
    venue.orders(venue.keys[0], 1, [new(0, 1, number, Side.SELL, 20, 5)])
    venue.orders(venue.keys[1], 2, [new(0, 2, number, Side.BUY, 20, 5)])
    return venue.block()


@pytest.mark.parametrize("change", [1, -1, 2**40, -(2**61)])
@pytest.mark.parametrize("column", ["available", "held"])
def test_an_order_kernel_that_creates_or_loses_value_stops_the_machine(venue, column, change):
    execute = venue.machine.order_loop

    def broken(core, *arguments):
        journal = execute(core, *arguments)
        core.balances.rows[5][column] += change
        core.balances.dirty[0] = 1
        return journal

    assert trade(venue, 1).counts.fills == 1
    venue.machine.order_loop = broken
    with pytest.raises(InvariantViolation):
        trade(venue, 2)


def test_a_command_that_pays_twice_stops_the_machine(venue, monkeypatch):
    add = funds._add_available
    monkeypatch.setattr(funds, "_add_available", lambda s, row, n: add(s, row, 2 * n if n > 0 else n))
    venue.commands(Transfer(1, 2, 0, 10), by=venue.keys[0], account=1)
    with pytest.raises(InvariantViolation, match="BTC: accounts own"):
        venue.block()


def test_what_one_asset_gains_another_does_not_lose(venue, monkeypatch):
    """An error that is right in the sum over all assets is none the less one."""
    add = funds._add_available

    def broken(state, row, amount):
        other = row + 1 if amount > 0 else row  # the same account's other asset
        add(state, other, amount)

    monkeypatch.setattr(funds, "_add_available", broken)
    venue.commands(Transfer(1, 2, 0, 10), by=venue.keys[0], account=1)
    with pytest.raises(InvariantViolation, match="accounts own"):
        venue.block()


def test_debts_stop_the_machine_even_where_sums_are_right(venue):
    columns = venue.machine.state.balances.columns
    rows = [venue.machine.state.balance_row(account, 0) for account in (1, 2)]
    columns["available"][rows[0]] -= 2 * 10**9
    columns["available"][rows[1]] += 2 * 10**9
    venue.machine.state.balances.mark(rows[0])
    with pytest.raises(InvariantViolation, match="negative"):
        venue.block()


def test_it_goes_on_after_roots_were_made_tables_grew_and_a_restore(venue):
    """Hashing takes dirty pages away; growing moves them; a restored machine begins with the sums of all."""
    for number in range(3):
        trade(venue, number)
        venue.machine.state_root()
        venue.commands(*[OpenAccount(signer(f"more {number} {n}").public_key) for n in range(150)])
        venue.commands(RegisterAsset(f"N{number}", 0, 0))
        venue.block()
        accounts = venue.machine.state.count["accounts"]
        venue.commands(*[Deposit(account, 2 + number, 7) for account in range(accounts - 150, accounts)])
        assert venue.block().counts.rejected == 0
    restored = Machine.restore(venue.genesis, venue.machine.snapshot(), venue.machine.state_root())
    for made in (venue.machine, restored):
        fresh = ConservationCheck(made.state)
        assert made._conservation._total == fresh._total == fresh._supply()
        assert np.array_equal(made._conservation._sums, fresh._sums)


def test_pages_stay_dirty_for_the_state_root(venue):
    trade(venue, 1)
    assert venue.machine.state.balances.dirty[0] == conservation.CHECKED
    assert venue.machine.state_root() == venue.machine.full_state_root()
    assert venue.machine.state.balances.dirty[0] == 0


def test_weights_are_odd_and_differ():
    weights = [conservation._weight(asset) for asset in range(2**16)]
    assert len(set(weights)) == len(weights)
    assert all(weight % 2 for weight in weights)
