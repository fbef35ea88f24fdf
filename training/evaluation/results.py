"""The page of an experiment's results: tables, gains, budgets and figures, from files that it writes first."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, pstdev

import torch
from kdmri_training.evaluation import pictures
from kdmri_training.evaluation.comparison import Gain, Result, gains, read_results, scores, scores_with_phase, write_csv
from kdmri_training.learning.experiment import METHODS, TITLES, networks
from kdmri_training.learning.recipe import Recipe
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
    """folder/reproduction.csv and others beside it, figures, and the page <folder>.md over them.

    `served`: of `comparison.scores`.
    """
    results = [result for recipe in recipes for result in scores(recipe, recipe.experiment, data, runs, split, served)]
    write_csv(results, folder / "reproduction.csv")
    results = read_results(folder / "reproduction.csv")
    phased = [
        result
        for recipe in recipes
        if served
        for result in scores_with_phase(recipe, recipe.experiment, data, runs, split, served)
    ]
    if phased:
        write_csv(phased, folder / "reproduction_with_phase.csv")
    gained = gains(results)
    write_csv(gained, folder / "reproduction_gains.csv")
    figures = [pictures.curves(results, folder / "reproduction_psnr.png")]
    figures += [pictures.example(recipe, data, runs, folder, split) for recipe in recipes if recipe.experiment.picture]
    whole = [result for result in results if not result.slice]
    page = PAGE.format(
        recipes=" ".join(Path(recipe.file).stem for recipe in recipes),
        folder=folder.name,
        path=folder,
        served=", ".join(model.manifest.reference for model in served) or "no model",
        sizes="; ".join(dict.fromkeys(_sizes(recipe) for recipe in recipes)),
        every=", ".join(_every(recipe) for recipe in recipes),
        scores="\n\n".join(score_table([r for r in whole if r.column == column]) for column in _columns(whole)),
        phased=WITH_PHASE.format(folder=folder.name, table=phase_table(phased)) if phased else "",
        verdict=verdict([gain for gain in gained if gain.method == "kd"]),
        gains=gain_table(whole, [gain for gain in gained if gain.method == "kd"]),
        methods=method_table(gained),
        seeds=seed_table(whole),
        budget=budget_table(recipes, runs),
        figures="\n\n".join(f"![{caption}]({folder.name}/{file.name})\n\n*{caption}*" for file, caption in figures),
    )
    folder.with_suffix(".md").write_text(page)


def score_table(results: Sequence[Result]) -> str:
    """PSNR and SSIM of one column's methods (seeds not repeated), a row a method."""
    first = min(r.seed for r in results)
    conditions = list(dict.fromkeys(r.condition for r in results))
    count = len({r.volume for r in results})
    head = f"{results[0].column}, {count} volume{'s' if count > 1 else ''}"

    def cell(method: str, condition: str) -> str:
        chosen = [r for r in results if (r.method, r.condition, r.seed) == (method, condition, first)]
        return f"{_spread([r.psnr for r in chosen], 2)} / {_spread([r.ssim for r in chosen], 4)}"

    rows = [
        [title, *(cell(method, condition) for condition in conditions)]
        for method, title in TITLES.items()
        if any(r.method == method for r in results)
    ]
    return markdown([head, *conditions], rows)


def phase_table(results: Sequence[Result]) -> str:
    """PSNR of images with phase: a row a method, a column an anatomy and acceleration, then the anatomies' mean."""
    conditions, columns = list(dict.fromkeys(r.condition for r in results)), _columns(results)

    def psnr(method: str, column: str, condition: str) -> float:
        return mean(r.psnr for r in results if (r.method, r.column, r.condition) == (method, column, condition))

    rows = []
    for method in dict.fromkeys(r.method for r in results):
        row = [TITLES[method]]
        for condition in conditions:
            each = [psnr(method, column, condition) for column in columns]
            row += [f"{value:.2f}" for value in (*each, mean(each))]
        rows.append(row)
    heads = [f"{column} {condition}" for condition in conditions for column in (*columns, "mean")]
    return markdown(["", *heads], rows)


