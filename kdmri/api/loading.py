"""Models by name."""

import os
from pathlib import Path

from kdmri.bundles import store
from kdmri.bundles.location import models_folder
from kdmri.bundles.manifest import ROLES, Manifest, Task
from kdmri.runtime.model import Model, load_model


def models(folder: str | os.PathLike[str] | None = None) -> list[Manifest]:
    """List the manifests of the installed models, or of those in a models folder, by name and version.

    Examples:
        >>> [manifest.role for manifest in kdmri.models() if manifest.task == "super-resolution"]
        ['student', 'teacher']

    Raises:
        UnknownModel: the folder holds no model.
        CorruptBundle: a model is incomplete, or one of its files differs from its manifest.
    """
    return [bundle.manifest for bundle in store.load_all(_models_folder(folder))]


def load(
    name: str = "student",
    *,
    task: Task = "reconstruction",
    device: str = "cpu",
    folder: str | os.PathLike[str] | None = None,
) -> Model:
    """Load a model, verified against the hashes in its manifest.

    Examples:
        >>> kdmri.load("teacher").manifest.name
        'dc-cnn-teacher'

    Args:
        name: "student" or "teacher" for the newest model of this role, a model's NAME for its newest version, or
            NAME@VERSION.
        task: "reconstruction" or "super-resolution". Only roles need it: a name belongs to one task.
        device: "cpu", "cuda" or "cuda:1".
        folder: a models folder, <name>/<version>/manifest.json; by default the installed models.

    Raises:
        UnknownModel: there is no such model.
        CorruptBundle: a model is incomplete, or one of its files differs from its manifest.
    """
    bundles = store.load_all(_models_folder(folder))
    if name in ROLES:
        return load_model(store.choose(bundles, task, role=name), device=device)
    # A name belongs to one task, so that `task` need not be given with it; an unknown name keeps the given task, and
    # `choose` lists what there is for it.
    tasks = {bundle.manifest.name: bundle.manifest.task for bundle in bundles}
    chosen = store.choose(bundles, tasks.get(name.partition("@")[0], task), model=name)
    return load_model(chosen, device=device)


def _models_folder(folder: str | os.PathLike[str] | None) -> Path:
    return models_folder() if folder is None else Path(folder)
