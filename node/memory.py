"""What the C allocator keeps for itself: as little as is reasonable, on systems with glibc.

Left alone it raises its threshold for separate mappings to the size of the largest block ever freed (up to
32 MiB). Frames and payloads then share one heap with what lives long, and a heap shrinks at its end only:
under a flood a node held half as much again in free pieces as in live ones, and more each minute.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import partial

import trio

MMAP_THRESHOLD_BYTES = 128 << 10  # larger blocks are mapped alone, and go back when freed
ARENAS_MAX = 2  # heaps: one for the loop, one that the worker threads share
TRIM_SECONDS = 10.0
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h


def limit_heaps() -> bool:
    """Set the allocator's limits for this process, before it starts threads. False: it is not glibc's."""
    libc = _glibc()
    if libc is None:
        return False
    return bool(
        libc.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) and libc.mallopt(_M_ARENA_MAX, ARENAS_MAX)
    )


async def trim_heaps(trim: Callable[[], object] | None = None) -> None:
    """Give whole free pages back to the system every `TRIM_SECONDS`, in a thread, until cancelled."""
    if trim is None:
        libc = _glibc()
        if libc is None:
            return
        trim = partial(libc.malloc_trim, 0)
    while True:
        await trio.sleep(TRIM_SECONDS)
        await trio.to_thread.run_sync(trim)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
