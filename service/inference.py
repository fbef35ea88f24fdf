"""One model on one input: its turn with the scheduler, its time, its answer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kdmri.bundle import Manifest
from kdmri.records import Images, KSpace
from kdmri.runtime import Reconstructor, Stage, SuperResolver
from kdmri.runtime.model import Model
from service.scheduler import Scheduler
from service.telemetry import Observation

Job = Callable[[Model, Stage], Images]
"""An input that waits for a model."""


def reconstruction(kspace: KSpace) -> Job:
    """What `POST /reconstruct` asks of a model."""
    return lambda model, stage: Reconstructor(model).reconstruct(kspace, stage=stage)


def super_resolution(images: Images, scale: int) -> Job:
    """What `POST /super-resolve` asks of a model."""
    return lambda model, stage: SuperResolver(model).super_resolve(images, scale, stage=stage)


@dataclass(frozen=True)
class Answer:
    """What a model made of an input."""

    manifest: Manifest
    images: Images
    seconds: float
    """Model time per slice."""


async def infer(job: Job, model: Model, scheduler: Scheduler, request: Observation) -> Answer:
    """Run a job once the scheduler has room. Raises what the runtime raises, and Overloaded."""
    observation = request.run_of(model.manifest.role)
    before = observation.model_seconds
    images = await scheduler.run(partial(job, model, observation), observation)
    count = len(images.pixels)
    observation.slices += count
    return Answer(model.manifest, images, (observation.model_seconds - before) / count)
