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

Run = Callable[[], object]
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
        """Of two values or more."""
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)


@dataclass(frozen=True)
class Comparison:
    """Medians of milliseconds per slice; the speed-up is the median of paired ratios, with its quartiles."""

    task: str
    input: str
    backend: str
    teacher_ms: float
    student_ms: float
    speedup: float
    low: float
    high: float


def compare(
    models: Path, *, repeats: int = 15, threads: int | None = None, backends: Sequence[str] | None = None
) -> list[Comparison]:
    """Every task's newest teacher and student on inputs of usual sizes. Times are wall-clock, warm.

    On the given back ends; by default on those that this machine offers without losing what the models' cards say.
    """
    bundles = load_all(models)
    cases: list[tuple[Task, str, Callable[[Model], Run]]] = [
        ("reconstruction", "1 coil, 256 x 256, 4x", partial(_reconstruction, benchmark_scan(1, 256, 256))),
        ("reconstruction", "1 coil, 320 x 320, 4x", partial(_reconstruction, benchmark_scan(1, 320, 320))),
        ("reconstruction", "15 coils, 640 x 368, 4x", partial(_reconstruction, benchmark_scan(15, 640, 368))),
        ("super-resolution", "256 x 256, 2x", partial(_super_resolution, Images(phantom(256, 256)))),
    ]
    rows = []
    for task, label, prepared in cases:
        pair = {role: choose(bundles, task, role=role) for role in ROLES}
        names = backends or available_backends([bundle.manifest for bundle in pair.values()], CPU)
        runs = {
            (name, role): prepared(load_model(bundle, threads=threads, backend=name))
            for name in names
            for role, bundle in pair.items()
        }
        found = in_turns(runs, repeats)
        for name in names:
            student, teacher = (found[name, role] for role in ROLES)
            ratio = Spread.of(ratios(teacher, student))
            times = Spread.of(teacher).median, Spread.of(student).median
            rows.append(Comparison(task, label, name, *times, ratio.median, ratio.low, ratio.high))
    return rows


def in_turns(runs: Mapping[Name, Run], repeats: int) -> dict[Name, list[float]]:
    """Milliseconds of every run of each, `repeats` times after a warm-up.

    They take turns, so that whatever else the machine does falls on all of them alike.
    """
    for run in runs.values():
        run()
    found: dict[Name, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            found[name].append(1000 * (time.perf_counter() - started))
    return found


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """How many times as long the slow one took, for each pair that `in_turns` measured one after the other."""
    return [one / other for one, other in zip(slow, fast, strict=True)]


def _reconstruction(kspace: KSpace, model: Model) -> Run:
    return partial(Reconstructor(model).reconstruct, kspace)


def _super_resolution(images: Images, model: Model) -> Run:
    return partial(SuperResolver(model).super_resolve, images, 2)
