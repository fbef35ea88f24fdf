"""One model on one input: its turn with the scheduler, its time, its answer."""

import asyncio
import threading
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

from kdmri_service.engine.scheduler import Scheduler
from kdmri_service.observability import observation as telemetry
from kdmri_service.observability.observation import BOTH, Observation
from starlette.requests import ClientDisconnect

from kdmri.bundles.manifest import Manifest
from kdmri.data.images import Images
from kdmri.data.kspace import Scan
from kdmri.quality import no_reference as quality
from kdmri.quality.no_reference import Quality
from kdmri.runtime import Reconstructor, Stage, SuperResolver, alike
from kdmri.runtime.model import Model
from kdmri.runtime.stages import StageName


class Job(Protocol):
    """An input that waits for a model. A record, so that it can be sent to another process."""

    @property
    def alike(self) -> Hashable | None:
        """What jobs have in common that `run_with` takes together; None where one is better off by itself."""

    def run(self, model: Model, stage: Stage) -> Images:
        """What a model makes of it."""

    def run_with(self, others: Sequence[Self], model: Model, stage: Stage) -> list[Images]:
        """What `run` answers for this one and for each of the others, which are `alike`, from one pass of them all."""

    def assess(self, images: Images) -> Quality:
        """How far to trust what `run` answered."""


@dataclass(frozen=True)
class Reconstruction:
    """What `POST /reconstruct` asks of a model."""

    kspace: Scan
    coils: int | None = None
    """Virtual ones; see Reconstructor."""

    @property
    def alike(self) -> Hashable | None:
        """See the runtime's."""
        return alike(self.kspace)

    def run(self, model: Model, stage: Stage) -> Images:
        """Magnitude images."""
        return Reconstructor(model).reconstruct(self.kspace, coils=self.coils, stage=stage)

    def run_with(self, others: Sequence[Self], model: Model, stage: Stage) -> list[Images]:
        """Magnitude images of each."""
        return Reconstructor(model).reconstruct_each([self.kspace, *(job.kspace for job in others)], stage=stage)

    def assess(self, images: Images) -> Quality:
        """Against the k-space."""
        return quality.of_reconstruction(images, self.kspace)


@dataclass(frozen=True)
class SuperResolution:
    """What `POST /super-resolve` asks of a model."""

    images: Images
    scale: int

    @property
    def alike(self) -> Hashable | None:
        """Single images of one size, and the scale. A series fills the networks by itself."""
        shape = self.images.pixels.shape
        return (*shape, self.scale) if shape[0] == 1 else None

    def run(self, model: Model, stage: Stage) -> Images:
        """The images on the finer grid."""
        return SuperResolver(model).super_resolve(self.images, self.scale, stage=stage)

    def run_with(self, others: Sequence[Self], model: Model, stage: Stage) -> list[Images]:
        """Each one's image on the finer grid."""
        stacks = [self.images, *(job.images for job in others)]
        return SuperResolver(model).super_resolve_each(stacks, self.scale, stage=stage)

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


@dataclass(frozen=True)
class Run:
    """A job with the model that it is for, and whose request it is."""

    job: Job
    model: Model
    observation: Observation
    left: threading.Event
    """Set once the client has left."""

    def __call__(self) -> tuple[Images, Quality]:
        """The answer, and how far to trust it."""
        images = self.job.run(self.model, self.stage())
        return images, self.job.assess(images)

    def stage(self, company: int = 1) -> Stage:
        """Counts for the request, until its client leaves."""
        return unless(self.left, partial(self.observation, company=company))


def together(runs: Sequence[Run]) -> list[tuple[Images, Quality]]:
    """What runs that are `alike` answer, by one pass through the networks."""
    first, *others = runs
    stage = shared([run.stage(company=len(runs)) for run in runs])
    found = first.job.run_with([run.job for run in others], first.model, stage)
    return [(images, run.job.assess(images)) for run, images in zip(runs, found, strict=True)]


async def infer(job: Job, model: Model, scheduler: Scheduler, request: Observation) -> Answer:
    """Run a job once the scheduler has room. Raises what the runtime raises, and Overloaded.

    Where this is cancelled, the job ends with the stage that it is at.
    """
    observation = request.run_of(model.manifest.role)
    before = observation.model_seconds
    left = threading.Event()
    run = Run(job, model, observation, left)
    # Two times that are compared are to be those of one input by itself.
    shape = None if request.role == BOTH else job.alike
    kind = shape and (model.manifest.reference, shape)
    try:
        images, found = await scheduler.run(run, observation, alike=kind, together=together)
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


def shared(stages: Sequence[Stage]) -> Stage:
    """The stages of several requests as one, which goes on for those that stay: it raises what all of them raise."""

    @contextmanager
    def begun(name: StageName) -> Iterator[None]:
        with ExitStack() as entered:
            left = 0
            for stage in stages:
                try:
                    entered.enter_context(stage(name))
                except ClientDisconnect:
                    left += 1
            if left == len(stages):
                raise ClientDisconnect
            yield

    return begun
