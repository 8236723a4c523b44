"""One short scenario on real processes; the others are commands, see `kontor testnet chaos --list`."""

import json
import subprocess
import sys


def test_an_isolated_primary_is_replaced_and_returns_and_no_promise_is_broken():
    command = [sys.executable, "-P", "-m", "ops.cli", "testnet", "chaos", "isolate-primary"]
    done = subprocess.run([*command, "--seconds", "6", "--json"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = json.loads(done.stdout)
    assert found["passed"] is True and found["faults"] == []
    assert found["view_changes"] >= 1
    assert found["transfers"] > 10 and found["orders"] > 0 and found["fills"] > 0
    assert list(found["stranded_seconds"]) == ["primary"] and found["stranded_errors"]["primary"] >= 1
    assert found["fault_to_commit_ms"] is not None and found["heal_to_level_ms"] is not None