def _spread(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation; the latter of one value would say nothing."""
    deviation = f" ± {pstdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def gain_table(results: Sequence[Result], gained: Sequence[Gain]) -> str:
    """KD against the plain student, a row a column and condition."""

    def psnr(gain: Gain, method: str) -> float:
        chosen = [r.psnr for r in results if (r.column, r.condition, r.method) == (gain.column, gain.condition, method)]
        return mean(chosen)

    rows = [
        [
            f"{gain.column} {gain.condition}",
            f"{psnr(gain, 'plain'):.2f}",
            f"{psnr(gain, 'kd'):.2f}",
            f"{psnr(gain, 'teacher'):.2f}",
            f"{gain.gain:+.3f}",
            f"{gain.low:+.3f} to {gain.high:+.3f}",
            f"{gain.units} {gain.unit}s, {gain.seeds} seed{'s' if gain.seeds > 1 else ''}",
            f"{gain.ssim:+.4f}",
            f"{100 * gain.closed:.0f}%" if gain.teacher > 0 else "no gap",
        ]
        for gain in gained
    ]
    heads = ["", "student", "student + KD", "teacher", "gain (dB)", "95% interval", "over", "SSIM gain", "share"]
    return markdown(heads, rows)


def method_table(gained: Sequence[Gain]) -> str:
    """Mean gain of every method over the plain student, a row a method."""
    places = list(dict.fromkeys((g.column, g.condition) for g in gained))
    by_key = {(g.method, g.column, g.condition): g for g in gained}

    def cell(gain: Gain | None) -> str:
        if gain is None:
            return ""
        return f"**{gain.gain:+.3f}**" if gain.sure else f"{gain.gain:+.3f}"

    rows = [
        [TITLES[method], *(cell(by_key.get((method, *place))) for place in places)]
        for method in METHODS
        if any(g.method == method for g in gained)
    ]
    return markdown(["", *(f"{column} {condition}" for column, condition in places)], rows)


def seed_table(results: Sequence[Result]) -> str:
    """KD's gain by seed, for the columns that have several."""
    plain = {(r.column, r.condition, r.seed, r.volume): r.psnr for r in results if r.method == "plain"}
    rows = []
    for column in _columns(results):
        learned = [r for r in results if r.column == column and r.method == "kd"]
        seeds = sorted({r.seed for r in learned})
        conditions = list(dict.fromkeys(r.condition for r in learned))
        for seed in seeds if len(seeds) > 1 else []:
            cells = [
                mean(r.psnr - plain[column, r.condition, seed, r.volume] for r in learned if _is(r, condition, seed))
                for condition in conditions
            ]
            told = (f"{condition} {gain:+.3f}" for condition, gain in zip(conditions, cells, strict=True))
            rows.append([f"{column}, seed {seed}", *told])
    if not rows:
        return ""
    heads = ["", *("" for _ in rows[0][1:])]
    return "\nKD's mean gain in dB by seed (weights and batches; one teacher):\n\n" + markdown(heads, rows) + "\n"


def _is(result: Result, condition: str, seed: int) -> bool:
    return result.condition == condition and result.seed == seed


def verdict(gained: Sequence[Gain]) -> str:
    """How often and how much KD helped, over all columns and over those of reconstruction."""
    recon = [gain for gain in gained if gain.column != "super-resolution"]
    said = [_counted(f"In {name}", group) for name, group in (("all", gained), ("reconstruction", recon)) if group]
    return " ".join(dict.fromkeys(said))


def _counted(name: str, gained: Sequence[Gain]) -> str:
    better, sure = sum(g.gain > 0 for g in gained), sum(g.low > 0 for g in gained)
    share = 100 * mean(g.closed for g in gained if g.teacher > 0) if any(g.teacher > 0 for g in gained) else 0
    return (
        f"{name}: KD ahead in the mean in {better} of {len(gained)}, its interval above zero in {sure}, "
        f"{share:.0f}% of the gap closed on average."
    )


def budget_table(recipes: Sequence[Recipe], runs: Path) -> str:
    """Steps and minutes of every network, from its checkpoints."""
    rows = []
    for recipe in recipes:
        for trained in networks(recipe, recipe.experiment, runs):
            if not trained.weights.exists():
                continue
            stages = [torch.load(stage / "last.pt", map_location="cpu", weights_only=True) for stage in trained.stages]
            steps = " + ".join(str(stage["step"]) for stage in stages)
            minutes = sum(stage["seconds"] for stage in stages) / 60
            rows.append([recipe.name, TITLES[trained.method], str(trained.seed), steps, f"{minutes:.1f}"])
    return markdown(["recipe", "network", "seed", "steps", "minutes"], rows)


def _sizes(recipe: Recipe) -> str:
    teacher, student = (parameters(recipe.network(role)) for role in ("teacher", "student"))
    fewer = f"{100 * (1 - student / teacher):.0f}% fewer"
    return f"{recipe.task.capitalize()}: {teacher:,} and {student:,} parameters, {fewer}"


def _every(recipe: Recipe) -> str:
    every = recipe.experiment.every
    return f"{recipe.name.removeprefix('reproduction-')} {'all' if every == 1 else f'one in {every}'}"


def _columns(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(r.column for r in results))


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
