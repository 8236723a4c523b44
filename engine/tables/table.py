"""A table: one array of fixed records with stable row ids, in pages that know whether they changed.

Capacity is no part of the replicated state. A page that was never written is all zeros, so two
nodes whose tables grew along different paths still hold the same bytes under the same root.
"""

from typing import NamedTuple

import numpy as np
from numba import config

from consensus.primitives.errors import ensure
from engine.layout import PAGE_SIZE, Rows

CACHE_LINE = 64


class TableSpec(NamedTuple):
    """A table that a plugin owns: `state.table(name)`. Rows are appended and never freed by `State`."""

    name: str
    dtype: np.dtype
    capacity_max: int  # rows; part of genesis through the plugin's name


class Table:
    """Rows of one dtype. Writers call `mark(row)`, or set `dirty[page]` as kernels do.

    `rows` is for kernels. `columns` are views for Python code, where one scalar costs 0.1 µs; a byte
    string column holds opaque values that take and give `bytes`.

    Three bytes of knowledge per page: `dirty` (changed since the last hash), `unsaved` (changed since
    the last `take`), `touched` (ever written, so that growth copies no virgin pages).
    """

    def __init__(self, name: str, dtype: np.dtype, capacity_max: int, capacity: int = 1) -> None:
        ensure(PAGE_SIZE % dtype.itemsize == 0, f"{name}: rows of {dtype.itemsize} bytes straddle pages")
        self.name = name
        self.dtype = dtype
        self.page_rows = PAGE_SIZE // dtype.itemsize
        self.capacity_max = capacity_max
        self._allocate(self._pages_for(min(capacity, capacity_max)))

    def reserve(self, count: int) -> bool:
        """Make room for `count` rows in all; return True if the arrays were replaced.

        Grows by doubling, never beyond `capacity_max`: a caller that needs more rows than that
        refuses its command first.
        """
        wanted = min(count, self.capacity_max)
        if wanted <= self.capacity:
            return False
        self._grow(self._pages_for(min(self.capacity_max, max(wanted, 2 * self.capacity))))
        return True

    def mark(self, row: int) -> None:
        """Note that `row` changed."""
        self.dirty[row // self.page_rows] = 1

    def view(self) -> Rows:
        """What kernels get. Valid until the table grows."""
        return Rows(self.rows, self.dirty)

    def take_dirty(self) -> np.ndarray:
        """Page numbers changed since the last call, ascending."""
        pages = np.flatnonzero(self.dirty)
        self.dirty[pages] = 0
        self.unsaved[pages] = 1
        self.touched[pages] = 1
        return pages

    def take_unsaved(self) -> np.ndarray:
        """Page numbers changed since the last call, ascending. Call `take_dirty` first."""
        pages = np.flatnonzero(self.unsaved)
        self.unsaved[pages] = 0
        return pages

    def put_page(self, page: int, data: bytes) -> None:
        """Overwrite one page, from a snapshot; grows as needed."""
        ensure(len(data) == PAGE_SIZE, f"{self.name}: a page of {len(data)} bytes")
        ensure(page * self.page_rows < self.capacity_max, f"{self.name}: page {page} is beyond its capacity")
        self.reserve((page + 1) * self.page_rows)
        self.pages[page] = np.frombuffer(data, dtype=np.uint8)
        self.dirty[page] = 1

    def _pages_for(self, rows: int) -> int:
        return max(1, -(-rows // self.page_rows))

    def _allocate(self, pages: int) -> None:
        # Whole zeroed pages from the allocator: memory is only taken for pages that are written.
        memory = np.zeros(pages * PAGE_SIZE + CACHE_LINE, dtype=np.uint8)
        start = -memory.ctypes.data % CACHE_LINE  # no row of 64 bytes may straddle two lines
        self.pages = memory[start : start + pages * PAGE_SIZE].reshape(pages, PAGE_SIZE)
        self.data = self.pages.reshape(-1).view(self.dtype)
        self.rows = kernel_view(self.data)
        self.capacity = self.data.shape[0]  # rows that fit without growing
        self.columns = {name: _column(self.data, name) for name in self.dtype.names or ()}
        self.dirty = np.zeros(pages, dtype=np.uint8)
        self.unsaved = np.zeros(pages, dtype=np.uint8)
        self.touched = np.zeros(pages, dtype=np.uint8)

    def _grow(self, pages: int) -> None:
        old_pages, old = self.pages, (self.dirty, self.unsaved, self.touched)
        written = np.flatnonzero(self.dirty | self.touched)
        self._allocate(pages)
        if 2 * written.shape[0] > old_pages.shape[0]:
            self.pages[: old_pages.shape[0]] = old_pages
        else:
            self.pages[written] = old_pages[written]
        for new, before in zip((self.dirty, self.unsaved, self.touched), old, strict=True):
            new[: before.shape[0]] = before


def kernel_view(records: np.ndarray) -> np.ndarray:
    """A struct array as kernels take it.

    Attribute access on records is what compiled and interpreted kernels have in common, but numba
    takes a plain struct array over in a quarter of the time of a recarray.
    """
    return records.view(np.recarray) if config.DISABLE_JIT else records


def _column(data: np.ndarray, name: str) -> np.ndarray:
    column = data[name]
    is_opaque = column.ndim == 2 and column.dtype == np.uint8
    return column.view(f"V{column.shape[1]}")[:, 0] if is_opaque else column
