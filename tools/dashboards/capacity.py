"""The capacity dashboard: places in the queue, model time, processors, memory."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from tools.dashboards.panels import RECENT, RED, WHOLE, figure, graph, limits, models, page, quantile

SERVICE = 'job="kdmri"'
WAITING, PLACES, RUNNING = "sum(kdmri_queue_depth)", "sum(kdmri_queue_capacity)", "sum(kdmri_in_progress)"
STAGE, REQUESTS, BATCH = "kdmri_stage_duration_seconds", "kdmri_requests_total", "kdmri_batch_size"
GPU = "kdmri_gpu_memory"
# A series in place of none, so that the panel says why it is empty.
NO_CARD = 'label_replace(vector(0), "device", "no GPU", "", "")'
OPERATION = 'operation=~"$operation"'


def dashboard() -> Dashboard:
    return page(
        "kdmri-capacity",
        "kdmri: capacity",
        "Is it full, and of what.",
        [
            # Figures of this moment first, curves below: whoever is called out reads the first row.
            figure(
                "Waiting",
                "Requests waiting for their turn now. What finds the queue full is answered 503.",
                WAITING,
                legend="waiting",
                unit="short",
                width=3,
            ).thresholds(limits((None, "green"), (1, "orange"))),
            figure(
                "In progress",
                "Requests that a model is busy with now.",
                RUNNING,
                legend="running",
                unit="short",
                width=3,
            ),
            figure(
                "Queue taken",
                "Share of the queue's places that are taken now.",
                f"{WAITING} / {PLACES}",
                legend="taken",
                unit="percentunit",
                width=3,
            ).thresholds(limits((None, "green"), (0.5, "orange"), (0.9, "red"))),
            figure(
                "Turned away",
                "Requests answered 503 for want of a place, in the time range shown.",
                turned_away("increase", WHOLE),
                legend="turned away",
                unit="short",
                width=3,
            )
            .decimals(0)
            .thresholds(limits((None, "green"), (1, "red"))),
            figure(
                "Processor",
                "Cores in use by the service, mean of the time range shown.",
                f"sum(rate(process_cpu_seconds_total{{{SERVICE}}}[{WHOLE}]))",
                legend="cores",
                unit="suffix: cores",
                width=4,
            ).decimals(2),
            figure(
                "Memory",
                "Resident memory of the service now, shadow runs and workers included.",
                f"sum(process_resident_memory_bytes{{{SERVICE}}})",
                legend="resident",
                unit="bytes",
                width=4,
            ),
            figure(
                "GPU memory",
                "Memory in use on the cards that models run on, by whatever process, now. 0: they run on a processor.",
                f"sum({GPU}_used_bytes) or vector(0)",
                legend="in use",
                unit="bytes",
                width=4,
            ),
            graph(
                "Queue and work",
                "Requests waiting, requests that a model is busy with, and the places to wait in.",
                {"waiting": WAITING, "in progress": RUNNING, "places": PLACES},
                unit="short",
                width=12,
            ),
            graph(
                "Saturation",
                "Model time a second, all requests together: at the number of inferences at a time "
                "(KDMRI_INFERENCES, by default 1) there is no time left, and requests queue.",
                {"model time": busy(), "queue taken": f"avg_over_time(({WAITING} / {PLACES})[{RECENT}:])"},
                unit="percentunit",
                width=12,
            ),
            graph(
                "Time in the queue",
                "Seconds between a request's arrival at the queue and its turn; where several share an inference, also "
                "the others' shares of it. Dashed: super-resolution.",
                {
                    f"{{{{operation}}}} p{percent}": quantile(
                        percent / 100, STAGE, "operation", f'{OPERATION}, role=~"$role", stage="queue"'
                    )
                    for percent in (50, 95)
                },
                unit="s",
                width=8,
            ),
            graph(
                "Requests together",
                "Requests that share an inference, mean: at most KDMRI_BATCH, by default 8 on a GPU, 1 on a processor.",
                {"together": f"sum(rate({BATCH}_sum[{RECENT}])) / (sum(rate({BATCH}_count[{RECENT}])) > 0)"},
                unit="short",
                width=8,
            ),
            graph(
                "Turned away",
                "Requests a second that found the queue full.",
                {"turned away": turned_away("rate", RECENT)},
                unit="reqps",
                width=8,
            ).override_by_name("turned away", [RED]),
            graph(
                "Processor",
                "Cores in use by each instance of the service.",
                {"{{instance}}": f"rate(process_cpu_seconds_total{{{SERVICE}}}[{RECENT}])"},
                unit="suffix: cores",
                width=8,
            ),
            graph(
                "Memory",
                "Resident memory of each instance of the service, shadow runs and workers included.",
                {"{{instance}}": f"process_resident_memory_bytes{{{SERVICE}}}"},
                unit="bytes",
                width=8,
            ),
            graph(
                "GPU memory",
                "Memory in use on each card that models run on, by whatever process, and the card's size. "
                "0: models run on a processor.",
                {
                    "{{instance}} {{device}}": f"{GPU}_used_bytes or on () {NO_CARD}",
                    "{{instance}} {{device}}, size": f"{GPU}_total_bytes or on () {NO_CARD}",
                },
                unit="bytes",
                width=8,
                at_least=(0, 2**30),
            ),
            models(width=24),
            graph(
                "Jobs",
                "Durable jobs that wait, and those that run.",
                {"{{state}}": 'max by (state) (kdmri_jobs{state=~"queued|running"})'},
                unit="short",
                width=8,
            ),
            graph(
                "Backlog of jobs",
                "Time that one worker needs for all jobs that wait, by the pace of the jobs that ended last, and the "
                "age of the oldest. More workers are worth their while where these keep rising.",
                {"backlog": "max(kdmri_backlog_seconds)", "oldest": "max(kdmri_oldest_job_seconds)"},
                unit="s",
                width=8,
            ),
            graph(
                "Jobs that ended",
                "Jobs a second, by how they ended.",
                {"{{outcome}}": f"sum by (outcome) (rate(kdmri_jobs_ended_total[{RECENT}]))"},
                unit="suffix: /s",
                width=8,
            ),
        ],
    )


def busy() -> str:
    """Return the PromQL for seconds of model time a second."""
    # Without `queue`, which is waiting, and without reading and encoding, which need no turn.
    stages = 'stage=~"sensitivities|denoise|data_consistency"'
    return f"sum(rate({STAGE}_sum{{{stages}}}[{RECENT}]))"


def turned_away(change: str, window: str) -> str:
    """Return the PromQL for requests that found the queue full; 0 rather than nothing if there was none."""
    return f'sum({change}({REQUESTS}{{{OPERATION}, status="503"}}[{window}])) or vector(0)'
