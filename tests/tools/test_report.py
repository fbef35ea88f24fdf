"""Computed figures of docs/reports/operations.md, and how the page is put together."""

import json

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="no matplotlib: the extra train has it")

from tools.dashboards import queries
from tools.reports import page, series, shadow_cost

TURNS = np.random.default_rng(0).exponential(size=(12, shadow_cost.TURN))


@pytest.mark.parametrize("factor", [1, 1.25])
def test_a_service_that_is_slower_throughout_has_that_ratio_for_certain(factor):
    found = shadow_cost.ratio(factor * TURNS, TURNS, np.random.default_rng(1))
    assert found == pytest.approx({"ratio": factor, "low": factor, "high": factor})


def test_turns_that_differ_by_chance_leave_the_ratio_open():
    found = shadow_cost.ratio(TURNS, TURNS[::-1], np.random.default_rng(1))
    assert found["ratio"] == 1
    assert found["low"] < 1 < found["high"]


def test_a_section_is_added_before_the_rules_and_then_replaced():
    text = "# Page\n\n## First\n\none\n\n## Rules\n\nrules\n"
    once = page.with_section(text, "## Cost\n\nold\n")
    assert once == "# Page\n\n## First\n\none\n\n## Cost\n\nold\n\n## Rules\n\nrules\n"
    assert page.with_section(once, "## Cost\n\nnew\n") == once.replace("old", "new")


def test_lines_are_drawn_as_the_dashboard_has_them():
    panels = json.loads((queries.DASHBOARDS / "teacher-against-student.json").read_text())["panels"]
    found = {panel["title"]: panel for panel in panels}
    one = np.ones(1)

    def drawn(title, *labels):
        lines = series.apply_overrides(found[title], [(label, one) for label in labels])
        return [(line.colour, line.style) for line in lines]

    assert drawn("Median time a slice", "student reconstruct", "teacher super_resolve") == [
        (series.COLOURS["blue"], "-"),
        (series.COLOURS["orange"], "--"),
    ]
    (mean, _), (worst, _), (_, card) = drawn(
        "Student's PSNR to teacher", "reconstruct mean", "reconstruct worst tenth", "reconstruct card, 4x"
    )
    assert mean != worst
    assert card == ":"
