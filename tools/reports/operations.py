"""docs/reports/operations.md from a run: `python -m tools.reports.operations DATA [THREADS]`, about ten minutes.

Starts the service with every answer shadowed and a Prometheus, sends every slice of the test split as k-space
undersampled 4 and 8 times, DICOM among them, files that can't be read and a crowd, and writes what Prometheus says.
Needs Prometheus and matplotlib installed. One thread an inference measures best on a machine that does other work too.
"""

import os
import re
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2

from kdmri import benchmark
from kdmri.bundles.location import models_folder
from tools.dashboards import queries
from tools.harness import live, traffic
from tools.reports import page, pictures
from tools.reports.page import Phase
from tools.reports.series import Run

SCRAPE = 5
"""Seconds between scrapes."""
CROWD = 12
LIKE_BENCHMARK = {"reconstruct": 40, "super_resolve": 8}
"""Requests for the speed-up that is held against the benchmark's."""
BETWEEN = 8
"""Slices of k-space to one DICOM object."""


class Client:
    """Sends requests one at a time, each with its shadow run, and knows when Prometheus has seen them all."""

    def __init__(self, http: httpx2.Client, prometheus: str) -> None:
        self.http = http
        self.prometheus = prometheus

    def shadow_runs(self) -> float:
        """Return the number of shadow runs that were done or dropped."""
        counts = re.findall(r"^kdmri_shadow_(?:psnr_db_count|dropped_total).* (\S+)$", self._metrics(), re.MULTILINE)
        return sum(map(float, counts))

    def send(self, operation: str, role: str, body: bytes) -> None:
        """Send one request and wait for its shadow run.

        Args:
            operation: The operation.
            role: Role that answers.
            body: The file; by default a small one.
        """
        before = self.shadow_runs()
        post = {"reconstruct": traffic.reconstruct, "super_resolve": traffic.super_resolve}[operation]
        post(self.http, role, body).raise_for_status()
        live.until(lambda: self.shadow_runs() > before, seconds=300, what="a shadow run", pause=0.1)

    def wait_until_scraped(self) -> float:
        """Wait until Prometheus has scraped everything that was counted; returns the time."""
        asked = time.time()
        newest = 'timestamp(up{job="kdmri"})'

        def is_scraped() -> bool:
            return any(value > asked for _, value in queries.instant(self.prometheus, newest))

        live.until(is_scraped, seconds=60, what="a scrape", pause=0.5)
        return time.time()

    def _metrics(self) -> str:
        return self.http.get("/metrics").text


def dicoms(data: Path) -> list[bytes]:
    """Return a DICOM series of 256 x 256."""
    return [file.read_bytes() for file in sorted((data / "dicom" / "t1_sagittal_series").glob("*.dcm"))]


def shadow_phase(client: Client, data: Path, anatomy: str, acceleration: int) -> Phase:
    """Send every slice once, to one role in turn, and now and then an image to super-resolve.

    Args:
        client: The client.
        data: Folder of the data set.
        anatomy: Name of the anatomy.
        acceleration: Grid lines over measured lines.
    """
    start, objects = client.wait_until_scraped(), dicoms(data)
    number = 0
    for number, images in enumerate(traffic.slices_of(data, anatomy), start=1):
        body = traffic.kspace_file(images, acceleration, seed=number)
        client.send("reconstruct", traffic.ROLES[number % 2], body)
        if number % BETWEEN == 1:
            place = number // BETWEEN
            client.send("super_resolve", traffic.ROLES[place % 2], objects[place % len(objects)])
    return Phase(f"{anatomy} {acceleration}x", number, start, client.wait_until_scraped())


def benchmark_phase(client: Client, data: Path) -> Phase:
    """Send the benchmark's sizes: 256 x 256 at 4x, and 256 x 256 to 512 x 512. Shadow runs repeat each."""
    start = client.wait_until_scraped()
    slices = [images for images in traffic.slices_of(data, "cardiac") if images.pixels.shape[1:] == (256, 256)]
    objects = dicoms(data)
    bodies = {
        "reconstruct": lambda number: traffic.kspace_file(slices[number % len(slices)], 4, seed=number),
        "super_resolve": lambda number: objects[number % len(objects)],
    }
    for operation, count in LIKE_BENCHMARK.items():
        for number in range(count):
            client.send(operation, traffic.ROLES[number % 2], bodies[operation](number))
    return Phase("as the benchmark", sum(LIKE_BENCHMARK.values()), start, client.wait_until_scraped())


def crowd(client: Client, data: Path) -> None:
    """Send more requests at a time than may wait, for a minute, and some that can't be read."""
    body = traffic.kspace_file(next(traffic.slices_of(data, "cardiac")), 4)
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        traffic.crowd(client.http, CROWD, body)
        traffic.send_mixed(client.http)


def run_benchmark(threads: int, backend: str) -> list[benchmark.SpeedUp]:
    """Run `kdmri bench` with the service's threads and back end."""
    return benchmark.compare(models_folder(), threads=threads, backends=[backend])


def main(data: Path, threads: int | None = None) -> None:
    """Run all phases and write the page and its pictures."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    threads = threads or cores
    backend = live.backend(threads)
    with (
        TemporaryDirectory() as folder,
        live.service(Path(folder), shadow_rate=1, queue=4, threads=threads, backend=backend) as service,
        live.prometheus(Path(folder), service, interval=f"{SCRAPE}s") as prometheus,
        httpx2.Client(base_url=service, timeout=120, limits=live.REUSE) as http,
    ):
        client = Client(http, prometheus)
        traffic.send_mixed(http)
        # From here on each request waits for its shadow run: none is dropped while the first ones load their models.
        both = 2 * len(traffic.ROLES)
        live.until(lambda: client.shadow_runs() >= both, seconds=300, what="the first shadow runs")
        start = client.wait_until_scraped()
        shadow = [
            shadow_phase(client, data, anatomy, acceleration)
            for acceleration in (4, 8)
            for anatomy in ("brain", "cardiac", "spine")
        ]
        like_benchmark = benchmark_phase(client, data)
        crowd(client, data)
        run = Run(prometheus, start, client.wait_until_scraped(), SCRAPE)
        page.PICTURES.mkdir(parents=True, exist_ok=True)
        for dashboard in sorted(queries.DASHBOARDS.glob("*.json")):
            # The bursts go to the teacher, with other inputs than the student gets then: no comparison.
            end = like_benchmark.end if dashboard.stem == "teacher-against-student" else run.end
            pictures.draw(dashboard, replace(run, end=end), page.PICTURES / f"{dashboard.stem}.png")
        figures = page.page(run, shadow, like_benchmark, run_benchmark(threads, backend))
    machine = f"{threads} of {cores} processor cores an inference, back end {backend}, load average {load:.1f} before"
    page.PAGE.write_text(page.HEAD.format(date=datetime.now(UTC).date(), machine=machine) + figures)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
