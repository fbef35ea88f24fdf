"""Reconstruction: undersampled k-space in, magnitude images out."""

import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field
from pydicom import Dataset

from kdmri.bundles.manifest import Calibration, Manifest, Task
from kdmri.data.evidence import Evidence
from kdmri.data.images import Images
from kdmri.data.kspace import KSpace, Scan
from kdmri.errors import InvalidRequest, UnreadableInput
from kdmri.formats.dicom import original
from kdmri.formats.kspace import reader
from kdmri.formats.kspace.plausibility import implausible_sizes
from kdmri.operations.media_types import ARCHIVES, BINARY, DICOM, HDF5, JSON, NIFTI, PNG, ZIP
from kdmri.operations.operation import Input, Job, Limits, Operation, Result, SourceFile
from kdmri.operations.packing import Record
from kdmri.quality import cross_validation, no_reference, prediction
from kdmri.quality.no_reference import Quality
from kdmri.quality.prediction import Prediction
from kdmri.runtime import Reconstructor, batch_key, zero_filled
from kdmri.runtime.model import Model
from kdmri.runtime.stages import Stage, measure_nothing

Predict = Literal["auto", "true", "false"]
"""Whether the quality of an answer is predicted, which takes one more run."""
BYTES_PER_SAMPLE = 8
"""A complex64 sample of one coil."""


@dataclass(frozen=True)
class ReconstructionJob(Job):
    """K-space of a stack of slices, and the number of virtual coils to compress its coils to."""

    kspace: Scan
    coils: int | None = None
    prediction: Predict = "auto"

    @property
    def requires_prediction(self) -> bool:
        return self.prediction == "true"

    def without_withheld(self, above: float) -> Self | None:
        if self.prediction == "false" or (self.prediction == "auto" and self.kspace.acceleration <= above):
            return None
        kept = cross_validation.withhold(self.kspace)
        return replace(self, kspace=kept) if kept is not None else None

    def predict(self, images: Images, evidence: Evidence, calibration: Calibration) -> Prediction:
        acceleration, coils = self.kspace.acceleration, self.kspace.shape[1]
        return prediction.predict(evidence, images, calibration, acceleration=acceleration, coils=coils)

    @property
    def batch_key(self) -> Hashable | None:
        return batch_key(self.kspace)

    @property
    def slices(self) -> int:
        return self.kspace.shape[0]

    @property
    def bytes_per_slice(self) -> int:
        return BYTES_PER_SAMPLE * math.prod(self.kspace.shape[1:])

    @property
    def compares_models(self) -> bool:
        """False for fully sampled k-space: all models return the plain image, and would hide a student that drifts."""
        return not self.kspace.mask.all()

    def part(self, slices: slice) -> Self:
        # Patient data do not enter the other process: images are compared there, and no DICOM is written.
        return replace(self, kspace=_copy(self.kspace.select(slices).without_patient()))

    def run(self, model: Model, stage: Stage = measure_nothing) -> Images:
        return Reconstructor(model).reconstruct(self.kspace, coils=self.coils, stage=stage)

    def run_batch(self, others: Sequence[Self], model: Model, stage: Stage = measure_nothing) -> list[Images]:
        # Without `coils`: only scans of one coil have a batch key.
        return Reconstructor(model).reconstruct_each([self.kspace, *(job.kspace for job in others)], stage=stage)

    def baseline(self) -> Images:
        """Return the zero-filled images."""
        return zero_filled(self.kspace)

    def assess(self, images: Images) -> Quality:
        return no_reference.of_reconstruction(images, self.kspace)


@dataclass(frozen=True)
class ReconstructionInput(Input):
    """A scan, and what its file says of patient and study, which only DICOM answers contain."""

    scan: Scan
    coils: int | None = None
    prediction: Predict = "auto"

    @property
    def jobs(self) -> Sequence[Job]:
        return (ReconstructionJob(self.scan, self.coils, self.prediction),)

    @property
    def media_types(self) -> tuple[str, ...]:
        return Reconstruct.answer_types

    @property
    def records(self) -> Sequence[Record]:
        # The whole scan is read here: the file stays behind in the process that parsed it.
        return (self.scan.select(slice(None)),)

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.scan.notes, *implausible_sizes(self.scan))

    def dicom_objects(self, results: Sequence[Result]) -> list[Dataset]:
        (result,) = results
        return original.create(
            result.images,
            model=result.manifest.reference,
            patient_and_study=self.scan.patient_and_study,
            acceleration=self.scan.acceleration,
        )


class Reconstruct(Operation):
    """Undersampled k-space (fastMRI or ISMRMRD HDF5, .npy, BART) to magnitude images."""

    name: ClassVar[str] = "reconstruct"
    task: ClassVar[Task] = "reconstruction"
    body_types: ClassVar[tuple[str, ...]] = (HDF5, "application/x-hdf", *ARCHIVES, BINARY)
    documented_types: ClassVar[tuple[str, ...]] = (HDF5,)
    answer_types: ClassVar[tuple[str, ...]] = (HDF5, DICOM, ZIP, NIFTI, PNG, JSON)
    # A scan is one stack whatever it holds, so that every type can hold its answer.
    answers_are_fixed: ClassVar[bool] = True

    contrast: int = Field(0, ge=0, description="which of an ISMRMRD file's, from 0")
    repetition: int = Field(0, ge=0, description="which of an ISMRMRD file's, from 0")
    phase: int = Field(0, ge=0, description="which cardiac phase of an ISMRMRD file, from 0")
    set_number: int = Field(0, ge=0, alias="set", description="which set of an ISMRMRD file, from 0")
    group: str | None = Field(
        None, max_length=200, description="which group or dataset of an HDF5 file; by default the best"
    )
    oversampling: float = Field(
        1.0, ge=1, le=reader.MAX_OVERSAMPLING, description="of the readout, for a file without header: crops the image"
    )
    coils: int | None = Field(None, ge=1, description="virtual coils; by default what keeps the signal")
    predict: Predict = Field(
        "auto", description="predict the quality of the answer; auto: above 5x, as the service is set"
    )

    @contextmanager
    def parse(self, files: Sequence[SourceFile], limits: Limits = Limits()) -> Iterator[Input]:
        if len(files) != 1:
            raise InvalidRequest(f"expected one k-space file, got {len(files)}")
        with reader.open_scan(
            files[0].file,
            contrast=self.contrast,
            repetition=self.repetition,
            phase=self.phase,
            set_number=self.set_number,
            group=self.group,
            oversampling=self.oversampling,
            max_bytes=limits.unpacked_bytes,
        ) as scan:
            yield ReconstructionInput(scan, self.coils, self.predict)

    def from_records(self, records: Sequence[Record]) -> Input:
        if len(records) != 1 or not isinstance(records[0], KSpace):
            raise UnreadableInput("expected one scan, got something else from its reader")
        # Nothing is withheld yet: samples under this name could only come from a reader that a file took over.
        return ReconstructionInput(replace(records[0], withheld=None), self.coils, self.predict)

    @classmethod
    def example(cls, manifest: Manifest) -> Job:
        # Any size will do: kernels are chosen and memory is allocated again for a new one, libraries are loaded only
        # once.
        samples = np.ones((1, 1, 64, 64), np.complex64)
        return ReconstructionJob(KSpace(samples, np.ones((1, 64, 64), bool), (64, 64)))


def _copy(part: KSpace) -> KSpace:
    """Return k-space with arrays of its own: views would keep the whole scan in memory."""
    calibration = part.calibration and _copy(part.calibration)
    return replace(part, samples=part.samples.copy(), mask=part.mask.copy(), calibration=calibration)
