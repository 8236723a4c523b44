"""Disks that fill up. Without privileges: a limit on the size of the files that a node may write."""

import resource
import sys
from pathlib import Path

from consensus.primitives.errors import ConfigError
from node.config import Home
from testnet.launcher import Launcher

ROOM_BYTES = 256 << 10  # left when a disk is filled
PAGE_BYTES = 4096


class FileSizeLimit:
    """RLIMIT_FSIZE of the running process: the kernel refuses to let any of its files grow further, in the
    middle of a write if need be, as a full disk does. Unlike a small LMDB map it needs no restart and
    fails in the system call; unlike a small file system it needs no privileges."""

    def __init__(self) -> None:
        if not hasattr(resource, "prlimit"):
            raise ConfigError(
                f"{sys.platform} cannot limit the files of a running process: run full-disk on Linux"
            )

    def fill(self, node: int, launcher: Launcher) -> None:
        """Let no file of the node grow by more than `ROOM_BYTES` above the largest there is."""
        largest = max(path.stat().st_size for path in data_files(launcher.homes.nodes[node]))
        limit = (largest + ROOM_BYTES) // PAGE_BYTES * PAGE_BYTES
        self._set(launcher.pid(node), limit)

    def free(self, node: int, launcher: Launcher) -> None:
        """No limit any more."""
        self._set(launcher.pid(node), resource.RLIM_INFINITY)

    @staticmethod
    def _set(pid: int, limit: int) -> None:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, hard))


def data_files(home: Home) -> list[Path]:
    """The files of a node's databases."""
    return [path for path in home.data.rglob("*") if path.is_file()]
