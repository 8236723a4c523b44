"""Rows out of the newest durable snapshot, each with the page that holds it and its way to the root.

    row ─▶ page ─path─▶ root of the table ─▶ `parts` of the checkpoint's certificate

A table's tree is kept for as long as its snapshot is the newest: whoever asks much has the table hashed
once a snapshot.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from consensus.light import BALANCES, VALIDATORS
from consensus.primitives.errors import InputError, StorageError
from consensus.primitives.trees import PAGE_SIZE, PageProof, compute_table_root
from consensus.proofs import CheckpointCert
from engine.layout import COUNTERS
from engine.state import row_counts
from engine.tables.manifest import Shape
from engine.tables.root import PageTree
from node.services import BalanceAnswer, ValidatorsAnswer
from node.snapshots import PinnedSnapshot, Snapshots
from node.wire import Refused


class StateProver:
    """Proves balances and validators. One thread at a time, while no other state is put in place."""

    def __init__(self, snapshots: Snapshots, shapes: Sequence[Shape]) -> None:
        self._snapshots = snapshots
        self._tables = {
            shape.name: _Table(number, shape, len(shapes))
            for number, shape in enumerate(shapes)
            if shape.name in (BALANCES, VALIDATORS)
        }

    def prove_balance(self, row: int) -> BalanceAnswer:
        """What the snapshot says of `row`; negative: of none. Raises `InputError` NOT_PROVEN before the first
        certified snapshot, `StorageError` if pages changed on disk by themselves."""
        with self._newest() as (pin, cert):
            table = self._tables[BALANCES]
            page = table.prove(pin, cert, row) if 0 <= row < table.rows(pin) else None
            return BalanceAnswer(cert, page)

    def prove_validators(self, validators: Iterable[int]) -> ValidatorsAnswer:
        """Every page that says of one of these how it is reached, as far as the snapshot knows them. Raises
        as `prove_balance` does."""
        with self._newest() as (pin, cert):
            table = self._tables[VALIDATORS]
            rows = table.rows(pin)
            first = dict.fromkeys(row - row % table.page_rows for row in sorted(validators) if row < rows)
            return ValidatorsAnswer(cert, tuple(table.prove(pin, cert, row) for row in first))

    @contextmanager
    def _newest(self) -> Iterator[tuple[PinnedSnapshot, CheckpointCert]]:
        pin = self._snapshots.pin()
        if pin is None:
            raise InputError(Refused.NOT_PROVEN, "this node has no certified snapshot yet: try again later")
        try:
            cert = pin.meta.cert
            assert cert is not None  # `pin` sees to it
            yield pin, cert
        finally:
            pin.close()


class _Table:
    """One table, and its tree in the snapshot that was asked last."""

    def __init__(self, number: int, shape: Shape, tables: int) -> None:
        self.page_rows = PAGE_SIZE // shape.row_bytes
        self._number = number
        self._tables = tables  # in the state
        self._shape = shape
        self._root = b""  # of the state whose tree is kept
        self._tree = PageTree()

    def rows(self, pin: PinnedSnapshot) -> int:
        """Rows in use."""
        counters = np.frombuffer(pin.page(0, 0), dtype=COUNTERS, count=1)[0]
        return row_counts(counters, self._tables)[self._number]

    def prove(self, pin: PinnedSnapshot, cert: CheckpointCert, row: int) -> PageProof:
        """The page that holds `row`."""
        if cert.state.root != self._root:
            tree, leaves = PageTree(), dict(pin.leaves(self._number))
            if leaves:
                tree.put(list(leaves), list(leaves.values()))
            self._root, self._tree = cert.state.root, tree
        page, name = row // self.page_rows, self._shape.name
        data, path = pin.page(self._number, page), self._tree.path(page)
        proof = PageProof(self._number, name, self._shape.row_bytes, self.rows(pin), page, data, path)
        if compute_table_root(proof) != cert.state.parts[self._number]:
            raise StorageError(
                f"the snapshot at {cert.seq} is damaged ({name} are others than were certified):"
                " stop the node and run `kontor heal`"
            )
        return proof
