"""The commands reconstruct and super-resolve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kdmri.cli.common import MODELS, ModelOption, ModelsOption, OutputOption, RoleOption, report, require

if TYPE_CHECKING:
    from kdmri.operations.operation import Input, Operation, Result

Format = Literal["h5", "dicom", "nifti", "png"]


def reconstruct(
    source: Annotated[Path, typer.Argument(metavar="IN", help="K-space: HDF5, .npy or BART's .cfl; .gz, .zip.")],
    output: OutputOption = None,
    role: RoleOption = "student",
    model: ModelOption = None,
    file_format: Annotated[Format, typer.Option("--format", help="What the images are written as.")] = "h5",
    contrast: Annotated[int, typer.Option(min=0, help="Of an ISMRMRD file, counted from 0.")] = 0,
    repetition: Annotated[int, typer.Option(min=0, help="Of an ISMRMRD file, counted from 0.")] = 0,
    phase: Annotated[int, typer.Option(min=0, help="Cardiac phase of an ISMRMRD file, counted from 0.")] = 0,
    set_number: Annotated[int, typer.Option("--set", min=0, help="Of an ISMRMRD file, counted from 0.")] = 0,
    group: Annotated[str | None, typer.Option(help="Group or dataset of an HDF5 file; by default the best.")] = None,
    oversampling: Annotated[
        float, typer.Option(min=1, max=8, help="Of the readout, for a file without header: crops the image.")
    ] = 1,
    coils: Annotated[int | None, typer.Option(min=1, help="Virtual coils; by default what keeps the signal.")] = None,
    models: ModelsOption = MODELS,
) -> None:
    """Undersampled k-space to images."""
    # Commands import what they run: `kdmri --help` would otherwise take the seconds that torch and pydicom need.
    from kdmri.operations import Reconstruct
    from kdmri.operations.encoding import write_files
    from kdmri.operations.media_types import FILE_FORMATS
    from kdmri.operations.operation import SourceFile

    operation = Reconstruct(
        role=role,
        model=model,
        contrast=contrast,
        repetition=repetition,
        phase=phase,
        set_number=set_number,
        group=group,
        oversampling=oversampling,
        coils=coils,
    )
    media_type, suffix = FILE_FORMATS[file_format]
    # The file stays open until the answer is encoded: its slices are read while the model runs.
    with operation.parse([SourceFile(require(source))]) as scan:
        (result,) = _run(operation, scan, models)
        files = scan.encode([result], media_type)
    # The default name carries the role, so that a student's images do not replace a teacher's, nor either the source.
    target = output or source.with_name(f"{source.name.removesuffix('.h5')}_{role}{suffix}")
    write_files(files, target)
    acceleration = result.quality.acceleration
    missing = "the plain image: nothing is missing" if acceleration == 1 else f"acceleration {acceleration:.2f}"
    report(f"{len(result.images.pixels)} slices, {missing}, {result.manifest.reference}", target, scan.notes)


def super_resolve(
    source: Annotated[Path, typer.Argument(metavar="IN", help="DICOM: a file, a folder or a .zip of a series.")],
    output: OutputOption = None,
    scale: Annotated[int, typer.Option(help="2 or 4.")] = 2,
    role: RoleOption = "student",
    model: ModelOption = None,
    models: ModelsOption = MODELS,
) -> None:
    """Low-resolution MR DICOM to the same images on a finer grid, one file an object."""
    from kdmri.formats.dicom import folder
    from kdmri.operations import SuperResolve
    from kdmri.operations.encoding import write_files
    from kdmri.operations.media_types import DICOM
    from kdmri.operations.operation import SourceFile

    operation = SuperResolve(role=role, model=model, scale=scale)
    # In the order of the paths, which scanners number; the reader groups the slices in any case.
    paths = folder.files(source) if require(source).is_dir() else [source]
    with operation.parse([SourceFile(path) for path in paths]) as series:
        # One result for each group of slices of one size and orientation.
        results = _run(operation, series, models)
        files = series.encode(results, DICOM)
    target = output or source.with_name(f"{source.stem}_{scale}x" + (".dcm" if len(files) == 1 else ""))
    write_files(files, target)
    report(f"{len(files)} objects, {scale}x, {results[0].manifest.reference}", target, series.notes)


def _run(operation: "Operation", source: "Input", models: Path) -> "list[Result]":
    """Run the model that the operation's parameters choose.

    Args:
        operation: the operation with its parameters, of which `role` and `model` choose.
        source: parsed input of the operation.
        models: models folder.

    Returns:
        One result for each job of the input.

    Raises:
        UnknownModel: there is no such model.
        KdmriError: the model can't run on this input.
    """
    from kdmri.bundles.store import choose, load_all
    from kdmri.operations.operation import run
    from kdmri.runtime.model import load_model

    bundle = choose(load_all(models), operation.task, role=operation.role, model=operation.model)
    return run(source, load_model(bundle))
