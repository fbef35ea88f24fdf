"""Fixtures for the tests of the developer programmes."""

import pytest

from tests.exported import exported_series


@pytest.fixture
def exported() -> set[str]:
    """Names of all series that /metrics can show."""
    return exported_series()
