"""The commands models and bench: what is installed, and how fast it is on this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from kdmri.cli.common import MODELS, ModelsOption


def list_models(models: ModelsOption = MODELS) -> None:
    """List the installed models: name, version, role, size, scores."""
    from kdmri.bundles.store import load_all

    table = Table("model", "task", "role", "parameters", "test scores: PSNR in dB (SSIM)")
    for bundle in load_all(models):
        manifest = bundle.manifest
        # A manifest also has the scores of the baseline and of a student's teacher, each under its own suffix: only the
        # model's own are its scores.
        scores = [
            f"{key.removesuffix(f' {manifest.role}')} {figures['psnr']:.2f} ({figures['ssim']:.3f})"
            for key, figures in manifest.scores.items()
            if key.endswith(manifest.role)
        ]
        table.add_row(manifest.reference, manifest.task, manifest.role, f"{manifest.parameters:,}", "\n".join(scores))
    Console().print(table)


def bench(
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")] = None,
    repeats: Annotated[int, typer.Option(min=3)] = 15,
    threads: Annotated[int | None, typer.Option(min=1, help="By default the processor's cores.")] = None,
    models: ModelsOption = MODELS,
) -> None:
    """Teacher against student on every back end of this machine, taking turns in one run."""
    # Imported here, because it loads torch and all back ends.
    from kdmri.benchmark import compare

    rows = compare(models, repeats=repeats, threads=threads)
    if json_file:
        json_file.write_text(json.dumps([vars(row) for row in rows], indent=2) + "\n")
    table = Table("task", "input", "back end", "teacher ms/slice", "student ms/slice", "speed-up", "quartiles")
    for row in rows:
        figures = (
            f"{row.teacher_ms:.1f}",
            f"{row.student_ms:.1f}",
            f"{row.speedup:.2f}",
            f"{row.low:.2f} to {row.high:.2f}",
        )
        table.add_row(row.task, row.input, row.backend, *figures)
    Console().print(table)
