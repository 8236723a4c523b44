"""A disk that fills up in the middle of a run: a real process whose writes the kernel refuses."""

import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from node.config import Home
from testnet.chaos.disks import ROOM_BYTES, FileSizeLimit

WRITER = """
import sys
with open(sys.argv[1], "ab", buffering=0) as file:
    for line in sys.stdin:
        try: print(file.write(bytes(int(line))), flush=True)
        except OSError as error: print(error.strerror, flush=True)
"""


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits a running process")
def test_a_filled_disk_refuses_writes_until_it_is_freed(tmp_path):
    home = Home(tmp_path)
    home.data.mkdir()
    (home.data / "other").write_bytes(bytes(10_000))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(home.data / "file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    launcher = SimpleNamespace(homes=SimpleNamespace(nodes=[home]), pid=lambda node: writer.pid)

    def write(size: int) -> str:
        assert writer.stdin is not None and writer.stdout is not None
        print(size, file=writer.stdin, flush=True)
        return writer.stdout.readline().strip()

    try:
        assert write(20_000) == "20000"
        disk = FileSizeLimit()
        disk.fill(0, launcher)  # type: ignore[arg-type]
        cut_short = int(write(2 * ROOM_BYTES))
        assert 0 < cut_short <= ROOM_BYTES
        assert write(1) == "File too large"
        disk.free(0, launcher)  # type: ignore[arg-type]
        assert write(2 * ROOM_BYTES) == str(2 * ROOM_BYTES)
    finally:
        writer.kill()
        writer.wait()
