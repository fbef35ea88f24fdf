"""The folder of real scans that tests read: KDMRI_DATA, or else shared/data beside the repository."""

import os
from pathlib import Path

DATA = Path(os.environ.get("KDMRI_DATA") or Path(__file__).parents[2] / "shared" / "data")
ABSENT = "no data set of real scans: name its folder in KDMRI_DATA"
"""Reason for which tests skip that read the data set."""
