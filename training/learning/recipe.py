"""A recipe: every number of a training run, read from one TOML file."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kdmri_training.data.simulation import Simulation, Truncation, Undersampling
from kdmri_training.networks.cascades import DCCNN, VDSR

from kdmri.errors import InvalidRequest

RECIPES = Path(__file__).parents[1] / "recipes"
Role = Literal["teacher", "student"]
STAGES: dict[Role, tuple[str, ...]] = {"teacher": ("teacher",), "student": ("plain", "attention", "student")}
"""Those that train a role, in order."""


@dataclass(frozen=True)
class Experiment:
    """One teacher and several students that differ by how they learn from it (training/experiment.py)."""

    anatomy: str
    """The folder of volumes; * for all."""
    methods: tuple[str, ...]
    """How students learn, each a name in kdmri_training.learning.experiment.METHODS."""
    repeated: tuple[str, ...]
    """Methods repeated with `seeds`, from the same teacher."""
    seeds: tuple[int, ...]
    every: int
    """Slices are alike: one in `every` of a test volume is scored."""
    unit: Literal["volume", "slice"]
    """What intervals are taken over: slices where there are too few test volumes."""
    picture: dict[str, Any]
    """The slice of a test volume that is shown, counted among those scored, and its condition."""


@dataclass(frozen=True)
class Recipe:
    """What training/recipes/*.toml say."""

    file: str
    """The name of the recipe's file."""
    name: str
    task: Literal["reconstruction", "super-resolution"]
    version: str
    """Of the bundles, <name>-<role>@<version>, and of the run's folder."""
    seed: int
    """Of the first weights and of every batch."""
    teacher: dict[str, Any]
    student: dict[str, Any]
    """Arguments of DCCNN or VDSR."""
    data: Simulation | Undersampling | Truncation
    distillation: dict[str, Any]
    """teacher_layer and student_layer, numbers (from 1) of the convolutions whose features are compared; imitation, the
    weight in [0, 1] of the teacher's answer beside the truth."""
    steps: dict[str, int]
    """Optimiser steps of each stage; 0 leaves it out. In `plain`, which may be missing, the student learns from the
    truth alone before it learns from its teacher."""
    optimiser: dict[str, float]
    """learning_rate, of Adam at its peak."""
    start: dict[str, str] = field(default_factory=dict)
    """By role, where the first weights come from: a run <name>-<version>, or a bundle <name>@<version> whose network is
    grown to the size wanted. A role that is not named starts from scratch."""
    loss: Literal["l1", "log_l1"] = "l1"
    """Distance from the truth and from the teacher's answer (kdmri_training.learning.losses.DISTANCES)."""
    experiment: Experiment | None = None
    """Where students are compared, not shipped."""

    @property
    def run(self) -> str:
        """The name of the run's folder."""
        return f"{self.name}-{self.version}"

    def network(self, role: Role) -> DCCNN | VDSR:
        """An untrained network of the role's size."""
        numbers = self.teacher if role == "teacher" else self.student
        return DCCNN(**numbers) if self.task == "reconstruction" else VDSR(**numbers)


def load(source: Path) -> Recipe:
    """Read a recipe: a file, or the name of one in training/recipes. Raises InvalidRequest where there is none."""
    path = source if source.exists() else RECIPES / f"{source.stem}.toml"
    if not path.exists():
        offered = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise InvalidRequest(f"expected a recipe file or one of {offered}, got {source.name}")
    numbers = tomllib.loads(path.read_text())
    data, experiment = _tuples(numbers.pop("data")), numbers.pop("experiment", None)
    measured = Undersampling if experiment else Simulation
    kind = measured if numbers["task"] == "reconstruction" else Truncation
    compared = Experiment(**_tuples(experiment)) if experiment else None
    return Recipe(file=path.name, **numbers, data=kind(**data), experiment=compared)


def _tuples(numbers: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in numbers.items()}


def trained_by(run: str) -> Recipe:
    """The recipe in training/recipes of a run <name>-<version>. Raises InvalidRequest where there is none."""
    for file in sorted(RECIPES.glob("*.toml")):
        recipe = load(file)
        if recipe.run == run:
            return recipe
    raise InvalidRequest(f"expected a recipe of run {run} in training/recipes, found none")
