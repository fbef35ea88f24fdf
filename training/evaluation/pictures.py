"""Figures of an experiment: examples with their errors, PSNR over acceleration."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import matplotlib

# Before pyplot is imported: it would look for a screen.
matplotlib.use("Agg")
import numpy as np
from kdmri_training.evaluation.comparison import Result, volumes
from kdmri_training.evaluation.measurements import measure_volume
from kdmri_training.learning.experiment import TITLES, load, networks
from kdmri_training.learning.recipe import Experiment, Recipe
from matplotlib import pyplot

from kdmri.quality.metrics import psnr

SHOWN = ("plain", "kd", "teacher")
ERROR = 0.1
"""Brightest error shown, as a share of the volume's maximum: one scale for all."""


def example(
    recipe: Recipe, experiment: Experiment, data: Path, runs: Path, folder: Path, split: str
) -> tuple[Path, str]:
    """Draw one slice by every method, with the errors beneath at one scale.

    Args:
        recipe: the recipe.
        experiment: the recipe's experiment, which names the slice.
        data: folder with volumes/<split>/<anatomy>/*.nii.gz.
        runs: folder of runs.
        folder: folder for the figure.
        split: split that the slice is of.

    Returns:
        File and caption.
    """
    picture = experiment.picture
    condition = int(picture["condition"].removesuffix("x"))
    truth = dict(volumes(experiment, data, split))[picture["volume"]]
    number = picture["slice"]
    measurement = measure_volume(recipe, truth, condition)
    images = {"zero-filled": measurement.baseline}
    trained = {t.method: t for t in networks(recipe, experiment, runs) if t.seed == recipe.seed}
    images |= {method: measurement.restore(load(recipe, trained[method])) for method in SHOWN}
    peak, shown = measurement.truth.max(), measurement.truth[number]
    white = np.percentile(shown, 99.5)
    figure, axes = pyplot.subplots(2, len(images) + 1, figsize=(2.2 * (len(images) + 1), 4.8), layout="constrained")
    for column, (method, image) in enumerate(images.items()):
        error = abs(image[number] - shown)
        score = psnr(shown, image[number])
        axes[0, column].imshow(image[number], cmap="gray", vmin=0, vmax=white)
        axes[0, column].set_title(f"{TITLES[method]}\n{score:.2f} dB", fontsize=9)
        map_ = axes[1, column].imshow(error / peak, cmap="magma", vmin=0, vmax=ERROR)
    axes[0, -1].imshow(shown, cmap="gray", vmin=0, vmax=white)
    axes[0, -1].set_title("truth\n", fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    bar = axes[1, -1].inset_axes((0.1, 0.1, 0.08, 0.8))
    figure.colorbar(map_, cax=bar, label="error / volume's maximum")
    name = recipe.name.removeprefix("reproduction-")
    file = folder / f"reproduction_{name.replace('-', '_')}.png"
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    shown_slice = f"{name.capitalize()}, {picture['condition']}, a slice of the test volume {picture['volume']}"
    return file, f"{shown_slice}, with PSNR over its own maximum; beneath, the errors, all at one scale."


def curves(results: Sequence[Result], file: Path) -> tuple[Path, str]:
    """Draw mean PSNR of whole volumes over acceleration or scale, a panel for each column; return file and caption."""
    whole = [r for r in results if not r.slice]
    columns = list(dict.fromkeys(r.column for r in whole))
    size = (3.4 * len(columns), 3.4)
    figure, axes = pyplot.subplots(1, len(columns), figsize=size, layout="constrained", squeeze=False)
    for axis, column in zip(axes[0], columns, strict=True):
        for method in ("teacher", "kd", "plain", "zero-filled"):
            chosen = [r for r in whole if r.column == column and r.method == method]
            factors = list(dict.fromkeys(r.condition for r in chosen))
            means = [mean(r.psnr for r in chosen if r.condition == factor) for factor in factors]
            axis.plot([int(f.removesuffix("x")) for f in factors], means, marker="o", label=TITLES[method])
        axis.set_title(column)
        axis.set_xticks([int(f.removesuffix("x")) for f in factors], factors)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("PSNR (dB)")
    axes[0, 0].legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return file, "PSNR over acceleration (reconstruction) and scale (super-resolution), means over volumes."
