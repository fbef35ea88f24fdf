"""The page docs/reports/operations.md: the figures of a run, each with the query that gave it."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from kdmri.benchmark import SpeedUp
from tools.dashboards import queries
from tools.harness.live import RULES
from tools.reports.series import Run

PAGE = Path(__file__).parents[2] / "docs" / "reports" / "operations.md"
PICTURES = PAGE.with_suffix("")
SHADOW_COST = PICTURES / "shadow_cost.json"
"""Measured by shadow_cost.py, a run of its own."""

HEAD = """# Operations: what the operator sees

Written by `python -m tools.reports.operations` from a run on {date}: one service with every answer shadowed
(`KDMRI_SHADOW_RATE=1`), one Prometheus with this project's rules,
{machine}.
The traffic: every slice of the test split that is not air, once at 4x and once at 8x, by one role in turn and shadowed
by both, with a DICOM image to super-resolve after every eighth; then requests of the benchmark's sizes; then bursts of
twelve requests at a time on a queue of four, with files that can't be read among them. The slices are magnitude images
of patients and volunteers that no model was trained on; their k-space is simulated (one coil, no phase,
`kdmri undersample`), so nothing here is raw-data performance.

"""
PANELS = {
    "teacher-against-student": "Teacher against student",
    "overview": "Overview",
    "capacity": "Capacity",
}
TOLERANCE = 0.2
"""By how much panel and benchmark may differ: a service's requests are not a benchmark's loop."""


@dataclass(frozen=True)
class Phase:
    """Requests of one kind, and the seconds since 1970 between which Prometheus saw them and no others."""

    name: str
    requests: int
    start: float
    end: float


def page(run: Run, shadow: Sequence[Phase], like_benchmark: Phase, benchmark: Sequence[SpeedUp]) -> str:
    """Write everything below the heading.

    Args:
        run: The Prometheus of the run, and its time range.
        shadow: Phases with shadow runs.
        like_benchmark: The phase with the benchmark's sizes.
        benchmark: Figures of the benchmark.
    """
    parts = [
        dashboards(),
        shadow_figures(run, shadow),
        speedups(run, like_benchmark, benchmark),
        *([shadow_cost(json.loads(SHADOW_COST.read_text()))] if SHADOW_COST.exists() else []),
        rules(run),
        live_answers(run),
    ]
    return "\n".join(parts)


def dashboards() -> str:
    """Write the section of pictures."""
    text = """## The dashboards

Drawn by `tools/reports/pictures.py` from the dashboards' JSON and Prometheus' answers to their queries, panel by panel
where Grafana puts them at 1280 pixels; not screenshots of Grafana. The first ends before the bursts: they go to the
teacher with larger inputs than the student gets meanwhile, and its times side by side would compare unlike things.
"""
    return text + "".join(f"\n![{title}](operations/{name}.png)\n" for name, title in PANELS.items())


def shadow_figures(run: Run, phases: Sequence[Phase]) -> str:
    """Tabulate the student's fidelity to the teacher, by anatomy and acceleration, and by acceleration."""
    text = f"""## Student against teacher: {sum(phase.requests for phase in phases)} shadow runs of real slices

One slice a request. PSNR and SSIM hold the student's image against the teacher's, not against the truth; for the truth
see the models' cards. Median and worst tenth are read off histogram buckets.

"""
    rows = []
    for acceleration in sorted({phase.name.split()[1] for phase in phases}):
        of_it = [phase for phase in phases if phase.name.endswith(acceleration)]
        rows += [(phase.name, phase.start, phase.end) for phase in of_it]
        rows.append((f"**all {acceleration}**", of_it[0].start, of_it[-1].end))
    columns = (
        "slices",
        "PSNR mean, dB",
        "PSNR median",
        "worst tenth below",
        "SSIM mean",
        "SSIM median",
        "worst tenth below",
    )
    table = []
    for name, start, end in rows:
        cells = [name]
        for expr, decimals in shadow_queries(f"{end - start:.0f}s"):
            ((_, value),) = queries.instant(run.prometheus, expr, time=end)
            cells.append(f"{value:.{decimals}f}")
        table.append(cells)
    asked = "\n".join(f"    {expr}" for expr, _ in shadow_queries("W"))
    return (
        text
        + markdown_table(("", *columns), table)
        + f"""
Asked at the end of each part, W being its length:

{asked}
"""
    )


def shadow_queries(window: str) -> list[tuple[str, int]]:
    """Return PromQL and decimals of the columns: exact differences, because a rate would extrapolate."""

    def growth(series: str) -> str:
        chosen = f'{series}{{operation="reconstruct"}}'
        return f"({chosen} - {chosen} offset {window})"

    psnr, ssim = "kdmri_shadow_psnr_db", "kdmri_shadow_ssim"
    asked = [(growth(f"{psnr}_count"), 0)]
    for histogram, decimals in ((psnr, 1), (ssim, 3)):
        asked.append((f"{growth(f'{histogram}_sum')} / {growth(f'{histogram}_count')}", decimals))
        asked += [(f"histogram_quantile({q}, {growth(f'{histogram}_bucket')})", decimals) for q in (0.5, 0.1)]
    return asked


