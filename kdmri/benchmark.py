"""Teacher against student on this machine: bundles as they are served, on every back end, taking turns in one run."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import TypeVar

import torch

from kdmri.bundles.manifest import ROLES, Task
from kdmri.bundles.store import choose, load_all
from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.phantoms import benchmark_scan, phantom
from kdmri.runtime import Reconstructor, SuperResolver
from kdmri.runtime.backends.selection import available_backends
from kdmri.runtime.model import Model, load_model

Work = Callable[[], object]
"""A piece of work whose time is measured; what it returns is discarded."""
Name = TypeVar("Name", bound=Hashable)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Compute the spread of two values or more, by linear interpolation between them."""
        # "inclusive" takes the values as the whole population: with few repeats, the other method would return
        # quartiles beyond the fastest and slowest of them.
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)


@dataclass(frozen=True)
class SpeedUp:
    """Times of a teacher and its student on one input and back end."""

    task: str
    input: str
    backend: str
    teacher_ms: float
    """Median of the teacher's milliseconds per slice."""
    student_ms: float
    """Median of the student's milliseconds per slice."""
    speedup: float
    """Median of paired ratios, which is not the ratio of the medians."""
    low: float
    """Lower quartile of the paired ratios."""
    high: float
    """Upper quartile of the paired ratios."""


def compare(
    models: Path, *, repeats: int = 15, threads: int | None = None, backends: Sequence[str] | None = None
) -> list[SpeedUp]:
    """Measure every task's newest teacher and student on inputs of usual sizes: wall-clock time after a warm-up.

    Args:
        models: models folder, <name>/<version>/.
        repeats: measured runs of each model on each input and back end, at least 2.
        threads: threads of one inference; by default as many as the machine has cores.
        backends: back ends to measure; by default all that this machine offers without a loss of quality that a
            model's card rules out.

    Returns:
        One entry for each input and back end.

    Raises:
        UnknownModel: the folder holds no teacher or no student for a task.
        InvalidRequest: this machine does not offer one of `backends`.
    """
    bundles = load_all(models)
    cases: list[tuple[Task, str, Callable[[Model], Work]]] = [
        # 15 coils of 640 x 368 are fastMRI's multi-coil knees; 320 x 320 is the size that its images are cropped to.
        ("reconstruction", "1 coil, 256 x 256, 4x", partial(_reconstruction, benchmark_scan(1, 256, 256))),
        ("reconstruction", "1 coil, 320 x 320, 4x", partial(_reconstruction, benchmark_scan(1, 320, 320))),
        ("reconstruction", "15 coils, 640 x 368, 4x", partial(_reconstruction, benchmark_scan(15, 640, 368))),
        ("super-resolution", "256 x 256, 2x", partial(_super_resolution, Images(phantom(256, 256)))),
    ]
    rows = []
    for task, label, work_of in cases:
        pair = {role: choose(bundles, task, role=role) for role in ROLES}
        names = backends or available_backends([bundle.manifest for bundle in pair.values()], CPU)
        # All back ends and both roles share one series of turns: a ratio is only as good as its two measurements are
        # close in time.
        runs = {
            (name, role): work_of(load_model(bundle, threads=threads, backend=name))
            for name in names
            for role, bundle in pair.items()
        }
        milliseconds = in_turns(runs, repeats)
        for name in names:
            student, teacher = (milliseconds[name, role] for role in ROLES)
            ratio = Spread.of(ratios(teacher, student))
            times = Spread.of(teacher).median, Spread.of(student).median
            rows.append(SpeedUp(task, label, name, *times, ratio.median, ratio.low, ratio.high))
    return rows


def in_turns(runs: Mapping[Name, Work], repeats: int) -> dict[Name, list[float]]:
    """Measure several pieces of work in turns, so that other load on the machine falls on all of them alike.

    Args:
        runs: work by name.
        repeats: measured runs of each.

    Returns:
        Milliseconds of each run by name; the n-th runs of all names were measured one after the other.
    """
    # The first run allocates memory, chooses kernels and fills caches, which no later run does: it is not measured.
    for run in runs.values():
        run()
    milliseconds: dict[Name, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            milliseconds[name].append(1000 * (time.perf_counter() - started))
    return milliseconds


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """Compute the ratio of times for each pair of runs that `in_turns` measured one after the other."""
    return [longer / shorter for longer, shorter in zip(slow, fast, strict=True)]


def _reconstruction(kspace: KSpace, model: Model) -> Work:
    return partial(Reconstructor(model).reconstruct, kspace)


def _super_resolution(images: Images, model: Model) -> Work:
    return partial(SuperResolver(model).super_resolve, images, 2)
