"""One model on one input: its turn with the scheduler, its time, its answer."""

import asyncio
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from starlette.requests import ClientDisconnect

from kdmri import quality
from kdmri.bundle import Manifest
from kdmri.quality import Quality
from kdmri.records import Images, Scan
from kdmri.runtime import Reconstructor, Stage, SuperResolver
from kdmri.runtime.model import Model
from kdmri.runtime.stages import StageName
from service import telemetry
from service.scheduler import Scheduler
from service.telemetry import Observation


class Job(Protocol):
    """An input that waits for a model. A record, so that it can be sent to another process."""

    def run(self, model: Model, stage: Stage) -> Images:
        """What a model makes of it."""

    def assess(self, images: Images) -> Quality:
        """How far to trust what `run` answered."""


@dataclass(frozen=True)
class Reconstruction:
    """What `POST /reconstruct` asks of a model."""

    kspace: Scan
    coils: int | None = None
    """Virtual ones; see Reconstructor."""

    def run(self, model: Model, stage: Stage) -> Images:
        """Magnitude images."""
        return Reconstructor(model).reconstruct(self.kspace, coils=self.coils, stage=stage)

    def assess(self, images: Images) -> Quality:
        """Against the k-space."""
        return quality.of_reconstruction(images, self.kspace)


@dataclass(frozen=True)
class SuperResolution:
    """What `POST /super-resolve` asks of a model."""

    images: Images
    scale: int

    def run(self, model: Model, stage: Stage) -> Images:
        """The images on the finer grid."""
        return SuperResolver(model).super_resolve(self.images, self.scale, stage=stage)

    def assess(self, images: Images) -> Quality:
        """Against the coarse images."""
        return quality.of_super_resolution(images, self.images, self.scale)


@dataclass(frozen=True)
class Answer:
    """What a model made of an input."""

    manifest: Manifest
    images: Images
    seconds: float
    """Model time per slice."""
    quality: Quality


async def infer(job: Job, model: Model, scheduler: Scheduler, request: Observation) -> Answer:
    """Run a job once the scheduler has room. Raises what the runtime raises, and Overloaded.

    Where this is cancelled, the job ends with the stage that it is at.
    """
    observation = request.run_of(model.manifest.role)
    before = observation.model_seconds
    left = threading.Event()
    try:
        images, found = await scheduler.run(partial(_assessed, job, model, unless(left, observation)), observation)
    except asyncio.CancelledError:
        left.set()
        raise
    count = len(images.pixels)
    observation.slices += count
    telemetry.assessed(request.operation, model.manifest, found)
    return Answer(model.manifest, images, (observation.model_seconds - before) / count, found)


def unless(left: threading.Event, stage: Stage) -> Stage:
    """`stage`, but where the client has left no stage begins: it raises ClientDisconnect."""

    def begun(name: StageName) -> AbstractContextManager[None]:
        if left.is_set():
            raise ClientDisconnect
        return stage(name)

    return begun


def _assessed(job: Job, model: Model, stage: Stage) -> tuple[Images, Quality]:
    images = job.run(model, stage)
    return images, job.assess(images)
