"""Memory of the graphics cards that models run on, as a Prometheus collector."""

from collections.abc import Callable, Iterable

import torch
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Memory(Collector):
    """Reads the driver at every scrape: the allocator of one process holds only a part of the memory in use.

    It gives no samples if models run on a processor.
    """

    def __init__(self, devices: Callable[[], Iterable[str]]) -> None:
        self._devices = devices

    def collect(self) -> Iterable[Metric]:
        used = GaugeMetricFamily(
            "kdmri_gpu_memory_used_bytes", "Memory of a card in use, by any process.", labels=["device"]
        )
        total = GaugeMetricFamily("kdmri_gpu_memory_total_bytes", "Memory of a card.", labels=["device"])
        for device in self._devices():
            # cudaMemGetInfo: the driver's view of the whole card, so that other programs' memory is seen as well.
            if device.startswith("cuda"):
                free, size = torch.cuda.mem_get_info(device)
                used.add_metric([device], size - free)
                total.add_metric([device], size)
        return used, total
