"""A dashboard drawn from its JSON and from Prometheus' answers: what its reader sees, where no Grafana can run.

Panels stand where the JSON puts them, at 1280 pixels of width, with its titles, units, colours, lines and thresholds.
"""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, NullFormatter

from tools.dashboards import queries
from tools.reports.series import COLOURS, INK, Run, fill_legend, lines_of, minutes_of

FAINT, EDGE = "#6a737d", "#d8dee4"
WIDTH, ROW, GAP = 1280, 38, 8
"""Pixels: of a page of 24 columns, of a row, between panels."""


def draw(dashboard: Path, run: Run, picture: Path) -> None:
    """Write the picture of one dashboard.

    Args:
        dashboard: Its JSON.
        run: The Prometheus that answers its queries, and the time range.
        picture: The PNG file to write.
    """
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
        """Return axes with margins in pixels."""
        wide, high = (self.wide - left - right) / self.wide, (self.high - top - bottom) / self.high
        return self.box.inset_axes((left / self.wide, bottom / self.high, wide, high))


def format_value(value: float, unit: str, decimals: int | None = None) -> str:
    """Format a value with its unit, abbreviated as Grafana does.

    Args:
        value: The value.
        unit: Grafana's name of the unit.
        decimals: Number of decimals; by default what the value needs.
    """
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


def _steps(panel: dict[str, Any]) -> list[dict[str, Any]]:
    return panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])


def _stat(frame: Frame, panel: dict[str, Any], run: Run) -> None:
    (target,), defaults = panel["targets"], panel["fieldConfig"]["defaults"]
    found = queries.instant(run.prometheus, target["expr"], run.variables, time=run.end)
    found.sort(key=lambda series: sorted(series[0].items()))
    for number, (labels, value) in enumerate(found):
        passed = [step["color"] for step in _steps(panel) if step["value"] is None or value >= step["value"]]
        x, transform = (number + 0.5) / len(found), frame.box.transAxes
        text = format_value(value, defaults["unit"], defaults.get("decimals"))
        colour = COLOURS[passed[-1]]
        frame.box.text(x, 0.42, text, size=13, weight="bold", color=colour, ha="center", transform=transform)
        if len(found) > 1:
            legend = fill_legend(target["legendFormat"], labels)
            frame.box.text(x, 0.16, legend, size=8, color=FAINT, ha="center", transform=transform)
    if not found:
        frame.box.text(0.5, 0.4, "no data", ha="center", size=13, color=FAINT, transform=frame.box.transAxes)


def _timeseries(frame: Frame, panel: dict[str, Any], run: Run) -> None:
    defaults, minutes, lines = panel["fieldConfig"]["defaults"], minutes_of(run), lines_of(panel, run)
    longest = max((len(line.label) for line in lines), default=0)
    columns = max(1, int(frame.wide // (4.4 * longest + 30)))
    left = 78 if defaults["unit"].startswith("suffix") else 66
    right = 20
    axes = frame.inset(left, right, 28, 32 + 13 * -(-len(lines) // columns))
    if defaults["custom"].get("stacking", {}).get("mode") == "normal" and lines:
        heights = [np.nan_to_num(line.values) for line in lines]
        labels, colours = [line.label for line in lines], [line.colour for line in lines]
        axes.stackplot(minutes, heights, labels=labels, colors=colours, alpha=0.6)
    else:
        for line in lines:
            axes.plot(minutes, line.values, line.style, color=line.colour, label=line.label, linewidth=1.4)
            # A value between two gaps is a point.
            known = np.pad(~np.isnan(line.values), 1)
            alone = known[1:-1] & ~known[:-2] & ~known[2:]
            axes.plot(minutes[alone], line.values[alone], "o", color=line.colour, markersize=3)
    if defaults["custom"].get("scaleDistribution", {}).get("type") == "log":
        axes.set_yscale("log", base=2)
        axes.yaxis.set_minor_formatter(NullFormatter())
    if defaults.get("min") == 0:
        axes.set_ylim(bottom=0, top=None if any(np.nanmax(line.values) > 0 for line in lines) else 1)
    if (least := defaults["custom"].get("axisSoftMin")) is not None:
        low, high = axes.get_ylim()
        held = np.concatenate([line.values for line in lines] or [np.zeros(1)])
        low = least if np.nanmin(held) >= least else low
        axes.set_ylim(low, max(high, defaults["custom"]["axisSoftMax"]))
    low, high = axes.get_ylim()
    for step in _steps(panel) if "thresholdsStyle" in defaults["custom"] else ():
        # A limit far above all that there is does not squeeze the lines.
        if step["value"] is not None and low <= step["value"] <= high:
            axes.axhline(step["value"], color=COLOURS[step["color"]], linestyle=(0, (6, 4)), linewidth=1)
    axes.set_xlim(0, (run.end - run.start) / 60)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda minute, _: f"{minute:.0f} min"))
    axes.xaxis.set_major_locator(MaxNLocator(max(2, int(frame.wide // 65)), integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_value(value, defaults["unit"])))
    if axes.get_yscale() == "linear":
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
    """Set ticks at powers of two, at most five to the axis."""
    low, high = axes.get_ylim()
    return MultipleLocator(2 ** math.ceil(math.log2((high - low) / 5)))


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
    columns = columns[: max(1, int(frame.wide // 104))]
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
