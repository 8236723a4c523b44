"""Kernels of other packages: no edit of any of their sources leaves a stale one behind."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RULE = "from foreign import inlined\n\n\n@inlined\ndef double(value):\n    return {factor} * value\n"
KERNEL = (
    "from foreign import kernel\nfrom foreign.rule import double\n\n\n"
    "@kernel\ndef run(value):\n    return double(value)\n"
)
START = "from engine.compiled import decorators_for\n\nkernel, inlined, outlined = decorators_for(__file__)\n"


def run(folder: Path) -> tuple[int, int]:
    """What the kernel gives in a new process, and how many of its versions it had to compile."""
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from foreign.kernel import run\n"
        "result = run(21)\n"
        "print(result, sum(run.stats.cache_misses.values()) if hasattr(run, 'stats') else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result, misses = map(int, done.stdout.split())
    return result, misses


def test_an_edited_rule_in_another_file_is_compiled_anew_and_an_unchanged_one_is_not(tmp_path):
    package = tmp_path / "foreign"
    package.mkdir()
    (package / "__init__.py").write_text(START)
    (package / "kernel.py").write_text(KERNEL)
    (package / "rule.py").write_text(RULE.format(factor=2))
    assert run(tmp_path)[0] == 42
    assert run(tmp_path) == (42, 0)
    (package / "rule.py").write_text(RULE.format(factor=3))
    assert run(tmp_path)[0] == 63
