"""Putting a staged state in the place of the old one, so that a crash at any step leaves one of them."""

import os
import shutil
from pathlib import Path

from consensus.primitives.errors import StorageError
from node.ledger import Ledger
from node.storage import storage_errors

STATE = "state"
STAGING = "state.staging"
OLD = "state.old"


def finish_swap(data: Path, ledger: Ledger) -> None:
    """At a start: do what remains of a swap that the ledger decided. Raises `StorageError`."""
    height = ledger.swap()
    if height == 0:
        return
    with storage_errors(data / STATE, "ledger.state_mib"):
        swap_directories(data)
        if not (data / STATE).exists():
            raise StorageError(
                f"{data / STATE} is missing: the state at height {height} was fetched into it;"
                f" run `kontor heal` to have it fetched again"
            )
    ledger.finish_swap()


def swap_directories(data: Path) -> None:
    """Make the staged state the state. Nothing happens if that was done."""
    state, staged, old = data / STATE, data / STAGING, data / OLD
    if staged.exists():
        if state.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(state, old)
        os.rename(staged, state)
        sync_directory(data)
    shutil.rmtree(old, ignore_errors=True)


def sync_directory(path: Path) -> None:
    """Make renames inside `path` durable."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
