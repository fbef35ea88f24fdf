"""Accelerated MRI reconstruction and super-resolution by distilled networks."""

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Type checkers and editors see the names, though nothing is imported at run time.
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

# The names of kdmri.api, repeated as text because reading them there would import it; a test holds the two equal.
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

__version__ = version("kdmri")


def __getattr__(name: str) -> object:
    """Import the Python interface at its first use: torch and the file formats take a second to load."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported here, not above: `kdmri --help` and a parser of options need no torch, whose import takes a second.
    from kdmri import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """List the public names, whether or not they are imported yet."""
    return sorted([*globals(), *__all__])
