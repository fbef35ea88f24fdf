"""The data plane: parse, batch key, run, assess and encode, for every task behind the same three classes.

    Operation.parse(files) -> Input -> .jobs -> Job.run(model) -> Result -> Input.encode -> bytes

HTTP, the command line and every other transport call these classes; nothing else knows the tasks apart. A new task is
one module with an Operation, an Input and a Job, and a network.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydicom import Dataset

from kdmri.bundles.manifest import Calibration, Manifest, Task
from kdmri.data.evidence import Evidence
from kdmri.data.images import Images
from kdmri.errors import NotAcceptable
from kdmri.formats import nifti, png
from kdmri.formats.dicom import objects
from kdmri.operations import encoding
from kdmri.operations.media_types import BINARY, DICOM_TYPES, HDF5, JSON, NIFTI, PNG, SIDE_BY_SIDE
from kdmri.operations.packing import Record
from kdmri.quality.no_reference import Quality
from kdmri.quality.prediction import Prediction
from kdmri.runtime.model import Model
from kdmri.runtime.stages import Stage, measure_nothing

PREDICT_ABOVE = 5.0
"""Acceleration above which the quality of an answer is predicted unless the request says otherwise. Below it, answers
are good enough for their users to prefer speed (docs/reports/predicted-quality.md)."""
BOTH = "both"
"""The role of a request that is answered by the student and by the teacher."""


@dataclass(frozen=True)
class SourceFile:
    """A file to parse: open and positioned at its beginning, or a path."""

    file: BinaryIO | Path
    media_type: str = BINARY


@dataclass(frozen=True)
class Limits:
    """Bounds on what parsing may take."""

    unpacked_bytes: int = 2**33
    """Bytes that all files together may unpack to, in memory."""


@dataclass(frozen=True)
class Result:
    """Images that one model made of one job, with their quality."""

    manifest: Manifest
    images: Images
    quality: Quality
    notes: tuple[str, ...] = ()
    """What was left out of the answer, in sentences without patient data."""


class Job(ABC):
    """The input of one run of a model: a frozen record of arrays and plain data without patient data."""

    @property
    @abstractmethod
    def batch_key(self) -> Hashable | None:
        """A key that is equal for jobs that may share a run, or None if this job must run alone."""

    @property
    @abstractmethod
    def slices(self) -> int:
        """Number of slices."""

    @property
    @abstractmethod
    def bytes_per_slice(self) -> int:
        """Bytes of working memory that keeping and running one slice again takes."""

    @property
    def compares_models(self) -> bool:
        """True if the answers of two models to this job can differ."""
        return True

    @property
    def requires_prediction(self) -> bool:
        """True if the request asks for a prediction of the quality of its answer."""
        return False

    def without_withheld(self, above: float) -> Self | None:
        """Return the job that reconstructs less than was measured, to see how well the rest is predicted.

        Args:
            above: Acceleration above which quality is predicted unless the request says otherwise.

        Returns:
            The job, whose images have evidence; None if the quality of this job's answer is not to be predicted, or
            cannot be.
        """
        return None

    def predict(self, images: Images, evidence: Evidence, calibration: Calibration) -> Prediction | None:
        """Predict the quality of an answer; None for tasks that have no prediction.

        Args:
            images: The images that `run` made of this job.
            evidence: Of the images that the job of `without_withheld` made.
            calibration: From the manifest of the model.
        """
        return None

    @abstractmethod
    def part(self, slices: slice) -> Self:
        """Return a job of some of the slices, with arrays of its own that can be sent to another process."""

    @abstractmethod
    def run(self, model: Model, stage: Stage = measure_nothing) -> Images:
        """Return the images that the model makes of this job."""

    @abstractmethod
    def run_batch(self, others: Sequence[Self], model: Model, stage: Stage = measure_nothing) -> list[Images]:
        """Run this job and `others`, all of one batch key, in one pass.

        Args:
            others: The other jobs of the batch.
            model: The model that runs them.
            stage: Measures the stages of the whole batch.

        Returns:
            The images of this job, then those of each of the others.
        """

    @abstractmethod
    def baseline(self) -> Images:
        """Return the images that the input gives without a network, on the grid of those that `run` makes."""

    @abstractmethod
    def assess(self, images: Images) -> Quality:
        """Return the quality of the images that `run` made, from the input alone."""


class Input(ABC):
    """Parsed files: the jobs to run, and what the answer needs of the source beside them.

    An Input holds arrays, DICOM headers and plain data only. It is everything that crosses the border if `parse` runs
    in another process; open files do not cross it (see `Operation.parse`).
    """

    @property
    @abstractmethod
    def jobs(self) -> Sequence[Job]:
        """The jobs, at least one, in the order of the source."""

    @property
    @abstractmethod
    def media_types(self) -> tuple[str, ...]:
        """Media types that can hold the answer, the default first."""

    @property
    @abstractmethod
    def records(self) -> Sequence[Record]:
        """Everything that was parsed, in memory, as the records that cross the border to another process."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Omissions and choices made while parsing, as sentences without patient data."""
        return ()

    @property
    def headers(self) -> Sequence[Dataset]:
        """DICOM headers that give a preview its window; none for other sources."""
        return ()

    def dicom_objects(self, results: Sequence[Result]) -> list[Dataset]:
        """Return the answer as DICOM objects; `results` holds one for each job. Raises NotAcceptable if it has none."""
        raise NotAcceptable("expected a type that is not DICOM: this operation has no DICOM answer")

    def figures(self, results: Sequence[Result]) -> dict[str, JsonValue]:
        """Return the figures of an answer by one model; `results` holds one for each job."""
        return encoding.figures(results[0].manifest, results[0].images, results[0].quality)

    def encode(
        self, results: Sequence[Result], media_type: str, figures: Mapping[str, JsonValue] | None = None
    ) -> list[bytes]:
        """Write an answer by one model.

        Args:
            results: One result for each job.
            media_type: One of the types of the package's `media_types`.
            figures: Written as JSON, or as HDF5 attributes; by default those of `figures`.

        Returns:
            The content of one file, or of one file for every DICOM object.
        """
        figures = self.figures(results) if figures is None else figures
        images = results[0].images
        if media_type in DICOM_TYPES:
            return [objects.to_bytes(dataset) for dataset in self.dicom_objects(results)]
        if media_type == JSON:
            return [encoding.json_bytes(figures)]
        if media_type == PNG:
            return [png.to_bytes(images, self.headers)]
        if media_type == NIFTI:
            return [nifti.to_bytes(images)]
        return [encoding.hdf5({"reconstruction": images.pixels}, figures)]

    def encode_both(self, pair: Sequence[Result], media_type: str, figures: Mapping[str, JsonValue]) -> bytes:
        """Write the answers of the student and the teacher to one job, side by side.

        Args:
            pair: The student's result, then the teacher's.
            media_type: One of SIDE_BY_SIDE; NIFTI holds the baseline before the two.
            figures: Written as JSON, as HDF5 attributes, or into the extension of a NIfTI header.

        Returns:
            The content of one file.
        """
        # Images of both roles are not offered as DICOM: a series of each would mix up in an archive (SIDE_BY_SIDE).
        if media_type == PNG:
            return png.to_bytes(Images(encoding.side_by_side(pair[0].images, pair[1].images)), self.headers)
        if media_type == HDF5:
            return encoding.hdf5(encoding.datasets_of_both(pair[0].images, pair[1].images), figures)
        if media_type == NIFTI:
            volumes = (self.jobs[0].baseline(), *(result.images for result in pair))
            return nifti.volumes_to_bytes(volumes, encoding.json_bytes(figures))
        return encoding.json_bytes(figures)


