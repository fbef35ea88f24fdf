"""Settings of the service, each from the environment variable KDMRI_<NAME>."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from kdmri.bundles.location import models_folder

# The cores that this process may run on, which a container or taskset may have made fewer than the machine has.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
GPU_BATCH = 8
"""Default of `batch` on a card."""


class Settings(BaseSettings):
    """Settings of the service. Each field is read from one environment variable, KDMRI_ and the field's name."""

    # The text under each field becomes its description: the settings page of the documentation is made from these.
    model_config = SettingsConfigDict(env_prefix="KDMRI_", frozen=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on. On any but loopback the service needs `keys`, `oidc_issuer` or `allow_anonymous`."""
    port: int = Field(8000, ge=0, le=65535)
    """TCP port to listen on; 0 lets the operating system choose a free one."""
    models: Path = Field(default_factory=models_folder)
    """Folder of model bundles, <name>/<version>/."""
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    """Device that runs the models: cpu, cuda or cuda:N. If CUDA cannot be used, the service runs on the processor and
    logs the reason."""
    backend: Literal["auto", "onnxruntime", "tensorrt", "openvino", "openvino-bf16"] = "auto"
    """Library and precision that execute the networks. `auto` measures the installed ones at startup and uses the
    fastest; it considers bfloat16 only if the card of every model states that it costs at most 0.05 dB. `openvino`
    needs the extra of this name and a CPU, `tensorrt` its libraries and a GPU. If they cannot be loaded, the service
    behaves as with `auto`."""
    threads: int | None = Field(None, ge=1)
    """Threads of one inference. By default the number of cores divided by the number of inferences that run in
    parallel in all workers."""
    workers: int = Field(1, ge=1)
    """Number of server processes. Each has its own models, queue and inferences, so memory use multiplies."""
    inferences: int = Field(1, ge=1)
    """Number of inferences run in parallel per worker, each on `threads` threads. 1 gives the lowest latency.
    Throughput peaks at one more than the number of cores, because then no core idles while a request is parsed."""
    batch: int | None = Field(None, ge=1)
    """Largest number of requests that pass through the networks together. Only requests for one model with one
    single-coil slice or DICOM image each, all of one size, share a batch. By default 8 on a GPU and 1 on a processor,
    where one slice already keeps all cores busy."""
    batch_wait_ms: float = Field(2, ge=0)
    """Longest time in milliseconds that a request waits for others to share its batch. A request that is alone in the
    service does not wait."""
    queue: int = Field(16, ge=0)
    """Number of requests that may wait in a worker. Further requests are answered 503."""
    shadow_rate: float = Field(0.05, ge=0, le=1)
    """Share of requests that both roles process again when the service is idle, to compare student and teacher. 0 turns
    the comparison off."""
    predict_above: float = Field(5, ge=0)
    """Acceleration above which the quality of an answer is predicted unless the request says otherwise. A prediction
    takes one more run of the model, of at most six slices. 0 predicts the quality of all answers, inf of none."""
    max_upload_mb: int = Field(2048, ge=1)
    """Largest body of a request, in MiB. Larger ones are answered 413."""
    max_unpacked_mb: int = Field(8192, ge=1)
    """Largest size, in MiB, that an upload may unpack to in memory."""
    keys: Path | None = None
    """File of API keys, made by `kdmri keys add`. With it, or OpenID Connect, every request needs a key or token."""
    oidc_issuer: str | None = None
    """Issuer of OpenID Connect tokens to accept, as their `iss` states it."""
    oidc_audience: str | None = None
    """Audience that tokens have to be made for, as their `aud` states it."""
    oidc_keys: str | None = None
    """The issuer's JSON Web Key Set: a file or an https address."""
    allow_anonymous: bool = False
    """Let everybody in without a key or token on an address that other machines can reach."""
    tls_certificate: Path | None = None
    """PEM file of the certificate chain that the service presents; without it the service speaks plain HTTP. It is read
    again when it changes."""
    tls_key: Path | None = None
    """PEM file of the certificate's private key."""
    connections: int = Field(1000, ge=1)
    """Number of connections per worker. One more takes the place of an idle one, or is refused."""
    connections_per_client: int = Field(100, ge=1)
    """Number of connections from one address per worker. Behind a proxy all clients have the proxy's address, so set
    it as high as `connections` there."""
    window_seconds: float = Field(10, gt=0)
    """Time in seconds that a client may take to send its headers, and over which the rate of a body is measured."""
    bytes_per_second: int = Field(1024, ge=0)
    """Least rate at which a client must send its body and read its response, over `window_seconds`."""
    audit: Path | None = None
    """File of the audit trail: one line for each request, with hashes and without patient data. Off by default."""
    audit_required: bool = False
    """Refuse requests with 503 while the audit trail can't be written. Otherwise only the log, `/readyz` and a metric
    report the failure."""
    parsers: int = Field(2, ge=0)
    """Number of sandboxed processes per worker that read uploads. 0 reads them in the serving process, which a hostile
    file can then stop: only for development on systems other than Linux."""
    parse_seconds: int = Field(2, ge=1)
    """Processor time that reading an upload may take, in seconds, and a second more for every 8 MiB of it."""
    parse_memory_mb: int = Field(2048, ge=256)
    """Memory that reading an upload may take, in MiB, and the size that the arrays read from it may have."""
    spool: Path | None = None
    """Folder for durable jobs: their inputs and results, sealed. Without it the service keeps no jobs."""
    database: SecretStr | None = None
    """Database of the jobs: a URL of `postgresql` or `sqlite`. By default jobs.sqlite in the spool."""
    jobs_kept_hours: float = Field(72, gt=0)
    """Time in hours after the end of a job at which its result is erased."""
    spool_spare_mb: int = Field(1024, ge=0)
    """Room in MiB that the spool leaves free on its disk. Jobs that would take it are answered 507."""
    lease_seconds: float = Field(60, ge=1)
    """Time in seconds after its last sign of life at which a process counts as dead, and its jobs go to another."""
    drain_seconds: float = Field(1, ge=0)
    """Time in seconds between SIGTERM and the closing of the port, in which /readyz answers 503 and new requests are
    refused with 503. Set it above the interval of the load balancer's readiness probe."""
    grace_seconds: float = Field(25, ge=0)
    """Longest time in seconds that requests in flight may take to finish after SIGTERM."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
    traces: bool = False
    """Export OpenTelemetry traces, configured by the standard OTEL_* variables. Needs the extra `traces`."""

    @property
    def inference_threads(self) -> int:
        """Threads of one inference: `threads`, or its share of the cores so that none is wanted twice."""
        return self.threads or max(1, CORES // (self.workers * self.inferences))

    def batch_on(self, device: str) -> int:
        """Return the largest batch: `batch`, or the default for the device that the models run on."""
        return self.batch or (1 if device == "cpu" else GPU_BATCH)
