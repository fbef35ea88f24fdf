"""The metrics page, made from the declarations of the service's metrics."""

from kdmri_service.observability import metrics
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from tools.site.markdown import code, page, table

INTRODUCTION = """\
The service exports these metrics on `GET /metrics`, in Prometheus' text format or in OpenMetrics, whichever the scraper
accepts. Counters have the suffix `_total`; a histogram has the series `_bucket`, `_sum` and `_count`. Labels never hold
identifiers of people or requests. With several workers, counters and histograms add up over the workers.

The dashboards in `deploy/grafana/` and the alerts in `deploy/prometheus/` use these names. Beside them the service
exports the standard metrics of the process and the platform."""


def metrics_page() -> str:
    """Return the page: one row for each metric, then the buckets of the histograms."""
    families = {family.name: family for family in metrics.REGISTRY.collect() if family.name.startswith("kdmri_")}
    labels = {_family(metric).name: metric._labelnames for metric in _declarations()}
    # Metrics that a collector makes on demand carry their labels themselves.
    named = {name: labels.get(name, getattr(family, "_labelnames", ())) for name, family in families.items()}
    rows = [
        (code(_exported_name(family)), family.type, ", ".join(map(code, named[name])), family.documentation)
        for name, family in sorted(families.items())
    ]
    buckets = {
        code(_family(metric).name): ", ".join(f"{edge:g}" for edge in _edges(metric))
        for metric in _declarations()
        if _family(metric).type == "histogram"
    }
    return page(
        "Metrics",
        INTRODUCTION,
        [
            table(["Name", "Type", "Labels", "Meaning"], rows),
            "## Bucket edges",
            table(["Histogram", "Upper edges"], sorted(buckets.items())),
        ],
    )


def _declarations() -> list[MetricWrapperBase]:
    return [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]


def _family(metric: MetricWrapperBase) -> Metric:
    """Return name, type and documentation of a declaration, which describes one family."""
    (family,) = metric.describe()
    return family


def _exported_name(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


def _edges(metric: MetricWrapperBase) -> list[float]:
    # prometheus-client has no public way to read a declaration's buckets or labels.
    edges: list[float] = metric._kwargs["buckets"]
    return list(edges)
