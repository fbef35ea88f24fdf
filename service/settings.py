"""Settings of the service, each from the environment variable KDMRI_<NAME>."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

import kdmri


class Settings(BaseSettings):
    """One field, one environment variable; `kdmri serve --help` names those that have a flag."""

    model_config = SettingsConfigDict(env_prefix="KDMRI_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    models: Path = Path(kdmri.__file__).parents[1] / "models"
    """Folder of bundles, <name>/<version>/."""
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    threads: int | None = Field(None, ge=1)
    """Threads of one inference; by default the processor's cores."""
    workers: int = Field(1, ge=1)
    """Processes that answer. Each has its models, its queue and its inferences: memory and threads multiply."""
    inferences: int = Field(1, ge=1)
    """Inferences at a time in a worker. Each uses `threads` threads: more than one pays on large machines only."""
    queue: int = Field(16, ge=0)
    """Requests that may wait for their turn; further ones are answered 503."""
    shadow_rate: float = Field(0.05, ge=0, le=1)
    """Share of requests that are run again by the other role, when there is time, to compare the two."""
    max_upload_mb: int = Field(2048, ge=1)
    max_unpacked_mb: int = Field(8192, ge=1)
    """Limit on what an upload may unpack to, in memory."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    traces: bool = False
    """Send OpenTelemetry traces, as OTEL_* say; needs the extra `traces`."""
