"""A student's answer held against its teacher's."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from kdmri.quality import metrics

PSNR_CEILING = 100.0
"""Answers that agree to float32's last digits: a decibel more says nothing, infinity fits neither JSON nor a sum."""
SSIM_WINDOW = 7
"""Pixels a side that `metrics.ssim` needs."""


@dataclass(frozen=True)
class Comparison:
    """Agreement of a student's images with its teacher's, which are the reference, and the time of both."""

    psnr_db: float
    ssim: float | None
    """None for images smaller than the window that it is computed in."""
    student_seconds: float
    """Model time per slice."""
    teacher_seconds: float

    @property
    def speedup(self) -> float:
        """The teacher's time over the student's."""
        return self.teacher_seconds / self.student_seconds


def compare(
    student: Float32[ndarray, "slice row column"],
    teacher: Float32[ndarray, "slice row column"],
    *,
    student_seconds: float,
    teacher_seconds: float,
) -> Comparison:
    """Compare the images that a student and its teacher made of one input.

    Args:
        student: the student's magnitude images.
        teacher: the teacher's, of the same shape and in the same units.
        student_seconds: model time per slice of the student.
        teacher_seconds: model time per slice of the teacher.
    """
    # scikit-image raises an error for images that are smaller than its window.
    wide = min(teacher.shape[1:]) >= SSIM_WINDOW
    if np.array_equal(student, teacher) or not teacher.any():
        equal = np.array_equal(student, teacher)
        # A black reference has no peak to measure an error against.
        return Comparison(PSNR_CEILING if equal else 0.0, float(equal), student_seconds, teacher_seconds)
    psnr = min(metrics.psnr(teacher, student), PSNR_CEILING)
    return Comparison(psnr, metrics.ssim(teacher, student) if wide else None, student_seconds, teacher_seconds)