def speedups(run: Run, seen: Phase, benchmark: Sequence[SpeedUp]) -> str:
    """Tabulate the panel's speed-up beside the benchmark's.

    Args:
        run: The Prometheus of the run, and its time range.
        seen: The phase with the benchmark's sizes.
        benchmark: Figures of the benchmark.
    """
    cases = {"reconstruct": "1 coil, 256 x 256, 4x", "super_resolve": "256 x 256, 2x"}
    (expr,) = {q.expr for q in queries.queries() if q.panel == "Speed-up" and "$__range" in q.expr}
    window = {"$__range": f"{max(seen.end - seen.start, 4 * run.scrape_interval):.0f}s"}
    found = queries.instant(run.prometheus, expr, queries.VARIABLES | window, time=seen.end)
    panel = {labels["operation"]: value for labels, value in found}
    rows = []
    for operation, case in cases.items():
        (measured,) = (row for row in benchmark if row.input == case)
        ratio = panel[operation] / measured.speedup
        verdict = "yes" if abs(ratio - 1) <= TOLERANCE else "**no**"
        told = f"{measured.speedup:.2f} ({measured.low:.2f} to {measured.high:.2f})"
        rows.append([operation, case, f"{panel[operation]:.2f}", told, f"{100 * (ratio - 1):+.0f} %", verdict])
    columns = (
        "operation",
        "input",
        "panel *Speed-up*",
        "`kdmri bench`",
        "difference",
        f"within {100 * TOLERANCE:.0f} %",
    )
    return f"""## Speed-up: the panel and the benchmark

{seen.requests} requests of the benchmark's sizes, each run by both roles in the shadow, as Prometheus saw them: the
median, read off histogram buckets. The code of `kdmri bench` on the same machine afterwards, with the same threads and
back end: median and quartiles of pairs.

{markdown_table(columns, rows)}"""


COST = """## What shadow runs cost live requests

Written by `python -m tools.reports.shadow_cost` on {date}: `KDMRI_SHADOW_RATE=1` against 0. Two services take turns of
{requests_a_turn} requests with the same exponentially spaced arrivals, at half of what a service takes one after the
other; {cores} processor cores an inference, back end {backend}, load average {load_before:.1f} before.
Reconstruction of one real slice of 256 x 256 at 4x, super-resolution of one object of 64 x 64, by the student; every
answer is run again by both roles. The interval is of 95 %: pairs of turns drawn again, seed {seed}. Asked for: at most
1.10.

"""


def shadow_cost(report: dict[str, Any]) -> str:
    """Write the section on the cost of shadow runs, from the figures of shadow_cost.py."""
    rows = []
    for operation, found in report["operations"].items():
        of, shadows = found["p95_ratio"], found["shadows"]
        rows.append(
            [
                operation,
                f"{found['requests']}",
                f"{found['alone_ms']:.0f}",
                *(f"{found[arm][percentile]:.0f}" for percentile in ("p50_ms", "p95_ms") for arm in ("off", "on")),
                f"**{of['ratio']:.3f}** ({of['low']:.3f} to {of['high']:.3f})",
                f"{shadows['compared']}, {shadows['dropped']}",
            ]
        )
    columns = (
        "operation",
        "requests each",
        "alone, ms",
        "p50 off, ms",
        "p50 on",
        "p95 off",
        "p95 on",
        "p95 on / off",
        "shadow runs, dropped",
    )
    return COST.format(**report) + markdown_table(columns, rows)


def with_section(text: str, section: str) -> str:
    """Return a page with one section replaced, or added before the rules."""
    heading = section.splitlines()[0]
    parts = [part for part in re.split(r"^(?=## )", text, flags=re.MULTILINE) if not part.startswith(heading)]
    place = next((number for number, part in enumerate(parts) if part.startswith("## Rules")), len(parts))
    return "".join([*parts[:place], section + "\n", *parts[place:]])


def rules(run: Run) -> str:
    """Tabulate what the rules recorded, and the alerts that the run set off."""
    declared = [
        rule
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    loaded = httpx2.get(f"{run.prometheus}/api/v1/rules").json()["data"]["groups"]
    state = {rule["name"]: rule.get("state") for group in loaded for rule in group["rules"]}
    recorded = [
        [f"`{rule['record']}`", values(queries.instant(run.prometheus, rule["record"], time=run.end))]
        for rule in declared
        if "record" in rule
    ]
    alerts = [
        [
            rule["alert"],
            rule["labels"]["severity"],
            f"`{one_line(rule['expr'])}`",
            rule.get("for", "0s"),
            state[rule["alert"]],
        ]
        for rule in declared
        if "alert" in rule
    ]
    return f"""## Rules

{markdown_table(("recorded", "at the end of the run"), recorded)}
The states are those some minutes after the bursts, the benchmark done: a rate over five minutes remembers them.

{markdown_table(("alert", "severity", "where", "for", "state"), alerts)}"""


def live_answers(run: Run) -> str:
    """Tabulate every panel's query with its answer."""
    text = """## Every panel's query and its answer at the end of the run

`$__range` is the whole run, the other variables are at *All*. A histogram's answers are cumulative counts by bucket.
"""
    for title in dict.fromkeys(query.dashboard for query in queries.queries()):
        text += f"\n### {title.removeprefix('kdmri: ').capitalize()}\n\n"
        rows = [
            [
                query.panel,
                f"`{query.expr}`",
                values(queries.instant(run.prometheus, query.expr, run.variables, time=run.end)),
            ]
            for query in queries.queries()
            if query.dashboard == title
        ]
        text += markdown_table(("panel", "query", "answer"), rows)
    return text


def values(found: Iterable[tuple[dict[str, str], float]]) -> str:
    """Format each series' labels and value; a model is shown by its name alone."""
    shown = []
    for labels, value in found:
        if "version" in labels:
            shown.append(f"{labels['name']}@{labels['version']}")
            continue
        told = [text for label, text in labels.items() if label not in ("__name__", "job", "instance")]
        shown.append(" ".join([*told, f"**{value:.4g}**"]))
    return ", ".join(shown) or "no data"


def one_line(expr: str) -> str:
    return " ".join(expr.split())


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table; a bar inside a cell is escaped."""
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
