"""Injected faults: off unless a file asks for them, in force at once, refused when not understood."""

from pathlib import Path

import pytest

from consensus.primitives.errors import ConfigError
from node import faults
from node.faults import NO_FAULTS, FaultFile, Faults, write_faults
from node.ledger import Ledger, Turn

CHAIN = b"c" * 32


def test_without_a_path_nothing_is_injected() -> None:
    assert FaultFile(None).read() == NO_FAULTS


def test_the_environment_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    assert faults.from_environment().path is None
    monkeypatch.setenv(faults.VARIABLE, str(tmp_path / "faults.json"))
    assert faults.from_environment().path == tmp_path / "faults.json"


def test_faults_begin_change_and_end_while_the_node_runs(tmp_path: Path) -> None:
    file = FaultFile(tmp_path / "faults.json")
    assert file.read() == NO_FAULTS
    for wanted in (Faults(fsync_ms=5), Faults(clock_ms=-30_000), Faults(7, 8)):
        write_faults(tmp_path / "faults.json", wanted)
        assert file.read() == wanted
        assert file.read() == wanted
    (tmp_path / "faults.json").unlink()
    assert file.read() == NO_FAULTS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "an object of fsync_ms and clock_ms"),
        ('{"fsync": 1}', "an object of fsync_ms and clock_ms"),
        ('{"fsync_ms": true}', "whole numbers"),
        ('{"clock_ms": 1e3}', "whole numbers"),
        ('{"clock_ms": 99999999999}', "up to 86400000"),
        ('{"fsync_ms": -1}', "no negative time"),
    ],
)
def test_a_file_that_is_not_understood_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "faults.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        FaultFile(tmp_path / "faults.json").read()


def test_the_clock_jumps_both_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(faults, "INJECTED", FaultFile(tmp_path / "faults.json"))
    monkeypatch.setattr(faults.time, "time_ns", lambda: 1_000_000_000_000)
    assert faults.clock_ns() == 1_000_000_000_000
    for offset_ms in (5_000, -5_000):
        write_faults(tmp_path / "faults.json", Faults(clock_ms=offset_ms))
        assert faults.clock_ns() == 1_000_000_000_000 + offset_ms * 1_000_000


def test_every_transaction_of_the_ledger_waits_for_a_slow_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(faults, "INJECTED", FaultFile(tmp_path / "faults.json"))
    monkeypatch.setattr(faults.time, "sleep", waits.append)
    ledger = Ledger(tmp_path / "ledger", CHAIN, 0, 1 << 20)
    try:
        ledger.commit(Turn(votes={b"a": b"1"}))
        write_faults(tmp_path / "faults.json", Faults(fsync_ms=250))
        ledger.commit(Turn(votes={b"a": b"2"}))
    finally:
        ledger.close()
    assert waits == [0.25]
