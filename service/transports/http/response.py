"""What an answer says besides its images: headers, figures, and two roles side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import Response
from jaxtyping import Float32
from kdmri_service.engine.inference import Answer
from kdmri_service.observability.observation import BOTH, Observation
from numpy import ndarray

from kdmri.bundles.manifest import ROLES
from kdmri.quality import no_reference as quality
from kdmri.quality.comparison import Comparison, compare

Pixels = Float32[ndarray, "slice row column"]

GAIN = 5
"""Of the difference in a picture: a student's errors are a few percent of the image, invisible in its window."""


def headers(answers: Sequence[Answer], role: str) -> dict[str, str]:
    """Which models answered, and how far to trust them: the first one's figures, every one's warnings.

    For a series of several sizes the first size's; for both roles the student's.
    """
    first = answers[0]
    distances = quality.distances(first.quality, first.manifest)
    # A dict for a set in order: warnings that both models share are said once.
    warnings = dict.fromkeys(sentence for a in answers for sentence in quality.warnings(a.quality, a.manifest))
    said = {
        "KDMRI-Model": ", ".join(dict.fromkeys(answer.manifest.reference for answer in answers)),
        "KDMRI-Role": role,
        "KDMRI-Residual": f"{first.quality.residual:.3g}",
        "KDMRI-Noise": f"{first.quality.noise:.3g}",
        "KDMRI-Distance": ", ".join(f"{name}={octaves:.2f}" for name, octaves in distances.items()),
    }
    if first.quality.acceleration is not None:
        said["KDMRI-Acceleration"] = f"{first.quality.acceleration:.2f}"
    return {**said, "KDMRI-Warning": "; ".join(warnings)} if warnings else said


def respond(body: bytes, kind: str, said: dict[str, str], request: Observation) -> Response:
    """The answer, with where its time went."""
    return Response(body, media_type=kind, headers={**said, "Server-Timing": request.server_timing()})


def figures(answer: Answer, request: Observation) -> dict[str, Any]:
    """What is told of an answer by one model: stages of the whole request, upload's parsing included."""
    own = _own(answer, request.runs[answer.manifest.role])
    return {**own, "role": answer.manifest.role, "stage_milliseconds": _milliseconds(request)}


def _own(answer: Answer, run: Observation) -> dict[str, Any]:
    return {
        "model": answer.manifest.reference,
        "shape": list(answer.images.pixels.shape),
        "milliseconds_per_slice": round(1000 * run.model_seconds / run.slices, 3),
        "stage_milliseconds": _milliseconds(run),
        **_quality(answer),
    }


def _quality(answer: Answer) -> dict[str, Any]:
    found, manifest = answer.quality, answer.manifest
    known = {name: float(f"{value:.4g}") for name, value in vars(found).items() if value is not None}
    distances = quality.distances(found, manifest)
    warnings = quality.warnings(found, manifest)
    said = {"warning": "; ".join(warnings)} if warnings else {}
    return {**known, "distance_octaves": {name: round(octaves, 3) for name, octaves in distances.items()}, **said}


def _milliseconds(observation: Observation) -> dict[str, float]:
    return {name: round(1000 * seconds, 3) for name, seconds in observation.seconds.items()}


def compared(pair: Sequence[Answer]) -> Comparison:
    """The student held against the teacher."""
    student, teacher = pair
    return compare(
        student.images.pixels,
        teacher.images.pixels,
        student_seconds=student.seconds,
        teacher_seconds=teacher.seconds,
    )


def figures_of_both(pair: Sequence[Answer], comparison: Comparison, request: Observation) -> dict[str, Any]:
    """How the two compare, and each one's own figures under `student` and `teacher`."""
    return {
        "role": BOTH,
        "psnr_db": round(comparison.psnr_db, 3),
        "ssim": comparison.ssim if comparison.ssim is None else round(comparison.ssim, 5),
        "speedup": round(comparison.speedup, 3),
        **{role: _own(answer, request.runs[role]) for role, answer in zip(ROLES, pair, strict=True)},
    }


def datasets_of_both(pair: Sequence[Answer]) -> dict[str, Pixels]:
    """Both images, and student minus teacher, in the input's units."""
    student, teacher = (answer.images.pixels for answer in pair)
    return {"student": student, "teacher": teacher, "difference": student - teacher}


def side_by_side(pair: Sequence[Answer]) -> Pixels:
    """Student, teacher and the size of their difference (times GAIN), each slice a row of the three."""
    student, teacher = (answer.images.pixels for answer in pair)
    return np.concatenate([student, teacher, GAIN * np.abs(student - teacher)], axis=2)
