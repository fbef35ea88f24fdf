"""Speed, measured in one run: `make bench`. Beside the packages, as it uses them all; nothing imports it."""

# First of all, before torch: kdmri says how OpenMP's threads wait, and a benchmark has to wait as the service does.
import kdmri  # noqa: F401
