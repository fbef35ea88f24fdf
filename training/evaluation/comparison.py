"""Scores of an experiment's networks on whole test volumes.

Every method gets the same measurements: masks are drawn from the slice's number and the acceleration alone.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kdmri_training.data.volumes import load_volume
from kdmri_training.evaluation.evaluate import ACCELERATIONS
from kdmri_training.evaluation.measurements import Restorer, Volume, conditions, measure_volume, with_phase
from kdmri_training.learning.experiment import Trained, load, networks
from kdmri_training.learning.recipe import Experiment, Recipe
from torch import Tensor

from kdmri.physics.acquisition import Acquisition
from kdmri.physics.fourier import fft2c
from kdmri.quality import metrics
from kdmri.runtime import Reconstructor
from kdmri.runtime.model import Model


@dataclass(frozen=True)
class Result:
    """Figures of a method on a test volume, or on one of its slices if the experiment counts slices."""

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


def volumes(experiment: Experiment, data: Path, split: str) -> Iterator[tuple[str, Volume]]:
    """Yield the name and the scored slices of every volume of a split.

    Args:
        experiment: the experiment, which has the anatomy and the share of slices.
        data: folder with volumes/<split>/<anatomy>/*.nii.gz.
        split: train, val or test.

    Raises:
        FileNotFoundError: the split has no volume of the anatomy.
    """
    files = sorted((data / "volumes" / split).glob(f"{experiment.anatomy}/*.nii.gz"))
    if not files:
        raise FileNotFoundError(f"expected volumes/{split}/{experiment.anatomy}/*.nii.gz in the data folder")
    for file in files:
        volume = load_volume(file)
        # From the middle of the first interval on: the end slices of a volume hold little.
        yield file.name.removesuffix(".nii.gz"), volume[experiment.every // 2 :: experiment.every]


def scores(
    recipe: Recipe, experiment: Experiment, data: Path, runs: Path, split: str, served: Sequence[Model] = ()
) -> list[Result]:
    """Score the baseline and all networks of an experiment that were trained.

    Scores are stored beside each network's weights and computed again only if the weights are newer.

    Args:
        recipe: the experiment's recipe.
        experiment: the recipe's experiment.
        data: folder with volumes/<split>/<anatomy>/*.nii.gz.
        runs: folder of runs.
        split: val to choose by, test to report.
        served: shipped models for reconstruction, trained on other measurements, to compare.
    """
    baseline = Trained("zero-filled", recipe.seed, ())
    done = _load_or_score(baseline, runs / recipe.run / f"{split}.csv", recipe, experiment, data, split)
    for trained in networks(recipe, experiment, runs):
        if trained.weights.exists():
            done += _load_or_score(trained, trained.weights.with_name(f"{split}.csv"), recipe, experiment, data, split)
    for model in served if recipe.task == "reconstruction" else ():
        product = Trained(f"served {model.manifest.role}", recipe.seed, ())
        done += _score_volumes(product, _as_network(model), recipe, experiment, data, split)
    return done


def scores_with_phase(
    recipe: Recipe, experiment: Experiment, data: Path, runs: Path, split: str, served: Sequence[Model]
) -> Iterator[Result]:
    """Score the experiment's teacher and the served models on images `with_phase`.

    Yields nothing for super-resolution, nor before the teacher was trained. Arguments are those of `scores`.
    """
    teacher, *_ = networks(recipe, experiment, runs)
    if recipe.task != "reconstruction" or not teacher.weights.exists():
        return
    compared: list[tuple[str, Restorer]] = [("teacher", load(recipe, teacher))]
    compared += [(f"served {model.manifest.role}", _as_network(model)) for model in served]
    for volume, truth in volumes(experiment, data, split):
        for acceleration in ACCELERATIONS:
            example = with_phase(truth, acceleration)
            for method, network in compared:
                labels = (_column(recipe), f"{acceleration}x", method, recipe.seed, volume, "")
                yield Result(*labels, *_figures(example.truth, example.restore(network)))


def _column(recipe: Recipe) -> str:
    return recipe.name.removeprefix("reproduction-")


def _as_network(model: Model) -> Restorer:
    """Wrap a served model so that it is called in the same way as DCCNN."""

    def network(zero_filled: Tensor, mask: Tensor, sensitivities: Tensor) -> Tensor:
        # The networks' image alone: with one coil nothing follows the cascades, and DCCNN has no units to restore.
        return Reconstructor(model).run_cascades(Acquisition(fft2c(zero_filled)[:, None], mask, sensitivities))

    return network


def _load_or_score(
    trained: Trained, file: Path, recipe: Recipe, experiment: Experiment, data: Path, split: str
) -> list[Result]:
    # Scoring takes longer than some training: it is done again only for weights that are newer than their scores.
    if not file.exists() or (trained.stages and file.stat().st_mtime < trained.weights.stat().st_mtime):
        network = load(recipe, trained) if trained.stages else None
        write_csv(map(asdict, _score_volumes(trained, network, recipe, experiment, data, split)), file)
    return read_results(file)


def _score_volumes(
    trained: Trained,
    network: Restorer | None,
    recipe: Recipe,
    experiment: Experiment,
    data: Path,
    split: str,
) -> Iterator[Result]:
    column = _column(recipe)
    for volume, truth in volumes(experiment, data, split):
        for condition in conditions(recipe):
            example = measure_volume(recipe, truth, condition)
            image = example.restore(network) if network else example.baseline
            labels = (column, f"{condition}x", trained.method, trained.seed, volume)
            yield Result(*labels, "", *_figures(example.truth, image))
            if experiment.unit == "slice":
                pairs = zip(example.truth, image, strict=True)
                for number, (true, restored) in enumerate(pairs):
                    yield Result(*labels, str(number), *_figures(true[None], restored[None]))


def _figures(truth: Volume, image: Volume) -> tuple[float, float, float, float]:
    """Compute PSNR, SSIM, NMSE and HFN, in the order of Result's fields."""
    # Five digits are more than any table shows, and keep committed files free of differences in rounding.
    psnr, ssim = metrics.psnr(truth, image), metrics.ssim(truth, image)
    return round(psnr, 5), round(ssim, 5), round(metrics.nmse(truth, image), 5), round(metrics.hfn(truth, image), 5)


def write_csv(rows: Iterable[Mapping[str, object]], file: Path) -> None:
    """Write a header and one row for each entry."""
    # A list, because the first row names the columns.
    entries = list(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as target:
        writer = csv.DictWriter(target, fieldnames=list(entries[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(entries)


def read_results(file: Path) -> list[Result]:
    """Read results that `write_csv` wrote."""
    with file.open(newline="") as source:
        return [_result(row) for row in csv.DictReader(source)]


def _result(row: dict[str, str]) -> Result:
    return Result(
        column=row["column"],
        condition=row["condition"],
        method=row["method"],
        seed=int(row["seed"]),
        volume=row["volume"],
        slice=row["slice"],
        psnr=float(row["psnr"]),
        ssim=float(row["ssim"]),
        nmse=float(row["nmse"]),
        hfn=float(row["hfn"]),
    )