class Operation(BaseModel, ABC):
    """A request for one task: its parameters, validated, as fields. Subclasses add the parameters of their task."""

    # By name, too: `set` is a parameter of requests, and a type in Python.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    # Class variables describe the task to transports; fields are the parameters that a client may set.
    name: ClassVar[str]
    """Label in metrics and spans; the path of the route, with dashes."""
    task: ClassVar[Task]
    """Task of the models that can run it."""
    body_types: ClassVar[tuple[str, ...]]
    """Media types that are accepted for a request body that is the file itself."""
    documented_types: ClassVar[tuple[str, ...]]
    """Media types of request bodies that the API's description lists beside multipart/form-data."""
    answer_types: ClassVar[tuple[str, ...]]
    """Media types of answers by one model, the default first."""
    answers_are_fixed: ClassVar[bool]
    """True if every input can be answered with all `answer_types`: a request can then be refused before its upload."""

    role: str = Field("student", description="student, teacher, or both: the two images, their difference and figures")
    model: str | None = Field(None, description="NAME or NAME@VERSION; by default the role's newest")

    @property
    def types_known_early(self) -> tuple[str, ...] | None:
        """Media types that can hold the answer as far as the parameters decide; None if the input decides."""
        # None is not "no type": the transport then decides once the files are parsed.
        if self.role == BOTH:
            return SIDE_BY_SIDE if self.answers_are_fixed else None
        return self.answer_types if self.answers_are_fixed else None

    @abstractmethod
    def parse(self, files: Sequence[SourceFile], limits: Limits = Limits()) -> AbstractContextManager[Input]:
        """Interpret the bytes of untrusted files.

        This is the only step that sees them. It needs nothing of the application: it can run in another process, with
        the files, the fields of this operation and the limits as its whole input. What it yields must then be sent
        back: arrays, DICOM headers and plain data. A scan in fastMRI layout reads its slices from the file when they
        are requested, so the context, and the files, stay open until all jobs have run.

        Args:
            files: Files of one request.
            limits: Bounds on the memory that they may unpack to.

        Returns:
            A context that yields the parsed input and closes what it opened; the caller closes the files.

        Raises:
            UnreadableInput: The bytes are not what the operation reads, or are damaged.
            UnsupportedInput: The files are readable, but not what the operation works on.
            InvalidRequest: A parameter does not fit the files.
        """

    @abstractmethod
    def from_records(self, records: Sequence[Record]) -> Input:
        """Return the input whose `records` these are.

        Raises:
            UnreadableInput: They are not the records of this operation.
        """

    @classmethod
    @abstractmethod
    def example(cls, manifest: Manifest) -> Job:
        """Return a small job that the model can run, to warm it up."""


