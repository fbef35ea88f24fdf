"""What the student saves and what it costs."""

from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard
from panels import (
    CHOSEN,
    COLOURS,
    RECENT,
    WHOLE,
    distribution,
    figure,
    graph,
    limits,
    line_at,
    mean,
    models,
    of,
    page,
    quantile,
    stacked,
)

MINIMUM_SPEEDUP = 1.8  # What a student must reach in `kdmri bench`.
MINIMUM_SSIM = 0.9  # Of the student's answer to the teacher's: below it, KdmriStudentDrifts.
SLICE, SLICES = "kdmri_slice_duration_seconds", "kdmri_slices_total"
PSNR, SSIM, PAIRED = "kdmri_shadow_psnr_db", "kdmri_shadow_ssim", "kdmri_shadow_speedup_ratio"
SHADOWED = 'operation=~"$operation"'
HOW_MANY = "Shadow runs in each bucket, named by its upper edge, in the time range shown."


def dashboard() -> Dashboard:
    return page(
        "kdmri-roles",
        "kdmri: teacher against student",
        "What the student saves and what it costs.",
        [
            figure(
                "Speed-up",
                "Mean model time a slice of all requests, teacher's over student's, in the time range shown. Both must "
                f"have seen like inputs. Green from {MINIMUM_SPEEDUP}, what a student must reach on an idle machine.",
                speedup(WHOLE),
                legend="{{operation}}",
                unit="suffix: ×",
                width=6,
            )
            .decimals(2)
            .thresholds(limits((None, "red"), (1, "orange"), (MINIMUM_SPEEDUP, "green"))),
            *(median_slice(role, colour) for role, colour in COLOURS.items()),
            fidelity("PSNR", PSNR, "dB").decimals(1),
            fidelity("SSIM", SSIM, "none")
            .decimals(3)
            .thresholds(limits((None, "red"), (MINIMUM_SSIM, "orange"), (0.95, "green"))),
            graph(
                "Median time a slice",
                "Model time a slice, without queue, parsing and encoding. Dashed: super-resolution.",
                {"{{role}} {{operation}}": quantile(0.5, SLICE, "role, operation")},
                unit="s",
                width=12,
            ),
            graph(
                "95th percentile of the time a slice",
                "Of twenty slices one was slower than this. Dashed: super-resolution.",
                {"{{role}} {{operation}}": quantile(0.95, SLICE, "role, operation")},
                unit="s",
                width=12,
            ),
            line_at(
                graph(
                    "Speed-up",
                    "Mean model time a slice, teacher's over student's. A gap: one of the two had no traffic.",
                    {"{{operation}}": speedup(RECENT)},
                    unit="suffix: ×",
                    width=12,
                ),
                MINIMUM_SPEEDUP,
                "green",
            ),
            graph(
                "Slices a second",
                "Slices answered, by role.",
                {"{{role}} {{operation}}": f"sum by (role, operation) (rate({SLICES}{{{CHOSEN}}}[{RECENT}]))"},
                unit="suffix: /s",
                width=12,
            ),
            *(stages(role) for role in COLOURS),
            fidelity_over_time("PSNR", PSNR, "dB", (25, 50)),
            line_at(fidelity_over_time("SSIM", SSIM, "none", (0.85, 1)), MINIMUM_SSIM, "red"),
            graph(
                "Drift",
                "Mean PSNR to the teacher in the last hour less that of the last week: below zero, the student has "
                "lately come less close to its teacher.",
                {"{{operation}}": drift(PSNR)},
                unit="dB",
                width=8,
                at_least=(-1, 1),
            ),
            distribution("PSNR to teacher, dB", HOW_MANY, PSNR, SHADOWED, width=6),
            distribution("SSIM to teacher", HOW_MANY, SSIM, SHADOWED, width=6),
            distribution(
                "Speed-up, same input",
                f"{HOW_MANY} Shadow runs get the processor time that is left over: where there is little, the other "
                "role looks slower than it is, and the figures part into two heaps.",
                PAIRED,
                SHADOWED,
                width=6,
            ),
            graph(
                "Shadow runs",
                "Requests run again by the other role, and those for which there was no room.",
                {
                    "{{operation}} compared": f"sum by (operation) (increase({PSNR}_count{{{SHADOWED}}}[{RECENT}]))",
                    "dropped": f"sum(increase(kdmri_shadow_dropped_total[{RECENT}]))",
                },
                unit="short",
                width=6,
            ),
            models(width=24),
        ],
    )


def median_slice(role: str, colour: str) -> stat.Panel:
    return figure(
        f"{role.capitalize()}: median slice",
        "Model time a slice in the time range shown: half of the slices were faster. Read off histogram buckets.",
        quantile(0.5, SLICE, "operation", of(role), WHOLE),
        legend="{{operation}}",
        unit="s",
        width=5,
    ).thresholds(limits((None, colour)))


def fidelity(name: str, histogram: str, unit: str) -> stat.Panel:
    return figure(
        f"{name} to teacher",
        "Mean over shadowed requests: the student's image held against the teacher's, not against a truth.",
        mean(histogram, "operation", SHADOWED, WHOLE),
        legend="{{operation}}",
        unit=unit,
        width=4,
    )


def fidelity_over_time(name: str, histogram: str, unit: str, axis: tuple[float, float]) -> timeseries.Panel:
    return graph(
        f"Student's {name} to teacher",
        "Shadowed requests: the median, and the value that nine of ten exceed. A fall is drift.",
        {
            "{{operation}} median": quantile(0.5, histogram, "operation", SHADOWED),
            "{{operation}} worst tenth": quantile(0.1, histogram, "operation", SHADOWED),
        },
        unit=unit,
        width=8,
        at_least=axis,
    )


def stages(role: str) -> timeseries.Panel:
    return stacked(
        graph(
            f"{role.capitalize()}: where a request's time goes",
            "Seconds of a mean request in each stage. The stages stack up to its duration.",
            {"{{stage}}": stage_seconds(role)},
            unit="s",
            width=12,
        )
    )


def drift(histogram: str) -> str:
    """The last hour's mean less the last week's."""
    hour, week = (mean(histogram, "operation", SHADOWED, window) for window in ("1h", "7d"))
    return f"{hour} - {week}"


def speedup(window: str) -> str:
    """Teacher's over student's mean time a slice."""
    student, teacher = (mean(SLICE, "operation", of(role), window) for role in COLOURS)
    return f"({teacher}) / ({student})"


def stage_seconds(role: str) -> str:
    """Seconds that a mean request spends in each stage, so that the stages stack up to the request's duration."""
    stages = f"sum by (stage) (rate(kdmri_stage_duration_seconds_sum{{{of(role)}}}[{RECENT}]))"
    requests = f"sum(rate(kdmri_request_duration_seconds_count{{{of(role)}}}[{RECENT}]))"
    return f"{stages} / on () group_left () {requests}"
