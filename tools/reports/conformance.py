"""Table of dciodvfy's new errors: `python -m tools.reports.conformance [FOLDER ...]`.

Every MR object that pydicom's and nibabel's packages ship, and those of the data set (KDMRI_DATA) and of the folders
given, is super-resolved by interpolation at 2x. An error counts as new where dciodvfy (Debian's dicom3tools) reports it
for the answer and not for the source; numbers in the messages are ignored.
"""

import gzip
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import torch

from kdmri.errors import KdmriError
from kdmri.formats.dicom import derived, objects, reader
from kdmri.physics.resampling import upsample

PACKAGES = ("pydicom", "nibabel")
SCALE = 2


def main() -> None:
    """Print a Markdown table with one row for each manufacturer."""
    folders = [Path(str(files(package))) for package in PACKAGES] + [Path(name) for name in sys.argv[1:]]
    if data := os.environ.get("KDMRI_DATA"):
        folders.append(Path(data) / "dicom")
    rows: dict[str, Counter[str]] = {}
    for content in _contents(folders):
        maker, outcome, errors = _outcome(content)
        if maker is None:
            continue
        rows.setdefault(maker, Counter())[outcome] += 1
        rows[maker]["new errors"] += len(errors)
        for error in sorted(errors):
            sys.stderr.write(f"{maker}: {error}\n")
    columns = ("answered", "refused", "new errors")
    sys.stdout.write("| manufacturer | " + " | ".join(columns) + " |\n|" + "---|" * 4 + "\n")
    for maker, counts in sorted(rows.items()):
        sys.stdout.write(f"| {maker} | " + " | ".join(str(counts[column]) for column in columns) + " |\n")


def _contents(folders: list[Path]) -> Iterator[bytes]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix not in (".py", ".pyc", ".json", ".txt", ".md"):
                content = gzip.decompress(path.read_bytes()) if path.name.endswith(".dcm.gz") else path.read_bytes()
                if reader.looks_like_dicom(content[:132]):
                    yield content


def _outcome(content: bytes) -> tuple[str | None, str, set[str]]:
    """Return manufacturer, answered or refused, and the new errors; no manufacturer for what is no MR image."""
    try:
        groups = reader.read([content])
    except KdmriError as error:
        is_other = re.search("modality|no Dicom|DICOM", str(error))
        return (None if is_other else "refused images"), "refused", set()
    maker = str(groups[0].headers[0].get("Manufacturer") or "none stated")
    # By interpolation: what is tested are the objects, and a network would take minutes for all of them.
    pixels = [upsample(torch.from_numpy(group.images.pixels), SCALE).numpy() for group in groups]
    answers = derived.derive(groups, pixels, scale=SCALE, model="interpolation@1")
    # Errors of the source are its writer's, and copying an attribute copies them.
    known = _errors(content)
    return maker, "answered", set().union(*(_errors(objects.to_bytes(answer)) for answer in answers)) - known


def _errors(content: bytes) -> set[str]:
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(content)
        file.flush()
        command = ["dciodvfy", file.name]
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    # Numbers differ between source and answer (sizes, counts), though the fault is the same.
    return {re.sub(r"\d+", "#", line) for line in ran.stderr.splitlines() if line.startswith("Error")}


if __name__ == "__main__":
    main()
