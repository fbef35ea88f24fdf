"""Replay: a live request run again by both roles, and their answers and times compared. Runs in the shadow process."""

from dataclasses import dataclass
from functools import partial

from kdmri_service.engine.catalogue import load_warm
from kdmri_service.observability.observation import Observation

from kdmri.bundles.store import Bundle
from kdmri.data.images import Images
from kdmri.operations.operation import Job, Operation, Result
from kdmri.quality.comparison import Comparison, compare
from kdmri.runtime.model import Model

MOST_BYTES = 2**25
"""Memory of a job that is kept until there is time: 4 slices of 16 coils at 256 x 256."""


@dataclass(frozen=True)
class Sample:
    """The middle slices of a live request, as they were answered, and what is needed to run them again."""

    operation: type[Operation]
    job: Job
    served_images: Images
    """The slices of `job`, as they were served."""
    served: Bundle
    """The model that served them."""
    counterpart: Bundle
    """The model of the other role."""


def sample_of(operation: type[Operation], job: Job, result: Result, *, served: Bundle, counterpart: Bundle) -> Sample:
    """Copy the middle slices of a live request.

    Args:
        operation: The operation of the request.
        job: The live job, whose files are still open.
        result: The result that was served.
        served: The model that served it.
        counterpart: The model of the other role.

    Returns:
        A sample of at most MOST_BYTES, or of one slice, with arrays of its own.
    """
    middle = middle_slices(job.slices, MOST_BYTES // job.bytes_per_slice)
    return Sample(operation, job.part(middle), Images(result.images.pixels[middle].copy()), served, counterpart)


def middle_slices(count: int, at_most: int) -> slice:
    """Return up to `at_most` slices, but at least one, around the middle one: there is most to see there."""
    length = min(count, max(at_most, 1))
    start = count // 2 - length // 2
    return slice(start, start + length)


class Replay:
    """Runs samples. Models are loaded when first needed, and kept."""

    def __init__(self, *, device: str, threads: int, backend: str) -> None:
        self._load = partial(load_warm, device=device, threads=threads, backend=backend)
        self._models: dict[str, Model] = {}
        self._order = 1

    def __call__(self, sample: Sample) -> Comparison:
        """Compare the served images with those of the counterpart; measure the times of both roles here.

        The time of the live request would not compare: it ran at another priority, with other work beside it. The two
        models take turns at being first, because the second finds memory and caches warm.
        """
        # A step of 1 or -1 for the slice below.
        self._order = -self._order
        images, seconds = {}, {}
        for bundle in (sample.served, sample.counterpart)[:: self._order]:
            role, observation = bundle.manifest.role, Observation()
            images[role] = sample.job.run(self._model(bundle, sample.operation), observation).pixels
            seconds[role] = observation.model_seconds / len(images[role])
        # What the client got is compared, not the replay: a fault of the live path would not show in a repetition.
        images[sample.served.manifest.role] = sample.served_images.pixels
        return compare(
            images["student"],
            images["teacher"],
            student_seconds=seconds["student"],
            teacher_seconds=seconds["teacher"],
        )

    def _model(self, bundle: Bundle, operation: type[Operation]) -> Model:
        reference = bundle.manifest.reference
        if reference not in self._models:
            self._models[reference] = self._load(bundle, operation)
        return self._models[reference]
