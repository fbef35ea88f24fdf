"""A live request run again by both roles, and their answers and times compared. Runs in the process of `background`."""

import math
from dataclasses import dataclass, replace
from functools import partial

from kdmri_service.engine.catalogue import load_warm
from kdmri_service.engine.inference import Answer, Job, Reconstruction, SuperResolution
from kdmri_service.observability.observation import Observation

from kdmri.bundles.store import Bundle
from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.quality.comparison import Comparison, compare
from kdmri.runtime.model import Model

Pair = tuple[Bundle, Bundle]
"""The bundle that answered, and the one of the other role to hold it against."""
MOST_SAMPLES = 2**22
"""Samples of a scan that are run again: 4 slices of 16 coils at 256 x 256, 32 MB to keep until there is time."""
MOST_PIXELS = 2**20
"""Super-resolved pixels that are made again."""


@dataclass(frozen=True)
class Sample:
    """A live answer and what is needed to make it again."""

    operation: str
    job: Job
    live: Images
    """The slices that `job` makes again, as they were answered."""
    own: Bundle
    """The bundle that made them."""
    other: Bundle
    """Of the other role."""


def of_reconstruction(asked: Reconstruction, live: Answer, pair: Pair) -> Sample:
    """The middle slices of a scan."""
    measured = asked.kspace
    kept = _middle(measured.shape[0], MOST_SAMPLES // math.prod(measured.shape[1:]))
    again = replace(asked, kspace=_copied(measured.select(kept).without_patient()))
    return Sample("reconstruct", again, _cut(live, kept), *pair)


def _copied(part: KSpace) -> KSpace:
    """Arrays of its own: views would keep the whole scan in memory."""
    calibration = part.calibration and _copied(part.calibration)
    return replace(part, samples=part.samples.copy(), mask=part.mask.copy(), calibration=calibration)


def of_super_resolution(images: Images, scale: int, live: Answer, pair: Pair) -> Sample:
    """The middle slices of a series."""
    kept = _middle(len(images.pixels), MOST_PIXELS // live.images.pixels[0].size)
    part = Images(images.pixels[kept].copy())
    return Sample("super_resolve", SuperResolution(part, scale), _cut(live, kept), *pair)


def _middle(count: int, at_most: int) -> slice:
    """Up to `at_most` slices around the middle one, where there is most to see."""
    kept = min(count, max(at_most, 1))
    start = count // 2 - kept // 2
    return slice(start, start + kept)


def _cut(live: Answer, kept: slice) -> Images:
    return Images(live.images.pixels[kept].copy())


class Rerun:
    """Runs samples. Models are loaded when first needed, and stay."""

    def __init__(self, *, device: str, threads: int, backend: str) -> None:
        self._load = partial(load_warm, device=device, threads=threads, backend=backend)
        self._models: dict[str, Model] = {}
        self._order = 1

    def __call__(self, sample: Sample) -> Comparison:
        """What was answered against what the other role answers; the times of both roles are taken here.

        A live request runs at another priority, with other work beside it: its time would not compare. The two take
        turns at being first, for the second finds memory and caches warm.
        """
        self._order = -self._order
        images, seconds = {}, {}
        for bundle in (sample.own, sample.other)[:: self._order]:
            role, observation = bundle.manifest.role, Observation()
            images[role] = sample.job.run(self._model(bundle), observation).pixels
            seconds[role] = observation.model_seconds / len(images[role])
        images[sample.own.manifest.role] = sample.live.pixels
        return compare(
            images["student"],
            images["teacher"],
            student_seconds=seconds["student"],
            teacher_seconds=seconds["teacher"],
        )

    def _model(self, bundle: Bundle) -> Model:
        reference = bundle.manifest.reference
        if reference not in self._models:
            self._models[reference] = self._load(bundle)
        return self._models[reference]
