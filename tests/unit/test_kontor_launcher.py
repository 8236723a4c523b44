"""`./kontor` in a small checkout whose `.venv` is a stand-in that records what it is asked to do."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Answers the launcher's questions like a virtual environment's python, and writes down every pip run.
STAND_IN = """\
#!/bin/sh
case "$1" in
  -c) exit 0 ;;
  -P) shift; echo "ran $*"; exit 7 ;;
  -m) echo "Collecting trio"; echo pip >> "{log}"; sleep {seconds}; exit {code} ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    shutil.copy(ROOT / "kontor", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    stand_in(tmp_path)
    return tmp_path


def stand_in(root: Path, code: int = 0, seconds: float = 0) -> None:
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(STAND_IN.format(log=root / "pip.log", code=code, seconds=seconds))
    python.chmod(0o755)


def start(root: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, str(root / "kontor"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")


def run(root: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(root, *arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def installs(root: Path) -> int:
    log = root / "pip.log"
    return len(log.read_text().split()) if log.exists() else 0


def test_the_first_call_installs_and_then_becomes_the_command(checkout):
    code, out, err = run(checkout, "testnet", "up")
    assert (code, out) == (7, "ran -m ops.cli testnet up\n")
    assert "ready after" in err and "Collecting trio" in err
    assert installs(checkout) == 1


def test_later_calls_install_nothing_and_say_nothing(checkout):
    run(checkout)
    assert run(checkout, "--help") == (7, "ran -m ops.cli --help\n", "")
    assert installs(checkout) == 1


def test_changed_dependencies_are_installed(checkout):
    run(checkout)
    (checkout / "pyproject.toml").write_text("[project]\ndependencies = []\n")
    run(checkout)
    assert installs(checkout) == 2


def test_a_failed_installation_shows_its_end_and_is_done_again(checkout):
    stand_in(checkout, code=3)
    code, out, err = run(checkout)
    assert code == 1 and out == ""
    assert "exit status 3" in err and "Collecting trio" in err and "install.log" in err
    stand_in(checkout)
    assert run(checkout)[0] == 7
    assert installs(checkout) == 2


def test_two_first_calls_at_once_install_once(checkout):
    stand_in(checkout, seconds=1)
    first, second = start(checkout), start(checkout)
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [first.returncode, second.returncode] == [7, 7]
    assert installs(checkout) == 1
    assert any("waiting for it" in err for _, err in outputs)


def test_a_copied_checkout_is_installed_anew(checkout, tmp_path_factory):
    run(checkout)
    other = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(checkout, other)
    assert run(other)[0] == 7
    assert installs(other) + installs(checkout) > 1


def test_an_environment_that_belongs_elsewhere_is_left_alone(checkout, tmp_path_factory):
    foreign = tmp_path_factory.mktemp("elsewhere") / "venv"
    shutil.move(checkout / ".venv", foreign)
    (checkout / ".venv").symlink_to(foreign)
    code, out, err = run(checkout)
    assert (code, out) == (1, "")
    assert f"is a link to {foreign}, outside this checkout: remove the link" in err
    assert installs(checkout) == 0


@pytest.mark.parametrize("code", ["EACCES", "EROFS"])
@pytest.mark.parametrize("call", ["os.makedirs", "builtins.open"])
def test_a_checkout_that_cannot_be_written_is_to_be_copied(checkout, call, code):
    script = (
        "import builtins, errno, os, runpy, sys; sys.argv = ['kontor']; real = builtins.open\n"
        "def refuse(path, *rest, **named):\n"
        "    if '.kontor' not in str(path): return real(path, *rest, **named)\n"
        f"    raise OSError(errno.{code}, 'no', str(path))\n"
        f"{call} = refuse; runpy.run_path('kontor', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=checkout, capture_output=True, text=True)
    wanted = f"kontor: {checkout} cannot be written: copy or clone it to a folder of your own\n"
    assert (done.returncode, done.stderr) == (1, wanted)


def test_a_file_in_the_way_is_named(checkout):
    (checkout / ".kontor").write_text("")
    code, _, err = run(checkout)
    assert code == 1 and err == f"kontor: {checkout / '.kontor'}: File exists\n"


def test_an_old_python_is_told_what_to_install(checkout):
    script = (
        "import sys; sys.version_info = (3, 9, 1, 'final', 0); sys.argv = ['kontor'];"
        "import runpy; runpy.run_path('kontor', run_name='__main__')"
    )
    env = {**os.environ, "PATH": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=checkout, env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; this is Python 3.9" in done.stderr and "Traceback" not in done.stderr


def test_a_python_without_venv_is_told_which_package_is_missing(checkout, tmp_path):
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "ensurepip.py").write_text("raise ImportError\n")
    env = {**os.environ, "PATH": "/nonexistent", "PYTHONPATH": str(tmp_path / "hide")}
    done = subprocess.run(
        [sys.executable, "-S", str(checkout / "kontor")], env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "`ensurepip` are not" in done.stderr and "-venv" in done.stderr


def test_the_launcher_is_written_in_syntax_an_old_python_reads():
    tree = ast.parse((ROOT / "kontor").read_text("utf-8"), feature_version=(3, 4))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, newer)]
