"""The teacher-against-student dashboard: what the student saves in time and costs in fidelity."""

from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard

from tools.dashboards.panels import (
    CHOSEN,
    COLOURS,
    DOTTED,
    RECENT,
    RED,
    WHOLE,
    alarm,
    distribution,
    figure,
    graph,
    limits,
    lines_at,
    mean,
    models,
    of,
    page,
    quantile,
    stack,
)

MINIMUM_SPEEDUP = 1.8  # What a student must reach in `kdmri bench`.
LOST_SPEEDUP, SLOW_SLICE = alarm("KdmriSpeedupLost"), alarm("KdmriStudentSlow")
PSNR_DRIFT, SSIM_DRIFT = alarm("KdmriStudentPsnrDrifts"), alarm("KdmriStudentSsimDrifts")
"""Below the least that a student's card states."""
SLICE, SLICES = "kdmri_slice_duration_seconds", "kdmri_slices_total"
PSNR, SSIM, PAIRED = "kdmri_shadow_psnr_db", "kdmri_shadow_ssim", "kdmri_shadow_speedup_ratio"
STATED = {PSNR: "kdmri_model_agreement_psnr_db", SSIM: "kdmri_model_agreement_ssim"}
SHADOWED = 'operation=~"$operation"'
OF_MODEL = f'{SHADOWED}, name=~"$model"'
HOW_MANY = "Shadow runs in each bucket, named by its upper edge, in the time range shown."
OF_THE_CARD = "what the student's card states for the test split, of its accelerations or scales the least"


