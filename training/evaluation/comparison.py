"""An experiment's networks on whole test volumes, and what distillation gained there.

Every method gets the same measurements: masks are drawn from the slice's number and the acceleration alone.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from kdmri_training.data.simulation import Undersampling, load_volume
from kdmri_training.evaluation.evaluate import ACCELERATIONS, undersampled
from kdmri_training.learning.experiment import METHODS, Trained, load, networks
from kdmri_training.learning.recipe import Experiment, Recipe
from numpy import ndarray
from scipy import stats
from torch import Tensor

from kdmri.physics.acquisition import Acquisition
from kdmri.physics.fourier import fft2c
from kdmri.physics.resampling import downsample, upsample
from kdmri.physics.sampling import variable_density_mask
from kdmri.physics.scaling import intensity_scale
from kdmri.quality import metrics
from kdmri.runtime import Reconstructor
from kdmri.runtime.model import Model

TOGETHER = 4
"""Slices that a network sees at once."""
METRICS = ("psnr", "ssim", "nmse", "hfn")
Volume = Float[ndarray, "slice row column"]


@dataclass(frozen=True)
class Result:
    """A method on a test volume, or on one of its slices where the experiment counts those."""

    column: str
    """The experiment: brain, cardiac, spine, super-resolution."""
    condition: str
    method: str
    seed: int
    volume: str
    slice: str
    """Number of the slice; empty for the whole volume."""
    psnr: float
    ssim: float
    nmse: float
    hfn: float


@dataclass(frozen=True)
class Measured:
    """A volume as networks see it, slice by slice, scaled so that bright tissue is about 1."""

    truth: Volume
    inputs: tuple[Tensor, ...]
    scale: Float[Tensor, "slice 1 1"]

    @property
    def baseline(self) -> Volume:
        """What the measurement alone shows: zero-filled, or sinc interpolation, which is the same."""
        return self._image(self.inputs[0])

    @torch.no_grad()
    def restored(self, network: Callable[..., Tensor]) -> Volume:
        """What a network makes of it, in the volume's units."""
        parts = zip(*(tensor.split(TOGETHER) for tensor in self.inputs), strict=True)
        return self._image(torch.cat([network(*part) for part in parts]))

    def _image(self, scaled: Tensor) -> Volume:
        return ((scaled.abs() if scaled.is_complex() else scaled) * self.scale).numpy()


def conditions(recipe: Recipe) -> tuple[int, ...]:
    """The accelerations or scales of a recipe."""
    return recipe.data.accelerations if isinstance(recipe.data, Undersampling) else recipe.data.scales


