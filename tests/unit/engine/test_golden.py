"""Every scenario in tests/golden gives what its file says. `KONTOR_GOLDEN=write` writes the files anew."""

import difflib
import os
from pathlib import Path

import pytest

from tests.helpers.golden import run

FOLDER = Path(__file__).resolve().parents[2] / "golden"
FILES = sorted(FOLDER.glob("*.md"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario_goes_as_its_table_says(path):
    expected = path.read_text("utf-8")
    found = run(expected)
    if os.environ.get("KONTOR_GOLDEN") == "write":
        path.write_text(found, "utf-8")
        return
    diff = difflib.unified_diff(
        expected.splitlines(), found.splitlines(), "the file", "the machine", lineterm="", n=1
    )
    assert found == expected, "\n" + "\n".join(diff)


def test_there_are_scenarios():
    assert len(FILES) >= 10


def test_a_wrong_number_in_a_file_is_noticed():
    text = (FOLDER / "limit.md").read_text("utf-8")
    wrong = text.replace("92,470", "92,471").replace("QTY_OUT_OF_RANGE", "OK")
    assert wrong != text == run(wrong)
