"""One model on one input: its turn with the scheduler, its time, its answer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kdmri import quality
from kdmri.bundle import Manifest
from kdmri.quality import Quality
from kdmri.records import Images, KSpace
from kdmri.runtime import Reconstructor, Stage, SuperResolver
from kdmri.runtime.model import Model
from service import telemetry
from service.scheduler import Scheduler
from service.telemetry import Observation


@dataclass(frozen=True)
class Job:
    """An input that waits for a model."""

    run: Callable[[Model, Stage], Images]
    assess: Callable[[Images], Quality]
    """Of what `run` answered."""


def reconstruction(kspace: KSpace) -> Job:
    """What `POST /reconstruct` asks of a model."""
    return Job(
        lambda model, stage: Reconstructor(model).reconstruct(kspace, stage=stage),
        lambda images: quality.of_reconstruction(images, kspace),
    )


def super_resolution(images: Images, scale: int) -> Job:
    """What `POST /super-resolve` asks of a model."""
    return Job(
        lambda model, stage: SuperResolver(model).super_resolve(images, scale, stage=stage),
        lambda finer: quality.of_super_resolution(finer, images, scale),
    )


@dataclass(frozen=True)
class Answer:
    """What a model made of an input."""

    manifest: Manifest
    images: Images
    seconds: float
    """Model time per slice."""
    quality: Quality


async def infer(job: Job, model: Model, scheduler: Scheduler, request: Observation) -> Answer:
    """Run a job once the scheduler has room. Raises what the runtime raises, and Overloaded."""
    observation = request.run_of(model.manifest.role)
    before = observation.model_seconds
    images, found = await scheduler.run(partial(_assessed, job, model, observation), observation)
    count = len(images.pixels)
    observation.slices += count
    telemetry.assessed(request.operation, model.manifest, found)
    return Answer(model.manifest, images, (observation.model_seconds - before) / count, found)


def _assessed(job: Job, model: Model, stage: Stage) -> tuple[Images, Quality]:
    images = job.run(model, stage)
    return images, job.assess(images)
