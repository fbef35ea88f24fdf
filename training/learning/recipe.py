"""A recipe: every number of a training run, read from one TOML file."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from kdmri_training.data.enlargement import Truncation
from kdmri_training.data.simulation import Simulation, Undersampling
from kdmri_training.networks.cascades import DCCNN, VDSR, Network

from kdmri.bundles.manifest import Role
from kdmri.errors import InvalidRequest

RECIPES = Path(__file__).parents[1] / "recipes"
STAGES: dict[Role, tuple[str, ...]] = {"teacher": ("teacher",), "student": ("plain", "attention", "student")}
"""Stages that train each role, in order."""


class Architecture(TypedDict):
    """Arguments of DCCNN or VDSR; the latter has one cascade and neither `shared` nor `scales`."""

    convolutions: int
    channels: int
    cascades: NotRequired[int]
    fold: NotRequired[int]
    shared: NotRequired[bool]
    scales: NotRequired[int]


class Distillation(TypedDict):
    """Parameters of the student's stages."""

    teacher_layer: int
    """Number (from 1) of the teacher's convolution whose features are compared."""
    student_layer: int
    """Number (from 1) of the student's convolution that is held against it."""
    imitation: float
    """Weight in [0, 1] of the teacher's answer beside the truth."""


class Optimiser(TypedDict):
    """Parameters of Adam."""

    learning_rate: float
    """The rate at its peak."""


class Picture(TypedDict):
    """The slice of a test volume that the report shows."""

    volume: str
    slice: int
    """Number among the slices that are scored."""
    condition: str
    """Acceleration or scale, such as 4x."""


@dataclass(frozen=True)
class Experiment:
    """One teacher and several students that differ by how they learn from it (training/learning/experiment.py)."""

    anatomy: str
    """The folder of volumes; * for all."""
    methods: tuple[str, ...]
    """Methods that students learn by, each a name in kdmri_training.learning.experiment.METHODS."""
    repeated: tuple[str, ...]
    """Methods repeated with `seeds`, from the same teacher."""
    seeds: tuple[int, ...]
    every: int
    """One slice in `every` of a test volume is scored, because neighbours are alike."""
    unit: Literal["volume", "slice"]
    """Unit that confidence intervals count: slices if there are too few test volumes."""
    picture: Picture


@dataclass(frozen=True)
class Recipe:
    """Content of a file in training/recipes."""

    file: str
    """Name of the recipe's file."""
    name: str
    task: Literal["reconstruction", "super-resolution"]
    version: str
    """Version of the bundles, <name>-<role>@<version>, and of the run's folder."""
    seed: int
    """Seed of the first weights and of every batch."""
    teacher: Architecture
    student: Architecture
    data: Simulation | Undersampling | Truncation
    distillation: Distillation
    steps: dict[str, int]
    """Optimiser steps of each stage; 0 leaves it out. In `plain`, which may be missing, the student learns from the
    truth alone before it learns from its teacher."""
    optimiser: Optimiser
    start: dict[str, str] = field(default_factory=dict)
    """Origin of each role's first weights: a run <name>-<version>, or a bundle <name>@<version> whose network is grown
    to the size wanted. A role that is not named starts from scratch."""
    loss: Literal["l1", "log_l1"] = "l1"
    """Distance from the truth and from the teacher's answer (kdmri_training.learning.losses.DISTANCES)."""
    experiment: Experiment | None = None
    """Set if the recipe compares students; None if it trains models to ship."""

    @property
    def run(self) -> str:
        """Name of the run's folder."""
        return f"{self.name}-{self.version}"

    def architecture(self, role: Role) -> Architecture:
        """Return the size of a role's network."""
        return self.teacher if role == "teacher" else self.student

    def network(self, role: Role) -> Network:
        """Build an untrained network of the role's size."""
        size = self.architecture(role)
        if self.task == "super-resolution":
            return VDSR(convolutions=size["convolutions"], channels=size["channels"], fold=size.get("fold", 1))
        return DCCNN(**size)


def load(source: Path) -> Recipe:
    """Read a recipe: a file, or the name of one in training/recipes.

    Raises:
        InvalidRequest: there is neither.
    """
    path = source if source.exists() else RECIPES / f"{source.stem}.toml"
    if not path.exists():
        names = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise InvalidRequest(f"expected a recipe file or one of {names}, got {source.name}")
    numbers = tomllib.loads(path.read_text())
    data, experiment = _tuples(numbers.pop("data")), numbers.pop("experiment", None)
    acquisition = Undersampling if experiment else Simulation
    ranges = acquisition if numbers["task"] == "reconstruction" else Truncation
    comparison = Experiment(**_tuples(experiment)) if experiment else None
    return Recipe(file=path.name, **numbers, data=ranges(**data), experiment=comparison)


def _tuples(numbers: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in numbers.items()}


def recipe_of_run(run: str) -> Recipe:
    """Find the recipe in training/recipes of a run <name>-<version>.

    Raises:
        InvalidRequest: no recipe has this name and version.
    """
    for file in sorted(RECIPES.glob("*.toml")):
        recipe = load(file)
        if recipe.run == run:
            return recipe
    raise InvalidRequest(f"expected a recipe of run {run} in training/recipes, found none")
