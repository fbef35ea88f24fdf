"""Super-resolution: low-resolution MR DICOM in, the same images on a finer grid out."""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from pydantic import JsonValue
from pydicom import Dataset

from kdmri.bundles.manifest import Manifest, Task
from kdmri.data.images import Images
from kdmri.errors import UnreadableInput
from kdmri.formats.dicom import derived
from kdmri.formats.dicom.reader import DicomSeries, read
from kdmri.operations.media_types import BINARY, DICOM, JSON, NIFTI, PNG, RELATED, WINDOWS_ZIP, ZIP
from kdmri.operations.operation import Input, Job, Limits, Operation, Result, SourceFile
from kdmri.operations.packing import Record
from kdmri.quality import no_reference
from kdmri.quality.no_reference import Quality
from kdmri.runtime import SuperResolver, interpolate
from kdmri.runtime.model import Model
from kdmri.runtime.stages import Stage, measure_nothing

BYTES_PER_PIXEL = 8
"""Memory of one pixel of an answer: float32 while a model works on it, and twice 16 bits while it is encoded."""
REPLAY_BYTES_PER_PIXEL = 32
"""Memory of one pixel of an answer that is run again: float32 and complex64 copies of both roles' images."""


@dataclass(frozen=True)
class SuperResolutionJob(Job):
    """Images of one size, and the scale of the finer grid."""

    images: Images
    scale: int

    @property
    def batch_key(self) -> Hashable | None:
        """Only single images are batched: a series fills the networks by itself."""
        shape = self.images.pixels.shape
        return (*shape, self.scale) if shape[0] == 1 else None

    @property
    def slices(self) -> int:
        return len(self.images.pixels)

    @property
    def bytes_per_slice(self) -> int:
        return REPLAY_BYTES_PER_PIXEL * self.images.pixels[0].size * self.scale**2

    def part(self, slices: slice) -> Self:
        # A copy: a view would keep the whole series in memory until the replay.
        return type(self)(Images(self.images.pixels[slices].copy()), self.scale)

    def run(self, model: Model, stage: Stage = measure_nothing) -> Images:
        return SuperResolver(model).super_resolve(self.images, self.scale, stage=stage)

    def run_batch(self, others: Sequence[Self], model: Model, stage: Stage = measure_nothing) -> list[Images]:
        # One scale for all: it is part of the batch key.
        stacks = [self.images, *(job.images for job in others)]
        return SuperResolver(model).super_resolve_each(stacks, self.scale, stage=stage)

    def baseline(self) -> Images:
        """Return the images enlarged by sinc interpolation."""
        return interpolate(self.images, self.scale)

    def assess(self, images: Images) -> Quality:
        return no_reference.of_super_resolution(images, self.images, self.scale)


@dataclass(frozen=True)
class SuperResolutionInput(Input):
    """DICOM series, each split into groups of one size and orientation, with their headers."""

    groups: Sequence[DicomSeries]
    scale: int

    @property
    def jobs(self) -> Sequence[Job]:
        return [SuperResolutionJob(group.images, self.scale) for group in self.groups]

    @property
    def media_types(self) -> tuple[str, ...]:
        """DICOM without an envelope holds one object only."""
        objects = sum(len(group.headers) for group in self.groups)
        envelopes = (DICOM, ZIP, RELATED) if objects == 1 else (ZIP, RELATED)
        # A NIfTI file holds images of one size and orientation.
        volume = (NIFTI,) if len(self.groups) == 1 else ()
        return (*envelopes, *volume, PNG, JSON)

    @property
    def records(self) -> Sequence[Record]:
        return tuple(self.groups)

    @property
    def notes(self) -> tuple[str, ...]:
        # A dict serves as an ordered set: groups of one upload share most of their notes.
        return tuple(dict.fromkeys(note for group in self.groups for note in group.notes))

    @property
    def headers(self) -> Sequence[Dataset]:
        return self.groups[0].headers

    def figures(self, results: Sequence[Result]) -> dict[str, JsonValue]:
        """Add the shapes of all groups to the figures of the first."""
        return {**super().figures(results), "shapes": [list(result.images.pixels.shape) for result in results]}

    def dicom_objects(self, results: Sequence[Result]) -> list[Dataset]:
        pixels = [result.images.pixels for result in results]
        return derived.derive(self.groups, pixels, scale=self.scale, model=results[0].manifest.reference)


class SuperResolve(Operation):
    """Low-resolution MR DICOM, one object or a series, to the same images on a finer grid."""

    name: ClassVar[str] = "super_resolve"
    task: ClassVar[Task] = "super-resolution"
    body_types: ClassVar[tuple[str, ...]] = (DICOM, ZIP, WINDOWS_ZIP, BINARY)
    documented_types: ClassVar[tuple[str, ...]] = (DICOM, ZIP, RELATED)
    answer_types: ClassVar[tuple[str, ...]] = (DICOM, ZIP, RELATED, NIFTI, PNG, JSON)
    # One object can be answered bare, several need an envelope: only the files show which it is.
    answers_are_fixed: ClassVar[bool] = False

    scale: int = 2

    @contextmanager
    def parse(self, files: Sequence[SourceFile], limits: Limits = Limits()) -> Iterator[Input]:
        # An answer has scale^2 as many pixels as its input.
        max_pixels = limits.unpacked_bytes // (BYTES_PER_PIXEL * max(self.scale, 1) ** 2)
        sources = [source.file for source in files]
        yield SuperResolutionInput(read(sources, max_bytes=limits.unpacked_bytes, max_pixels=max_pixels), self.scale)

    def from_records(self, records: Sequence[Record]) -> Input:
        groups = [record for record in records if isinstance(record, DicomSeries)]
        # One record of another kind is enough to refuse all: the reader may have been taken over.
        if not groups or len(groups) != len(records):
            raise UnreadableInput("expected series of images, got something else from their reader")
        return SuperResolutionInput(groups, self.scale)

    @classmethod
    def example(cls, manifest: Manifest) -> Job:
        # A scale that the model was trained on: any other would be refused.
        return SuperResolutionJob(Images(np.ones((1, 32, 32), np.float32)), manifest.trained_on["scales"][0])
