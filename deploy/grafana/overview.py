"""Is it up, is it quick, is it full."""

from grafana_foundation_sdk.models.dashboard import Dashboard
from panels import CHOSEN, RECENT, WHOLE, figure, graph, limits, page, quantile, rows, stacked

REQUESTS, REQUEST = "kdmri_requests_total", "kdmri_request_duration_seconds"
PROCESS = '{job="kdmri"}'


def dashboard() -> Dashboard:
    return page(
        "kdmri-overview",
        "kdmri: overview",
        "Is it up, is it quick, is it full.",
        [
            figure(
                "Requests",
                "Answered in the time range shown.",
                f"sum(increase({REQUESTS}{{{CHOSEN}}}[{WHOLE}]))",
                legend="requests",
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
            ).thresholds(limits((None, "green"), (0.01, "orange"), (0.05, "red"))),
            figure(
                "95th percentile",
                "Of twenty requests one took longer.",
                quantile(0.95, REQUEST, "operation", CHOSEN, WHOLE),
                legend="{{operation}}",
                unit="s",
                width=5,
            ),
            figure(
                "In progress",
                "Inferences running now.",
                "sum(kdmri_in_progress)",
                legend="running",
                unit="short",
                width=3,
            ),
            figure(
                "Queue",
                "Requests waiting for a worker now. What finds the queue full is answered 503.",
                "sum(kdmri_queue_depth)",
                legend="waiting",
                unit="short",
                width=3,
            ).thresholds(limits((None, "green"), (1, "orange"))),
            figure(
                "Up since",
                "Time since the service's process started.",
                f"time() - min(process_start_time_seconds{PROCESS})",
                legend="uptime",
                unit="dtdurations",
                width=5,
            ),
            stacked(
                graph(
                    "Requests by status",
                    "Answers a second, by HTTP status.",
                    {"{{status}}": f"sum by (status) (rate({REQUESTS}{{{CHOSEN}}}[{RECENT}]))"},
                    unit="reqps",
                    width=12,
                )
            ),
            graph(
                "Error ratio",
                "4xx: the client's (unreadable file, unknown role). 5xx: ours, a full queue included.",
                {f"{digit}xx": share(digit, RECENT) for digit in "45"},
                unit="percentunit",
                width=12,
            ),
            graph(
                "Latency",
                "Whole requests, upload to answer.",
                {
                    f"{{{{operation}}}} p{percent}": quantile(percent / 100, REQUEST, "operation")
                    for percent in (50, 95, 99)
                },
                unit="s",
                width=12,
            ),
            graph(
                "Queue and work",
                "Requests waiting for a worker, and inferences running.",
                {"waiting": "sum(kdmri_queue_depth)", "running": "sum(kdmri_in_progress)"},
                unit="short",
                width=12,
            ),
            graph(
                "Processor",
                "Cores in use by the service.",
                {"{{instance}}": f"rate(process_cpu_seconds_total{PROCESS}[{RECENT}])"},
                unit="suffix: cores",
                width=8,
            ),
            graph(
                "Memory",
                "Resident memory of the service.",
                {"{{instance}}": f"process_resident_memory_bytes{PROCESS}"},
                unit="bytes",
                width=8,
            ),
            rows(
                "Models served",
                "Loaded and warm, from the bundles' manifests.",
                "kdmri_model_info",
                hidden=("Time", "Value", "__name__", "instance", "job"),
                width=8,
            ),
        ],
    )


def share(digit: str, window: str) -> str:
    """Share of requests answered with a status that starts so; 0, not nothing, where there was none."""
    those = f'sum(rate({REQUESTS}{{{CHOSEN}, status=~"{digit}.."}}[{window}]))'
    return f"({those} or vector(0)) / sum(rate({REQUESTS}{{{CHOSEN}}}[{window}]))"
