"""Teacher against student on this machine: bundles as they are served, on every back end, taking turns in one run."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import TypeVar

import numpy as np
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from kdmri.bundles.manifest import ROLES, Task
from kdmri.bundles.store import choose, load_all
from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.physics.fourier import fft2c, ifft2c
from kdmri.physics.sampling import centre_lines, random_mask
from kdmri.runtime import Reconstructor, SuperResolver
from kdmri.runtime.backends.selection import offered
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
        ("reconstruction", "1 coil, 256 x 256, 4x", partial(_reconstruction, scan(1, 256, 256))),
        ("reconstruction", "1 coil, 320 x 320, 4x", partial(_reconstruction, scan(1, 320, 320))),
        ("reconstruction", "15 coils, 640 x 368, 4x", partial(_reconstruction, scan(15, 640, 368))),
        ("super-resolution", "256 x 256, 2x", partial(_super_resolution, Images(phantom(256, 256)))),
    ]
    rows = []
    for task, label, prepared in cases:
        pair = {role: choose(bundles, task, role=role) for role in ROLES}
        names = backends or offered([bundle.manifest for bundle in pair.values()], CPU)
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


def scan(coils: int, rows: int, columns: int, *, acceleration: float = 4) -> KSpace:
    """One slice, undersampled by random lines: the Shepp-Logan head seen by coils of smooth random sensitivities.

    Noise has a standard deviation of 0.001 in both parts of a sample, the head a maximum of about 1.
    """
    rng = np.random.default_rng(0)
    lines = random_mask(columns, acceleration, centre_lines(columns, acceleration), rng)
    image = torch.from_numpy(phantom(rows, columns))[0].to(torch.complex64)
    maps = torch.ones((1, rows, columns), dtype=torch.complex64)
    if coils > 1:
        waves = torch.zeros((coils, rows, columns), dtype=torch.complex64)
        middle = waves[:, rows // 2 - 1 : rows // 2 + 2, columns // 2 - 1 : columns // 2 + 2]
        middle.copy_(torch.from_numpy(_normal(rng, (coils, 3, 3))))
        maps = ifft2c(waves)
        maps = maps / torch.linalg.vector_norm(maps, dim=0)
    samples = fft2c(maps * image).numpy() + 1e-3 * _normal(rng, (coils, rows, columns))
    return KSpace((samples * lines)[None], np.broadcast_to(lines, (1, rows, columns)), (rows, columns))


def phantom(rows: int, columns: int) -> np.ndarray:
    """The Shepp-Logan head, (1, rows, columns)."""
    return resize(shepp_logan_phantom(), (rows, columns), anti_aliasing=True).astype(np.float32)[None]


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    real, imaginary = rng.standard_normal((2, *shape), dtype=np.float32)
    complex_valued: np.ndarray = real + 1j * imaginary
    return complex_valued
