"""Tables of the page of an experiment's results."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, pstdev

import torch
from kdmri_training.evaluation.comparison import Result
from kdmri_training.evaluation.gains import Gain
from kdmri_training.learning.experiment import METHODS, TITLES, networks
from kdmri_training.learning.recipe import Experiment, Recipe


def score_table(results: Sequence[Result]) -> str:
    """Tabulate PSNR and SSIM of one column's methods, a row for each; of repeated seeds the first counts."""
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
    return markdown_table([head, *conditions], rows)


def phase_table(results: Sequence[Result]) -> str:
    """Tabulate PSNR on images with phase: a row for each method, columns for anatomies and their mean."""
    conditions, columns = list(dict.fromkeys(r.condition for r in results)), columns_of(results)

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
    return markdown_table(["", *heads], rows)


def _spread(values: Sequence[float], digits: int) -> str:
    """Format mean and standard deviation, without the latter for a single value."""
    deviation = f" ± {pstdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def gain_table(results: Sequence[Result], gained: Sequence[Gain]) -> str:
    """Tabulate KD against the plain student, a row for each column and condition."""

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
            f"{100 * gain.gap_share:.0f}%" if gain.teacher > 0 else "no gap",
        ]
        for gain in gained
    ]
    heads = ["", "student", "student + KD", "teacher", "gain (dB)", "95% interval", "over", "SSIM gain", "share"]
    return markdown_table(heads, rows)


def method_table(gained: Sequence[Gain]) -> str:
    """Tabulate the mean gain of every method over the plain student, a row for each."""
    places = list(dict.fromkeys((g.column, g.condition) for g in gained))
    by_key = {(g.method, g.column, g.condition): g for g in gained}

    def cell(gain: Gain | None) -> str:
        if gain is None:
            return ""
        return f"**{gain.gain:+.3f}**" if gain.is_significant else f"{gain.gain:+.3f}"

    rows = [
        [TITLES[method], *(cell(by_key.get((method, *place))) for place in places)]
        for method in METHODS
        if any(g.method == method for g in gained)
    ]
    return markdown_table(["", *(f"{column} {condition}" for column, condition in places)], rows)


def seed_table(results: Sequence[Result]) -> str:
    """Tabulate KD's gain by seed, for the columns that have several."""
    plain = {(r.column, r.condition, r.seed, r.volume): r.psnr for r in results if r.method == "plain"}
    rows = []
    for column in columns_of(results):
        learned = [r for r in results if r.column == column and r.method == "kd"]
        seeds = sorted({r.seed for r in learned})
        conditions = list(dict.fromkeys(r.condition for r in learned))
        for seed in seeds if len(seeds) > 1 else []:
            cells = [
                mean(r.psnr - plain[column, r.condition, seed, r.volume] for r in learned if _is(r, condition, seed))
                for condition in conditions
            ]
            texts = (f"{condition} {gain:+.3f}" for condition, gain in zip(conditions, cells, strict=True))
            rows.append([f"{column}, seed {seed}", *texts])
    if not rows:
        return ""
    heads = ["", *("" for _ in rows[0][1:])]
    return "\nKD's mean gain in dB by seed (weights and batches; one teacher):\n\n" + markdown_table(heads, rows) + "\n"


def _is(result: Result, condition: str, seed: int) -> bool:
    return result.condition == condition and result.seed == seed


def verdict(gained: Sequence[Gain]) -> str:
    """Summarise in a sentence KD's gain over all columns, and over those of reconstruction."""
    recon = [gain for gain in gained if gain.column != "super-resolution"]
    sentences = [
        _verdict_line(f"In {name}", group) for name, group in (("all", gained), ("reconstruction", recon)) if group
    ]
    return " ".join(dict.fromkeys(sentences))


def _verdict_line(name: str, gained: Sequence[Gain]) -> str:
    better, sure = sum(g.gain > 0 for g in gained), sum(g.low > 0 for g in gained)
    share = 100 * mean(g.gap_share for g in gained if g.teacher > 0) if any(g.teacher > 0 for g in gained) else 0
    return (
        f"{name}: KD ahead in the mean in {better} of {len(gained)}, its interval above zero in {sure}, "
        f"{share:.0f}% of the gap closed on average."
    )


def budget_table(compared: Sequence[tuple[Recipe, Experiment]], runs: Path) -> str:
    """Tabulate steps and minutes of every network, from its checkpoints."""
    rows = []
    for recipe, experiment in compared:
        for trained in networks(recipe, experiment, runs):
            if not trained.weights.exists():
                continue
            stages = [torch.load(stage / "last.pt", map_location="cpu", weights_only=True) for stage in trained.stages]
            steps = " + ".join(str(stage["step"]) for stage in stages)
            minutes = sum(stage["seconds"] for stage in stages) / 60
            rows.append([recipe.name, TITLES[trained.method], str(trained.seed), steps, f"{minutes:.1f}"])
    return markdown_table(["recipe", "network", "seed", "steps", "minutes"], rows)


def columns_of(results: Sequence[Result]) -> list[str]:
    """List the columns of results, in order."""
    return list(dict.fromkeys(r.column for r in results))


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
