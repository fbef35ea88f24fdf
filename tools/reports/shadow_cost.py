"""Measure what shadow runs cost live requests, in five minutes: `python -m tools.reports.shadow_cost DATA [MINUTES]`.

Latency with KDMRI_SHADOW_RATE=1 against 0, at half load: two services side by side take turns, so that whatever else
the machine does falls on both. In a pair of turns both get the same arrivals, exponentially spaced, at half of what one
of them could take one after the other; who begins alternates. A turn ends when its shadow runs have, so that none runs
into a turn that it is not measured in. Writes docs/reports/operations/shadow_cost.json and its section of
docs/reports/operations.md.
For a machine that does nothing else: where other work has the processor, shadow runs hardly get any of it.
"""

import asyncio
import json
import os
import re
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import numpy as np

from kdmri.bundles.location import models_folder
from kdmri.bundles.store import load_all
from tools.harness import live, traffic
from tools.reports import page

TURN = 25
"""Requests of one turn: the unit that the bootstrap draws, for requests of a turn wait for each other."""
DRAWS = 2000
ARMS = {"off": 0, "on": 1}
SEED = 0


class Arm:
    """A service under measurement."""

    def __init__(self, http: httpx2.AsyncClient, rate: int) -> None:
        self.http = http
        self.rate = rate
        self.sent = 0

    async def latency(self, request: dict[str, Any], delay: float = 0) -> float:
        """Send a request after `delay` seconds and return the seconds until its answer."""
        await asyncio.sleep(delay)
        started = time.perf_counter()
        (await self.http.post(**request)).raise_for_status()
        self.sent += 1
        return time.perf_counter() - started

    async def turn(self, request: dict[str, Any], arrivals: np.ndarray) -> list[float]:
        """Send requests at given times and return their latencies, once all their shadow runs are over."""
        found = list(await asyncio.gather(*(self.latency(request, at) for at in arrivals)))
        await self.wait_for_shadow_runs()
        return found

    async def wait_for_shadow_runs(self) -> None:
        """Wait until every request's shadow run is done or dropped. Raises TimeoutError."""
        async with asyncio.timeout(600):
            while sum((await self.shadows()).values()) < self.rate * self.sent:
                await asyncio.sleep(0.1)

    async def shadows(self) -> dict[str, int]:
        """Return the number of shadow runs so far."""
        text = (await self.http.get("/metrics")).text
        names = {"compared": "kdmri_shadow_psnr_db_count", "dropped": "kdmri_shadow_dropped_total"}
        return {
            what: round(sum(map(float, re.findall(rf"^{name}\S* (\S+)$", text, re.MULTILINE))))
            for what, name in names.items()
        }


async def measure_operation(arms: dict[str, Arm], request: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Measure one operation in as many pairs of turns as fit a time.

    Args:
        arms: The services, without and with shadow runs.
        request: Sends the request.
        seconds: Time limit.
    """
    rng = np.random.default_rng(SEED)
    for arm in arms.values():
        for _ in range(3):
            await arm.latency(request)
        await arm.wait_for_shadow_runs()
    # The time of one request alone sets the pace of arrivals: half load on this machine, whatever its speed.
    alone = float(np.median([await arms["off"].latency(request) for _ in range(15)]))
    # Counts before and after: the service has answered warm-up requests, whose shadow runs are not of the measurement.
    before = await arms["on"].shadows()
    turns: dict[str, list[list[float]]] = {name: [] for name in arms}
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        # Exponential gaps are those of clients that do not know of each other; a mean of twice the time is half load.
        arrivals = np.cumsum(rng.exponential(2 * alone, TURN))
        for name in sorted(arms, reverse=len(turns["on"]) % 2 == 0):
            turns[name].append(await arms[name].turn(request, arrivals))
    after = await arms["on"].shadows()
    return {
        "alone_ms": 1000 * alone,
        "requests": TURN * len(turns["on"]),
        **{name: latencies(np.array(found)) for name, found in turns.items()},
        "p95_ratio": ratio(np.array(turns["on"]), np.array(turns["off"]), rng),
        "shadows": {what: after[what] - before[what] for what in after},
    }


def latencies(turns: np.ndarray) -> dict[str, float]:
    """Return all latencies of some turns, in milliseconds."""
    p50, p95 = np.percentile(1000 * turns, [50, 95])
    return {"p50_ms": float(p50), "p95_ms": float(p95), "mean_ms": float(1000 * turns.mean())}


def ratio(on: np.ndarray, off: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Compute the 95th percentile with shadow runs over that without, with a 95% interval.

    Args:
        on: Turns with shadow runs.
        off: Turns without.
        rng: Draws pairs of turns anew, the same of both.
    """
    # Whole pairs are drawn: requests of a turn wait for each other, so that they are not independent.
    drawn = rng.integers(len(on), size=(DRAWS, len(on)))
    p95 = partial(np.percentile, q=95)
    ratios = [p95(on[pairs]) / p95(off[pairs]) for pairs in drawn]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {"ratio": float(p95(on) / p95(off)), "low": float(low), "high": float(high)}


def requests(data: Path) -> dict[str, dict[str, Any]]:
    """Return the requests: one real slice of 256 x 256 at 4x, and one small DICOM object."""
    images = next(i for i in traffic.slices_of(data, "cardiac") if i.pixels.shape[1:] == (256, 256))
    kinds = {"hdf5": {"content-type": "application/x-hdf5"}, "dicom": {"content-type": "application/dicom"}}
    return {
        "reconstruct": {"url": "/reconstruct", "content": traffic.kspace_file(images, 4), "headers": kinds["hdf5"]},
        "super_resolve": {"url": "/super-resolve", "content": traffic.small_dicom(), "headers": kinds["dicom"]},
    }


async def main(data: Path, minutes: float) -> None:
    """Measure both operations and write the figures."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    backend, wanted = live.backend(cores), requests(data)
    async with AsyncExitStack() as stack:
        arms = {}
        for name, rate in ARMS.items():
            folder = Path(stack.enter_context(TemporaryDirectory()))
            settings = {"shadow_rate": rate, "queue": 1000, "backend": backend, "threads": cores}
            address = stack.enter_context(live.service(folder, **settings))
            client = httpx2.AsyncClient(base_url=address, timeout=120, limits=live.REUSE)
            arms[name] = Arm(await stack.enter_async_context(client), rate)
        share = 60 * minutes / len(wanted)
        found = {operation: await measure_operation(arms, request, share) for operation, request in wanted.items()}
    report = {
        "date": str(datetime.now(UTC).date()),
        "cores": cores,
        "load_before": load,
        "backend": backend,
        "models": [bundle.manifest.reference for bundle in load_all(models_folder())],
        "requests_a_turn": TURN,
        "seed": SEED,
        "operations": found,
    }
    page.SHADOW_COST.write_text(json.dumps(report, indent=2) + "\n")
    page.PAGE.write_text(page.with_section(page.PAGE.read_text(), page.shadow_cost(report)))
    sys.stdout.write(page.shadow_cost(report))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 4))
