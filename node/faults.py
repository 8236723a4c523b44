"""Fault injection: what a test makes go wrong inside a running node. Nothing here acts unless asked for.

    KONTOR_FAULTS=/path/to/faults.json    {"fsync_ms": 200, "clock_ms": -30000}

    fsync_ms   every transaction of the ledger takes so much longer: a slow disk
    clock_ms   the node's clock is off by so much; it may jump either way while the node runs

The file is read again whenever it was replaced, so that a fault begins and ends without a restart; a
missing file means no fault. Two places ask: `node.ledger` after it wrote, `node.runtime` for the time.
A slow disk could also be had from the kernel (throttled block devices), but not without privileges,
not on every file system, and not in the middle of a run.
"""

import json
import os
import time
from dataclasses import dataclass, fields
from pathlib import Path

from consensus.primitives.errors import ConfigError

VARIABLE = "KONTOR_FAULTS"
MILLISECONDS_MAX = 86_400_000


@dataclass(frozen=True)
class Faults:
    """What goes wrong now."""

    fsync_ms: int = 0
    clock_ms: int = 0


NO_FAULTS = Faults()


class FaultFile:
    """The faults that a file asks for. Without a path there are none, and nothing is looked up."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None
        self._faults = NO_FAULTS

    def read(self) -> Faults:
        """The faults in force. Raises `ConfigError` for a file that holds something else."""
        if self.path is None:
            return NO_FAULTS
        try:
            found = self.path.stat()
            if (found.st_ino, found.st_mtime_ns) != self._seen:
                self._faults = _parse(self.path)
                self._seen = (found.st_ino, found.st_mtime_ns)
        except FileNotFoundError:
            self._faults, self._seen = NO_FAULTS, None
        return self._faults


def from_environment() -> FaultFile:
    """The file that the environment names."""
    path = os.environ.get(VARIABLE)
    return FaultFile(Path(path) if path else None)


INJECTED = from_environment()


def slow_disk() -> None:
    """Wait as long as a slow disk would. Blocking, like the disk."""
    if fsync_ms := INJECTED.read().fsync_ms:
        time.sleep(fsync_ms / 1000)


def clock_ns() -> int:
    """Nanoseconds since the Unix epoch, by the node's clock."""
    return time.time_ns() + INJECTED.read().clock_ms * 1_000_000


def write_faults(path: Path, faults: Faults) -> None:
    """Put `faults` in force for whoever reads `path`, at once and whole."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(vars(faults)), "utf-8")
    os.replace(partial, path)


def _parse(path: Path) -> Faults:
    names = [item.name for item in fields(Faults)]
    try:
        table = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}): correct it, or unset {VARIABLE}") from error
    known = isinstance(table, dict) and set(table) <= set(names)
    if not known or any(type(value) is not int or abs(value) > MILLISECONDS_MAX for value in table.values()):
        raise ConfigError(
            f"{path} is to hold an object of {' and '.join(names)} with whole numbers up to"
            f" {MILLISECONDS_MAX}: correct it, or unset {VARIABLE}"
        )
    if table.get("fsync_ms", 0) < 0:
        raise ConfigError(f"{path}: fsync_ms is {table['fsync_ms']}; a disk takes no negative time")
    return Faults(**table)
