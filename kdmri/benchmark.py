"""Teacher against student on this machine: bundles as they are served, alternating in one run."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from kdmri.bundle import Task, choose, load_all
from kdmri.records import Images, KSpace
from kdmri.runtime import Reconstructor, SuperResolver
from kdmri.runtime.model import Model, load_model
from kdmri.sampling import centre_lines, random_mask

Run = Callable[[Model], object]


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


def compare(models: Path, *, repeats: int = 15) -> list[Comparison]:
    """Every task's newest teacher and student on inputs of usual sizes. Times are wall-clock, warm."""
    bundles = load_all(models)
    rows = []
    cases: list[tuple[Task, str, Run]] = [
        ("reconstruction", "1 coil, 256 x 256, 4x", _reconstruct(1, 256, 256)),
        ("reconstruction", "1 coil, 320 x 320, 4x", _reconstruct(1, 320, 320)),
        ("reconstruction", "15 coils, 640 x 368, 4x", _reconstruct(15, 640, 368)),
        ("super-resolution", "256 x 256, 2x", _super_resolve(256, 256)),
    ]
    for task, label, run in cases:
        teacher, student = (load_model(choose(bundles, task, role=role)) for role in ("teacher", "student"))
        rows.append(_compared(task, label, teacher, student, run, repeats))
    return rows


def _compared(task: str, label: str, teacher: Model, student: Model, run: Run, repeats: int) -> Comparison:
    for model in (teacher, student):
        run(model)
    # Pairs, one after the other: what else the machine does falls on both.
    pairs = [(_milliseconds(run, teacher), _milliseconds(run, student)) for _ in range(repeats)]
    ratios = [slow / fast for slow, fast in pairs]
    low, _, high = quantiles(ratios, n=4)
    slow, fast = (median(times) for times in zip(*pairs, strict=True))
    return Comparison(task, label, student.backend, slow, fast, median(ratios), low, high)


def _milliseconds(run: Run, model: Model) -> float:
    started = time.perf_counter()
    run(model)
    return 1000 * (time.perf_counter() - started)


def _reconstruct(coils: int, rows: int, columns: int) -> Run:
    rng = np.random.default_rng(0)
    lines = random_mask(columns, 4, centre_lines(columns, 4), rng)
    real, imaginary = rng.standard_normal((2, 1, coils, rows, columns), dtype=np.float32)
    kspace = KSpace((real + 1j * imaginary) * lines, np.broadcast_to(lines, (1, rows, columns)), (rows, columns))
    return lambda model: Reconstructor(model).reconstruct(kspace)


def _super_resolve(rows: int, columns: int) -> Run:
    images = Images(np.random.default_rng(0).random((1, rows, columns), dtype=np.float32))
    return lambda model: SuperResolver(model).super_resolve(images, 2)
