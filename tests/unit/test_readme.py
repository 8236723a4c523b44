"""README and operator's guide say what is true: commands parse, the example is the one that a test runs."""

import re
import shlex
from pathlib import Path

import pytest

from ops import cli

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
GUIDE = (ROOT / "docs" / "operating.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README + GUIDE, re.DOTALL)
COMMANDS = sorted(
    {
        re.split(" [#>] ", line)[0].strip()
        for language, block in BLOCKS
        for line in block.splitlines()
        if not language and re.match(r"(\./)?kontor ", line)
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_readme_and_the_guide_is_one(command):
    args, extra = cli.build_parser().parse_known_args(shlex.split(command)[1:])
    assert callable(args.run)
    assert not extra or args.takes_extra


def test_the_client_example_stands_in_the_quickstart():
    quickstart = [
        line.strip() for line in (ROOT / "examples" / "quickstart.py").read_text("utf-8").splitlines()
    ]
    (example,) = [block for language, block in BLOCKS if language == "python"]
    lines = [line.strip() for line in example.splitlines() if line.strip()]
    assert [line for line in quickstart if line in lines] == lines


def test_links_and_named_files_exist():
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    names = re.findall(r"`((?:consensus|engine|node|ops|testnet|docs|examples)/[\w/]*\.?\w*)`", README)
    assert links and names
    assert [name for name in links + names if not (ROOT / name).exists()] == []


def test_every_result_field_is_explained():
    for field in ("orders_committed", "latency_ms", "view_changes", "state_roots", "agreement", "conserved"):
        assert f"`{field}`" in README
