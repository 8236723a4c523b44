"""Imports run one way, and pure packages stay pure: DESIGN's table of rooms, as a test."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("consensus", "engine", "custody", "reserves", "node", "ops", "testnet", "tests")
PURE = ("consensus", "engine")
# What gives a pure package time, chance, threads or the outside world.
FORBIDDEN = {
    "asyncio",
    "concurrent",
    "datetime",
    "glob",
    "http",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "queue",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "trio",
    "urllib",
    "uuid",
    "lmdb",
    "cryptography",
    "prometheus_client",
    "rich",
}
# The simulator alone may hold one seeded `random.Random`; its `pathlib` is `PurePath`, which touches
# no disk. Caching compiled kernels touches files, but at import, and nothing of it reaches the state.
EXCEPTIONS = {
    "consensus/simulator": {"random", "pathlib"},
    "engine/compiled.py": {"os", "pathlib", "shutil"},
}
THIRD_PARTY = {
    "consensus": {"blake3", "msgpack", "nacl"},
    "engine": {"blake3", "llvmlite", "msgpack", "numba", "numpy"},
}


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            names.add(node.module or "")
    return names


def allowed_exception(path: Path) -> set[str]:
    place = path.relative_to(ROOT).as_posix()
    return {name for start, names in EXCEPTIONS.items() if place.startswith(start) for name in names}


@pytest.mark.parametrize("room", ROOMS[:-1])
def test_a_room_imports_only_what_stands_to_its_left(room):
    right = ROOMS[ROOMS.index(room) + 1 :]
    for path in files(room):
        wrong = {name for name in imported(path) if name.split(".")[0] in right}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}, which stands to its right"


def test_the_engine_knows_of_the_protocol_only_who_votes_and_what_convicts_a_voter():
    for path in files("engine"):
        wrong = {
            name
            for name in imported(path)
            if name.split(".")[0] == "consensus"
            and not name.startswith("consensus.primitives")
            and name not in ("consensus.proofs", "consensus.evidence")
        }
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_only_the_testnet_and_the_simulator_import_the_simulator():
    for room in ROOMS[:-2]:
        for path in files(room):
            if "simulator" not in path.parts:
                assert not {name for name in imported(path) if name.startswith("consensus.simulator")}, path


@pytest.mark.parametrize("room", PURE)
def test_pure_packages_touch_no_clock_chance_thread_or_outside(room):
    for path in files(room):
        tops = {name.split(".")[0] for name in imported(path)}
        wrong = (tops & FORBIDDEN) - allowed_exception(path)
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}, and {room} is pure"


@pytest.mark.parametrize("room", PURE)
def test_pure_packages_need_few_libraries(room):
    for path in files(room):
        tops = {name.split(".")[0] for name in imported(path)}
        foreign = tops - set(ROOMS) - set(sys.stdlib_module_names) - THIRD_PARTY[room]
        assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"


@pytest.mark.parametrize("room", ROOMS[:-1])
def test_every_package_says_what_it_is(room):
    for path in files(room):
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), (
            f"{path.relative_to(ROOT)} has no docstring"
        )


def test_the_launcher_needs_the_standard_library_only():
    names = imported(ROOT / "kontor")
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)
