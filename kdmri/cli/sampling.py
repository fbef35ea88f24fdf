"""The command undersample."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from kdmri.cli.common import report, require

MaskKind = Literal["random", "equispaced", "variable-density"]


def undersample(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Fully sampled k-space (HDF5), or an MR DICOM or NIfTI image.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="fastMRI HDF5 to write.")],
    acceleration: Annotated[float, typer.Option("--acceleration", min=1.0)],
    mask: Annotated[MaskKind, typer.Option("--mask", help="How lines are chosen.")] = "random",
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Keep one line in R of fully sampled k-space; an image becomes the k-space of its magnitude first."""
    from kdmri.formats.kspace import fastmri
    from kdmri.operations.undersampling import keep_lines, read_full

    full = read_full(require(source))
    kept = keep_lines(full, acceleration, mask=mask, seed=seed)
    fastmri.write(output, kept)
    report(f"{mask} mask, seed {seed}, acceleration {kept.acceleration:.2f}", output)
