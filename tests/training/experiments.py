"""Experiments of seconds: a data set of phantoms and recipes small enough, for commands as a user gives them."""

from pathlib import Path

import nibabel
import numpy as np

from kdmri.phantoms import phantom

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


def write_data(folder: Path) -> Path:
    """volumes/<split>/brain with two volumes of four slices a split."""
    for split in ("train", "val", "test"):
        place = folder / "volumes" / split / "brain"
        place.mkdir(parents=True)
        for number, (rows, columns) in enumerate([(40, 48), (48, 40)]):
            image = phantom(rows, columns)[0]
            volume = np.stack([np.roll(image, shift + number, axis=0) for shift in (0, 2, 3, 5)], axis=-1)
            nibabel.save(nibabel.Nifti1Image(volume, np.diag([1.0, 1.0, 5.0, 1.0])), place / f"head{number}.nii.gz")
    return folder


def write_recipe(folder: Path, shipped: str, **replaced: str) -> Path:
    """A shipped recipe with smaller numbers, and what `replaced` says, line by line."""
    small = {
        "pixels": "1536",
        "columns": "[48]",
        "patch": "24",
        "cascades": "2",
        "every": "1",
        "anatomy": '"brain"',
        "picture": '{ volume = "head0", slice = 1, condition = "4x" }',
        "teacher": "3",
        "first": "2",
        "second": "2",
    } | replaced
    lines = []
    for line in (RECIPES / f"{shipped}.toml").read_text().splitlines():
        key = line.split(" = ")[0]
        lines.append(f"{key} = {small[key]}" if " = " in line and key in small else line)
    file = folder / f"{shipped}.toml"
    file.write_text("\n".join(lines))
    return file
