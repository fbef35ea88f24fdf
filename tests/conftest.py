"""Real data where it is at hand: the shared data set beside the repository, images in installed packages."""

from pathlib import Path

import pytest
from hypothesis import settings
from kdmri_service.settings import Settings

from kdmri.bundles.store import Bundle, load_all
from kdmri.runtime.model import Model, load_model
from tests.shared_data import ABSENT, DATA

# No test of this suite depends on the clock, nor on what an earlier run drew.
settings.register_profile("kdmri", deadline=None, max_examples=40, database=None)
settings.load_profile("kdmri")


@pytest.fixture(scope="session")
def data() -> Path:
    """The data set of real scans (see README); tests that read it skip where it is absent."""
    if not DATA.exists():
        pytest.skip(ABSENT)
    return DATA


@pytest.fixture(scope="session")
def bundles() -> list[Bundle]:
    """The models that the project ships."""
    return load_all(Settings().models)


@pytest.fixture(scope="session")
def models(bundles: list[Bundle]) -> dict[tuple[str, str], Model]:
    """Those models loaded, by (task, role)."""
    return {(b.manifest.task, b.manifest.role): load_model(b) for b in bundles}
