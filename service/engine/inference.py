"""Inference: one model on one job, its turn with the scheduler, its time and its result."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from anyio.to_thread import run_sync
from kdmri_service.engine.cancellation import cancellable, combine
from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.errors import Overloaded
from kdmri_service.observability import metrics
from kdmri_service.observability.observation import Observation

from kdmri.operations.operation import BOTH, PREDICT_ABOVE, Job, Result, with_prediction
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


async def infer(
    job: Job, model: Model, scheduler: Scheduler, request: Observation, *, predict_above: float = PREDICT_ABOVE
) -> Result:
    """Run a job once the scheduler has a free turn.

    Args:
        job: The input of the model.
        model: The model that runs it.
        scheduler: Gives the turn, perhaps together with jobs of other requests.
        request: Observes the whole request; the time of the model is charged to its role there.
        predict_above: Acceleration above which the quality of the answer is predicted by default.

    Returns:
        The images with their quality, which is also recorded in the metrics.

    Raises:
        Overloaded: The queue is full.
        KdmriError: Whatever the runtime raises for this job.
    """
    observation = request.run_of(model.manifest.role)
    # Two times that are compared must each be the time of one input: requests for both roles are never batched.
    may_batch = request.role != BOTH
    result = await _run(job, model, scheduler, observation, may_batch=may_batch)
    observation.slices += len(result.images.pixels)
    result = await _predict(result, job, model, scheduler, request, may_batch=may_batch, above=predict_above)
    metrics.record_quality(request.operation, model.manifest, result.quality)
    return result


async def _predict(
    result: Result,
    job: Job,
    model: Model,
    scheduler: Scheduler,
    request: Observation,
    *,
    may_batch: bool,
    above: float,
) -> Result:
    """Add the predicted quality to a result, which takes one more run without the withheld samples.

    Args:
        result: The result of the job.
        job: The job.
        model: The model that ran it.
        scheduler: Gives another turn.
        request: Its stage "predict" is charged with all of this; the times per slice of the role are not.
        may_batch: Whether the run may share a turn.
        above: Acceleration above which the quality is predicted by default.
    """
    if model.manifest.predicted_quality is None:
        return with_prediction(result, job, None)
    reduced = await run_sync(job.without_withheld, above)
    if reduced is None:
        return with_prediction(result, job, None)
    with request("predict"):
        # An observation of its own: this run must not count as the model's time for the answer.
        apart = Observation(request.operation, model.manifest.role)
        try:
            evidence = (await _run(reduced, model, scheduler, apart, may_batch=may_batch)).images.evidence
        except Overloaded:
            # The answer is there already: to refuse it now would only bring the client back with the same work.
            note = "no predicted quality, the queue was full"
            return replace(result, notes=(*result.notes, f"{model.manifest.reference}: {note}"))
    return with_prediction(result, job, evidence)


async def _run(job: Job, model: Model, scheduler: Scheduler, observation: Observation, *, may_batch: bool) -> Result:
    """Run one job in its turn; the thread that runs it stops at its next stage if this is cancelled.

    Args:
        job: The input of the model.
        model: The model that runs it.
        scheduler: Gives the turn.
        observation: Measures the run.
        may_batch: Whether jobs of other requests may share the turn.
    """
    inference = Inference(job, model, observation)
    key = job.batch_key if may_batch else None
    try:
        return await scheduler.run(
            inference,
            observation,
            batch_key=key and (model.manifest.reference, key),
            run_batch=run_batch,
        )
    except asyncio.CancelledError:
        # The thread can't be interrupted; it stops where its next stage begins.
        inference.cancelled.set()
        raise
