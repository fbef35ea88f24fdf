"""docs/operations.md from a run: `python deploy/operations.py ../shared/data` (about half an hour on two cores).

Starts the service with every answer shadowed and a Prometheus, sends every slice of the test split as k-space
undersampled 4 and 8 times, DICOM, files that can't be read and a crowd, and writes what Prometheus has to say.
Needs Prometheus and matplotlib installed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
sys.path.append(str(HERE / "grafana"))

import httpx2  # noqa: E402
import live  # noqa: E402
import page  # noqa: E402
import pictures  # noqa: E402
import queries  # noqa: E402
import traffic  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from kdmri.formats import nifti  # noqa: E402
from kdmri.records import Images  # noqa: E402

DOCS = HERE.parent / "docs"
SCRAPE = 5
"""Seconds between scrapes."""
AIR = 0.1
"""Slices whose largest value is below this share of the volume's are left out, as in training."""
CROWD = 12
PAIRS = 30
"""Requests of each role for the speed-up that is held against the benchmark's."""


@dataclass(frozen=True)
class Phase:
    """Requests of one kind, and the seconds since 1970 between which Prometheus saw them and no others."""

    name: str
    requests: int
    start: float
    end: float


class Client:
    """Sends requests one at a time, each with its shadow run, and knows when Prometheus has seen them all."""

    def __init__(self, http: httpx2.Client, prometheus: str) -> None:
        self.http = http
        self.prometheus = prometheus

    def shadowed(self) -> float:
        """Shadow runs done or dropped."""
        return self._count("kdmri_shadow_psnr_db_count") + self._count("kdmri_shadow_dropped_total")

    def reconstruct(self, role: str, body: bytes) -> None:
        """One request, and its shadow run."""
        before = self.shadowed()
        traffic.reconstruct(self.http, role, body).raise_for_status()
        live.until(lambda: self.shadowed() > before, seconds=120, what="a shadow run", pause=0.03)

    def super_resolve(self, role: str, body: bytes) -> None:
        """One request, and its shadow run."""
        before = self.shadowed()
        traffic.super_resolve(self.http, role, body).raise_for_status()
        live.until(lambda: self.shadowed() > before, seconds=120, what="a shadow run", pause=0.03)

    def seen(self) -> float:
        """The time, once Prometheus has scraped all that was counted."""
        asked = time.time()
        newest = 'timestamp(up{job="kdmri"})'

        def scraped() -> bool:
            return any(value > asked for _, value in queries.instant(self.prometheus, newest))

        live.until(scraped, seconds=60, what="a scrape", pause=0.5)
        return time.time()

    def _count(self, name: str) -> float:
        exposed = text_string_to_metric_families(self.http.get("/metrics").text)
        return sum(sample.value for family in exposed for sample in family.samples if sample.name == name)


def slices_of(data: Path, anatomy: str) -> Iterator[Images]:
    """Every slice of the test split that is not air."""
    for file in sorted((data / "volumes" / "test" / anatomy).glob("*.nii.gz")):
        pixels = nifti.read(file).pixels
        for image in pixels:
            if image.max() > AIR * pixels.max():
                yield Images(image[None])


def shadow_phase(client: Client, data: Path, anatomy: str, acceleration: int) -> Phase:
    """Every slice once, to one role in turn; the other shadows it."""
    start = client.seen()
    number = 0
    for number, images in enumerate(slices_of(data, anatomy), start=1):
        body = traffic.kspace_file(images, acceleration, seed=number)
        client.reconstruct(traffic.ROLES[number % 2], body)
    return Phase(f"{anatomy} {acceleration}x", number, start, client.seen())


def paired_phase(client: Client, data: Path) -> Phase:
    """The benchmark's sizes, 256 x 256 at 4x and 256 x 256 to 512 x 512, by each role in turn."""
    start = client.seen()
    slices = [images for images in slices_of(data, "cardiac") if images.pixels.shape[1:] == (256, 256)]
    dicoms = sorted((data / "dicom" / "t1_sagittal_series").glob("*.dcm"))
    for number in range(PAIRS):
        kspace = traffic.kspace_file(slices[number % len(slices)], 4, seed=number)
        dicom = dicoms[number % len(dicoms)].read_bytes()
        for role in traffic.ROLES:
            client.reconstruct(role, kspace)
            client.super_resolve(role, dicom)
    return Phase("paired", PAIRS, start, client.seen())


def crowd(client: Client, data: Path) -> None:
    """For a minute and a half more requests at a time than may wait, and some that can't be read."""
    body = traffic.kspace_file(next(slices_of(data, "cardiac")), 4)
    ends = time.monotonic() + 90
    while time.monotonic() < ends:
        traffic.crowd(client.http, CROWD, body)
        traffic.mixed(client.http)


def benchmark() -> list[dict]:
    """What `kdmri bench` measures on this machine."""
    ran = subprocess.run([live.KDMRI, "bench", "--json", "--repeats", "5"], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def main(data: Path) -> None:
    """Run it all and write the page and its pictures."""
    load = os.getloadavg()[0]
    with (
        TemporaryDirectory() as folder,
        live.service(Path(folder), shadow_rate=1, queue=4) as service,
        live.prometheus(Path(folder), service, interval=f"{SCRAPE}s") as prometheus,
        httpx2.Client(base_url=service, timeout=120) as http,
    ):
        client = Client(http, prometheus)
        traffic.mixed(http)
        start = client.seen()
        shadow = [
            shadow_phase(client, data, anatomy, acceleration)
            for acceleration in (4, 8)
            for anatomy in ("brain", "cardiac", "spine")
        ]
        paired = paired_phase(client, data)
        crowd(client, data)
        run = pictures.Run(prometheus, start, client.seen(), SCRAPE)
        (DOCS / "operations").mkdir(parents=True, exist_ok=True)
        for dashboard in sorted(queries.DASHBOARDS.glob("*.json")):
            pictures.draw(dashboard, run, DOCS / "operations" / f"{dashboard.stem}.png")
        figures = page.page(run, shadow, paired, benchmark())
    machine = f"{os.cpu_count()} processor cores, load average {load:.1f} when it began (other work ran beside it)"
    (DOCS / "operations.md").write_text(page.HEAD.format(date=datetime.now(UTC).date(), machine=machine) + figures)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
