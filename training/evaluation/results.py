"""The page of an experiment's results: tables, gains, budgets and figures, from files that it writes first."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from kdmri_training.evaluation import pictures
from kdmri_training.evaluation.comparison import read_results, scores, scores_with_phase, write_csv
from kdmri_training.evaluation.gains import gains
from kdmri_training.evaluation.result_tables import (
    budget_table,
    columns_of,
    gain_table,
    method_table,
    phase_table,
    score_table,
    seed_table,
    verdict,
)
from kdmri_training.learning.recipe import Experiment, Recipe
from kdmri_training.networks.cascades import parameters

from kdmri.runtime.model import Model

PAGE = """# Distillation compared: a reproduction of KD-MRI

Written by `kdmri evaluate {recipes} -o {path}`
from [`reproduction.csv`]({folder}/reproduction.csv) (every volume) and
[`reproduction_gains.csv`]({folder}/reproduction_gains.csv) (paired gains); the networks are those of `kdmri train
RECIPE`. KD-MRI is Murugesan et al., MIDL 2020. Their data is not at hand: the figures stand beside theirs, not
against them.

## What was done

- **Data.** Magnitude volumes of real scanners, split by subject. Measurements are simulated, as in the paper: the
  image is real (no phase), one coil, no noise; k-space is that of the whole slice. **Not raw-data performance.** For
  super-resolution, k-space is truncated by the scale; "zero-filled" is sinc interpolation, and answers are not
  projected onto what was measured.
- **Masks.** Schlemper's: density exp(-(x - N/2)² / 2(N/10)²) + 1/2R, 10 central lines, N/R lines in all; drawn afresh
  for every training image, by slice number and acceleration in tests. One network for all accelerations (scales) of a
  column.
- **Networks.** DC-CNN D5C5 teaches D5C3, 32 channels, complex images as two channels; VDSR of 11 convolutions teaches
  one of 7, 64 channels. {sizes}.
- **Students** of a seed begin with the same weights and see the same batches of 4. All take the same two stages, Adam
  and its schedule (warm-up to 1e-3, cosine decay) starting anew with the second. KD: attention transfer, then half
  the distance from the truth and half that from the teacher. FitNets, similarity-preserving and FSP take the place of
  attention transfer. "Attention transfer only" goes on with the truth alone, "imitation only" has KD's second loss in
  both stages. Three rows are not the paper's. Imitation in every cascade draws the student's image after each cascade
  to the teacher's. "Outer convolutions" begins with the teacher's first and last convolution of every cascade (after
  SFT-KD-Recon); its hints are the features before the last, where the student has had one convolution in between and
  the teacher three; "alone" is the same beginning without distillation.
- **What is served** ({served}) was trained longer, on all anatomies at once, on images with phase, noise and one or
  several coils. It does not know that the images here are real, which halves what there is to find, and ends below
  this page's teacher; on images with phase it is the other way round ([below](#with-phase)).
- **Scores.** PSNR and SSIM of a volume, data range its maximum; mean ± standard deviation over volumes, where there
  are several. Slices scored: {every}. The last weights count: nothing was chosen on validation or test data.

## Scores

{scores}

{phased}## What distillation gained

PSNR of student + KD less that of the plain student, paired; 95% interval by Student's t over volumes, where there are
several (over the slices of the one spine volume: that tells nothing of other patients; the brain's four volumes are of
two subjects). Share: the gain over the gap between plain student and teacher. {verdict}

{gains}

All methods, mean gain over the plain student in dB; in bold where the 95% interval excludes zero:

{methods}
{seeds}
## Budgets

{budget}

## Figures

{figures}
"""


WITH_PHASE = """### With phase

The same test volumes as scanners measure them and as the served models are scored, with a smooth phase that differs
from slice to slice and uniformly random masks ([`reproduction_with_phase.csv`]({folder}/reproduction_with_phase.csv)):
this page's teacher, one network an anatomy, and what is served, one for all. PSNR in dB, means over volumes.

{table}

"""


def write(
    recipes: Sequence[Recipe], data: Path, runs: Path, folder: Path, split: str, served: Sequence[Model] = ()
) -> None:
    """Write folder/reproduction.csv and others beside it, figures, and the page <folder>.md over them.

    Args:
        recipes: recipes of experiments; others are ignored.
        data: folder with volumes/<split>/<anatomy>/*.nii.gz.
        runs: folder of runs.
        folder: folder for tables and figures.
        split: val to choose by, test to report.
        served: shipped models for reconstruction to compare.
    """
    compared = [(recipe, recipe.experiment) for recipe in recipes if recipe.experiment]
    results = [result for entry in compared for result in scores(*entry, data, runs, split, served)]
    write_csv(map(asdict, results), folder / "reproduction.csv")
    # Read back, so that the page shows the rounded figures of the file beside it.
    results = read_results(folder / "reproduction.csv")
    phased = [result for entry in compared if served for result in scores_with_phase(*entry, data, runs, split, served)]
    if phased:
        write_csv(map(asdict, phased), folder / "reproduction_with_phase.csv")
    gained = gains(results)
    write_csv(map(asdict, gained), folder / "reproduction_gains.csv")
    figures = [pictures.curves(results, folder / "reproduction_psnr.png")]
    figures += [pictures.example(*entry, data, runs, folder, split) for entry in compared]
    whole = [result for result in results if not result.slice]
    page = PAGE.format(
        recipes=" ".join(Path(recipe.file).stem for recipe in recipes),
        folder=folder.name,
        path=folder,
        served=", ".join(model.manifest.reference for model in served) or "no model",
        sizes="; ".join(dict.fromkeys(_sizes(recipe) for recipe in recipes)),
        every=", ".join(_every(*entry) for entry in compared),
        scores="\n\n".join(score_table([r for r in whole if r.column == column]) for column in columns_of(whole)),
        phased=WITH_PHASE.format(folder=folder.name, table=phase_table(phased)) if phased else "",
        verdict=verdict([gain for gain in gained if gain.method == "kd"]),
        gains=gain_table(whole, [gain for gain in gained if gain.method == "kd"]),
        methods=method_table(gained),
        seeds=seed_table(whole),
        budget=budget_table(compared, runs),
        figures="\n\n".join(f"![{caption}]({folder.name}/{file.name})\n\n*{caption}*" for file, caption in figures),
    )
    folder.with_suffix(".md").write_text(page)


def _sizes(recipe: Recipe) -> str:
    teacher, student = parameters(recipe.network("teacher")), parameters(recipe.network("student"))
    fewer = f"{100 * (1 - student / teacher):.0f}% fewer"
    return f"{recipe.task.capitalize()}: {teacher:,} and {student:,} parameters, {fewer}"


def _every(recipe: Recipe, experiment: Experiment) -> str:
    every = experiment.every
    return f"{recipe.name.removeprefix('reproduction-')} {'all' if every == 1 else f'one in {every}'}"
