"""Accelerated MRI reconstruction and super-resolution by distilled networks."""

import os
from importlib.metadata import version
from pathlib import Path

# How OpenMP's threads wait, said before torch loads it (docs/decisions/0006). By default they spin after every FFT and
# take the cores from the back end's threads; asleep at once, they have to be woken at every step of data consistency.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__version__ = version("kdmri")

MODELS = Path(__file__).parents[1] / "models"
"""The bundles of the repository that this package lies in."""
