"""A state in pieces: its manifest proves every chunk, and everything that differs is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.primitives.errors import ProtocolError
from engine.genesis import Capacity, Genesis
from engine.layout import LAYOUT_VERSION, PAGE_SIZE
from engine.plugins import new_state
from engine.state import State
from engine.tables.manifest import (
    CHUNK_PAGES,
    MAGIC,
    Manifest,
    TableParts,
    build_manifest,
    check_chunk,
    check_manifest,
    decode_manifest,
    encode_chunk,
    group_chunks,
    table_shapes,
)
from engine.tables.root import ZERO_DIGESTS, StateTree, compute_full_root, put_pages, snapshot
from tests.helpers.random_blocks import RandomBlocks

CAPACITY = Capacity(
    accounts=1 << 20, balances=1 << 20, levels=1 << 20, orders=1 << 20, keys=5000, grants=5000
)
GENESIS = Genesis(bytes(32), (bytes(32),), CAPACITY)
SHAPES = table_shapes(GENESIS)


def make_state(accounts: int = 40_000) -> State:
    """Several chunks of accounts and balances."""
    state = new_state(GENESIS)
    for account in range(accounts):
        state.add_account(account.to_bytes(32, "big"))
    for account in range(0, accounts, 50):
        state.add_balance(account, 0)
    return state


@pytest.fixture(scope="module")
def world():
    state = make_state()
    tree = StateTree(state)
    roots = tuple(tree.table_roots().values())
    return snapshot(state, tree), tree.root(), roots


def chunks_of(pages):
    return {(table, chunk): held for table, chunk, held in group_chunks(pages)}


def test_a_manifest_leads_to_the_very_roots_of_its_state(world):
    pages, root, parts = world
    manifest = build_manifest(SHAPES, pages)
    assert manifest.parts(SHAPES) == parts
    assert check_manifest(manifest.encode(), SHAPES, root, parts) == manifest


@pytest.mark.parametrize("seed", range(3))
def test_a_traded_venue_is_rebuilt_from_its_chunks(seed):
    blocks = RandomBlocks(seed)
    for _ in range(8):
        blocks.block()
    machine = blocks.venue.machine
    shapes = table_shapes(machine.genesis)
    summary = machine.summary()
    manifest = build_manifest(shapes, machine.snapshot())
    checked = check_manifest(manifest.encode(), shapes, summary.root, summary.parts)
    held = chunks_of(machine.snapshot())
    pages = []
    for place in checked.places:
        pages += check_chunk(encode_chunk(held[place.table, place.chunk]), place)
    copy = new_state(machine.genesis)
    put_pages(copy, pages, summary.root)
    assert compute_full_root(copy) == summary.root


@settings(max_examples=30, deadline=None)
@given(st.sets(st.tuples(st.sampled_from([1, 3, 6]), st.integers(0, 9000)), max_size=30))
def test_any_written_pages_give_the_full_root(places):
    """Sparse tables, too: what was never written counts as zeros at every level."""
    state = new_state(GENESIS)
    for table, row in sorted(places):
        target = state.tables[table]
        target.reserve(row * 100 + 1)
        target.pages[(row * 100) // target.page_rows, 5] = 7
        target.mark(row * 100)
    root = compute_full_root(state)
    tree = StateTree(state)
    parts = tuple(tree.table_roots().values())
    manifest = build_manifest(SHAPES, snapshot(state, tree))
    assert check_manifest(manifest.encode(), SHAPES, root, parts).parts(SHAPES) == parts


def test_a_chunk_with_another_byte_is_refused(world):
    pages, _, _ = world
    manifest = build_manifest(SHAPES, pages)
    place = next(place for place in manifest.places if place.table == 1)
    data = encode_chunk(chunks_of(pages)[place.table, place.chunk])
    assert check_chunk(data, place)
    for at in (0, 4, len(data) - 1):
        with pytest.raises(ProtocolError):
            check_chunk(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], place)
    for wrong in (b"", data[:-1], data + b"\0", bytes(4)):
        with pytest.raises(ProtocolError):
            check_chunk(wrong, place)


def test_a_chunk_at_another_place_is_refused(world):
    pages, _, _ = world
    first, second = [place for place in build_manifest(SHAPES, pages).places if place.table == 1][:2]
    with pytest.raises(ProtocolError, match="other bytes"):
        check_chunk(encode_chunk(chunks_of(pages)[first.table, first.chunk]), second)


def test_pages_of_zeros_are_not_sent(world):
    pages, _, _ = world
    (place, *_) = build_manifest(SHAPES, pages).places
    held = dict(chunks_of(pages)[place.table, place.chunk])
    held[CHUNK_PAGES - 1] = bytes(PAGE_SIZE)
    assert len(encode_chunk(held)) == 4 + PAGE_SIZE
    spelled_out = (1 | 1 << CHUNK_PAGES - 1).to_bytes(4, "little") + held[0] + bytes(PAGE_SIZE)
    with pytest.raises(ProtocolError, match="zeros"):
        check_chunk(spelled_out, place)


def change(manifest: Manifest, table: int, **values) -> bytes:
    tables = list(manifest.tables)
    tables[table] = tables[table]._replace(**values)
    return Manifest(tuple(tables)).encode()


def test_a_manifest_that_differs_anywhere_is_refused(world):
    pages, root, parts = world
    manifest = build_manifest(SHAPES, pages)
    data, accounts = manifest.encode(), manifest.tables[1]
    wrong = [
        b"",
        data[:-1],
        data + b"\0",
        b"x" + data[1:],
        change(manifest, 1, rows=accounts.rows + 1),
        change(manifest, 1, digests=accounts.digests[:-1]),
        change(manifest, 1, digests=(*accounts.digests, ZERO_DIGESTS[1])),
        change(manifest, 1, digests=(accounts.digests[1], accounts.digests[0], *accounts.digests[2:])),
        change(manifest, 4, digests=accounts.digests),
        MAGIC + (LAYOUT_VERSION + 1).to_bytes(4, "little") + data[len(MAGIC) + 4 :],
        Manifest(manifest.tables[:-1]).encode(),
    ]
    for item in wrong:
        with pytest.raises(ProtocolError):
            check_manifest(item, SHAPES, root, parts)
    with pytest.raises(ProtocolError):
        check_manifest(data, SHAPES, root, parts[:-1])


def test_a_manifest_cannot_name_more_chunks_than_a_table_may_have():
    many = (b"\1" * 32,) * (SHAPES[0].chunks_max + 1)
    tables = [TableParts(1, many)] + [TableParts(0, ())] * (len(SHAPES) - 1)
    with pytest.raises(ProtocolError, match="at most"):
        decode_manifest(Manifest(tuple(tables)).encode(), SHAPES)
