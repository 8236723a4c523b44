"""Who compiles the kernels, where several processes start together."""

import threading

import pytest

from node import warm


@pytest.fixture(autouse=True)
def own_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(warm, "_lock_path", lambda: tmp_path / "lock")
    monkeypatch.setattr(warm, "POLL_SECONDS", 0.001)


def test_one_compiles_and_the_others_wait_until_it_is_done():
    order: list[str] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with warm._alone_if_new():
            order.append("second")

    with warm._alone_if_new():
        other = threading.Thread(target=second)
        other.start()
        begun.wait()
        other.join(0.05)  # time enough to get by if nothing held it
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_where_the_same_kernels_were_compiled_before_nobody_waits():
    with warm._alone_if_new():
        pass
    with warm._alone_if_new(), warm._alone_if_new():
        pass  # the second would wait for the first if either held the lock


def test_a_run_that_failed_leaves_no_note(tmp_path):
    with pytest.raises(MemoryError), warm._alone_if_new():
        raise MemoryError
    assert (tmp_path / "lock").read_bytes() == b""


def test_other_sources_are_compiled_anew(tmp_path, monkeypatch):
    with warm._alone_if_new():
        pass
    noted = (tmp_path / "lock").read_bytes()
    (tmp_path / "engine").mkdir()
    monkeypatch.setattr(warm, "_engine", lambda: tmp_path / "engine")
    with warm._alone_if_new():
        pass
    assert noted != (tmp_path / "lock").read_bytes() == warm._stamp()


def test_a_lock_that_cannot_be_had_keeps_nobody_from_starting(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with warm._alone_if_new():
        pass
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_whoever_waits_is_told_for_how_long(monkeypatch):
    monkeypatch.setattr(warm, "TELL_SECONDS", 0.001)
    lines: list[str] = []
    told = threading.Event()
    monkeypatch.setattr(warm, "_run_scratch_ledger", lambda: told.wait(10))
    warm.warm_kernels(lambda line: (lines.append(line), "compiling" in line and told.set()))
    assert lines[0] == "loading the engine's kernels" and "compiling" in lines[1]
