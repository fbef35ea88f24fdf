"""Answers: what a transport sends, and the figures that say how far to trust it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kdmri_service.observability.observation import Observation
from pydantic import JsonValue

from kdmri.operations import encoding
from kdmri.operations.operation import BOTH, Input, Job, Operation, Result
from kdmri.quality import no_reference
from kdmri.quality.comparison import Comparison, compare


@dataclass(frozen=True)
class Answer:
    """The answer to one request, encoded."""

    body: bytes
    content_type: str
    headers: dict[str, str]
    operation: type[Operation]
    job: Job
    """The first job, for a replay."""
    result: Result
    """The result of that job; for both roles the student's."""
    role: str
    """student, teacher or both."""
    close: Callable[[], None]
    """Close the files that the job still reads from; may block."""


def headers(results: Sequence[Result], role: str, notes: Sequence[str] = ()) -> dict[str, str]:
    """Return the response headers: the models, the first result's quality, and the warnings of all.

    Args:
        results: One result for each job and model. For a series of several sizes the first size's figures are given,
            for both roles the student's.
        role: The role that answered.
        notes: What parsing left out or chose.

    Returns:
        Header values by name.
    """
    first = results[0]
    distances = no_reference.distances(first.quality, first.manifest)
    # A dict serves as an ordered set: warnings that both models share appear once.
    warnings = dict.fromkeys(text for r in results for text in no_reference.warnings(r.quality, r.manifest))
    # Three digits: headers are read by people and by rules with thresholds; the JSON answer has more.
    values = {
        "KDMRI-Model": ", ".join(dict.fromkeys(result.manifest.reference for result in results)),
        "KDMRI-Role": role,
        "KDMRI-Residual": f"{first.quality.residual:.3g}",
        "KDMRI-Noise": f"{first.quality.noise:.3g}",
        "KDMRI-Distance": ", ".join(f"{name}={octaves:.2f}" for name, octaves in distances.items()),
    }
    if first.quality.acceleration is not None:
        values["KDMRI-Acceleration"] = f"{first.quality.acceleration:.2f}"
    if prediction := first.quality.prediction:
        values["KDMRI-Predicted-Error"] = f"{prediction.error:.3g}"
        values["KDMRI-Predicted-PSNR"] = f"{prediction.psnr:.1f}"
        values["KDMRI-Predicted-PSNR-Interval"] = ", ".join(f"{bound:.1f}" for bound in prediction.psnr_interval)
    notes = (*notes, *(note for result in results for note in result.notes))
    if warnings:
        values["KDMRI-Warning"] = "; ".join(warnings)
    return {**values, "KDMRI-Notes": "; ".join(notes)} if notes else values


def figures(source: Input, results: Sequence[Result], request: Observation) -> dict[str, JsonValue]:
    """Return the figures of an answer by one model.

    Args:
        source: The parsed input.
        results: One result for each job.
        request: The whole request, whose stages include the parsing of the upload.

    Returns:
        Quality, notes and times.
    """
    # The role of the model that answered, which may not be the one requested: a model can be requested by name.
    run = request.runs[results[0].manifest.role]
    return {**source.figures(results), **_notes(source, results), **_times(run), "stage_milliseconds": _stages(request)}


def figures_of_both(source: Input, pair: Sequence[Result], request: Observation) -> dict[str, JsonValue]:
    """Return the comparison of student and teacher, and the figures of each under its role.

    Args:
        source: The parsed input.
        pair: The student's result, then the teacher's.
        request: The whole request.

    Returns:
        Comparison, notes, and the quality and times of each role.
    """
    comparison = _compare(pair, request)
    each: dict[str, JsonValue] = {}
    for result in pair:
        run = request.runs[result.manifest.role]
        values = encoding.figures(result.manifest, result.images, result.quality)
        # The key already names the role.
        del values["role"]
        each[result.manifest.role] = {**values, **_times(run)}
    return {
        "role": BOTH,
        "psnr_db": round(comparison.psnr_db, 3),
        "ssim": comparison.ssim if comparison.ssim is None else round(comparison.ssim, 5),
        "speedup": round(comparison.speedup, 3),
        **_notes(source, pair),
        **each,
    }


def _compare(pair: Sequence[Result], request: Observation) -> Comparison:
    student, teacher = pair
    return compare(
        student.images.pixels,
        teacher.images.pixels,
        student_seconds=request.runs["student"].seconds_per_slice,
        teacher_seconds=request.runs["teacher"].seconds_per_slice,
    )


def _notes(source: Input, results: Sequence[Result]) -> dict[str, JsonValue]:
    notes = [*source.notes, *(note for result in results for note in result.notes)]
    return {"notes": [*notes]} if notes else {}


def _times(run: Observation) -> dict[str, JsonValue]:
    return {
        "milliseconds_per_slice": round(1000 * run.seconds_per_slice, 3),
        "stage_milliseconds": _stages(run),
    }


def _stages(observation: Observation) -> dict[str, JsonValue]:
    return {**observation.milliseconds()}
