"""The series of a panel's queries, from Prometheus, with the colours and styles of the panel's JSON."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb

from tools.dashboards import queries

INK = "#24292e"
COLOURS = {
    "blue": "#3274d9",
    "orange": "#ff780a",
    "green": "#37872d",
    "red": "#c4162a",
    "purple": "#8f3bb8",
    "yellow": "#e0b400",
    "text": INK,
}
STYLES = {"dash": "--", "dot": ":"}
STEP = 15
"""Seconds between the points of a line."""
# What Grafana draws lines in where the JSON says nothing else.
PALETTE = ("#37872d", "#e0b400", "#1f60c4", "#fa6400", "#c4162a", "#8f3bb8", "#0a7d8c", "#96d98d", "#a0522d")


@dataclass(frozen=True)
class Run:
    """A Prometheus and the seconds since 1970 that a picture shows."""

    prometheus: str
    start: float
    end: float
    scrape_interval: float

    @property
    def variables(self) -> dict[str, str]:
        """Values of Grafana's variables for this time range."""
        # As Grafana: at least four scrapes, so that a rate has two samples even where one is missed.
        rate = max(60, 4 * self.scrape_interval)
        ranges = {"$__rate_interval": f"{rate:.0f}s", "$__range": f"{self.end - self.start:.0f}s"}
        return queries.VARIABLES | ranges


def fill_legend(legend: str, labels: dict[str, str]) -> str:
    """Return the legend with a series' labels filled in."""
    return re.sub(r"\{\{(\w+)\}\}", lambda label: labels.get(label[1], ""), legend).strip()


@dataclass(frozen=True)
class Line:
    """A series with its colour and style."""

    label: str
    values: np.ndarray
    """One every STEP; NaN where Prometheus has none."""
    colour: str | tuple[float, float, float]
    style: str


def lines_of(panel: dict[str, Any], run: Run) -> list[Line]:
    """Query every series of a panel."""
    found: list[tuple[str, np.ndarray]] = []
    for target in panel["targets"]:
        answers = queries.over_time(
            run.prometheus, target["expr"], run.variables, start=run.start, end=run.end, step=STEP
        )
        for labels, points in sorted(answers, key=lambda series: sorted(series[0].items())):
            values = np.full(len(minutes_of(run)), np.nan)
            for time, value in points:
                values[round((time - run.start) / STEP)] = value
            found.append((fill_legend(target["legendFormat"], labels), values))
    return apply_overrides(panel, found)


def apply_overrides(panel: dict[str, Any], found: list[tuple[str, np.ndarray]]) -> list[Line]:
    """Apply the panel's overrides to its series."""
    lines: list[Line] = []
    shades: dict[str, int] = {}
    for number, (label, values) in enumerate(found):
        wanted = _overrides_of(panel, label)
        style = STYLES.get(wanted.get("custom.lineStyle", {}).get("fill"), "-")
        colour = wanted.get("color", {"mode": "palette"})
        drawn: str | tuple[float, float, float] = PALETTE[number % len(PALETTE)]
        if colour["mode"] != "palette":
            name = colour["fixedColor"]
            drawn = COLOURS[name]
            if colour["mode"] == "shades":
                shades[name] = shades.get(name, -1) + 1
                drawn = _lighter(drawn, shades[name])
        lines.append(Line(label, values, drawn, style))
    return lines


def _overrides_of(panel: dict[str, Any], label: str) -> dict[str, Any]:
    overrides = panel["fieldConfig"].get("overrides", [])
    matching = (one for one in overrides if re.search(one["matcher"]["options"].strip("/"), label))
    return {change["id"]: change["value"] for one in matching for change in one["properties"]}


def _lighter(colour: str, times: int) -> tuple[float, float, float]:
    """Return a lighter shade for each further series of one colour."""
    share = 0.6**times
    red, green, blue = (share * part + (1 - share) * 0.9 for part in to_rgb(colour))
    return red, green, blue


def minutes_of(run: Run) -> np.ndarray:
    """Return times from the beginning of the run, one every STEP."""
    return np.arange(0, run.end - run.start + 1, STEP) / 60
