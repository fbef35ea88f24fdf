"""The command kdmri. Exit 0 on success, 2 on a usage error, 1 with one clear line on anything else."""

import json
import os
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import kdmri
from kdmri.errors import KdmriError, UnreadableInput

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=kdmri.__doc__)
errors = Console(stderr=True)


class Role(StrEnum):
    """Which of a pair of models runs."""

    student = "student"
    teacher = "teacher"


class Format(StrEnum):
    """What a reconstruction is written as."""

    h5 = "h5"
    dicom = "dicom"
    nifti = "nifti"
    png = "png"


class MaskKind(StrEnum):
    """How lines are chosen; see kdmri.sampling."""

    random = "random"
    equispaced = "equispaced"
    variable_density = "variable-density"


ModelsOption = Annotated[Path, typer.Option("--models", envvar="KDMRI_MODELS", help="Folder of models.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="NAME or NAME@VERSION.")]
RoleOption = Annotated[Role, typer.Option("--role")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File or folder to write.")]


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    """Accelerated MRI reconstruction and super-resolution by distilled networks."""
    if debug:
        os.environ["KDMRI_DEBUG"] = "1"


@app.command()
def reconstruct(
    source: Annotated[Path, typer.Argument(metavar="IN", help="K-space: fastMRI or ISMRMRD HDF5.")],
    output: Output = None,
    role: RoleOption = Role.student,
    model: ModelOption = None,
    file_format: Annotated[Format, typer.Option("--format")] = Format.h5,
    contrast: Annotated[int, typer.Option(min=0, help="Of an ISMRMRD file, counted from 0.")] = 0,
    repetition: Annotated[int, typer.Option(min=0, help="Of an ISMRMRD file, counted from 0.")] = 0,
    coils: Annotated[int | None, typer.Option(min=1, help="Virtual coils; by default what keeps the signal.")] = None,
    models: ModelsOption = kdmri.MODELS,
) -> None:
    """Undersampled k-space to images."""
    from kdmri.bundles import store as bundle
    from kdmri.formats.kspace import reader as kspace
    from kdmri.operations import outputs
    from kdmri.runtime import Reconstructor
    from kdmri.runtime.model import load_model

    with kspace.opened(_existing(source), contrast=contrast, repetition=repetition) as measured:
        chosen = bundle.choose(bundle.load_all(models), "reconstruction", role=role, model=model)
        images = Reconstructor(load_model(chosen)).reconstruct(measured, coils=coils)
    target = output or source.with_name(f"{source.name.removesuffix('.h5')}_{role}{outputs.SUFFIXES[file_format]}")
    outputs.write(images, target, file_format, model=chosen.manifest.reference, scan=measured)
    told = "the plain image: nothing is missing" if measured.mask.all() else f"acceleration {measured.acceleration:.2f}"
    _said(f"{len(images.pixels)} slices, {told}, {chosen.manifest.reference}", target)


@app.command()
def super_resolve(
    source: Annotated[Path, typer.Argument(metavar="IN", help="DICOM: a file, a folder or a .zip of a series.")],
    output: Output = None,
    scale: Annotated[int, typer.Option(help="2 or 4.")] = 2,
    role: RoleOption = Role.student,
    model: ModelOption = None,
    models: ModelsOption = kdmri.MODELS,
) -> None:
    """Low-resolution MR DICOM to the same images on a finer grid, one file an object."""
    from kdmri.bundles import store as bundle
    from kdmri.formats.dicom import derived, folder
    from kdmri.formats.dicom import reader as dicom
    from kdmri.operations import outputs
    from kdmri.runtime import SuperResolver
    from kdmri.runtime.model import load_model

    if _existing(source).is_dir():
        groups = dicom.read(folder.files(source))
    else:
        groups = dicom.read_zip(source) if source.suffix.lower() == ".zip" else dicom.read([source])
    chosen = bundle.choose(bundle.load_all(models), "super-resolution", role=role, model=model)
    resolver = SuperResolver(load_model(chosen))
    pixels = [resolver.super_resolve(group.images, scale).pixels for group in groups]
    datasets = derived.super_resolved(groups, pixels, scale=scale, model=chosen.manifest.reference)
    target = output or source.with_name(f"{source.stem}_{scale}x" + (".dcm" if len(datasets) == 1 else ""))
    outputs.write_dicom(datasets, target)
    _said(f"{len(datasets)} objects, {scale}x, {chosen.manifest.reference}", target)


@app.command()
def undersample(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Fully sampled k-space (HDF5), or an MR DICOM or NIfTI image.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="fastMRI HDF5 to write.")],
    acceleration: Annotated[float, typer.Option("--acceleration", min=1.0)],
    mask: Annotated[MaskKind, typer.Option("--mask")] = MaskKind.random,
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Keep one line in R of fully sampled k-space; an image becomes the k-space of its magnitude first."""
    from kdmri.formats.kspace import fastmri
    from kdmri.operations.undersampling import read_full, undersampled

    kept = undersampled(read_full(_existing(source)), acceleration, mask=mask, seed=seed)
    fastmri.write(output, kept)
    _said(f"{mask} mask, seed {seed}, acceleration {kept.acceleration:.2f}", output)


@app.command(name="models")
def list_models(models: ModelsOption = kdmri.MODELS) -> None:
    """What is there: name, version, role, size, scores."""
    from kdmri.bundles import store as bundle

    table = Table("model", "task", "role", "parameters", "test scores: PSNR in dB (SSIM)")
    for entry in bundle.load_all(models):
        manifest = entry.manifest
        scores = [
            f"{key.removesuffix(f' {manifest.role}')} {figures['psnr']:.2f} ({figures['ssim']:.3f})"
            for key, figures in manifest.scores.items()
            if key.endswith(manifest.role)
        ]
        table.add_row(manifest.reference, manifest.task, manifest.role, f"{manifest.parameters:,}", "\n".join(scores))
    Console().print(table)


@app.command()
def bench(
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")] = None,
    repeats: Annotated[int, typer.Option(min=3)] = 15,
    threads: Annotated[int | None, typer.Option(min=1, help="By default the processor's cores.")] = None,
    models: ModelsOption = kdmri.MODELS,
) -> None:
    """Teacher against student on every back end of this machine, taking turns in one run."""
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


def main() -> None:
    """Entry point. Commands of other packages (serve, train) hang on through the entry points kdmri.commands."""
    for command in entry_points(group="kdmri.commands"):
        app.command(name=command.name)(command.load())
    try:
        app()
    except (KdmriError, OSError) as error:
        _fail(error)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in ("lightning", "tensorboard", "onnxscript", "matplotlib"):
            _fail(KdmriError(f"expected the package {error.name}, it is not there: pip install 'kdmri[train]'"))
        raise


def _fail(error: Exception) -> None:
    if os.environ.get("KDMRI_DEBUG"):
        raise error
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    name = f" ({Path(error.filename).name})" if isinstance(error, OSError) and error.filename else ""
    errors.print(f"kdmri: {text}{name}", style="red", highlight=False, markup=False, soft_wrap=True)
    raise SystemExit(1) from None


def _existing(source: Path) -> Path:
    if not source.exists():
        raise UnreadableInput(f"expected a file or folder, {source.name} is not there")
    return source


def _said(what: str, target: Path) -> None:
    errors.print(f"{what} -> {target}", highlight=False, markup=False, soft_wrap=True)
