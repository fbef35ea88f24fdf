"""docs/formats.md promises nothing that no test holds."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rows() -> list[str]:
    """Rows of tables that name a test in their last cell's place."""
    lines = (ROOT / "docs" / "formats.md").read_text().splitlines()
    start = [number for number, line in enumerate(lines) if line.endswith("| test |")]
    return [line for first in start for line in _table(lines[first + 2 :])]


def _table(lines: list[str]) -> list[str]:
    end = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return lines[:end]


def test_every_row_names_tests_that_exist() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))
    assert len(rows()) > 80
    for row in rows():
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert set(named) <= defined, row


def test_every_row_has_a_test_on_a_real_file() -> None:
    """As it is or with one thing changed; but for what only a program makes, and what no real file is at hand of."""
    for row in rows():
        held = row.split(" | ")[-1]
        assert re.search(r"\b(real|changed)\b|made by `ismrmrd_generate|for there is no real file", held), row


def test_no_row_says_should() -> None:
    assert not [row for row in rows() if "should" in row.lower()]
