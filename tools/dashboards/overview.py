"""The overview dashboard: availability, latency and failures."""

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard

from kdmri.quality.no_reference import RESIDUAL, TOLERANCE
from tools.dashboards.panels import (
    CHOSEN,
    RECENT,
    WHOLE,
    alarm,
    figure,
    graph,
    limits,
    lines_at,
    models,
    page,
    paint,
    quantile,
    stack,
)

REQUESTS, REQUEST, SLICES = "kdmri_requests_total", "kdmri_request_duration_seconds", "kdmri_slices_total"
OPERATION = 'operation=~"$operation"'
SLOW = alarm("KdmriRequestsSlow")


def dashboard() -> Dashboard:
    return page(
        "kdmri-overview",
        "kdmri: overview",
        "Is it up, is it quick, does it fail.",
        [
            # Figures of the whole range first, curves below, and the quality of inputs last: as an operator asks.
            figure(
                "Instances up",
                "Instances of the service that Prometheus could scrape last time.",
                'sum(up{job="kdmri"})',
                legend="up",
                unit="short",
                width=3,
            ).thresholds(limits((None, "red"), (1, "green"))),
            figure(
                "Requests",
                "Answered in the time range shown, whatever their status.",
                f"sum(increase({REQUESTS}{{{CHOSEN}}}[{WHOLE}]))",
                legend="requests",
                unit="short",
                width=4,
            ).decimals(0),
            figure(
                "Slices",
                "Slices answered in the time range shown.",
                f"sum(increase({SLICES}{{{CHOSEN}}}[{WHOLE}]))",
                legend="slices",
                unit="short",
                width=4,
            ).decimals(0),
            figure(
                "Error ratio",
                "Share of requests that failed on our side (5xx, a full queue included) in the time range shown.",
                share("5", WHOLE),
                legend="errors",
                unit="percentunit",
                width=4,
            ).thresholds(limits((None, "green"), (alarm("KdmriErrors") / 5, "orange"), (alarm("KdmriErrors"), "red"))),
            figure(
                "95th percentile",
                "Of twenty requests one took longer.",
                quantile(0.95, REQUEST, "operation", CHOSEN, WHOLE),
                legend="{{operation}}",
                unit="s",
                width=6,
            ).thresholds(limits((None, "green"), (SLOW / 6, "orange"), (SLOW, "red"))),
            figure(
                "Up for",
                "Time since the youngest instance started.",
                'time() - max(process_start_time_seconds{job="kdmri"})',
                legend="uptime",
                unit="dtdurations",
                width=3,
            ),
            stack(
                graph(
                    "Requests by status",
                    "Answers a second, by HTTP status.",
                    {"{{status}}": f"sum by (status) (rate({REQUESTS}{{{CHOSEN}}}[{RECENT}]))"},
                    unit="reqps",
                    width=12,
                )
            ),
            lines_at(
                paint(
                    graph(
                        "Error ratio",
                        "4xx: the client's (unreadable file, unknown role). 5xx: ours, a full queue included. An alert "
                        "fires where those other than a full queue are above the line.",
                        {f"{digit}xx": share(digit, RECENT) for digit in "45"},
                        unit="percentunit",
                        width=12,
                    ),
                    "status",
                ),
                (alarm("KdmriErrors"), "red"),
            ),
            *(latency(percent) for percent in (50, 95, 99)),
            graph(
                "Requests by operation and role",
                "Answers a second. Dashed: super-resolution.",
                {"{{role}} {{operation}}": f"sum by (operation, role) (rate({REQUESTS}{{{CHOSEN}}}[{RECENT}]))"},
                unit="reqps",
                width=12,
            ),
            models(width=12),
            lines_at(
                graph(
                    "Not in keeping with what was measured",
                    "Data-consistency residual: share of the measured k-space that is not in the answer, 95th "
                    "percentile. A rise means inputs that the model can't explain; above the line answers carry a "
                    "warning.",
                    {"{{role}} {{operation}}": quantile(0.95, "kdmri_quality_residual_ratio", "role, operation")},
                    unit="percentunit",
                    width=6,
                    at_least=(0, 1.2 * RESIDUAL),
                ),
                (RESIDUAL, "red"),
            ),
            graph(
                "Noise of the inputs",
                "Standard deviation relative to bright tissue: half of the inputs had less.",
                {"{{operation}}": quantile(0.5, "kdmri_quality_noise_ratio", "operation", OPERATION)},
                unit="percentunit",
                width=6,
            ),
            lines_at(
                graph(
                    "Distance from training",
                    "Factors of two by which inputs lie outside the training data, 95th percentile: 0 is inside. Above "
                    "the line answers carry a warning.",
                    {"{{quantity}}": quantile(0.95, "kdmri_quality_distance_octaves", "quantity", OPERATION)},
                    unit="suffix: oct",
                    width=6,
                    at_least=(0, 2 * TOLERANCE),
                ),
                (TOLERANCE, "red"),
            ),
            lines_at(
                graph(
                    "Answers with a warning",
                    "Share of answers that carry the header KDMRI-Warning. An alert fires above the line.",
                    {"{{operation}}": warning_share()},
                    unit="percentunit",
                    width=6,
                ),
                (alarm("KdmriOutsideTraining"), "red"),
            ),
        ],
    )


def latency(percent: int) -> timeseries.Panel:
    """Return the PromQL for a percentile of the duration of whole requests of both roles."""
    return lines_at(
        graph(
            f"Latency, p{percent}",
            f"Whole requests, from the first byte of the upload to the answer: {percent} of 100 took less. "
            f"The objective is {SLOW:g} s for 95 of 100.",
            {"{{operation}}": quantile(percent / 100, REQUEST, "operation")},
            unit="s",
            width=8,
        ),
        (SLOW, "red"),
    )


def share(digit: str, window: str) -> str:
    """Return the PromQL for the share of statuses that begin with a digit; 0 rather than nothing if there was none."""
    # A sum over no series is nothing, not zero, and would make the whole ratio nothing.
    those = f'sum(rate({REQUESTS}{{{CHOSEN}, status=~"{digit}.."}}[{window}]))'
    return f"({those} or vector(0)) / sum(rate({REQUESTS}{{{CHOSEN}}}[{window}]))"


def warning_share() -> str:
    """Return the PromQL for the share of answers with a warning; 0 rather than nothing if there was none."""
    answers = f'sum by (operation) (rate({REQUESTS}{{{CHOSEN}, status="200"}}[{RECENT}]))'
    warnings = f"sum by (operation) (rate(kdmri_quality_warnings_total{{{CHOSEN}}}[{RECENT}]))"
    return f"({warnings} or 0 * {answers}) / {answers}"
