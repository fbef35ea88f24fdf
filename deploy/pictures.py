"""A dashboard drawn from its JSON and from Prometheus' answers: what its reader sees, where no Grafana can run.

Panels stand where the JSON puts them, at 1280 pixels of width, with its titles, units, colours and thresholds.
"""

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import queries
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

WIDTH, ROW, GAP = 1280, 38, 8
"""Pixels: of a page of 24 columns, of a row, between panels."""
INK, FAINT, EDGE = "#24292e", "#6a737d", "#d8dee4"
COLOURS = {"blue": "#3274d9", "orange": "#ff780a", "green": "#37872d", "red": "#c4162a", "transparent": "none"}
# What Grafana draws lines in where neither a role nor a threshold says otherwise.
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
        """What Grafana would fill in for this range."""
        # As Grafana: at least four scrapes, so that a rate has two samples even where one is missed.
        rate = max(60, 4 * self.scrape_interval)
        ranges = {"$__rate_interval": f"{rate:.0f}s", "$__range": f"{self.end - self.start:.0f}s"}
        return queries.VARIABLES | ranges


def draw(dashboard: Path, run: Run, picture: Path) -> None:
    """Write the PNG of one dashboard."""
    page = json.loads(dashboard.read_text())
    panels = page["panels"]
    height = ROW * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 3 * GAP + 24
    with mpl.rc_context({"font.size": 8, "text.color": INK, "axes.edgecolor": EDGE, "axes.labelcolor": FAINT}):
        figure = Figure(figsize=(WIDTH / 100, height / 100), dpi=100, facecolor="#f4f5f5")
        span = " to ".join(datetime.fromtimestamp(t, UTC).strftime("%H:%M") for t in (run.start, run.end))
        figure.text(0.008, 1 - 18 / height, f"{page['title']}   ({span} UTC)", size=12, weight="bold")
        for panel in panels:
            place = panel["gridPos"]
            left, top = place["x"] * WIDTH / 24 + GAP / 2, 28 + place["y"] * ROW
            wide, high = place["w"] * WIDTH / 24 - GAP, place["h"] * ROW - GAP
            box = figure.add_axes((left / WIDTH, 1 - (top + high) / height, wide / WIDTH, high / height))
            box.set(xticks=[], yticks=[], facecolor="white")
            box.text(8 / wide, 1 - 8 / high, panel["title"], weight="bold", va="top", transform=box.transAxes)
            DRAWN[panel["type"]](Frame(box, wide, high), panel, run)
        figure.savefig(picture, pil_kwargs={"optimize": True})


@dataclass(frozen=True)
class Frame:
    """A panel's place on the page."""

    box: Axes
    wide: float
    high: float
    """Pixels."""

    def inset(self, left: float, right: float, top: float, bottom: float) -> Axes:
        """Axes with margins in pixels."""
        wide, high = (self.wide - left - right) / self.wide, (self.high - top - bottom) / self.high
        return self.box.inset_axes((left / self.wide, bottom / self.high, wide, high))


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    """A value with its unit, as Grafana abbreviates it."""
    if unit == "s":
        if value == 0 or abs(value) >= 1:
            return f"{value:.3g} s"
        return f"{1e3 * value:.3g} ms" if abs(value) >= 1e-3 else f"{1e6 * value:.3g} µs"
    if unit == "dtdurations":
        return f"{value:.0f} s" if value < 60 else f"{value / 60:.0f} min"
    if unit == "bytes":
        power = min(int(math.log(max(value, 1), 1024)), 3)
        return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    number = f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"
    suffix = {"reqps": " req/s", "dB": " dB"}.get(unit, unit.removeprefix("suffix:") if ":" in unit else "")
    return number + suffix


def named(legend: str, labels: dict[str, str]) -> str:
    """The legend with a series' labels filled in."""
    return re.sub(r"\{\{(\w+)\}\}", lambda label: labels.get(label[1], ""), legend)


def _colour(name: str) -> str:
    return COLOURS.get(name, INK)


def _steps(panel: dict[str, Any]) -> list[dict[str, Any]]:
    return panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])


def _stat(frame: Frame, panel: dict[str, Any], run: Run) -> None:
    (target,), defaults = panel["targets"], panel["fieldConfig"]["defaults"]
    found = queries.instant(run.prometheus, target["expr"], run.variables, time=run.end)
    found.sort(key=lambda series: sorted(series[0].items()))
    for number, (labels, value) in enumerate(found):
        passed = [step["color"] for step in _steps(panel) if step["value"] is None or value >= step["value"]]
        at = {"x": (number + 0.5) / len(found), "ha": "center", "transform": frame.box.transAxes}
        text = shown(value, defaults["unit"], defaults.get("decimals"))
        frame.box.text(s=text, y=0.42, size=13, weight="bold", color=_colour(passed[-1] if passed else "green"), **at)
        if len(found) > 1:
            frame.box.text(s=named(target["legendFormat"], labels), y=0.16, size=8, color=FAINT, **at)
    if not found:
        frame.box.text(0.5, 0.4, "no data", ha="center", size=13, color=FAINT, transform=frame.box.transAxes)


