"""Metrics: their declarations, and functions that record what several of them share. Prefix kdmri_."""

import os
from pathlib import Path

from kdmri_service.observability import gpu, multiprocess
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector
from prometheus_client.exposition import choose_encoder

from kdmri.bundles.manifest import Manifest
from kdmri.operations import OPERATIONS
from kdmri.quality import no_reference
from kdmri.quality.comparison import Comparison
from kdmri.quality.no_reference import Quality

# A registry of its own: the default one would include collectors that libraries register when they are imported.
REGISTRY = CollectorRegistry()
REGISTRY.register(multiprocess.ProcessTotals(multiprocess.with_children))
PlatformCollector(registry=REGISTRY)

# Bucket edges lie on the targets: a slice in tens of milliseconds, an interactive answer below a second, a series below
# a minute.
REQUEST_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SLICE_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 10)
# Densest where a student is expected: 30 to 45 dB to its teacher, SSIM above 0.9, twice to five times as fast.
PSNR_DB = (15, 20, 25, 27.5, 30, 32.5, 35, 37.5, 40, 42.5, 45, 50, 60, 80, 100)
SSIM = (0.5, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999, 1)
SPEEDUP = (0.5, 1, 1.3, 1.5, 1.7, 1.9, 2.1, 2.4, 2.7, 3, 3.5, 4, 4.7, 5.5, 6.5, 7.5, 8.7, 10, 13, 16, 20)
# From rounding (measured samples replaced exactly) to the limit of a warning, 0.25 by default.
RESIDUAL_RATIO = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1)
NOISE_RATIO = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5)
# 0.25 octaves is the tolerance without a warning, 8 the largest distance that is told apart (quality.no_reference).
OCTAVES = (0, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 8)
STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)

