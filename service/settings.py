"""Settings of the service, each from the environment variable KDMRI_<NAME>."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

import kdmri

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
GPU_BATCH = 8


class Settings(BaseSettings):
    """One field, one environment variable; `kdmri serve --help` names those that have a flag."""

    model_config = SettingsConfigDict(env_prefix="KDMRI_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    models: Path = kdmri.MODELS
    """Folder of bundles, <name>/<version>/."""
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    backend: Literal["auto", "onnxruntime", "tensorrt", "openvino", "openvino-bf16"] = "auto"
    """What runs the networks: `auto` measures as the service starts and takes the fastest that is installed, bfloat16
    only where every model's card says that it costs next to nothing. openvino: its extra, on a CPU. tensorrt: its
    libraries, on a GPU; where they can't be loaded, as `auto`."""
    threads: int | None = Field(None, ge=1)
    """Threads of one inference; by default the processor's cores, divided by all inferences at a time."""
    workers: int = Field(1, ge=1)
    """Processes that answer. Each has its models, its queue and its inferences: memory multiplies."""
    inferences: int = Field(1, ge=1)
    """Inferences at a time in a worker, each of `threads` threads: one after the other answers sooner, several at a
    time answer more; most with one more than there are cores, for then no core waits while a request is read."""
    batch: int | None = Field(None, ge=1)
    """Requests that go through the networks together, at most: of one model, one single-coil slice or DICOM image each,
    all of one size. By default 8 on a GPU, and 1 on a processor, whose cores one slice keeps busy."""
    batch_wait_ms: float = Field(2, ge=0)
    """Milliseconds that a request waits for such company, at most; one that is alone in the service does not wait."""
    queue: int = Field(16, ge=0)
    """Requests that may wait for their turn; further ones are answered 503."""
    shadow_rate: float = Field(0.05, ge=0, le=1)
    """Share of requests that are run again by both roles, when there is time, to compare the two."""
    max_upload_mb: int = Field(2048, ge=1)
    max_unpacked_mb: int = Field(8192, ge=1)
    """Limit on what an upload may unpack to, in memory."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    traces: bool = False
    """Send OpenTelemetry traces, as OTEL_* say; needs the extra `traces`."""

    @property
    def inference_threads(self) -> int:
        """`threads`, or the share of an inference: no two of them want one core."""
        return self.threads or max(1, CORES // (self.workers * self.inferences))

    def batch_on(self, device: str) -> int:
        """`batch`, or what suits the device that models run on."""
        return self.batch or (1 if device == "cpu" else GPU_BATCH)
