"""What the dashboards and the rules may name."""

import sys
from pathlib import Path

import pytest

from service import telemetry

# deploy/grafana holds scripts, not a package: let the tests import them.
sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "grafana"))

SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""], "info": ["_info"]}


@pytest.fixture
def exported() -> set[str]:
    """Names of all series that /metrics can show, those without a sample yet included."""
    families = list(telemetry.REGISTRY.collect())
    return {family.name + suffix for family in families for suffix in SUFFIXES[family.type]}


@pytest.fixture
def planned() -> set[str]:
    """Named by the design, exported once shadow runs exist."""
    names = ("kdmri_shadow_psnr_db", "kdmri_shadow_ssim")
    histograms = {name + suffix for name in names for suffix in SUFFIXES["histogram"]}
    return histograms | {"kdmri_shadow_dropped_total"}
