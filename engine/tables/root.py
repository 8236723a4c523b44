"""The state root: a hash tree over table pages, kept up to date page by page.

A leaf is the digest of one page, a node the digest of `FANOUT` children. Every tree has the same
depth whatever its table's capacity: what was never written counts as zero pages, and a subtree
of those has a constant digest. So growth never changes a root, and hashing costs what changed.
"""

from collections.abc import Iterable

import numpy as np

from consensus.primitives.crypto import DIGEST_SIZE, digest
from consensus.primitives.errors import ProtocolError
from consensus.primitives.merkle import hash_leaf
from consensus.primitives.trees import FANOUT, HEIGHT, PageProof, hash_children, hash_table
from engine.layout import LAYOUT_VERSION, PAGE_SIZE
from engine.state import State
from engine.tables.table import Table


def _zero_digests() -> tuple[bytes, ...]:
    """Digest of a virgin subtree of each height, leaves first."""
    digests = [hash_leaf(bytes(PAGE_SIZE))]
    for _ in range(HEIGHT):
        digests.append(hash_children(digests[-1] * FANOUT))
    return tuple(digests)


ZERO_DIGESTS = _zero_digests()


class PageTree:
    """Hash tree over one table's pages."""

    def __init__(self) -> None:
        self._levels = [_virgin(height, FANOUT) for height in range(HEIGHT)]

    @property
    def root(self) -> bytes:
        """Digest over all pages, written or not."""
        return hash_children(self._levels[-1].tobytes())

    def update(self, table: Table, pages: np.ndarray) -> None:
        """Hash `pages` (numbers, ascending) and everything above them."""
        if pages.shape[0] == 0:
            return
        numbers = pages.tolist()
        self.put(numbers, [hash_leaf(table.pages[number].data) for number in numbers])

    def put(self, numbers: list[int], leaves: list[bytes]) -> None:
        """Take the digests of pages `numbers` (ascending, one at least), and hash everything above them."""
        self._put(0, numbers, leaves)
        for height in range(1, HEIGHT):
            below = self._levels[height - 1]
            numbers = sorted({number // FANOUT for number in numbers})
            nodes = [hash_children(below[n * FANOUT : (n + 1) * FANOUT].tobytes()) for n in numbers]
            self._put(height, numbers, nodes)

    def path(self, page: int) -> tuple[bytes, ...]:
        """The groups of siblings from a page up to the root, as a `PageProof` carries them."""
        groups = []
        for height, level in enumerate(self._levels):
            start = page // FANOUT * FANOUT
            group = level[start : start + FANOUT].tobytes()
            groups.append(group or ZERO_DIGESTS[height] * FANOUT)
            page //= FANOUT
        return tuple(groups)

    def _put(self, height: int, numbers: list[int], digests: list[bytes]) -> None:
        level = self._levels[height]
        if numbers[-1] >= level.shape[0]:
            length = FANOUT
            while length <= numbers[-1]:
                length *= 2
            grown = _virgin(height, length)
            grown[: level.shape[0]] = level
            level = self._levels[height] = grown
        level[numbers] = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_SIZE)


class StateTree:
    """Root over all tables of a state; remembers which pages it has seen."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._trees = [PageTree() for _ in state.tables]

    def table_roots(self) -> dict[str, bytes]:
        """Root of each table, over its name, its row count and its pages. Hashes what changed."""
        roots = {}
        for table, tree in zip(self._state.tables, self._trees, strict=True):
            tree.update(table, table.take_dirty())
            roots[table.name] = _table_root(table, self._state.used(table), tree.root)
        return roots

    def page_proof(self, table: Table, page: int) -> PageProof:
        """One page of a table as it is now, and its way to the table's root. Hashes what changed."""
        self.table_roots()
        number = self._state.tables.index(table)
        rows, row_size = self._state.used(table), table.dtype.itemsize
        data = table.pages[page].tobytes() if page < table.pages.shape[0] else bytes(PAGE_SIZE)
        return PageProof(number, table.name, row_size, rows, page, data, self._trees[number].path(page))

    def root(self) -> bytes:
        """The state root: the layout's version and every table's root, in order. Hashes what changed."""
        return hash_state(self.table_roots().values())


def compute_full_root(state: State) -> bytes:
    """The state root from nothing but the pages: what every incremental root must equal."""
    roots = []
    for table in state.tables:
        tree = PageTree()
        tree.update(table, np.arange(table.pages.shape[0]))
        roots.append(_table_root(table, state.used(table), tree.root))
    return hash_state(roots)


def take_pages(state: State, tree: StateTree) -> list[tuple[int, int, bytes]]:
    """(table number, page number, bytes) of every page written since the last call. Hashes them too."""
    tree.table_roots()
    return [
        (number, page, table.pages[page].tobytes())
        for number, table in enumerate(state.tables)
        for page in table.take_unsaved().tolist()
    ]


def snapshot(state: State, tree: StateTree) -> list[tuple[int, int, bytes]]:
    """(table number, page number, bytes) of every page ever written: the whole state."""
    tree.table_roots()
    return [
        (number, page, table.pages[page].tobytes())
        for number, table in enumerate(state.tables)
        for page in np.flatnonzero(table.touched).tolist()
    ]


def put_pages(
    state: State, pages: Iterable[tuple[int, int, bytes]], expected_root: bytes | None
) -> StateTree:
    """Fill an empty state from a snapshot; return its tree.

    Raise `ProtocolError` if the pages do not make `expected_root`, before anything is derived from them:
    kernels trust what stands in tables.
    """
    for number, page, data in pages:
        if not 0 <= number < len(state.tables) or page < 0 or len(data) != PAGE_SIZE:
            raise ProtocolError(f"snapshot page {page} of table {number} with {len(data)} bytes cannot be")
        table = state.tables[number]
        if page * table.page_rows >= table.capacity_max:
            raise ProtocolError(f"snapshot page {page} is beyond the capacity of {table.name}")
        table.put_page(page, data)
    tree = StateTree(state)
    root = tree.root()
    if expected_root is not None and root != expected_root:
        raise ProtocolError(f"snapshot has root {root.hex()}; {expected_root.hex()} was expected")
    for table in state.tables:
        table.take_unsaved()
        table.reserve(state.used(table))  # rows in use may lie on pages that were never written
    state.rebuild_derived()
    return tree


def _virgin(height: int, length: int) -> np.ndarray:
    return np.tile(np.frombuffer(ZERO_DIGESTS[height], dtype=np.uint8), (length, 1))


def _table_root(table: Table, rows: int, tree_root: bytes) -> bytes:
    return hash_table(table.name, table.dtype.itemsize, rows, tree_root)


def hash_state(table_roots: Iterable[bytes]) -> bytes:
    """The state root from its tables' roots, in order."""
    return digest("kontor.state", LAYOUT_VERSION.to_bytes(8, "little"), *table_roots)
