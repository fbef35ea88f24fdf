"""Settings of the whole process, for programs that do nothing but run kdmri.

The command line, and with it the service, calls `configure_environment` at its start. Importing the library changes
nothing: a program that embeds kdmri keeps its own settings, or calls the function itself.
"""

import os

OPENMP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}
"""Environment variables that state how OpenMP's threads wait (docs/decisions/0006). By default they spin after every
FFT and occupy the cores that the back end's threads need; asleep at once, they would have to be woken at every step of
data consistency."""


def configure_environment() -> None:
    """Set the environment variables of OpenMP that are not set yet.

    OpenMP reads them once, when torch loads it: call this before torch is imported. Child processes inherit them.
    """
    # What the operator has set stays: it may suit a machine that these values were not measured on.
    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)