REQUESTS = Counter(
    "kdmri_requests",
    "Requests that ended, by the status of their response.",
    ["operation", "role", "status"],
    registry=REGISTRY,
)
REQUEST_DURATION = Histogram(
    "kdmri_request_duration_seconds",
    "Time from the first byte of a request to the first byte of its response.",
    ["operation", "role"],
    buckets=REQUEST_SECONDS,
    registry=REGISTRY,
)
STAGE_DURATION = Histogram(
    "kdmri_stage_duration_seconds",
    "Time that a request spent in one stage.",
    ["operation", "role", "stage"],
    buckets=STAGE_SECONDS,
    registry=REGISTRY,
)
SLICE_DURATION = Histogram(
    "kdmri_slice_duration_seconds",
    "Model time per slice: coil sensitivities, denoising and data consistency.",
    ["operation", "role"],
    buckets=SLICE_SECONDS,
    registry=REGISTRY,
)
SLICES = Counter("kdmri_slices", "Slices in successful responses.", ["operation", "role"], registry=REGISTRY)
PARSERS_ENDED = Counter(
    "kdmri_parsers_ended",
    "Parser workers that an upload ended, by reason: time, crash or killed.",
    ["reason"],
    registry=REGISTRY,
)
AUDIT_RECORDS = Counter("kdmri_audit_records", "Lines written to the audit trail.", registry=REGISTRY)
AUDIT_FAILURES = Counter(
    "kdmri_audit_failures", "Lines that could not be written to the audit trail.", registry=REGISTRY
)
QUEUE_DEPTH = Gauge(
    "kdmri_queue_depth", "Requests that wait in the queue.", registry=REGISTRY, multiprocess_mode="livesum"
)
QUEUE_CAPACITY = Gauge(
    "kdmri_queue_capacity",
    "Number of requests that the queue can hold.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
IN_PROGRESS = Gauge(
    "kdmri_in_progress", "Requests that a model is running.", registry=REGISTRY, multiprocess_mode="livesum"
)
BATCH_SIZE = Histogram(
    "kdmri_batch_size",
    "Number of requests that shared one inference.",
    buckets=(1, 2, 4, 8, 16, 32, 64),
    registry=REGISTRY,
)
MODEL_INFO = Gauge(
    "kdmri_model_info",
    "1 for every model that is served.",
    ["name", "version", "role", "task", "backend", "device"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)


def _devices() -> list[str]:
    return sorted({sample.labels["device"] for metric in MODEL_INFO.collect() for sample in metric.samples})


GPU_MEMORY = gpu.Memory(_devices)
REGISTRY.register(GPU_MEMORY)
AGREEMENT_PSNR = Gauge(
    "kdmri_model_agreement_psnr_db",
    "PSNR of a student's images with its teacher's as the reference, on the test split, as its model card states.",
    ["operation", "name", "version", "condition"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
AGREEMENT_SSIM = Gauge(
    "kdmri_model_agreement_ssim",
    "Structural similarity of a student's images to its teacher's on the test split, as its model card states.",
    ["operation", "name", "version", "condition"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
SHADOW_PSNR = Histogram(
    "kdmri_shadow_psnr_db",
    "PSNR of the student's images with the teacher's as the reference, for live requests that were replayed.",
    ["operation"],
    buckets=PSNR_DB,
    registry=REGISTRY,
)
SHADOW_SSIM = Histogram(
    "kdmri_shadow_ssim",
    "Structural similarity of the student's images to the teacher's, for live requests that were replayed.",
    ["operation"],
    buckets=SSIM,
    registry=REGISTRY,
)
SHADOW_SPEEDUP = Histogram(
    "kdmri_shadow_speedup_ratio",
    "Teacher's time per slice over the student's, both measured in the shadow process while no live request ran.",
    ["operation"],
    buckets=SPEEDUP,
    registry=REGISTRY,
)
SHADOW_DROPPED = Counter(
    "kdmri_shadow_dropped",
    "Sampled requests that were not replayed, since the shadow was busy.",
    registry=REGISTRY,
)
for operation in OPERATIONS:
    # Series must exist before their first observation: Prometheus sees no increase in one that appears with a value.
    for histogram in (SHADOW_PSNR, SHADOW_SSIM, SHADOW_SPEEDUP):
        histogram.labels(operation.name)
JOBS = Gauge(
    "kdmri_jobs",
    "Jobs of the store by state.",
    ["state"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
JOBS_ENDED = Counter("kdmri_jobs_ended", "Jobs that ended, by the state they ended in.", ["outcome"], registry=REGISTRY)
JOB_DURATION = Histogram(
    "kdmri_job_duration_seconds",
    "Time from the submission of a job to its end.",
    buckets=(1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600, 14400, 43200, 86400),
    registry=REGISTRY,
)
BACKLOG = Gauge(
    "kdmri_backlog_seconds",
    "Time that one worker needs for all jobs that wait, by the pace of the jobs that ended last; 0 before the first.",
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
OLDEST_JOB = Gauge(
    "kdmri_oldest_job_seconds",
    "Age of the oldest job that waits.",
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
RESIDUAL = Histogram(
    "kdmri_quality_residual_ratio",
    "Share of the measurement that the images do not explain, as a ratio of norms.",
    ["operation", "role"],
    buckets=RESIDUAL_RATIO,
    registry=REGISTRY,
)
NOISE = Histogram(
    "kdmri_quality_noise_ratio",
    "Standard deviation of the noise in the input, relative to bright tissue.",
    ["operation"],
    buckets=NOISE_RATIO,
    registry=REGISTRY,
)
PREDICTED_PSNR = Histogram(
    "kdmri_quality_predicted_psnr_db",
    "PSNR that answers are predicted to have against the truth, for answers whose quality was predicted.",
    ["operation", "role"],
    buckets=PSNR_DB,
    registry=REGISTRY,
)
DISTANCE = Histogram(
    "kdmri_quality_distance_octaves",
    "Factors of two by which an input lies outside the range that the model was trained on; 0 inside.",
    ["operation", "quantity"],
    buckets=OCTAVES,
    registry=REGISTRY,
)
WARNED = Counter(
    "kdmri_quality_warnings", "Responses with a KDMRI-Warning header.", ["operation", "role"], registry=REGISTRY
)


def export_model_card(operation: str, manifest: Manifest) -> None:
    """Export the agreement of a student with its teacher that its model card states."""
    # Figures of the model card, beside those of live requests: a dashboard shows whether the live ones fall short.
    for condition, figures in manifest.agreement.items():
        labels = (operation, manifest.name, manifest.version, condition)
        AGREEMENT_PSNR.labels(*labels).set(figures["psnr"])
        AGREEMENT_SSIM.labels(*labels).set(figures["ssim"])


def record_quality(operation: str, manifest: Manifest, quality: Quality) -> None:
    """Record the quality of one answer.

    Args:
        operation: Name of the operation.
        manifest: Of the model that answered.
        quality: Of its images.
    """
    RESIDUAL.labels(operation, manifest.role).observe(quality.residual)
    NOISE.labels(operation).observe(quality.noise)
    for quantity, octaves in no_reference.distances(quality, manifest).items():
        DISTANCE.labels(operation, quantity).observe(octaves)
    if quality.prediction:
        PREDICTED_PSNR.labels(operation, manifest.role).observe(quality.prediction.psnr)
    if no_reference.warnings(quality, manifest):
        WARNED.labels(operation, manifest.role).inc()


def record_shadow(operation: str, comparison: Comparison, *, timed: bool) -> None:
    """Record one shadow comparison; its speed-up only if no live request disturbed the timing.

    Args:
        operation: Name of the operation.
        comparison: Of the student with the teacher.
        timed: Whether its times were measured undisturbed.
    """
    SHADOW_PSNR.labels(operation).observe(comparison.psnr_db)
    # Images smaller than the window of SSIM have none.
    if comparison.ssim is not None:
        SHADOW_SSIM.labels(operation).observe(comparison.ssim)
    if timed:
        SHADOW_SPEEDUP.labels(operation).observe(comparison.speedup)


def exposition(accept: str | None) -> tuple[bytes, str]:
    """Return the metrics of all worker processes, and their Content-Type: OpenMetrics if the scraper accepts it."""
    encode, content_type = choose_encoder(accept or "")
    if not (shared := os.environ.get(multiprocess.FOLDER)):
        return encode(REGISTRY), content_type
    registry = multiprocess.registry_of_all(Path(shared))
    # Every worker gets the same figures from the driver: one of them is enough.
    registry.register(GPU_MEMORY)
    return encode(registry), content_type
