"""The commands for jobs of a running service: submit, status, fetch, cancel and reconstruct-many."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kdmri.cli.common import errors, print_plain, require
from kdmri.errors import KdmriError

if TYPE_CHECKING:
    from kdmri_service.remote import JobClient

Url = Annotated[str, typer.Option("--url", envvar="KDMRI_URL", help="Address of the service; KDMRI_URL.")]
Key = Annotated[str | None, typer.Option("--key", envvar="KDMRI_KEY", help="Key or token; KDMRI_KEY.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as submit prints it.")]
Format = Annotated[Literal["h5", "dicom", "png", "json"], typer.Option("--format", help="What the answer is.")]
Role = Annotated[str, typer.Option("--role", help="student, teacher or both.")]
Model = Annotated[str | None, typer.Option("--model", help="NAME or NAME@VERSION.")]
ADDRESS = "http://127.0.0.1:8000"
SUFFIXES = {"h5": ".h5", "dicom": ".zip", "png": ".png", "json": ".json"}
AHEAD = 8
"""Jobs of a folder that wait or run at a time."""


def submit(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file, or a folder with a series of DICOM objects.")],
    operation: Annotated[
        Literal["reconstruct", "super-resolve"], typer.Option("--operation", help="What is done.")
    ] = "reconstruct",
    scale: Annotated[int, typer.Option(help="Of super-resolve: 2 or 4.")] = 2,
    role: Role = "student",
    model: Model = None,
    file_format: Format = "h5",
    url: Url = ADDRESS,
    key: Key = None,
) -> None:
    """Submit a job to a running service and print its id."""
    from kdmri.formats.dicom import folder

    files = folder.files(source) if require(source).is_dir() else [source]
    parameters = _parameters(role, model) | ({"scale": str(scale)} if operation == "super-resolve" else {})
    job = _client(url, key).submit(operation, files, parameters, _media_type(file_format))
    typer.echo(job["id"])


def status(job: JobId, url: Url = ADDRESS, key: Key = None) -> None:
    """Print the status of a job as JSON."""
    typer.echo(json.dumps(_client(url, key).status(job), indent=2))


def fetch(
    job: JobId,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    url: Url = ADDRESS,
    key: Key = None,
) -> None:
    """Wait for a job, with a progress bar, and write its answer."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    client = _client(url, key)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Off a terminal a bar would fill a log with control characters.
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task("queued", total=None)
        for seen in client.follow(job):
            text = f"queued, {seen['position']} ahead" if seen["state"] == "queued" else seen["stage"] or seen["state"]
            progress.update(bar, description=text, completed=seen["slices_done"], total=seen["slices"])
    write_whole(output, client.fetch(job))
    if seen["warning"]:
        print_plain(f"warning: {seen['warning']}")
    if seen["notes"]:
        print_plain(f"note: {seen['notes']}")
    print_plain(f"{seen['slices_done']} slices -> {output}")


def cancel(job: JobId, url: Url = ADDRESS, key: Key = None) -> None:
    """Cancel a job that waits or runs; erase the data of one that has ended."""
    typer.echo(_client(url, key).cancel(job)["state"])


def reconstruct_many(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="K-space files, *.h5, in any depth.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")],
    role: Role = "student",
    model: Model = None,
    file_format: Format = "h5",
    url: Url = ADDRESS,
    key: Key = None,
) -> None:
    """Reconstruct every file of a folder by a running service. Started again, it goes on where it was."""
    client, suffix = _client(url, key), SUFFIXES[file_format]
    sources = sorted(path for path in require(folder).rglob("*.h5") if path.is_file())
    targets = [(output / source.relative_to(folder)).with_suffix(suffix) for source in sources]
    missing = [(source, target) for source, target in zip(sources, targets, strict=True) if not target.exists()]
    failed = 0
    for start in range(0, len(missing), AHEAD):
        part = missing[start : start + AHEAD]
        failed += _run(client, part, _parameters(role, model), _media_type(file_format))
        print_plain(f"{start + len(part)} of {len(missing)}")
    there = len(sources) - len(missing)
    print_plain(f"{len(missing) - failed} reconstructed, {there} were there, {failed} failed -> {output}")
    if failed:
        raise typer.Exit(1)


def _run(client: "JobClient", files: list[tuple[Path, Path]], parameters: dict[str, str], accept: str) -> int:
    """Run the jobs of some files, which wait in the service together.

    Args:
        client: The service.
        files: Each file, and where its answer is written.
        parameters: Parameters of the reconstruction.
        accept: Media type of the answers.

    Returns:
        The number of files that failed; a line was printed for each.
    """
    jobs, failed = [], 0
    for source, target in files:
        try:
            jobs.append((source, target, client.submit("reconstruct", [source], parameters, accept)["id"]))
        except KdmriError as error:
            print_plain(f"{source.name}: {error}")
            failed += 1
    for source, target, job in jobs:
        try:
            for _ in client.follow(job):
                # Only the end matters here.
                continue
            write_whole(target, client.fetch(job))
        except KdmriError as error:
            print_plain(f"{source.name}: {error}")
            failed += 1
    return failed


def write_whole(target: Path, content: bytes) -> None:
    """Write a file that is complete or not there: a run that is started again takes what is there as done."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.part")
    draft.write_bytes(content)
    draft.replace(target)


def _client(url: str, key: str | None) -> "JobClient":
    from kdmri_service.remote import JobClient

    return JobClient(url, key)


def _parameters(role: str, model: str | None) -> dict[str, str]:
    return {"role": role} if model is None else {"role": role, "model": model}


def _media_type(file_format: str) -> str:
    from kdmri.operations.media_types import FILE_FORMATS, JSON, ZIP

    # A zip holds any number of objects, which is not known before the input is read.
    return {"json": JSON, "dicom": ZIP}.get(file_format) or FILE_FORMATS[file_format][0]