def _timeseries(frame: Frame, panel: dict[str, Any], run: Run) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    lines: list[tuple[str, list[float], list[float]]] = []
    for target in panel["targets"]:
        found = queries.over_time(run.prometheus, target["expr"], run.variables, start=run.start, end=run.end, step=15)
        for labels, points in found:
            minutes = [(time - run.start) / 60 for time, _ in points]
            lines.append((named(target["legendFormat"], labels), minutes, [value for _, value in points]))
    longest = max((len(label) for label, *_ in lines), default=0)
    columns = max(1, int(frame.wide // (5.3 * longest + 36)))
    left = 78 if defaults["unit"].startswith("suffix") else 66
    right = 20
    axes = frame.inset(left, right, 28, 32 + 13 * -(-len(lines) // columns))
    if defaults["custom"].get("stacking", {}).get("mode") == "normal" and lines:
        _stack(axes, lines)
    else:
        for number, (label, minutes, values) in enumerate(lines):
            role = next(
                (colour for role, colour in {"student": "blue", "teacher": "orange"}.items() if role in label), ""
            )
            style = ":" if " card, " in label else "--" if "super_resolve" in label else "-"
            colour = COLOURS.get(role, PALETTE[number % len(PALETTE)])
            axes.plot(minutes, values, style, color=colour, label=label, linewidth=1.4)
    for step in _steps(panel) if "thresholdsStyle" in defaults["custom"] else ():
        if step["color"] != "transparent":
            axes.axhline(step["value"], color=_colour(step["color"]), linestyle=":", linewidth=1.2)
    if defaults.get("min") == 0:
        axes.set_ylim(bottom=0, top=None if any(value > 0 for *_, values in lines for value in values) else 1)
    if (least := defaults["custom"].get("axisSoftMin")) is not None:
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, least), max(high, defaults["custom"]["axisSoftMax"]))
    axes.set_xlim(0, (run.end - run.start) / 60)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda minute, _: f"{minute:.0f} min"))
    axes.xaxis.set_major_locator(MaxNLocator(max(2, int(frame.wide // 65)), integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, defaults["unit"])))
    axes.yaxis.set_major_locator(_binary(axes) if defaults["unit"] == "bytes" else MaxNLocator(5))
    _finish(axes)
    if lines:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5 - (left - right) / (2 * (frame.wide - left - right)), -0.11),
            ncols=columns,
            frameon=False,
            handlelength=1.6,
            fontsize=7,
        )


def _binary(axes: Axes) -> MultipleLocator:
    """Powers of two apart, at most five to the axis."""
    low, high = axes.get_ylim()
    return MultipleLocator(2 ** math.ceil(math.log2((high - low) / 5)))


def _stack(axes: Axes, lines: list[tuple[str, list[float], list[float]]]) -> None:
    minutes = sorted({minute for _, times, _ in lines for minute in times})
    table = [dict(zip(times, values, strict=True)) for _, times, values in lines]
    heights = [[found.get(minute, 0) for minute in minutes] for found in table]
    clean = [[0 if math.isnan(value) else value for value in row] for row in heights]
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(lines))]
    axes.stackplot(minutes, clean, labels=[label for label, _, _ in lines], colors=colours, alpha=0.6)


def _bargauge(frame: Frame, panel: dict[str, Any], run: Run) -> None:
    axes = frame.inset(52, 12, 28, 44)
    (target,) = panel["targets"]
    found = queries.instant(run.prometheus, target["expr"], run.variables, time=run.end)
    cumulative = sorted((float(labels["le"]), value) for labels, value in found)
    counts = [value - before for (_, value), (_, before) in zip(cumulative, [(0, 0.0), *cumulative], strict=False)]
    edges = ["∞" if math.isinf(edge) else f"{edge:g}" for edge, _ in cumulative]
    axes.bar(range(len(counts)), counts, color=COLOURS["blue"])
    axes.set_xticks(range(len(counts)), edges, rotation=60)
    axes.set_ylabel("shadow runs")
    _finish(axes)


def _table(frame: Frame, panel: dict[str, Any], run: Run) -> None:
    (target,) = panel["targets"]
    organised = panel["transformations"][0]["options"]
    hidden, order = organised["excludeByName"], organised["indexByName"]
    found = queries.instant(run.prometheus, target["expr"], run.variables, time=run.end)
    rows = [{label: text for label, text in labels.items() if label not in hidden} for labels, _ in found]
    columns = sorted({label for row in rows for label in row}, key=lambda label: order.get(label, len(order)))
    # A narrow panel scrolls sideways in Grafana; here it shows what fits.
    columns = columns[: max(1, int(frame.wide // 125))]
    for line, row in enumerate([dict(zip(columns, columns, strict=True)), *rows]):
        for number, column in enumerate(columns):
            x, y = (12 + number * (frame.wide - 16) / len(columns)) / frame.wide, 1 - (40 + 24 * line) / frame.high
            weight, colour = ("bold", FAINT) if line == 0 else ("normal", INK)
            frame.box.text(x, y, row.get(column, ""), weight=weight, color=colour, transform=frame.box.transAxes)


def _finish(axes: Axes) -> None:
    axes.grid(axis="y", color=EDGE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=7, length=2)
    axes.spines[["top", "right"]].set_visible(False)


DRAWN = {"stat": _stat, "timeseries": _timeseries, "bargauge": _bargauge, "table": _table}