def run(source: Input, model: Model, stage: Stage = measure_nothing) -> list[Result]:
    """Run all jobs of an input one after the other, and assess the images of each.

    Args:
        source: the parsed input, whose files must still be open.
        model: a model for the input's task.
        stage: announces the stages of the work.

    Returns:
        One result for each job, in the order of the jobs.

    Raises:
        UnsupportedInput: the model can't run on a job, for example because a value is not finite.
        ExceedsMemory: a job needs more memory than the device has.
    """
    results = []
    for job in source.jobs:
        images = job.run(model, stage)
        result = Result(model.manifest, images, job.assess(images))
        reduced = model.manifest.predicted_quality and job.without_withheld(PREDICT_ABOVE)
        evidence = reduced.run(model).evidence if reduced else None
        results.append(with_prediction(result, job, evidence))
    return results


def with_prediction(result: Result, job: Job, evidence: Evidence | None) -> Result:
    """Add the predicted quality to a result, or a note if the request asks for it and there is none.

    Args:
        result: The result of the job.
        job: The job.
        evidence: Of the run without withheld samples, if there was one.
    """
    calibration = result.manifest.predicted_quality
    prediction = job.predict(result.images, evidence, calibration) if evidence and calibration else None
    if prediction:
        return replace(result, quality=replace(result.quality, prediction=prediction))
    if not job.requires_prediction:
        return result
    reason = "too few samples are missing or outside the centre" if calibration else "the model has no calibration"
    return replace(result, notes=(*result.notes, f"{result.manifest.reference}: no predicted quality, {reason}"))
