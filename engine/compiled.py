"""Decorators for kernels, and a compile cache that no edited source can leave stale.

numba keys a cached kernel by the file it stands in, not by the files of the kernels it calls. A changed
rule one file further down would then run in its old form, and differently on each node. So the
cache folder is named after a digest of all sources with kernels: any edit starts a new one.

Kernels are compiled without numba's reference counts (`_nrt=False`): they allocate nothing and only
write arrays they were given, which their caller keeps alive. With counts, every column access of
every inlined rule is an atomic pair, and matching runs six times slower.

`kernel` marks an entry point, `inlined` one rule of a kernel: LLVM merges it into its caller, so
that splitting the rulebook into small functions costs nothing at run time. `outlined` is a rule too
rare or too large for that: it is compiled once, however many callers it has. Only a `kernel`, or an
inlined rule that is `shared`, can be called from Python: what unpacks a bundle of forty arrays for C takes
longer to compile than most rules, and rules go without it. Division by zero gives 0 in
compiled code (`error_model="numpy", _nrt=False`); no kernel divides by anything that may be zero.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import blake3
import numba
import numpy as np
from numba.core.registry import CPUDispatcher

_ROOT = Path(__file__).resolve().parent
_CONSTANTS = (
    "layout.py",
    "records.py",
    "oracle/tables.py",
    "fees/tables.py",
)  # compiled into kernels, without holding any
_FOLDERS_MAX = 6


def _sources_digest() -> str:
    digest = blake3.blake3(f"{numba.__version__} {numba.config.BOUNDSCHECK}".encode())
    for path in sorted(_ROOT.rglob("*.py")):
        name, source = path.relative_to(_ROOT).as_posix(), path.read_bytes()
        if b"engine.compiled" in source or name in _CONSTANTS:
            digest.update(f"{name}:{len(source)}:".encode() + source)
    return digest.hexdigest()[:16]


def _choose_cache_folder() -> None:
    """Use a folder beside the sources; where that cannot be written, leave numba's own choice."""
    parent = _ROOT / "__pycache__"
    if numba.config.CACHE_DIR or not os.access(parent if parent.exists() else _ROOT, os.W_OK):
        return
    folder = parent / f"kernels-{_sources_digest()}"
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _drop_old_folders(parent)
    numba.config.CACHE_DIR = str(folder)


def _drop_old_folders(parent: Path) -> None:
    """Forget all but the youngest caches: each is some 20 MB that no present source will ask for."""
    found = sorted(parent.glob("kernels-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in found[_FOLDERS_MAX:]:
        shutil.rmtree(folder, ignore_errors=True)


_choose_cache_folder()

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}


class Decorators(NamedTuple):
    """What another package decorates its kernels with; as this module's."""

    kernel: Any
    inlined: Any
    outlined: Any


def decorators_for(file: str) -> Decorators:
    """Decorators for the package in whose folder `file` stands: give the `__file__` of its `__init__`.

    Their cache is named after all sources in that folder too, so that no edit there leaves a kernel
    stale either. Where ours has no place of its own, nothing is cached.
    """
    root = Path(file).resolve().parent
    digest = blake3.blake3()
    for path in sorted(root.rglob("*.py")):
        source = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}:{len(source)}:".encode() + source)
    folder = Path(numba.config.CACHE_DIR) / f"{root.name}-{digest.hexdigest()[:16]}"
    options = _OPTIONS | {"cache": bool(numba.config.CACHE_DIR)}

    def decorator(**more: Any) -> Any:
        def decorate(function: Any) -> Any:
            ours = numba.config.CACHE_DIR  # numba asks for it when it decorates
            numba.config.CACHE_DIR = str(folder) if ours else ""
            try:
                return numba.njit(**options, **more)(function)
            finally:
                numba.config.CACHE_DIR = ours

        return decorate

    return Decorators(decorator(), decorator(forceinline=True), decorator())


_FOR_KERNELS: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


class _Rule(CPUDispatcher):  # type: ignore[misc]
    """A compiled function without an entry for Python."""

    def __call__(self, *args: Any) -> NoReturn:
        raise TypeError(f"{self.py_func.__qualname__} is a rule of kernels: make it @shared or a @kernel")


def _rule(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    def decorate(function: Callable[..., Any]) -> Any:
        compiled = numba.njit(**_OPTIONS, **_FOR_KERNELS, **options)(function)
        if isinstance(compiled, CPUDispatcher):  # else kernels run interpreted
            compiled.__class__ = _Rule
        return compiled

    return decorate


kernel: Any = numba.njit(**_OPTIONS)
shared: Any = numba.njit(**_OPTIONS, forceinline=True)
inlined: Any = _rule(forceinline=True)
outlined: Any = _rule()


@inlined
def widen(column: Any) -> Any:
    """A value of a narrow column as int64: numpy would keep arithmetic on it narrow, numba would not."""
    return np.int64(column)
