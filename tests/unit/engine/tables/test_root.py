"""The state root and snapshots: refusals and independence of history. Equality laws: tests/property."""

import pytest

from consensus.primitives.errors import ProtocolError
from engine.genesis import Capacity
from engine.layout import PAGE_SIZE
from engine.state import State
from engine.tables.root import StateTree, compute_full_root, put_pages, snapshot, take_pages

CAPACITY = Capacity(accounts=5000, balances=5000, levels=1 << 16, orders=5000, keys=5000, grants=5000)


def make_state(accounts: int = 10) -> State:
    state = State(CAPACITY)
    for account in range(accounts):
        state.add_account(account.to_bytes(32, "big"))
        state.add_balance(account, 0)
    return state


def test_reserving_room_does_not_change_the_root():
    small, large = make_state(), make_state()
    large.reserve_for_orders(4000)
    assert StateTree(small).root() == StateTree(large).root()


def test_every_row_counter_is_under_the_root():
    plain, longer = make_state(), make_state()
    longer.count["levels"] = 1  # a level that holds nothing: no page of the level table changes
    roots, others = StateTree(plain).table_roots(), StateTree(longer).table_roots()
    assert [name for name in roots if roots[name] != others[name]] == ["counters", "levels"]


def test_one_changed_row_changes_only_its_tables_root():
    state = make_state()
    tree = StateTree(state)
    before = tree.table_roots()
    state.balances.columns["available"][3] += 1
    state.balances.mark(3)
    after = tree.table_roots()
    assert [name for name in before if before[name] != after[name]] == ["balances"]
    assert tree.root() == compute_full_root(state)


def test_pages_are_taken_once_and_later_versions_replace_earlier_ones():
    state = make_state(600)
    tree = StateTree(state)
    stored = {(table, page): data for table, page, data in take_pages(state, tree)}
    assert take_pages(state, tree) == []
    state.accounts.columns["open_orders"][599] = 5
    state.accounts.mark(599)
    changed = take_pages(state, tree)
    assert len(changed) == 1
    stored |= {(table, page): data for table, page, data in changed}
    assert sorted((*key, data) for key, data in stored.items()) == snapshot(state, tree)


def test_a_restored_state_has_nothing_unsaved():
    state = make_state()
    tree = StateTree(state)
    copy = State(CAPACITY)
    copied = put_pages(copy, snapshot(state, tree), tree.root())
    assert take_pages(copy, copied) == []


def test_a_snapshot_with_another_root_is_refused():
    state = make_state()
    tree = StateTree(state)
    pages = snapshot(state, tree)
    table, page, data = pages[1]
    pages[1] = (table, page, bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(ProtocolError, match="root"):
        put_pages(State(CAPACITY), pages, tree.root())


ZEROS = bytes(PAGE_SIZE)


@pytest.mark.parametrize(
    "page",
    [(99, 0, ZEROS), (-1, 0, ZEROS), (0, 0, b"short"), (1, 1 << 40, ZEROS), (1, -1, ZEROS)],
    ids=["unknown table", "negative table", "short page", "page beyond capacity", "negative page"],
)
def test_snapshot_pages_that_cannot_be_are_refused(page):
    with pytest.raises(ProtocolError):
        put_pages(State(CAPACITY), [page], None)
