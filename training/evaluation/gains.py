"""Gain of distillation: methods against the plain student, paired over volumes and seeds."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from kdmri_training.evaluation.comparison import Result
from kdmri_training.learning.experiment import METHODS
from scipy import stats


@dataclass(frozen=True)
class Gain:
    """A method against the plain student on the same volumes (or slices), means over its seeds."""

    column: str
    condition: str
    method: str
    seeds: int
    unit: str
    units: int
    gain: float
    """Mean difference of PSNR in dB."""
    low: float
    high: float
    """Its 95% interval, by Student's t over the units."""
    teacher: float
    """The teacher's gain over the plain student."""
    ssim: float
    """Mean difference of SSIM."""

    @property
    def is_significant(self) -> bool:
        """True if the interval excludes zero."""
        return self.low > 0 or self.high < 0

    @property
    def gap_share(self) -> float:
        """Share of the gap between plain student and teacher that the method closes."""
        return self.gain / self.teacher


def gains(results: Sequence[Result]) -> list[Gain]:
    """Compute paired differences from the plain student for every column, condition and method."""
    sliced = {r.column for r in results if r.slice}
    # Slices count where an experiment has them, whole volumes elsewhere; never both, or data would count twice.
    counted = [r for r in results if bool(r.slice) == (r.column in sliced)]
    by_key = {(r.column, r.condition, r.method, r.seed, r.volume, r.slice): r for r in counted}
    groups: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for result in counted:
        if result.method in METHODS and result.method != "plain":
            groups[result.column, result.condition, result.method].append(result)

    def gain(column: str, condition: str, method: str, group: list[Result]) -> Gain:
        psnr: dict[tuple[str, str], list[float]] = defaultdict(list)
        ssim, teacher = [], []
        for r in group:
            plain = by_key[column, condition, "plain", r.seed, r.volume, r.slice]
            psnr[r.volume, r.slice].append(r.psnr - plain.psnr)
            ssim.append(r.ssim - plain.ssim)
            teacher.append(taught[column, condition, r.volume, r.slice] - plain.psnr)
        # Seeds are averaged first: a volume is one observation, however often networks were trained.
        each = [float(np.mean(differences)) for differences in psnr.values()]
        low, high = interval(each)
        unit = "slice" if column in sliced else "volume"
        figures = (float(np.mean(each)), low, high, float(np.mean(teacher)), float(np.mean(ssim)))
        seeds = len({r.seed for r in group})
        return Gain(column, condition, method, seeds, unit, len(each), *(round(f, 5) for f in figures))

    taught = {(r.column, r.condition, r.volume, r.slice): r.psnr for r in counted if r.method == "teacher"}
    return [gain(*key, group) for key, group in groups.items()]


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Compute the 95% interval of a mean by Student's t; infinite for fewer than two values."""
    if len(differences) < 2:
        return float("-inf"), float("inf")
    spread = stats.sem(differences)
    low, high = stats.t.interval(0.95, len(differences) - 1, loc=np.mean(differences), scale=spread)
    return float(low), float(high)
