"""Files of scores: every volume as CSV, means and standard deviations as Markdown."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, pstdev

from kdmri_training.evaluation.evaluate import Score

METHODS = ("zero-filled", "bicubic", "sinc", "BART", "student", "teacher")


def write(scores: Sequence[Score], folder: Path) -> None:
    """Write folder/scores.csv and folder/scores.md; a baseline that several models share appears once."""
    folder.mkdir(parents=True, exist_ok=True)
    unique = list(dict.fromkeys(scores))
    with (folder / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(asdict(unique[0])))
        writer.writeheader()
        writer.writerows(asdict(score) for score in unique)
    (folder / "scores.md").write_text(markdown_tables(unique))


def markdown_tables(scores: Sequence[Score]) -> str:
    """Tabulate PSNR and SSIM of each task: mean and deviation over volumes, a row for each condition and anatomy."""
    return "\n".join(_table([s for s in scores if s.task == task]) for task in dict.fromkeys(s.task for s in scores))


def _table(scores: Sequence[Score]) -> str:
    groups: dict[tuple[str, str], dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        groups[score.condition, score.anatomy][score.method].append(score)
    methods = [method for method in METHODS if any(method in group for group in groups.values())]
    lines = [f"| {scores[0].task} | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    for (condition, anatomy), group in sorted(groups.items()):
        lines.append(f"| {anatomy} {condition} | " + " | ".join(_cell(group[method]) for method in methods) + " |")
    return "\n".join(lines) + "\n"


def _cell(scores: Sequence[Score]) -> str:
    psnr, ssim = [s.psnr for s in scores], [s.ssim for s in scores]
    return f"{mean(psnr):.2f} ± {pstdev(psnr):.2f} dB, {mean(ssim):.4f} ± {pstdev(ssim):.4f}"
