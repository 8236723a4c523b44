"""Opening LMDB environments, and turning their errors into messages an operator can act on."""

import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import lmdb

from consensus.primitives.errors import StorageError

ROOM_BYTES_MIN = 1 << 20  # a disk with less is full
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
READERS_MAX = 256  # LMDB's table of concurrent readers; one slot per worker thread suffices


class HomeLock:
    """Holds a node's data directory: one process at a time may run from it.

    Two processes with one consensus key would sign different votes, so the second is refused.
    """

    def __init__(
        self, data: Path, remedy: str = "stop that node first, or start with another --home"
    ) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self._path = data / "lock"
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            raise StorageError(f"{data} is in use by process {owner or 'unknown'}: {remedy}") from error
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let another process run from this directory."""
        if self._file >= 0:
            os.close(self._file)  # closing drops the lock
            self._file = -1

    def __enter__(self) -> "HomeLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def open_environment(
    path: Path, map_bytes: int, databases: int, setting: str, sync: bool = True, readonly: bool = False
) -> lmdb.Environment:
    """Open or create an LMDB environment. `setting` names the config key that bounds its size."""
    if not readonly:
        path.mkdir(parents=True, exist_ok=True)
    with storage_errors(path, setting):
        return lmdb.open(
            str(path),
            map_size=map_bytes,
            max_dbs=databases,
            max_readers=READERS_MAX,
            sync=sync,
            readonly=readonly,
            create=not readonly,
            readahead=False,
            max_spare_txns=8,
        )


@contextmanager
def storage_errors(path: Path, setting: str) -> Iterator[None]:
    """Turn LMDB and disk errors inside the block into `StorageError`s that say what to do."""
    try:
        yield
    except lmdb.MapFullError as error:
        raise StorageError(
            f"{path} has reached its largest size: raise '{setting}' in config.toml"
        ) from error
    except lmdb.LockError as error:
        raise StorageError(f"{path} cannot be locked ({error}): is it on a network file system?") from error
    except lmdb.Error as error:
        if isinstance(error, lmdb.DiskError) or _has_no_room(path):
            raise StorageError(
                f"the disk under {path} is full, or a limit on the size of files is reached ({error}):"
                " make room, then start the node again"
            ) from error
        raise StorageError(f"{path} is damaged or unreadable ({error}): {RESTORE}") from error
    except OSError as error:
        raise StorageError(
            f"{path} cannot be used ({error.strerror}): check its owner and the disk"
        ) from error


def _has_no_room(path: Path) -> bool:
    """Whether nothing more fits: a write that was cut short for want of room is an I/O error to LMDB."""
    try:
        found = os.statvfs(path)
        largest = max((item.stat().st_size for item in path.iterdir()), default=0)
    except OSError:
        return False
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    is_limited = limit != resource.RLIM_INFINITY and largest + ROOM_BYTES_MIN > limit
    return is_limited or found.f_bavail * found.f_frsize < ROOM_BYTES_MIN


def boot_id() -> str:
    """Changes whenever the machine starts anew; where unknown, what was not closed never counts as whole."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return "unknown"


def is_same_boot(marker: Path) -> bool:
    """Whether the machine has been up since `marker` was written with `boot_id`."""
    boot = boot_id()
    return boot != "unknown" and marker.read_text("ascii", "replace") == boot


RESTORE = "do not delete it, since votes may be lost; rejoin as a new validator with `kontor recover`"


def check_damage(condition: bool, path: Path, what: str) -> None:
    """Raise `StorageError` unless what was read from `path` is what was written there."""
    if not condition:
        raise StorageError(f"{path} is damaged: {what}; {RESTORE}")
