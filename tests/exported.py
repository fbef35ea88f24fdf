"""Names of the series that the service exports, for tests of dashboards and rules."""

from kdmri_service.observability import metrics

SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""], "info": ["_info"]}


def exported_series() -> set[str]:
    """Return the names of all series that /metrics can show, those without a sample yet included."""
    families = list(metrics.REGISTRY.collect())
    return {family.name + suffix for family in families for suffix in SUFFIXES[family.type]}
