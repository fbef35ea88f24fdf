"""docs/reports/performance.md from a run's figures: what is asked and what was found, tables, the profile, a plot.

Only what stands between the two marks is written; the text around them, which explains it, is kept.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from tools.benchmarks.served import BEFORE

mpl.use("Agg")
import matplotlib.pyplot as plt

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PRECISIONS = {"PyTorch": "fp32", "onnxruntime": "fp32", "openvino": "fp32", "openvino-bf16": "bf16"}
COLOURS = {"student": "#2a78b5", "teacher": "#e08214", "": "#7f7f7f"}
Found = dict[str, Any]


def write(docs: Path, found: Found) -> None:
    """Write the page and its plot."""
    _plot(docs / "performance" / "times.png", found)
    page = docs / "performance.md"
    text = page.read_text() if page.exists() else f"# Speed\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    parts = [_machine(found), _targets(found), _times(found), _peak(found), _profile(found), _http(found)]
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(parts) + f"\n{END}{after}")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _spread(value: dict[str, float], digits: int = 1) -> str:
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def _machine(found: Found) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in found["machine"].items() if name != "processor")
    models = ", ".join(found["models"].values())
    return (
        f"{found['machine']['processor']}; {facts}. Models {models}. The run took {found['seconds'] / 60:.0f} minutes. "
        "Medians, quartiles in brackets; ratios are of pairs measured one after the other.\n"
        f"\nChosen at the start: **{found['backend']['backend']}** ({found['backend']['reason']}).\n"
    )


def _targets(found: Found) -> str:
    """Format the targets, one row each, with what was measured."""
    backend, shown = found["backend"]["backend"], found["cases"][found["shown"]]
    faster = shown["student times faster"][backend]
    rows = [
        _at_least(f"student against teacher, both on {name}", times["teacher"], 2, "x")
        for name, times in shown["student times faster"].items()
    ]
    rows.append(
        _at_least("student against PyTorch's teacher (eager, channels_last)", faster["PyTorch teacher"], 10, "x")
    )
    if "BART" in faster:
        rows.append(_at_least("student against `bart pics -i 60`, same slice", faster["BART"], 20, "x"))
    for role, share in _shares(found, shown)[backend].items():
        rows.append(_row(f"{role}'s convolutions, share of the GEMM peak", f"{share:.0%}", "50%", share >= 0.5))
    request, bare = (found["http"][found["shown"]][name]["median"] for name in ("request", "bare"))
    limit = 1.25 * bare + 5
    measured = f"{request:.1f} ms (bare call {bare:.1f} ms)"
    rows.append(_row("HTTP request, one client", measured, f"at most {limit:.1f} ms", request <= limit))
    for clients, pace in found["throughput"].items():
        if clients.startswith("16"):
            share = pace["share"]["median"]
            rows.append(_row(f"throughput, clients: {clients}, of a bare loop", f"{share:.0%}", "90%", share >= 0.9))
    if found.get("earlier"):
        rows.append(_at_least(f"{found['coils']}, whole request, against {BEFORE}", found["earlier"]["ratio"], 2, "x"))
    start = found["start"]
    rows.append(_row("start to ready", f"{_spread(start)} s", "at most 5 s", start["median"] <= 5))
    (few, low), (many, high) = found["memory"].items()
    grown = f"{high - low:.0f} MB more for {many} than for {few} of {found['stack']}"
    rows.append(_row("peak memory of the service", grown, "at most 300 MB", high - low <= 300))
    rows.append(["no training dependency on the serving path", "`tests/test_cli.py`", "a test", "yes"])
    return f"## What was asked\n\n{found['shown']}, on {backend}, unless it says otherwise.\n\n" + _table(
        ["", "measured", "asked", ""], rows
    )


def _at_least(label: str, value: dict[str, float], asked: float, unit: str) -> list[str]:
    """Format a row for a figure that must reach a target.

    Args:
        label: Name of the figure.
        value: The measured value.
        asked: The target.
        unit: Unit of both.
    """
    return _row(label, f"{_spread(value, 2)} {unit}", f"{asked:g} {unit}", value["median"] >= asked)


def _row(label: str, measured: str, asked: str, reached: bool) -> list[str]:
    return [label, measured, asked, "yes" if reached else "**no**"]


def _times(found: Found) -> str:
    cases = found["cases"]
    engines = list(dict.fromkeys(engine for case in cases.values() for engine in case["milliseconds"]))
    rows = [
        [engine, *(_spread(c["milliseconds"][engine]) if engine in c["milliseconds"] else "" for c in cases.values())]
        for engine in engines
    ]
    return (
        "## Milliseconds\n\n"
        "From k-space in memory to a magnitude image: sensitivities, networks, data consistency. BART with the same "
        "sensitivities, its start and its files included.\n\n"
        + _table(["", *cases], rows)
        + "\n![Milliseconds by engine and size](performance/times.png)\n"
    )


def _shares(found: Found, case: Found) -> dict[str, dict[str, float]]:
    """Compute the denoisers' share of the peak speed, by back end and role.

    Args:
        found: The figures of a run.
        case: The input.
    """
    shares: dict[str, dict[str, float]] = {}
    for engine, stages in case["stages"].items():
        backend, _, role = engine.rpartition(" ")
        pace = case["operations"][role] / (stages["denoise"] / 1000)
        shares.setdefault(backend, {})[role] = pace / found["peaks"][PRECISIONS[backend]]
    return shares


def _peak(found: Found) -> str:
    rows = []
    for label, case in found["cases"].items():
        for backend, by_role in _shares(found, case).items():
            for role, share in by_role.items():
                milliseconds = case["stages"][f"{backend} {role}"]["denoise"]
                operations = case["operations"][role]
                pace = operations / milliseconds / 1e6
                figures = [f"{operations / 1e9:.1f}", f"{milliseconds:.1f}", f"{pace:.0f}", f"{share:.0%}"]
                rows.append([label, f"{backend} {role}", *figures])
    peaks = ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in found["peaks"].items())
    head = ["", "", "GFLOP of the convolutions", "ms in the denoisers", "GFLOP/s", "of the peak"]
    text = f"## Against the processor's peak\n\nTorch's matrix product in the same run: {peaks}.\n\n"
    return text + _table(head, rows)


def _profile(found: Found) -> str:
    names = ("parse", "queue", "sensitivities", "denoise", "data_consistency", "encode")
    rows = []
    for label, http in found["http"].items():
        stages = http["stages"]
        rest = http["request"]["median"] - sum(stages.values())
        rows.append([label, *(f"{stages.get(name, 0):.1f}" for name in names), f"{rest:.1f}", _spread(http["request"])])
    text = "## Where a request spends its time\n\nMilliseconds, the service's `Server-Timing`; the rest is HTTP.\n\n"
    return text + _table(["", *names, "the rest", "whole request"], rows)


def _http(found: Found) -> str:
    rows = [
        [clients, _spread(pace["requests"]), _spread(pace["calls"]), _spread(pace["share"], 2)]
        for clients, pace in found["throughput"].items()
    ]
    text = "## Many clients\n\n" + _table(["clients", "requests a second", "bare calls a second", "share"], rows)
    if found.get("earlier"):
        now, before, ratio = (_spread(found["earlier"][name]) for name in ("now", "before", "ratio"))
        text += (
            f"\n{found['coils']}, whole request: {now} ms; by commit {BEFORE}, the last before speed was worked on, "
            f"{before} ms: {ratio} times faster.\n"
        )
    memory = ", ".join(f"{label} {megabytes:.0f} MB" for label, megabytes in found["memory"].items())
    text += f"\nPeak memory of the service (VmHWM), {found['stack']}: {memory}. "
    seconds = sum(found["stack_stages"].values()) / 1000
    share = found["stack_stages"]["encode"] / 1000 / seconds
    return f"{text}The larger one takes {seconds:.1f} s, {share:.2%} of it to encode the answer as HDF5.\n"


def _plot(path: Path, found: Found) -> None:
    cases = found["cases"]
    figure, axes = plt.subplots(1, len(cases), figsize=(3.2 * len(cases), 4), squeeze=False, layout="constrained")
    for axis, (label, case) in zip(axes[0], cases.items(), strict=True):
        times = dict(reversed(case["milliseconds"].items()))
        for place, (engine, time) in enumerate(times.items()):
            colour = COLOURS.get(engine.rpartition(" ")[2], COLOURS[""])
            sides = [[time["median"] - time["low"]], [time["high"] - time["median"]]]
            axis.errorbar(time["median"], place, xerr=sides, fmt="o", capsize=2, color=colour)
            digits = 0 if time["median"] >= 100 else 1
            axis.text(1.15 * time["high"], place, f"{time['median']:.{digits}f}", va="center", fontsize=8)
        medians = [time["median"] for time in times.values()]
        axis.set(title=label, xlabel="ms", xscale="log", xlim=(min(medians) / 2, 6 * max(medians)))
        axis.set_yticks(range(len(times)), times, fontsize=8)
        axis.xaxis.set_minor_formatter("")
        axis.grid(axis="x", alpha=0.3)
        axis.title.set_fontsize(9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
