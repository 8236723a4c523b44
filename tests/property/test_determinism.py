"""The one law: equal genesis and equal blocks give equal bytes, in any process, compiled or not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = """
from tests.helpers.random_blocks import RandomBlocks
blocks = RandomBlocks(4242)
for _ in range(12):
    result = blocks.block()
print(blocks.venue.machine.state_root().hex(), result.journal_root.hex(), result.counts.fills >= 0)
"""


def start(**environment: str) -> subprocess.Popen:
    """A process of its own that prints its roots."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def expected():
    process = start(PYTHONHASHSEED="1")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return output


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHASHSEED": "2"},
        {"PYTHONHASHSEED": "3", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        {"NUMBA_DISABLE_JIT": "1"},
    ],
    ids=["another hash seed", "another seed, time zone and locale", "interpreted"],
)
def test_roots_are_equal_in_another_process(expected, environment):
    process = start(**environment)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert output == expected
