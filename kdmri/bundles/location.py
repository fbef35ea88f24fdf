"""The folder of models that kdmri uses when none is named."""

import os
from pathlib import Path

VARIABLE = "KDMRI_MODELS"
"""Environment variable of the models folder, for the library, the command line and the service alike."""
PACKAGED = Path(__file__).parent / "shipped"
"""The models inside a wheel: setup.py maps the repository's models/ to this folder."""
CHECKOUT = Path(__file__).parents[2] / "models"
"""The models of the repository, where kdmri runs from a checkout."""


def models_folder() -> Path:
    """Return the folder that KDMRI_MODELS names, or else the wheel's models, or else those of the checkout.

    The folder need not exist: `kdmri.bundles.store.load_all` reports a folder without models.
    """
    if given := os.environ.get(VARIABLE):
        return Path(given)
    # A wheel has no models/ two levels above this file, and a checkout has no shipped/: one of the two exists.
    return PACKAGED if PACKAGED.is_dir() else CHECKOUT
