"""Accelerated MRI reconstruction and super-resolution by distilled networks."""

import os
from importlib.metadata import version
from pathlib import Path

# Before torch loads OpenMP: its threads would otherwise spin after every FFT and take the cores from ONNX Runtime's
# (teacher slice 256 x 256 on two cores: 140 ms spinning, 113 ms waiting; student 80 ms and 56 ms).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Some thousand turns of waiting are cheaper than waking a thread: between the steps of data consistency, not between
# networks (15 coils of 640 x 368: 490 ms of sparse fit, with none of them 730 ms).
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__version__ = version("kdmri")

MODELS = Path(__file__).parents[1] / "models"
"""The bundles of the repository that this package lies in."""
