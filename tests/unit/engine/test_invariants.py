"""Audits find what they are for."""

import pytest

from consensus.primitives.errors import InvariantViolation
from engine.invariants import check_all
from engine.records import Side
from tests.helpers.venue import Venue, new


@pytest.fixture
def state():
    venue = Venue()
    alice, bob = venue.open_market(traders=2)
    venue.orders(alice, 1, [new(0, 1, n, Side.SELL, 20 + n, 5) for n in range(3)])
    venue.orders(bob, 2, [new(0, 2, n, Side.BUY, 21 - n, 2) for n in range(3)])
    assert venue.block().counts.fills == 2
    check_all(venue.machine.state)
    return venue.machine.state


DAMAGES = {
    "value created": ("balances", "available", 0, 1, "accounts own"),
    "value lost": ("balances", "held", 0, -1, "accounts own"),
    "a deposit not booked": ("assets", "deposited", 0, -5, "accounts own"),
    "an order that grew": ("orders", "leaves", 1, 1, "hold something else|level's lots"),
    "a level that shrank": ("levels", "qty", 22, -1, "level's lots"),
    "a forgotten order": ("counters", "orders_live", 0, -1, "live orders"),
    "an account that lost count": ("accounts", "open_orders", 1, 1, "open orders of accounts"),
    "a market that lost count": ("markets", "open_orders", 0, 1, "open orders of markets"),
    "a wrong best price": ("markets", "best_bid", 0, 1, "best prices"),
    "an account that lost its oldest order": ("accounts", "last_order", 1, 1, "not linked well"),
    "an account that lost its newest order": ("accounts", "first_order", 1, -1, "not linked well"),
    "orders out of their account's list": ("orders", "next_own", 2, -2, "not linked well"),
    "an order that leads nowhere": ("orders", "next_own", 2, 9999, "lead nowhere"),
    "an order without lots": ("orders", "leaves", 1, -5, "nothing left"),
}


@pytest.mark.parametrize(
    ("table", "column", "row", "change", "message"), DAMAGES.values(), ids=DAMAGES.keys()
)
def test_damage_is_found(state, table, column, row, change, message):
    getattr(state, table).columns[column][row] += change
    with pytest.raises(InvariantViolation, match=message):
        check_all(state)


def test_debts_are_found_even_where_sums_are_right(state):
    columns = state.balances.columns
    columns["available"][0] += 2**62
    columns["available"][2] -= 2**62
    with pytest.raises(InvariantViolation):
        check_all(state)


def test_sums_that_would_wrap_in_64_bits_are_found(state):
    """Four times 2^62 is 0 modulo 2^64: an audit in machine integers would see nothing."""
    columns = state.balances.columns
    rows = [row for row in range(state.used(state.balances)) if columns["asset"].item(row) == 0]
    for row in rows[:2]:
        columns["available"][row] += 2**62
        columns["held"][row] += 2**62
    with pytest.raises(InvariantViolation, match="accounts own"):
        check_all(state)
