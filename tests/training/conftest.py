"""A recipe small enough to train in seconds, on slices of a phantom."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kdmri_training.data.enlargement import Truncation
from kdmri_training.data.simulation import Simulation
from kdmri_training.data.volumes import Slices
from kdmri_training.learning import recipe as recipes
from kdmri_training.learning.recipe import Recipe

from kdmri.phantoms import phantom


@pytest.fixture
def slices() -> Slices:
    image = phantom(96, 80)[0]
    return Slices([np.roll(image, shift, axis=0).astype(np.float16) for shift in (0, 5, 9)], [0, 0, 1])


@pytest.fixture(params=["reconstruction_base", "super_resolution_base"])
def tiny(request: pytest.FixtureRequest) -> Recipe:
    """The shipped recipe with smaller images and a few steps."""
    shipped = recipes.load(Path(request.param))
    steps = {"teacher": 4, "attention": 3, "student": 4}
    if isinstance(shipped.data, Truncation):
        return replace(shipped, data=replace(shipped.data, batch=2, patch=32), steps=steps)
    assert isinstance(shipped.data, Simulation)
    data = replace(shipped.data, batch=2, pixels=2048, columns=(32, 48))
    teacher, student = shipped.teacher.copy(), shipped.student.copy()
    teacher["cascades"] = student["cascades"] = 2
    return replace(shipped, data=data, steps=steps, teacher=teacher, student=student)
