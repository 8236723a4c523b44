"""Balances out of the newest durable snapshot, each with the page that holds it and its way to the root.

    row ─▶ page ─path─▶ root of the table ─▶ `parts` of the checkpoint's certificate

The table's tree is kept for as long as its snapshot is the newest: whoever asks much has the table hashed
once a snapshot.
"""

from collections.abc import Sequence

import numpy as np

from consensus.light import BALANCES
from consensus.primitives.errors import InputError, StorageError
from consensus.primitives.trees import PAGE_SIZE, PageProof, compute_table_root
from consensus.proofs import CheckpointCert
from engine.layout import COUNTERS
from engine.state import row_counts
from engine.tables.manifest import Shape
from engine.tables.root import PageTree
from node.services import BalanceAnswer
from node.snapshots import PinnedSnapshot, Snapshots
from node.wire import Refused


class BalanceProver:
    """Reads rows of the table of balances. One thread at a time, while no other state is put in place."""

    def __init__(self, snapshots: Snapshots, shapes: Sequence[Shape]) -> None:
        self._snapshots = snapshots
        self._table = [shape.name for shape in shapes].index(BALANCES)
        self._table_count = len(shapes)
        self._row_size = shapes[self._table].row_bytes
        self._root = b""  # of the state whose tree is kept
        self._tree = PageTree()

    def prove(self, row: int) -> BalanceAnswer:
        """What the snapshot says of `row`; negative: of none. Raises `InputError` NOT_PROVEN before the first
        certified snapshot, `StorageError` if pages changed on disk by themselves."""
        pin = self._snapshots.pin()
        if pin is None:
            raise InputError(Refused.NOT_PROVEN, "this node has no certified snapshot yet: try again later")
        try:
            cert = pin.meta.cert
            assert cert is not None  # `pin` sees to it
            counters = np.frombuffer(pin.page(0, 0), dtype=COUNTERS, count=1)[0]
            rows = row_counts(counters, self._table_count)[self._table]
            if not 0 <= row < rows:
                return BalanceAnswer(cert, None)
            return BalanceAnswer(cert, self._prove(pin, cert, row, rows))
        finally:
            pin.close()

    def _prove(self, pin: PinnedSnapshot, cert: CheckpointCert, row: int, rows: int) -> PageProof:
        if cert.state.root != self._root:
            tree, leaves = PageTree(), dict(pin.leaves(self._table))
            if leaves:
                tree.put(list(leaves), list(leaves.values()))
            self._root, self._tree = cert.state.root, tree
        page = row // (PAGE_SIZE // self._row_size)
        data, path = pin.page(self._table, page), self._tree.path(page)
        proof = PageProof(self._table, BALANCES, self._row_size, rows, page, data, path)
        if compute_table_root(proof) != cert.state.parts[self._table]:
            raise StorageError(
                f"the snapshot at {cert.seq} is damaged ({BALANCES} are others than were certified):"
                " stop the node and run `kontor heal`"
            )
        return proof
