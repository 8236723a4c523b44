"""The C allocator: bounded heaps, and free pages given back."""

import subprocess
import sys

import pytest
import trio
from trio.testing import MockClock

from node.memory import TRIM_SECONDS, trim_heaps

ON_GLIBC = (
    sys.platform == "linux"
    and b"glibc" in subprocess.run(["getconf", "GNU_LIBC_VERSION"], capture_output=True, check=False).stdout
)

# Large blocks freed below small ones that live on: a heap that shrinks at its end only keeps them all.
_FRAGMENT = """
import ctypes
from pathlib import Path
from node.memory import limit_heaps
assert limit_heaps() is True
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("RssAnon:"))
def fill(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    return block
libc.free(fill(8 << 20))  # otherwise the threshold would follow it
before = resident()
large, small = [], []
for _ in range(40):
    large.append(fill(1 << 20))
    small.append(fill(1 << 10))
for block in large:
    libc.free(block)
print(resident() - before)
"""


@pytest.mark.skipif(not ON_GLIBC, reason="this is about glibc's malloc")
def test_large_blocks_go_back_to_the_system_when_they_are_freed() -> None:
    done = subprocess.run([sys.executable, "-c", _FRAGMENT], capture_output=True, check=True, text=True)
    assert int(done.stdout) < 8


@pytest.mark.trio
async def test_free_pages_are_given_back_again_and_again(autojump_clock: MockClock) -> None:
    times: list[float] = []
    with trio.CancelScope() as scope:

        def trim() -> None:
            times.append(trio.from_thread.run_sync(trio.current_time))
            if len(times) == 3:
                trio.from_thread.run_sync(scope.cancel)

        started = trio.current_time()
        await trim_heaps(trim)
    assert times == [started + TRIM_SECONDS * turn for turn in (1, 2, 3)]