def dashboard() -> Dashboard:
    return page(
        "kdmri-roles",
        "kdmri: teacher against student",
        "What the student saves and what it costs.",
        [
            figure(
                "Speed-up",
                "Teacher's time over student's on the same input, both run by the shadow: the median of the time range "
                f"shown, read off histogram buckets. Green from {MINIMUM_SPEEDUP}, what a student must reach on an "
                f"idle machine; red below {LOST_SPEEDUP}, where an alert fires.",
                quantile(0.5, PAIRED, "operation", SHADOWED, WHOLE),
                legend="{{operation}}",
                unit="suffix: ×",
                width=4,
            )
            .decimals(2)
            .thresholds(limits((None, "red"), (LOST_SPEEDUP, "orange"), (MINIMUM_SPEEDUP, "green"))),
            *(median_slice(role, colour) for role, colour in COLOURS.items()),
            fidelity("PSNR", PSNR, "dB").decimals(1),
            fidelity("SSIM", SSIM, "none").decimals(3),
            figure(
                "PSNR against the card",
                f"Mean PSNR to the teacher in the time range shown, less {OF_THE_CARD}. Red: half as close, or less.",
                drift(PSNR, WHOLE),
                legend="{{operation}}",
                unit="dB",
                width=4,
            )
            .decimals(1)
            .thresholds(limits((None, "red"), (PSNR_DRIFT, "orange"), (PSNR_DRIFT / 2, "green"))),
            graph(
                "Median time a slice",
                "Model time a slice, without queue, parsing and encoding. Dashed: super-resolution. On a logarithmic "
                "axis the distance between the roles is the speed-up.",
                {"{{role}} {{operation}}": quantile(0.5, SLICE, "role, operation")},
                unit="s",
                width=12,
                logarithmic=True,
            ),
            lines_at(
                graph(
                    "95th percentile of the time a slice",
                    "Of twenty slices one was slower than this. Dashed: super-resolution. An alert fires where the "
                    "student's is above the line.",
                    {"{{role}} {{operation}}": quantile(0.95, SLICE, "role, operation")},
                    unit="s",
                    width=12,
                    logarithmic=True,
                ),
                (SLOW_SLICE, "red"),
            ),
            lines_at(
                graph(
                    "Speed-up",
                    "Teacher's time over student's on the same input, both run by the shadow: the median. A gap: live "
                    "requests came into every run. An alert fires below the red line.",
                    {"{{operation}}": quantile(0.5, PAIRED, "operation", SHADOWED)},
                    unit="suffix: ×",
                    width=12,
                ),
                (LOST_SPEEDUP, "red"),
                (MINIMUM_SPEEDUP, "green"),
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
            fidelity_over_time("SSIM", SSIM, "none", (0.9, 1)),
            drift_over_time("PSNR", PSNR, "dB", PSNR_DRIFT),
            drift_over_time("SSIM", SSIM, "none", SSIM_DRIFT),
            graph(
                "Shadow runs",
                "Requests run again by both roles, and those for which there was no room.",
                {
                    "{{operation}} compared": f"sum by (operation) (increase({PSNR}_count{{{SHADOWED}}}[{RECENT}]))",
                    "dropped": f"sum(increase(kdmri_shadow_dropped_total[{RECENT}]))",
                },
                unit="short",
                width=8,
            ).override_by_name("dropped", [RED]),
            distribution(
                "Speed-up, same input",
                f"{HOW_MANY} Only those that no live request came into.",
                PAIRED,
                SHADOWED,
                width=8,
            ),
            distribution("PSNR to teacher, dB", HOW_MANY, PSNR, SHADOWED, width=8),
            distribution("SSIM to teacher", HOW_MANY, SSIM, SHADOWED, width=8),
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
        width=4,
    ).thresholds(limits((None, colour)))


def fidelity(name: str, histogram: str, unit: str) -> stat.Panel:
    """Return a panel with the median of a shadow figure.

    Args:
        name: Name of the figure.
        histogram: Name of the metric without its suffix.
        unit: Grafana's name of the unit.
    """
    return figure(
        f"{name} to teacher",
        "Mean over shadowed requests: the student's image held against the teacher's, not against a truth.",
        mean(histogram, "operation", SHADOWED, WHOLE),
        legend="{{operation}}",
        unit=unit,
        width=4,
    )


def fidelity_over_time(name: str, histogram: str, unit: str, axis: tuple[float, float]) -> timeseries.Panel:
    """Return a panel with quantiles of a shadow figure over time.

    Args:
        name: Name of the figure.
        histogram: Name of the metric without its suffix.
        unit: Grafana's name of the unit.
        axis: Range of the axis.
    """
    return graph(
        f"Student's {name} to teacher",
        "Shadowed requests: the mean, and the value that nine of ten exceed, beside what the student's card states for "
        "the test split.",
        {
            "{{operation}} mean": mean(histogram, "operation", SHADOWED),
            "{{operation}} worst tenth": quantile(0.1, histogram, "operation", SHADOWED),
            "{{operation}} card, {{condition}}": f"{STATED[histogram]}{{{OF_MODEL}}}",
        },
        unit=unit,
        width=12,
        at_least=axis,
        # The card's figure is no measurement of this service, and is drawn as one that is given.
    ).override_by_regexp("/ card, /", [DOTTED])


def drift_over_time(name: str, histogram: str, unit: str, limit: float) -> timeseries.Panel:
    """Return a panel with the drift of a shadow figure over time.

    Args:
        name: Name of the figure.
        histogram: Name of the metric without its suffix.
        unit: Grafana's name of the unit.
        limit: The drift at which an alert fires.
    """
    return lines_at(
        graph(
            f"{name} against the card",
            f"Mean {name} to the teacher in the last hour, less {OF_THE_CARD}. Below zero the student comes less close "
            "to its teacher than there; an alert fires below the line.",
            {"{{operation}}": drift(histogram, "1h")},
            unit=unit,
            width=8,
            at_least=(1.5 * limit, -1.5 * limit),
        ),
        (limit, "red"),
    )


def stages(role: str) -> timeseries.Panel:
    return stack(
        graph(
            f"{role.capitalize()}: where a request's time goes",
            "Seconds of a mean request in each stage. The stages stack up to its duration.",
            {"{{stage}}": stage_seconds(role)},
            unit="s",
            width=12,
        )
    )


def drift(histogram: str, window: str) -> str:
    """Return the PromQL for the figure of shadow runs less the figure that the model's card states."""
    # The least of the card's conditions: live requests have accelerations of their own, which no label states.
    return f"{mean(histogram, 'operation', SHADOWED, window)} - min by (operation) ({STATED[histogram]}{{{OF_MODEL}}})"


def stage_seconds(role: str) -> str:
    """Return the PromQL for the seconds that a mean request spends in each stage; stages add up to its duration."""
    stages = f"sum by (stage) (rate(kdmri_stage_duration_seconds_sum{{{of(role)}}}[{RECENT}]))"
    requests = f"sum(rate(kdmri_request_duration_seconds_count{{{of(role)}}}[{RECENT}]))"
    return f"{stages} / on () group_left () {requests}"
