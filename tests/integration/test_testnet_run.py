"""`kontor testnet run` with real processes: agreement, conservation, no promise broken."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testnet.flows import write_flow
from testnet.importers.formats import import_flow
from tests.helpers.recordings import BITSTAMP, recording

COMMAND = [sys.executable, "-P", "-m", "ops.cli", "testnet"]


def testnet(*words: str, seconds: float = 300) -> tuple[int, str, str]:
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=seconds)
    return done.returncode, done.stdout, done.stderr


testnet.__test__ = False  # type: ignore[attr-defined]  # a helper, whatever its name begins with


def check(code: int, out: str, err: str) -> dict:
    assert code == 0, f"{out}\n{err}"
    fields = json.loads(out)
    assert fields["agreement"] is True and fields["conserved"] is True and fields["faults"] == []
    assert len(set(fields["state_roots"].values())) == 1
    assert fields["acknowledged_lost"] == 0 and fields["executed_twice"] == 0
    return fields


def test_four_nodes_agree_on_a_synthetic_flow():
    fields = check(*testnet("run", "--orders", "20000", "--envelope", "500", "--json"))
    assert fields["nodes"] == 4 and len(fields["state_roots"]) == 4
    assert fields["orders_sent"] == fields["orders_committed"] == 20_000
    assert fields["fills"] > 0 and fields["height"] > 0


def test_the_primary_dies_and_comes_back_and_nothing_is_lost():
    words = "run --orders 60000 --envelope 200 --window 1 --kill-primary-at 0.3 --restart-at 1.5 --json"
    fields = check(*testnet(*words.split()))
    assert fields["killed"] == 0 and fields["view_changes"] >= 1
    assert len(fields["state_roots"]) == 4  # the restarted node is judged like the others
    assert fields["orders_committed"] == 60_000


def test_a_dead_primary_is_done_without():
    words = "run --orders 20000 --envelope 200 --window 1 --kill-primary-at 0.2 --json"
    fields = check(*testnet(*words.split()))
    assert sorted(fields["state_roots"]) == ["1", "2", "3"]


def test_a_validator_is_replaced_under_load_and_nothing_is_lost():
    words = "run --replace-validator-at 0.5 --envelope 200 --json"
    fields = check(*testnet(*words.split()))
    done = fields["replaced"]
    assert (done["old"], done["new"], done["epoch"]) == (3, 4, 1)
    assert fields["height"] > done["boundary"]
    assert sorted(fields["state_roots"]) == ["0", "1", "2", "4"]
    assert 0 < done["longest_wait_ms"] < 1000 * done["seconds_to_vote"]
    # Nobody waits for the newcomer, and no view ends for its sake.
    assert fields["view_changes"] == 0


def test_the_recorded_half_hour_replays_through_four_nodes(tmp_path):
    """Every order of the recording, in order: 258 fills, as its rule says, on every node."""
    path = recording(BITSTAMP)
    write_flow(tmp_path / "half-hour.flow", import_flow("bitstamp-l3", path))
    fields = check(
        *testnet("run", "--flow", str(tmp_path / "half-hour.flow"), "--envelope", "4096", "--json")
    )
    assert fields["fills"] == 258
    assert fields["orders_committed"] == 313_791


def test_up_stops_cleanly_and_continues_the_same_ledger(tmp_path):
    """Ctrl-C ends every process; the second start is on the chain, accounts and height of the first."""
    heights = []
    for _ in range(2):
        out = up_until_orders_flow(tmp_path / "net")
        assert "stopping the nodes" in out
        heights.append(last_height(out))
        assert not node_processes(tmp_path)
    assert heights[1] > heights[0] > 0
    assert "funding" not in out  # the accounts of the first start are used


def test_nodes_do_not_outlive_a_launcher_that_was_killed(tmp_path):
    up_until_orders_flow(tmp_path / "net", signal.SIGKILL)
    for _ in range(600):
        if not node_processes(tmp_path):
            break
        select.select([], [], [], 0.1)  # they notice at once, and stop in their own time
    assert not node_processes(tmp_path)


def up_until_orders_flow(root: Path, end: signal.Signals = signal.SIGINT) -> str:
    """Run `testnet up` until it has shown committed orders, then send `end`; return its output."""
    process = subprocess.Popen(
        [*COMMAND, "up", "--dir", str(root), "--rate", "2000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "committed" in line and " 0 committed" not in line:
                break
        process.send_signal(end)
        lines += process.stdout.read().splitlines(keepends=True)
        assert process.wait(timeout=60) == (0 if end == signal.SIGINT else -end), "".join(lines)
    finally:
        if process.poll() is None:
            process.kill()
    return "".join(lines)


def last_height(out: str) -> int:
    line = [line for line in out.splitlines() if "heights 0:" in line][-1]
    return int(line.split("heights 0:")[1].split()[0])


def node_processes(root: Path) -> list[str]:
    """Processes whose command line names `root`."""
    if not Path("/proc/self").exists():
        pytest.skip("this system has no /proc to look for left-over processes in")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(root) in command and " start " in command:
                found.append(command)
    return found
