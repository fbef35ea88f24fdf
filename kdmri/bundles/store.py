"""A model folder: models/<name>/<version>/ with manifest.json, the networks' files and CARD.md. Load and verify."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kdmri.errors import CorruptBundle, InvalidRequest, UnknownModel

Task = Literal["reconstruction", "super-resolution"]
Role = Literal["teacher", "student"]
ROLES: tuple[Role, ...] = ("student", "teacher")

MANIFEST = "manifest.json"
CONSISTENCY = "data_consistency.pt"
FORMAT: Literal[2] = 2
"""Of bundles. In format 1 data consistency took the samples of every coil; now it takes the zero-filled image."""


def cascade_file(number: int) -> str:
    """The ONNX file of cascade `number`, from 1."""
    return f"cascade_{number}.onnx"


class Manifest(BaseModel):
    """What manifest.json holds: enough to run the model, to check it and to judge it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2]
    """FORMAT: what the runtime must know of the files."""
    name: str
    version: str
    task: Task
    role: Role
    architecture: dict[str, int]
    """cascades, convolutions, channels; where the network has them, fold and shared (training.networks)."""
    parameters: int
    inputs: dict[str, str]
    """Shape and type of every graph input, and what it means."""
    trained_on: dict[str, Any]
    """Ranges seen in training: accelerations or scales, columns of the matrix, noise, coils; see quality.ranges."""
    consistency_step: float
    """lambda of every data-consistency step; 1 replaces measured samples."""
    files: dict[str, str]
    """SHA-256 of every file but this one and the card."""
    parity: dict[str, float]
    """Relative difference, bundle against PyTorch network, by shape (coil x row x column or row x column)."""
    scores: dict[str, dict[str, float]]
    """Means over test volumes, by condition, then metric."""
    precision_loss: dict[str, float] = {}
    """Largest loss of mean PSNR in dB, over the conditions of the test set, by reduced precision ("bf16")."""
    agreement: dict[str, dict[str, float]] = {}
    """A student's psnr (dB) and ssim to its teacher: means over test volumes, by acceleration or scale ("4x").

    Empty for a teacher, and for bundles that are older than this field.
    """
    test_set: str
    training: dict[str, Any]
    """Recipe, seed, steps and seconds of each stage, data and licences."""
    distilled_from: str | None

    @property
    def reference(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Bundle:
    """A verified model folder."""

    folder: Path
    manifest: Manifest


def sha256(file: Path) -> str:
    """Hex digest of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load(folder: Path) -> Bundle:
    """Read and verify a model folder. Raises CorruptBundle naming the file that is missing or differs."""
    label = f"{folder.parent.name}@{folder.name}"
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise CorruptBundle(f"model {label}: expected {MANIFEST}, found none") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise CorruptBundle(f"model {label}: {MANIFEST}, {where}: {first['msg']}") from None
    if manifest.reference != label:
        raise CorruptBundle(f"model folder {label}: its manifest says {manifest.reference}")
    for name, expected in manifest.files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise CorruptBundle(f"model {label}: expected the file {name}, found none")
        if (found := sha256(file)) != expected:
            raise CorruptBundle(f"model {label}: expected {name} with SHA-256 {expected[:12]}, got {found[:12]}")
    return Bundle(folder, manifest)


def load_all(models: Path) -> list[Bundle]:
    """Every bundle below a models folder, by name, then version. Raises UnknownModel where there is none."""
    manifests = models.glob(f"*/*/{MANIFEST}")
    bundles = sorted((load(file.parent) for file in manifests), key=lambda b: (b.manifest.name, _order(b)))
    if not bundles:
        raise UnknownModel("expected at least one model folder <name>/<version>/manifest.json, found none")
    return bundles


def choose(bundles: Sequence[Bundle], task: Task, *, role: str = "student", model: str | None = None) -> Bundle:
    """The bundle for a task: NAME or NAME@VERSION where asked for, else the role's newest.

    Raises InvalidRequest for a role that is not offered, UnknownModel where nothing fits.
    """
    if role not in ROLES:
        raise InvalidRequest(f"expected role {' or '.join(ROLES)}, got {role[:40]!r}")
    fitting = [b for b in bundles if b.manifest.task == task]
    if model is None:
        fitting = [b for b in fitting if b.manifest.role == role]
        wanted = f"a {role} for {task}"
    else:
        name, _, version = model.partition("@")
        fitting = [b for b in fitting if b.manifest.name == name and version in ("", b.manifest.version)]
        wanted = f"a model {model[:80]!r} for {task}"
    if not fitting:
        there = ", ".join(b.manifest.reference for b in bundles if b.manifest.task == task)
        raise UnknownModel(f"expected {wanted}, there is {there or 'none for this task'}")
    return max(fitting, key=_order)


def _order(bundle: Bundle) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in bundle.manifest.version.split("."))