def measured(recipe: Recipe, truth: Volume, condition: int) -> Measured:
    """The slices of a volume undersampled or truncated as the recipe's training data are."""
    if isinstance(recipe.data, Undersampling):
        return _undersampled(truth, condition, recipe.data.centre_lines)
    rows, columns = (size // condition * condition for size in truth.shape[1:])
    fine = truth[:, :rows, :columns]
    interpolated = upsample(downsample(torch.from_numpy(fine), condition), condition)
    scale = intensity_scale(interpolated)
    return Measured(fine, (interpolated / scale,), scale)


def _undersampled(truth: Volume, acceleration: int, centre_lines: int) -> Measured:
    columns = truth.shape[2]
    lines = [
        variable_density_mask(columns, acceleration, centre_lines, np.random.default_rng([acceleration, number]))
        for number in range(len(truth))
    ]
    mask = torch.from_numpy(np.stack(lines)).float()[:, None, None, :].expand(-1, 1, *truth.shape[1:])
    return _of_one_coil(truth, mask * fft2c(torch.from_numpy(truth).to(torch.complex64))[:, None], mask)


def with_phase(truth: Volume, acceleration: int) -> Measured:
    """The slices of a volume undersampled as the served models' scores are made: with a smooth phase."""
    kspace = undersampled(truth, acceleration, seed=0)
    mask = torch.tensor(kspace.mask, dtype=torch.float32)[:, None].expand(len(truth), -1, -1, -1)
    return _of_one_coil(truth, torch.from_numpy(kspace.samples), mask)


def _of_one_coil(truth: Volume, kspace: Tensor, mask: Tensor) -> Measured:
    acquisition = Acquisition(kspace, mask, torch.ones_like(kspace))
    start = acquisition.zero_filled / acquisition.scale
    return Measured(truth, (start, mask, acquisition.sensitivities), acquisition.scale)


def volumes(experiment: Experiment, data: Path, split: str) -> Iterator[tuple[str, Volume]]:
    """(name, the slices that are scored) of every volume of a split. Raises FileNotFoundError where there is none."""
    files = sorted((data / "volumes" / split).glob(f"{experiment.anatomy}/*.nii.gz"))
    if not files:
        raise FileNotFoundError(f"expected volumes/{split}/{experiment.anatomy}/*.nii.gz in the data folder")
    for file in files:
        volume = load_volume(file)
        yield file.name.removesuffix(".nii.gz"), volume[experiment.every // 2 :: experiment.every]


def scores(
    recipe: Recipe, experiment: Experiment, data: Path, runs: Path, split: str, served: Sequence[Model] = ()
) -> list[Result]:
    """All networks of an experiment that were trained, and the baseline. Scores are kept beside each one's weights.

    `served`: models for reconstruction, trained on other measurements, held against these here.
    """
    baseline = Trained("zero-filled", recipe.seed, ())
    done = _kept(baseline, runs / recipe.run / f"{split}.csv", recipe, experiment, data, split)
    for trained in networks(recipe, experiment, runs):
        if trained.weights.exists():
            done += _kept(trained, trained.weights.with_name(f"{split}.csv"), recipe, experiment, data, split)
    for model in served if recipe.task == "reconstruction" else ():
        product = Trained(f"served {model.manifest.role}", recipe.seed, ())
        done += _scored(product, _as_network(model), recipe, experiment, data, split)
    return done


def scores_with_phase(
    recipe: Recipe, experiment: Experiment, data: Path, runs: Path, split: str, served: Sequence[Model]
) -> Iterator[Result]:
    """The experiment's teacher and what is served, on images `with_phase`.

    None of super-resolution, nor before the teacher was trained.
    """
    teacher, *_ = networks(recipe, experiment, runs)
    if recipe.task != "reconstruction" or not teacher.weights.exists():
        return
    compared: list[tuple[str, Callable[..., Tensor]]] = [("teacher", load(recipe, teacher))]
    compared += [(f"served {model.manifest.role}", _as_network(model)) for model in served]
    for volume, truth in volumes(experiment, data, split):
        for acceleration in ACCELERATIONS:
            example = with_phase(truth, acceleration)
            for method, network in compared:
                labels = (_column(recipe), f"{acceleration}x", method, recipe.seed, volume, "")
                yield Result(*labels, *_figures(example.truth, example.restored(network)))


def _column(recipe: Recipe) -> str:
    return recipe.name.removeprefix("reproduction-")


def _as_network(model: Model) -> Callable[..., Tensor]:
    """A served model that is called as DCCNN is."""

    def network(zero_filled: Tensor, mask: Tensor, sensitivities: Tensor) -> Tensor:
        return Reconstructor(model).run_cascades(Acquisition(fft2c(zero_filled)[:, None], mask, sensitivities))

    return network


def _kept(trained: Trained, file: Path, recipe: Recipe, experiment: Experiment, data: Path, split: str) -> list[Result]:
    if not file.exists() or (trained.stages and file.stat().st_mtime < trained.weights.stat().st_mtime):
        network = load(recipe, trained) if trained.stages else None
        write_csv(list(_scored(trained, network, recipe, experiment, data, split)), file)
    return read_results(file)


def _scored(
    trained: Trained,
    network: Callable[..., Tensor] | None,
    recipe: Recipe,
    experiment: Experiment,
    data: Path,
    split: str,
) -> Iterator[Result]:
    column = _column(recipe)
    for volume, truth in volumes(experiment, data, split):
        for condition in conditions(recipe):
            example = measured(recipe, truth, condition)
            image = example.restored(network) if network else example.baseline
            labels = (column, f"{condition}x", trained.method, trained.seed, volume)
            yield Result(*labels, "", *_figures(example.truth, image))
            if experiment.unit == "slice":
                pairs = zip(example.truth, image, strict=True)
                for number, (one, other) in enumerate(pairs):
                    yield Result(*labels, str(number), *_figures(one[None], other[None]))


def _figures(truth: Volume, image: Volume) -> list[float]:
    return [round(getattr(metrics, name)(truth, image), 5) for name in METRICS]


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
    def sure(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    @property
    def closed(self) -> float:
        """The share of the gap between plain student and teacher that is closed."""
        return self.gain / self.teacher


def gains(results: Sequence[Result]) -> list[Gain]:
    """Paired differences from the plain student for every column, condition and method."""
    sliced = {r.column for r in results if r.slice}
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
        each = [float(np.mean(differences)) for differences in psnr.values()]
        low, high = interval(each)
        unit = "slice" if column in sliced else "volume"
        figures = (float(np.mean(each)), low, high, float(np.mean(teacher)), float(np.mean(ssim)))
        seeds = len({r.seed for r in group})
        return Gain(column, condition, method, seeds, unit, len(each), *(round(f, 5) for f in figures))

    taught = {(r.column, r.condition, r.volume, r.slice): r.psnr for r in counted if r.method == "teacher"}
    return [gain(*key, group) for key, group in groups.items()]


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of a mean by Student's t; infinite for fewer than two values."""
    if len(differences) < 2:
        return float("-inf"), float("inf")
    spread = stats.sem(differences)
    low, high = stats.t.interval(0.95, len(differences) - 1, loc=np.mean(differences), scale=spread)
    return float(low), float(high)


def write_csv(rows: Iterable[Result | Gain], file: Path) -> None:
    """One row each, a header first."""
    entries = [asdict(row) for row in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as target:
        writer = csv.DictWriter(target, fieldnames=list(entries[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(entries)


def read_results(file: Path) -> list[Result]:
    """What `write_csv` wrote."""
    kinds = {"seed": int} | dict.fromkeys(METRICS, float)
    with file.open(newline="") as source:
        rows = list(csv.DictReader(source))
    return [Result(**{name: kinds.get(name, str)(value) for name, value in row.items()}) for row in rows]
