"""Accelerated MRI reconstruction and super-resolution by distilled networks."""

from importlib.metadata import version

__version__ = version("kdmri")
