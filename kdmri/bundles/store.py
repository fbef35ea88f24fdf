"""Model folders, models/<name>/<version>/ with manifest.json, the networks' files and CARD.md: load and verify."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from kdmri.bundles.manifest import CONSISTENCY, MANIFEST, ROLES, UNLISTED, Manifest, Task, cascade_file
from kdmri.errors import CorruptBundle, InvalidRequest, UnknownModel


@dataclass(frozen=True)
class Bundle:
    """A verified model folder."""

    folder: Path
    manifest: Manifest


def sha256(file: Path) -> str:
    """Compute the hex digest of a file's content."""
    # file_digest reads in pieces: networks of tens of megabytes need not be in memory for it.
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load(folder: Path) -> Bundle:
    """Read and verify a model folder.

    Raises:
        CorruptBundle: a file is missing, its hash differs from the manifest, or the manifest does not list it; the
            message names the file.
    """
    label = f"{folder.parent.name}@{folder.name}"
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise CorruptBundle(f"model {label}: expected {MANIFEST}, found none") from None
    except ValidationError as error:
        # One line holds one fault: the others often follow from the first.
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise CorruptBundle(f"model {label}: {MANIFEST}, {where}: {first['msg']}") from None
    # Requests, caches and metrics name a model by its manifest, people by its folder: the two must agree.
    if manifest.reference != label:
        raise CorruptBundle(f"model folder {label}: its manifest says {manifest.reference}")
    _check_list(folder, manifest, label)
    for name, expected in manifest.files.items():
        file = folder / name
        # A name with a folder in it could lead out of the bundle: only files directly inside are accepted.
        if Path(name).name != name or not file.is_file():
            raise CorruptBundle(f"model {label}: expected the file {name}, found none")
        if (digest := sha256(file)) != expected:
            raise CorruptBundle(f"model {label}: expected {name} with SHA-256 {expected[:12]}, got {digest[:12]}")
    return Bundle(folder, manifest)


def _check_list(folder: Path, manifest: Manifest, label: str) -> None:
    """Raise CorruptBundle unless the manifest lists every file that is loaded, and every other file that is there.

    A file that is not listed could be loaded all the same, by a library that finds it beside the one that it was given.
    """
    loaded = [*(cascade_file(n + 1) for n in range(manifest.architecture.get("cascades", 0))), CONSISTENCY]
    if missing := [name for name in loaded if name not in manifest.files]:
        raise CorruptBundle(f"model {label}: expected {MANIFEST} to list {missing[0]}, it does not")
    known = {*manifest.files, *UNLISTED}
    if strangers := sorted(entry.name for entry in folder.iterdir() if entry.name not in known):
        raise CorruptBundle(f"model {label}: expected only files that {MANIFEST} lists, found {strangers[0]}")


def load_all(models: Path) -> list[Bundle]:
    """Load every bundle below a models folder, sorted by name, then version.

    Raises:
        UnknownModel: there is no bundle at all.
        CorruptBundle: a bundle is incomplete or damaged.
    """
    # Every bundle is hashed, also those that nobody wants yet: a damaged model must show at startup, not at a request.
    manifests = models.glob(f"*/*/{MANIFEST}")
    bundles = sorted((load(file.parent) for file in manifests), key=lambda b: (b.manifest.name, _order(b)))
    if not bundles:
        raise UnknownModel("expected at least one model folder <name>/<version>/manifest.json, found none")
    return bundles


def choose(bundles: Sequence[Bundle], task: Task, *, role: str = "student", model: str | None = None) -> Bundle:
    """Choose the bundle for a task.

    Args:
        bundles: candidates.
        task: task that the bundle must be made for.
        role: role whose newest bundle is chosen if no model is named.
        model: NAME (its newest version is chosen) or NAME@VERSION.

    Raises:
        InvalidRequest: the role is not offered.
        UnknownModel: no bundle fits.
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
    # The newest of a role may belong to another name than the one before it: the role is what a client relies on.
    return max(fitting, key=_order)


def _order(bundle: Bundle) -> tuple[int, ...]:
    """Sort key of a version: numbers compare as numbers, so that 0.10.0 is newer than 0.9.0."""
    # A part that is no number, as in 1.0rc1, is older than any number.
    return tuple(int(part) if part.isdigit() else -1 for part in bundle.manifest.version.split("."))
