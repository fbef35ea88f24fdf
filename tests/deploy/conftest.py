"""What the dashboards and the rules may name, and a running service to ask."""

import shutil
from collections.abc import Iterator

import httpx2
import pytest

from tests.exported import exported_series
from tools.harness import live


@pytest.fixture
def exported() -> set[str]:
    """Names of all series that /metrics can show."""
    return exported_series()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service's address. It compares every answer that it has time for, lets one request wait, and takes 1 MB."""
    folder = tmp_path_factory.mktemp("service")
    # One thread: two that wait for each other crawl where other work has the second core.
    with live.service(folder, shadow_rate=1, queue=1, max_upload_mb=1, threads=1, spool=folder / "spool") as address:
        yield address


@pytest.fixture(scope="session")
def client(service: str) -> Iterator[httpx2.Client]:
    """A client of that service."""
    with httpx2.Client(base_url=service, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def prometheus(service: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that scrapes the service every second; skips where there is none installed."""
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus: Debian's package of that name has it")
    with live.prometheus(tmp_path_factory.mktemp("prometheus"), service, interval="1s") as address:
        yield address
