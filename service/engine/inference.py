"""Inference: one model on one job, its turn with the scheduler, its time and its result."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from kdmri_service.engine.cancellation import cancellable, combine
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.observability import metrics
from kdmri_service.observability.observation import Observation

from kdmri.operations.operation import BOTH, Job, Result
from kdmri.runtime import Stage
from kdmri.runtime.model import Model


@dataclass(frozen=True)
class Inference:
    """A job with its model and the request that waits for it; calling it runs the model."""

    job: Job
    model: Model
    observation: Observation
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set once the client has disconnected."""

    def __call__(self) -> Result:
        """Run the model and assess its images."""
        images = self.job.run(self.model, self.stage())
        return Result(self.model.manifest, images, self.job.assess(images))

    def stage(self, batch_size: int = 1) -> Stage:
        """Return the stage that charges time to the request, and ends the run where the client has disconnected."""
        return cancellable(partial(self.observation, batch_size=batch_size), self.cancelled)


def run_batch(inferences: Sequence[Inference]) -> list[Result]:
    """Run inferences of one batch key in one pass through the networks; assess each result by itself."""
    # A batch key contains the model's reference: the first model is that of all.
    first, *others = inferences
    stage = combine([inference.stage(batch_size=len(inferences)) for inference in inferences])
    stacks = first.job.run_batch([inference.job for inference in others], first.model, stage)
    return [
        Result(inference.model.manifest, images, inference.job.assess(images))
        for inference, images in zip(inferences, stacks, strict=True)
    ]


async def infer(job: Job, model: Model, scheduler: Scheduler, request: Observation) -> Result:
    """Run a job once the scheduler has a free turn.

    Args:
        job: The input of the model.
        model: The model that runs it.
        scheduler: Gives the turn, perhaps together with jobs of other requests.
        request: Observes the whole request; the time of the model is charged to its role there.

    Returns:
        The images with their quality, which is also recorded in the metrics.

    Raises:
        Overloaded: The queue is full.
        KdmriError: Whatever the runtime raises for this job.
    """
    observation = request.run_of(model.manifest.role)
    inference = Inference(job, model, observation)
    # Two times that are compared must each be the time of one input: requests for both roles are never batched.
    key = None if request.role == BOTH else job.batch_key
    try:
        result = await scheduler.run(
            inference,
            observation,
            batch_key=key and (model.manifest.reference, key),
            run_batch=run_batch,
        )
    except asyncio.CancelledError:
        # The thread can't be interrupted; it stops where its next stage begins.
        inference.cancelled.set()
        raise
    observation.slices += len(result.images.pixels)
    metrics.record_quality(request.operation, model.manifest, result.quality)
    return result
