"""What shadow runs cost live requests: latency with KDMRI_SHADOW_RATE=1 against 0, at half load.

    python -m tests.e2e.measure_shadow [--operation super-resolve] [--requests 60] [--rounds 4]

Two services side by side take turns, so that whatever else the machine does falls on both; within a round both get the
same arrivals, exponentially spaced, at half of what one of them could take. Before the other's turn the shadow of the
one may finish, so that it does not run into a turn that it is not measured in.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import numpy as np
from pydicom.data import get_testdata_file

from kdmri.formats import fastmri
from tests.e2e.serving import serving
from tests.scans import phantom, scan


def upload(operation: str) -> dict:
    """A request's body: four slices of 256 x 256 at 4x, or one object of 64 x 64."""
    if operation == "super-resolve":
        content = Path(get_testdata_file("MR_small.dcm")).read_bytes()
        return {"content": content, "headers": {"content-type": "application/dicom"}}
    with tempfile.TemporaryDirectory() as folder:
        fastmri.write(Path(folder) / "scan.h5", scan(phantom(256, 256).repeat(4, axis=0), acceleration=4))
        content = (Path(folder) / "scan.h5").read_bytes()
    return {"content": content, "headers": {"content-type": "application/x-hdf5"}}


async def timed(client: httpx2.AsyncClient, operation: str, delay: float, body: dict) -> float:
    """Seconds that a request takes which is sent after `delay`."""
    await asyncio.sleep(delay)
    started = time.perf_counter()
    (await client.post(f"/{operation}", **body)).raise_for_status()
    return time.perf_counter() - started


async def turn(client: httpx2.AsyncClient, operation: str, arrivals: np.ndarray, body: dict) -> list[float]:
    """The latencies of one service's turn."""
    found = await asyncio.gather(*(timed(client, operation, at, body) for at in arrivals))
    await settled(client)
    return list(found)


async def settled(client: httpx2.AsyncClient) -> None:
    """Until two readings of the shadow's counters agree over a second."""
    last = None
    while (now := await counts(client)) != last:
        last = now
        await asyncio.sleep(1)


async def counts(client: httpx2.AsyncClient) -> dict[str, float]:
    """Shadow runs, those timed undisturbed, and those dropped."""
    wanted = ("kdmri_shadow_psnr_db_count", "kdmri_shadow_speedup_ratio_count", "kdmri_shadow_speedup_ratio_sum")
    lines = (await client.get("/metrics")).text.splitlines()
    return {
        line.split()[0]: float(line.split()[1])
        for line in lines
        if line.startswith((*wanted, "kdmri_shadow_dropped_total"))
    }


async def main(operation: str, requests: int, rounds: int) -> None:
    """Measure and print."""
    body, rng = upload(operation), np.random.default_rng(0)
    latencies: dict[str, list[float]] = {"off": [], "on": []}
    async with AsyncExitStack() as stack:
        clients = {}
        for name, rate in (("off", 0), ("on", 1)):
            log = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            service = stack.enter_context(serving(log, KDMRI_SHADOW_RATE=str(rate), KDMRI_QUEUE="1000"))
            clients[name] = await stack.enter_async_context(httpx2.AsyncClient(base_url=service.address, timeout=600))
            for _ in range(3):
                await timed(clients[name], operation, 0, body)
            await settled(clients[name])
        alone = float(np.median([await timed(clients["off"], operation, 0, body) for _ in range(9)]))
        for number in range(rounds):
            arrivals = np.cumsum(rng.exponential(2 * alone, requests))
            for name in ("off", "on") if number % 2 else ("on", "off"):
                latencies[name] += await turn(clients[name], operation, arrivals, body)
        shadow = await counts(clients["on"])
    write = sys.stdout.write
    write(f"{operation}: {alone * 1000:.0f} ms alone, one every {2000 * alone:.0f} ms, {requests * rounds} requests\n")
    for name, seconds in latencies.items():
        p50, p95 = 1000 * np.percentile(seconds, [50, 95])
        write(f"shadow {name}: p50 {p50:.0f} ms, p95 {p95:.0f} ms, mean {1000 * np.mean(seconds):.0f} ms\n")
    ratios = sorted(
        np.percentile(rng.choice(latencies["on"], requests * rounds), 95)
        / np.percentile(rng.choice(latencies["off"], requests * rounds), 95)
        for _ in range(1000)
    )
    p95 = [float(np.percentile(latencies[name], 95)) for name in ("on", "off")]
    write(f"p95 on / off: {p95[0] / p95[1]:.3f} (90% bootstrap interval {ratios[50]:.3f} to {ratios[950]:.3f})\n")
    write(f"{shadow}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--operation", choices=("reconstruct", "super-resolve"), default="reconstruct")
    parser.add_argument("--requests", type=int, default=60, help="in a turn")
    parser.add_argument("--rounds", type=int, default=4)
    chosen = parser.parse_args()
    asyncio.run(main(chosen.operation, chosen.requests, chosen.rounds))
