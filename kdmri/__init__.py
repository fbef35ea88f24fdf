"""Accelerated MRI reconstruction and super-resolution by distilled networks."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdmri.api import (
        DicomSeries,
        Images,
        KdmriError,
        KSpace,
        Model,
        Result,
        load,
        models,
        read,
        reconstruct,
        save,
        super_resolve,
        undersample,
    )

__all__ = [
    "DicomSeries",
    "Images",
    "KSpace",
    "KdmriError",
    "Model",
    "Result",
    "load",
    "models",
    "read",
    "reconstruct",
    "save",
    "super_resolve",
    "undersample",
]

# How OpenMP's threads wait, said before torch loads it (docs/decisions/0006). By default they spin after every FFT and
# take the cores from the back end's threads; asleep at once, they have to be woken at every step of data consistency.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__version__ = version("kdmri")

MODELS = Path(__file__).parents[1] / "models"
"""The bundles of the repository that this package lies in."""


def __getattr__(name: str) -> object:
    """Import the Python interface at its first use: torch and the file formats take a second to load."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kdmri import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """List the public names, whether or not they are imported yet."""
    return sorted([*globals(), *__all__])
